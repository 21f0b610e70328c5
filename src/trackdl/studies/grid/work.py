"""All fits of a grid, each done once: its studies, its run, and the workers."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from trackdl.analysis import grid_table
from trackdl.data.readers import digest_of
from trackdl.errors import TrackdlError
from trackdl.spec import GridSpec, RecoverSpec
from trackdl.studies.driver import study_run
from trackdl.studies.grid.driver import GridDriver
from trackdl.studies.grid.fits import FoldResult, FoldTask
from trackdl.studies.grid.study import GridStudy, fold_results
from trackdl.studies.store import study_lock
from trackdl.system.console import progress
from trackdl.system.machine import machine, versions
from trackdl.system.paths import whole_file
from trackdl.tracking import runs
from trackdl.tracking.runs import Run
from trackdl.workers.pool import Engine

Fit = Callable[[FoldTask], FoldResult]


def studies_of(grid: GridSpec) -> list[GridStudy]:
    """Return the studies of a grid's spaces, in their order."""
    return [
        GridStudy(
            grid.study(space),
            {name: grid.grids[space][key] for name, key in grid.names.items()},
            grid.cells(space),
            grid.fits,
        )
        for space in grid.grids
    ]


@contextmanager
def trained(
    experiment: GridSpec | RecoverSpec, grid: GridSpec, workers: int, fit: Fit, engine: Engine
) -> Iterator[tuple[Run, list[GridStudy]]]:
    """Train every cell of a grid, and yield the open run of `experiment` and the finished studies.

    What is finished already is kept. The studies are locked until the block ends.

    Raises:
        InputError: Another process is working on this grid, or its finished fits are of other data or another seed.
        TrackdlError: Some cells have failed; the others are kept.
    """
    with ExitStack() as locks:
        for space in grid.grids:
            locks.enter_context(study_lock(grid.study(space)))
        runs.close_abandoned(experiment.name)
        studies = studies_of(grid)
        for study in studies:
            study.check_data(digest_of(grid.experiment.data))
            study.check_seed(grid.experiment.training.seed)
        tags = {"trackdl.sampler": "exhaustive", "trackdl.pruner": "none"}
        with study_run(experiment, studies, tags) as parent:
            driver = GridDriver(grid, studies, parent)
            try:
                _work(driver, workers, fit, engine)
                driver.finish()
            except BaseException:
                driver.abandon()
                raise
            _check_complete(studies)
            yield parent, studies


def _work(driver: GridDriver, workers: int, fit: Fit, engine: Engine) -> None:
    folds = driver.experiment.fits
    done = sum(len(fold_results(trial)) for study in driver.studies for trial in study.trials_in_grid())
    total = folds * sum(len(study.cells) for study in driver.studies)
    with progress(f"{driver.experiment.name}, fits", total, done, every=10) as advance:
        for (cell, fold), outcome in engine(fit, partial(next, driver.tasks(), None), workers):
            advance(driver.keep(cell, fold, outcome))


def _check_complete(studies: list[GridStudy]) -> None:
    failed = [(study, cell) for study in studies for cell in study.census().failed]
    if failed:
        study, cell = failed[0]
        raise TrackdlError(
            f"{len(failed)} cells have failed, the first of them {cell} in {study.name}. Their runs' tag "
            "`trackdl.error` says why; the same command tries them again"
        )


def table_of(experiment: GridSpec, studies: list[GridStudy], times: list[list[float]] | None = None) -> pd.DataFrame:
    """Return a finished grid's table, with each cell's time of a training step if it was measured."""
    rows = [
        row
        for number, (grid, study) in enumerate(zip(experiment.grids, studies, strict=True))
        for place, (cell, trial) in enumerate(study.finished())
        for row in grid_table.fold_rows(grid, cell, fold_results(trial), times[number][place] if times else None)
    ]
    table = pd.DataFrame(rows)
    for name, key in experiment.names.items():
        if len({isinstance(value, str) + 2 * isinstance(value, bool) for value in experiment.space[key]}) > 1:
            table[name] = table[name].astype(str)  # what stands beside words is a word too, as in the CSV file
    return table


def provenance(run: Run, data: str, studies: list[GridStudy]) -> dict[str, Any]:
    """Return how a grid's table was made: data, code, command, machine, versions and time."""
    return {
        "data": data,
        "code": run.info.data.tags["trackdl.code_digest"],
        "command": " ".join(["trackdl", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "wall_hours": {study.name: round(study.active_seconds / 3600, 3) for study in studies},
    }


def keep_origin(run: Run, name: str, table: str, origin: dict[str, Any], export: Path | None) -> None:
    """Log a table's provenance with its run; write both to a folder, if there is one: NAME.csv and NAME.json."""
    run.tags({"trackdl.data_digest": origin["data"]})
    run.table(origin, "grid.json")
    if export is None:
        return
    for ending, content in (("csv", table), ("json", json.dumps(origin, indent=2) + "\n")):
        with whole_file(export / f"{name}.{ending}") as part:
            part.write_text(content, encoding="utf-8")
