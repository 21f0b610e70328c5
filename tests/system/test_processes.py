"""Processes: what they need of the system, and how libraries in them behave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys
for name in ("SIGHUP", "SIGALRM", "SIGUSR1", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
for name in ("killpg", "getuid", "geteuid", "mkfifo", "sched_getaffinity"):
    delattr(os, name)
import trackdl
for module in pkgutil.walk_packages(trackdl.__path__, "trackdl."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from trackdl.system.outages import deadline
from trackdl.system.interruptions import starting, uninterrupted
sys.platform = "win32"
with starting(), uninterrupted(), deadline(60):
    print("done")
"""


@pytest.mark.slow
def test_nothing_needs_a_signal_that_windows_has_not() -> None:
    command = [sys.executable, "-c", WITHOUT_POSIX]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


def test_a_missing_git_is_no_page_of_warnings(tmp_path: Path) -> None:
    script = "from trackdl.system.processes import quiet_libraries; quiet_libraries()\n"
    script += "from mlflow.utils.git_utils import get_git_commit; print(get_git_commit('.'))"
    settings = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=settings, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_what_is_not_collected_at_the_end_is_still_put_away(tmp_path: Path) -> None:
    code = """
import gc, tempfile, weakref
from trackdl.system import processes

usual = gc.get_threshold()
processes.collect_rarely()
assert gc.get_threshold() > usual
folder = tempfile.TemporaryDirectory()
class Loop:
    pass
loop = Loop()
loop.itself, loop.folder = loop, tempfile.TemporaryDirectory()
weakref.finalize(loop, print, "finalised")
print(folder.name, loop.folder.name, sep="\\n")
processes.freeze_imports()
assert gc.get_threshold() == usual
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    first, second, finalised = done.stdout.split()
    assert finalised == "finalised"
    assert not Path(first).exists()
    assert not Path(second).exists()
