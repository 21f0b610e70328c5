"""Interruptions: put off while the database is at work, heard then, and nothing is left locked or as if it ran."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sqlalchemy import event

from support import ROOT
from trackdl import spec
from trackdl.system.processes import uninterrupted
from trackdl.tracking import runs, store

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)


def strike() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interruption_is_heard_at_the_end_of_the_block_and_a_second_one_at_once() -> None:
    reached, handler = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - what comes before it is the point
        with uninterrupted():
            strike()
            reached.append("inner")
        reached.append("outer")
    assert reached == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        strike()
        strike()
        reached.append("never")
    assert "never" not in reached
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        strike()
        raise ValueError("an error does not hide it")
    assert signal.getsignal(signal.SIGINT) is handler


def training(at_statement: Callable[[int], None], uri: str) -> runs.Run:
    """Open a run, tell of it and end it; call `at_statement` before each of the database's statements."""
    engine = mlflow.tracking._tracking_service.utils._get_store(uri).engine
    made: list[runs.Run] = []
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        count += 1
        if made:
            at_statement(count)

    event.listen(engine, "before_cursor_execute", before)
    try:
        with runs.start(EXPERIMENT) as run:
            made.append(run)
            run.tags({"reached": 1})
            run.curve("loss", [(1, 0.5), (2, 0.4)])
            run.send()
            run.history("loss")
    except KeyboardInterrupt:
        pass
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return made[0]


def test_an_interruption_at_any_statement_leaves_a_run_that_says_so(tracking: str) -> None:
    runs.find("mnist")  # opens the store
    numbers: list[int] = []
    training(numbers.append, tracking)
    for number in numbers[:: max(1, len(numbers) // 8)]:
        store.client.cache_clear()
        run = training(lambda now, at=number: strike() if now == at else None, tracking)
        assert run.info.info.status in ("KILLED", "FINISHED")
        assert not list(store.spool_folder().glob("*/*")), "the store was locked"
    assert not runs.find("mnist", "attributes.status = 'RUNNING'")


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
from trackdl.system.processes import starting, uninterrupted
sys.platform = "win32"
with starting(), uninterrupted(), deadline(60):
    print("done")
"""


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
