"""Processes forked from one that has loaded everything: a start of MLflow and PyTorch costs seconds of computing."""

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import ROOT
from trackdl.workers.process import fork_workers

HEAVY = [
    "support.quick",
    "trackdl.apps.models",
    "trackdl.apps.new",
    "trackdl.apps.predict",
    "trackdl.cli.app",
    "trackdl.doctor.examine",
    "trackdl.tasks._start",
    "trackdl.tasks.grid",
    "trackdl.tasks.ledger",
    "trackdl.tasks.recover",
    "trackdl.tasks.report",
    "trackdl.tasks.search",
    "trackdl.tasks.table",
    "trackdl.tasks.transfer",
    "trackdl.tracking.relocate",
    "trackdl.tracking.runs",
    "support.grid_fits",
    "support.search_fits",
    "support.digested",
]


@cache
def _server() -> None:
    """Start the process that the others are forked from; what it loads it finds by PYTHONPATH alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
        forkserver.set_forkserver_preload(HEAVY)
        forkserver.ensure_running()


class _Context(ForkServerContext):
    """Starts that process before it is first needed."""

    @property
    def Process(self) -> type[BaseProcess]:  # type: ignore[override]  # noqa: N802
        _server()
        return ForkServerProcess


CONTEXT = _Context()


def pool(processes: int) -> Pool:
    """Return a pool whose processes do one task each."""
    return CONTEXT.Pool(processes, maxtasksperchild=1)


def new_process(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a process that calls `function`."""
    made = CONTEXT.Process(target=function, args=arguments)
    made.start()
    return made


def start_driver(experiment: Any, environment: Mapping[str, str]) -> BaseProcess:
    """Start a grid, a search or a recovery with two workers, at the head of a group of its own."""
    return new_process(_drive, experiment, dict(environment))


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the workers below a process, whichever way they were started."""
    return [child for child in process.children(recursive=True) if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    server = "multiprocessing.forkserver"
    try:
        line, above = " ".join(process.cmdline()), " ".join(process.parent().cmdline())
    except (psutil.Error, AttributeError):  # one of them has ended
        return False
    return "popen_loky_posix" in line or (server in line and server in above)


def _drive(experiment: Any, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    fork_workers(["support.grid_fits", "support.search_fits", "support.recover_fits", "trackdl.workers.figures"])
    if experiment.task == "search":
        from support import search_fits
        from trackdl.tasks import search

        search.project_root = lambda: Path(environment["SEARCH_TEST"])  # type: ignore[attr-defined]
        search.run(experiment, 2, search_fits.slow)
        return
    if experiment.task == "recover":
        from support import recover_fits
        from trackdl.tasks import recover

        recover.run(experiment, 2, fit=recover_fits.slow)
        return
    from support import grid_fits
    from trackdl.tasks import grid

    grid.run(experiment, 2, fit=grid_fits.slow, test=grid_fits.afresh, clock=grid_fits.timed)


def wait_until_gone(group: int) -> None:
    """Wait until no process of the session is left; the test's own time limit ends it where one stays."""
    while True:
        left = [p for p in psutil.pids() if p != group and _session(p) == group]
        if not left:
            return
        time.sleep(0.1)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None
