"""Task 2's grid: the report's 96 configurations, 3 folds, 10 epochs; in the report all 288 fits failed.

Possible configurations are trained; the table lists the others with the reason. The report's failures are reproduced.

`trackdl grid` continues wherever it was stopped, however it was stopped: a cell is identified by its parameters, each
finished fold is stored with its trial, and only this process writes to the stores. Workers train a fold and return the
result.
"""

import json
import os
import platform
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from trackdl.analysis import grid_table
from trackdl.data.download.datasets import DATASETS
from trackdl.errors import TrackdlError
from trackdl.spec import GridSpec
from trackdl.spec.fashion import TEST_IMAGES
from trackdl.spec.grid import DIMENSIONS
from trackdl.studies.grid.conclusions import Conclusions, conclude, show_conclusions
from trackdl.studies.grid.driver import GridDriver
from trackdl.studies.grid.fits import FoldResult, FoldTask, FreshTask, TimeTask, fit_fold, fit_fresh, time_batch
from trackdl.studies.grid.measurements import tested_afresh, time_cells
from trackdl.studies.grid.study import Census, GridStudy, fold_results
from trackdl.studies.store import storage, study_lock
from trackdl.studies.study import RUN
from trackdl.system.console import print_table, progress, say
from trackdl.system.paths import whole_file
from trackdl.tabular.faults import failed_fits
from trackdl.tracking import runs, trials
from trackdl.tracking.runs import Run
from trackdl.workers.pool import Engine, count_workers, work_through

TRAINS = ("fit_fold", "fit_fresh", "time_batch")  # covered by the code digest, with all that they reach

Fit = Callable[[FoldTask], FoldResult]
Test = Callable[[FreshTask], float]
Clock = Callable[[TimeTask], float]


@dataclass(frozen=True)
class Result:
    """The task's result: the trials' parent run, the table with a row per fold, and the conclusions."""

    experiment: GridSpec
    run: Run
    table: pd.DataFrame
    conclusions: Conclusions


def run(
    experiment: GridSpec,
    workers: int | None = None,
    export: Path | None = None,
    fit: Fit = fit_fold,
    test: Test = fit_fresh,
    clock: Clock = time_batch,
    engine: Engine = work_through,
) -> Result:
    """Complete the grid; what is finished already is kept.

    Args:
        experiment: The protocol.
        workers: The number of single-threaded processes; one per core by default.
        export: A folder to write the finished table to, together with its provenance.
        fit: Trains one fold, in a worker.
        test: Trains a cell from a new seed and tests it, in a worker.
        clock: Times a cell's training, in a worker.
        engine: Distributes the fits over processes or machines.

    Raises:
        InputError: Another process is working on this grid, or `workers` is not positive.
        TrackdlError: Some cells have failed; the others are kept.
    """
    count = count_workers(workers)
    storage()  # reports an unusable store before anything else is done
    names = " ".join(experiment.study(grid) for grid in experiment.grids)
    with ExitStack() as locks:
        for grid in experiment.grids:
            locks.enter_context(study_lock(experiment.study(grid)))
        runs.close_abandoned("grid")
        studies = _studies(experiment)
        known = trials.study_run("grid", names)
        with runs.start(experiment, resume=known, name="grid") as parent:
            if known is None:
                known_trials = [trial for study in studies for trial in study.trials_in_grid()]
                trials.adopt(parent, [trial.user_attrs[RUN] for trial in known_trials if RUN in trial.user_attrs])
            parent.tags({"trackdl.study": names, "trackdl.sampler": "exhaustive", "trackdl.pruner": "none"})
            driver = GridDriver(experiment, studies, parent)
            try:
                _work(driver, count, fit, engine)
                driver.finish()
            except BaseException:
                driver.abandon()
                raise
            _check_complete(studies)
            times = time_cells(experiment, studies, partial(engine, clock), count)
            table = _table(experiment, studies, times)
            content = grid_table.to_csv(experiment, table)
            grid_table.check_whole(experiment, *grid_table.read(content.encode()))
            parent.text(content, "grid.csv")  # kept even if the analysis fails
            main = studies[list(experiment.grids).index("report")]
            fresh = tested_afresh(experiment, main, table, partial(engine, test), count)
            importances = main.importances(experiment.training.seed)
            conclusions = conclude(parent, experiment, table, fresh, importances)
            parent.metrics({"best_val_accuracy": conclusions.curse.score})
            origin = _origin(experiment, parent, studies) | _fresh(conclusions)
            origin["report_failures"] = failed_fits(experiment.grids["report"].model_dump(), experiment.folds)
            parent.table(origin, "grid.json")
            if export is not None:
                _export(export, _table_name(experiment), content, origin)
    return Result(experiment, parent, table, conclusions)


def _studies(experiment: GridSpec) -> list[GridStudy]:
    return [
        GridStudy(experiment.study(grid), space.model_dump(), experiment.cells(grid), experiment.folds)
        for grid, space in experiment.grids.items()
    ]


