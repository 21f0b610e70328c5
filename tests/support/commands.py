"""The command line, as a user types it, in a process that has loaded MLflow and PyTorch already.

Loading them takes seconds of computing, which a test of a message need not pay. `test_app` starts a few commands from
nothing, and the tests that are marked `real` do.
"""

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from support import ROOT
from support.forked import new_process


def trackdl(*arguments: str, cwd: Path = ROOT, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command with the environment of the test but for `environment`, where None takes a variable away.

    Returns what it printed and its exit code.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder, name) for name in ("out", "err"))
        with start(*arguments, cwd=cwd, out=out, err=err, **environment) as made:
            made.join()
        assert made.exitcode is not None
        return subprocess.CompletedProcess(list(arguments), made.exitcode, out.read_text(), err.read_text())


@contextmanager
def start(*arguments: str, out: Path, err: Path, cwd: Path = ROOT, **environment: str | None) -> Iterator[BaseProcess]:
    """Start a command, whose output goes to the files `out` and `err`, and kill it if it is left before its end."""
    told = {name: value for name, value in (dict(os.environ) | environment).items() if value is not None}
    made = new_process(_run, arguments, str(cwd), told, str(out), str(err))
    try:
        yield made
    finally:
        made.kill()
        made.join()


def _run(arguments: tuple[str, ...], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(ROOT / "src" / "trackdl"), *arguments]
    from trackdl.__main__ import main

    try:
        main()
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()  # a process of multiprocessing ends without them
