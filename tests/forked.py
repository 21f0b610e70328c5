"""Processes forked from one that has loaded everything: a start of MLflow and PyTorch costs seconds of computing."""

import multiprocessing
import os
from collections.abc import Mapping
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT

__all__ = ["pool", "start_driver"]

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
HEAVY = ["trackdl.tasks.grid", "trackdl.tasks.search", "trackdl.tracking.runs", "grid_fits", "search_fits"]


@cache
def _server() -> None:
    """Start the process that the others are forked from; what it loads it finds by PYTHONPATH alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]))
        CONTEXT.set_forkserver_preload(HEAVY)
        forkserver.ensure_running()


def pool(processes: int) -> Pool:
    """Return a pool whose processes do one task each."""
    _server()
    return CONTEXT.Pool(processes, maxtasksperchild=1)


def start_driver(experiment: Any, environment: Mapping[str, str]) -> BaseProcess:
    """Start a grid, or a search, with two workers, at the head of a group of its own."""
    _server()
    made = CONTEXT.Process(target=_drive, args=(experiment, dict(environment)))
    made.start()
    return made


def _drive(experiment: Any, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    if experiment.task == "search":
        import search_fits
        from trackdl.tasks import search

        search.project_root = lambda: Path(environment["SEARCH_TEST"])  # type: ignore[attr-defined]
        search.run(experiment, 2, search_fits.slow)
        return
    import grid_fits
    from trackdl.tasks import grid

    grid.run(experiment, 2, fit=grid_fits.slow, test=grid_fits.afresh, clock=grid_fits.timed)