def _work(driver: GridDriver, workers: int, fit: Fit, engine: Engine) -> None:
    folds = driver.experiment.folds
    done = sum(len(fold_results(trial)) for study in driver.studies for trial in study.trials_in_grid())
    total = folds * sum(len(study.cells) for study in driver.studies)
    with progress("grid, folds", total, done, every=10) as advance:
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


def _table(experiment: GridSpec, studies: list[GridStudy], times: list[list[float]]) -> pd.DataFrame:
    rows = [
        row
        for grid, study, of_grid in zip(experiment.grids, studies, times, strict=True)
        for (cell, trial), batch_ms in zip(study.finished(), of_grid, strict=True)
        for row in grid_table.fold_rows(grid, cell, fold_results(trial), batch_ms)
    ]
    return pd.DataFrame(rows)


def _fresh(found: Conclusions) -> dict[str, Any]:
    """Return the test accuracies of the best cell and the report's choice, trained from new seeds."""
    cells = {"best": found.curse.fresh, "choice": found.curse.report_fresh}
    kept = {name: list(accuracies) for name, accuracies in cells.items()}
    return {"fresh": {"best_cell": found.curse.winner, "test_pictures": TEST_IMAGES, **kept}}


def _origin(experiment: GridSpec, run: Run, studies: list[GridStudy]) -> dict[str, Any]:
    """Return the table's provenance: data, code, command, machine, versions and time."""
    return {
        "data": DATASETS[experiment.data.dataset].digest,
        "code": run.info.data.tags["trackdl.code_digest"],
        "command": " ".join(["trackdl", *sys.argv[1:]]),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("trackdl", "torch", "optuna", "mlflow", "scikit-learn", "numpy")},
        "wall_hours": {study.name: round(study.active_seconds / 3600, 3) for study in studies},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _table_name(experiment: GridSpec) -> str:
    """Return the name of the exported table; the two grids must not overwrite each other's."""
    return "grid" if experiment.padding == "none" else "grid-padded"


def _export(folder: Path, name: str, table: str, origin: dict[str, Any]) -> None:
    for ending, content in (("csv", table), ("json", json.dumps(origin, indent=2) + "\n")):
        with whole_file(folder / f"{name}.{ending}") as part:
            part.write_text(content, encoding="utf-8")


def show_status(experiment: GridSpec) -> bool:
    """Print the state of each grid's cells; return whether every possible cell is finished exactly once."""
    standing = ("impossible", "done", "under way", "failed", "missing", "doubled")
    columns = ["grid", "cells", *standing, "folds done", "hours"]
    lines, whole = [], True
    for grid, study in zip(experiment.grids, _studies(experiment), strict=True):
        census: Census = study.census()
        whole = whole and census.complete
        impossible = experiment.impossible(grid)
        groups = (impossible, census.done, census.under_way, census.failed, census.missing, census.doubled)
        folds = sum(len(fold_results(trial)) for trial in study.trials_in_grid())
        counts = [str(len(study.cells) + len(impossible)), *(str(len(group)) for group in groups)]
        of = f"{folds} of {len(study.cells) * experiment.folds}"
        lines.append([f"{grid} ({study.name})", *counts, of, f"{study.active_seconds / 3600:.2f}"])
    print_table("Task 2's grid: its cells", columns, lines)
    complete = "complete: every possible cell is finished exactly once"
    say(complete if whole else "not complete: `trackdl grid` continues it")
    return whole


def show(result: Result) -> str:
    """Print the best configurations and the report's choice; return a one-line summary."""
    grid = "report"
    best = grid_table.best_cells(result.table, grid)
    first = result.experiment.cells(grid)[0]
    place = next(i for i in range(len(best)) if all(best[name][i] == value for name, value in first.items()))
    columns = ["place", *DIMENSIONS, "parameters", "CPU ms a batch", "score"]
    lines = [
        [
            str(i + 1),
            *(str(best[name][i]) for name in DIMENSIONS),
            f"{best.parameters[i]:,}",
            f"{best.batch_ms[i]:.1f}",
            f"{best.score[i]:.2%} ± {best.spread[i]:.2%}",
        ]
        for i in sorted({*range(min(5, len(best))), place, len(best) - 1})
    ]
    print_table(f"Task 2's grid: mean validation accuracy of {result.experiment.folds} folds", columns, lines)
    impossible = result.experiment.impossible(grid)
    networks = f"{len(best)} of the grid's {len(best) + len(impossible)} configurations are possible"
    reasons = "; ".join(dict.fromkeys(reason for _, reason in impossible))
    say(f"{networks}{', the others fail at ' if impossible else ''}{reasons}")
    show_conclusions(result.conclusions)
    say(f"run {result.run.id}")
    return (
        f"Task 2's grid, {networks}: best {best.score[0]:.2%} (mean of folds, which chose it); "
        f"the report's choice, its grid's first cell, {best.score[place]:.2%}, place {place + 1}."
    )
