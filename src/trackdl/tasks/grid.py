"""Task 2's grid: the report's 96 configurations, 3 folds, 10 epochs: 288 fits that failed there and are run here.

`trackdl grid` goes on where it was stopped, however it was stopped: a cell is known by its parameters, each finished
fold is kept with its trial, and only this process writes to the stores. Workers train a fold and hand over the result.
"""

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from joblib import cpu_count

from trackdl import grid_table, plots
from trackdl.console import print_table, progress, say
from trackdl.crossfit import FoldResult, FoldTask, fit_fold
from trackdl.errors import InputError, TrackdlError
from trackdl.paths import whole_file
from trackdl.spec import GridSpec
from trackdl.spec_grid import DIMENSIONS
from trackdl.studies.grid import RUN, Census, GridStudy, GridTrial, fold_results
from trackdl.studies.store import alone
from trackdl.tracking import runs, trials
from trackdl.tracking.runs import Run
from trackdl.workers import Engine, Failed, Lost, work_through

__all__ = ["Result", "run", "show", "show_status"]

log = logging.getLogger(__name__)

Fit = Callable[[FoldTask], FoldResult]


@dataclass(frozen=True)
class Result:
    """What the task leaves: the protocol, the run above the trials, and the table, a row a fold (`grid_table`)."""

    experiment: GridSpec
    run: Run
    table: pd.DataFrame


@dataclass
class _Cell:
    """A cell in work."""

    study: GridStudy
    trial: GridTrial
    run: Run
    failed: bool = field(default=False)


class _Driver:
    """Hands out folds, keeps their results, ends trials: the only writer to both stores."""

    def __init__(self, experiment: GridSpec, studies: list[GridStudy], parent: Run) -> None:
        self.experiment, self.studies, self.parent = experiment, studies, parent
        self.counted = time.monotonic()
        self.open: dict[str, _Cell] = {}

    def tasks(self) -> Iterator[tuple[tuple[_Cell, int], FoldTask]]:
        """Yield the folds to be trained; cells that were left with all their folds are ended in passing."""
        spec = self.experiment
        for study in self.studies:
            for trial in study.take_up():
                cell = self._open(study, trial)
                done = trial.folds()
                for fold in range(spec.folds):
                    if fold not in done and not cell.failed:
                        yield (cell, fold), FoldTask(trial.cell, spec.training, spec.data, spec.folds, fold)
                if len(done) == spec.folds:
                    self._complete(cell)

    def _open(self, study: GridStudy, trial: GridTrial) -> _Cell:
        tags = {"trackdl.task": "grid", "trackdl.trial": f"{study.name}/{trial.number}"}
        run = trials.open_trial(self.parent, trial.run_id, f"{study.name}, trial {trial.number}", trial.cell, tags)
        trial.note(RUN, run.id)
        trial.note("mlflow_page", trials.page(run))
        for fold, result in trial.folds().items():
            self._log_fold(run, fold, result)
        self.open[run.id] = _Cell(study, trial, run)
        return self.open[run.id]

    def abandon(self) -> None:
        """Mark the runs of open cells KILLED; the next command takes the cells up."""
        for run_id in self.open:
            trials.close_trial(Run(run_id), "KILLED")

    def keep(self, cell: _Cell, fold: int, outcome: FoldResult | Failed | Lost) -> str:
        """Take a fold's outcome into the stores, and return a few words on it."""
        now = time.monotonic()
        cell.study.add_active(now - self.counted)
        self.counted = now
        if cell.failed:
            return "a fold of a cell that has failed"
        if isinstance(outcome, Failed | Lost):
            return self._fail(cell, fold, outcome)
        result = outcome.as_json()
        cell.study.keep_fold(cell.trial, fold, result)
        self._log_fold(cell.run, fold, result)
        if len(cell.trial.folds()) == self.experiment.folds:
            self._complete(cell)
        accuracy = outcome.history["val_accuracy"][-1]
        return f"trial {cell.trial.number}, fold {fold}: {accuracy:.2%}, {outcome.seconds:.0f} s"

    def _fail(self, cell: _Cell, fold: int, outcome: Failed | Lost) -> str:
        why = str(outcome.error) if isinstance(outcome, Failed) else "its worker was killed, twice; out of memory?"
        cell.failed = True
        cell.study.fail(cell.trial, f"fold {fold}: {why}")
        cell.run.tags({"trackdl.error": why})
        trials.close_trial(cell.run, "FAILED")
        del self.open[cell.run.id]
        log.error("trial %d of %s failed at fold %d: %s", cell.trial.number, cell.study.name, fold, why)
        return f"trial {cell.trial.number} failed"

    def _log_fold(self, run: Run, fold: int, result: dict[str, Any]) -> None:
        curves = {f"fold_{fold}_{name}": list(enumerate(values, 1)) for name, values in result["history"].items()}
        trials.log_once(run, {**curves, f"fold_{fold}_fit_seconds": [(0, result["fit_seconds"])]})

    def _complete(self, cell: _Cell) -> None:
        folds = [result for _, result in sorted(cell.trial.folds().items())]
        means = {
            name: np.mean([fold["history"][name] for fold in folds], axis=0).tolist() for name in folds[0]["history"]
        }
        last = [fold["history"]["val_accuracy"][-1] for fold in folds]
        figure = plots.fold_curves([fold["history"] for fold in folds], f"{cell.study.name}, trial {cell.trial.number}")
        cell.run.figure(figure, "pictures/folds.png")
        curves = {name: list(enumerate(values, 1)) for name, values in means.items()}
        single = {
            "val_accuracy_std": float(np.std(last, ddof=1)),
            "parameters": folds[0]["parameters"],
            "fit_seconds": sum(fold["fit_seconds"] for fold in folds),
            "cpu_seconds": sum(fold["cpu_seconds"] for fold in folds),
        }
        trials.log_once(cell.run, {**curves, **{name: [(0, value)] for name, value in single.items()}})
        trials.close_trial(cell.run, "FINISHED")
        cell.study.complete(cell.trial, float(np.mean(last)))
        del self.open[cell.run.id]


def run(
    experiment: GridSpec,
    workers: int | None = None,
    export: Path | None = None,
    fit: Fit = fit_fold,
    engine: Engine = work_through,
) -> Result:
    """Finish the grid: what stands already stays.

    Args:
        experiment: The protocol.
        workers: How many processes of one thread; one for each core by default.
        export: A folder that the finished table is written to, with a note of what made it.
        fit: Trains one fold, in a worker.
        engine: Spreads the fits over processes or machines.

    Raises:
        InputError: Another process works on this grid, or there are to be no workers.
        TrackdlError: Cells have failed; the others stand.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: at least one is needed")
    names = " ".join(experiment.study(grid) for grid in experiment.grids)
    with ExitStack() as locks:
        for grid in experiment.grids:
            locks.enter_context(alone(experiment.study(grid)))
        runs.close_abandoned("grid")
        studies = _studies(experiment)
        with runs.start(experiment, resume=trials.study_run("grid", names), name="grid") as parent:
            parent.tags({"trackdl.study": names, "trackdl.sampler": "GridSampler", "trackdl.pruner": "none"})
            driver = _Driver(experiment, studies, parent)
            try:
                _work(driver, workers or cpu_count(), fit, engine)
            except BaseException:
                driver.abandon()
                raise
            _check_complete(studies)
            table = _table(experiment, studies)
            _keep_table(parent, table, _origin(studies), export)
    return Result(experiment, parent, table)


def _studies(experiment: GridSpec) -> list[GridStudy]:
    return [
        GridStudy(experiment.study(grid), space.model_dump(), space.cells(), experiment.folds)
        for grid, space in experiment.grids.items()
    ]


def _work(driver: _Driver, workers: int, fit: Fit, engine: Engine) -> None:
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
            f"{len(failed)} cells have failed, the first of them {cell} in {study.name}; the same command tries them "
            "again. Why they failed stands with their trials and runs (`trackdl.error`)"
        )


def _table(experiment: GridSpec, studies: list[GridStudy]) -> pd.DataFrame:
    rows = [
        row
        for grid, study in zip(experiment.grids, studies, strict=True)
        for cell, trial in study.finished()
        for row in grid_table.fold_rows(grid, cell, fold_results(trial))
    ]
    return pd.DataFrame(rows)


def _origin(studies: list[GridStudy]) -> dict[str, Any]:
    """Return what made the table: machine, versions, command, time."""
    return {
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


def _keep_table(run: Run, table: pd.DataFrame, origin: dict[str, Any], export: Path | None) -> None:
    text = table.to_csv(index=False, lineterminator="\n")
    run.text(text, "grid.csv")
    run.table(origin, "grid.json")
    best = grid_table.best_cells(table, next(iter(table.grid)))
    run.metrics({"best_val_accuracy": float(best.score[0])})
    for name, content in (("grid.csv", text), ("grid.json", json.dumps(origin, indent=2) + "\n")):
        if export is not None:
            with whole_file(export / name) as part:
                part.write_text(content, encoding="utf-8")


def show_status(experiment: GridSpec) -> bool:
    """Print how the cells of each grid stand; return whether every one stands exactly once."""
    columns = ["grid", "cells", "done", "under way", "failed", "missing", "doubled", "folds done", "hours"]
    lines, whole = [], True
    for (grid, space), study in zip(experiment.grids.items(), _studies(experiment), strict=True):
        census: Census = study.census()
        whole = whole and census.complete
        groups = (census.done, census.under_way, census.failed, census.missing, census.doubled)
        folds = sum(len(fold_results(trial)) for trial in study.trials_in_grid())
        counts = [str(len(group)) for group in groups]
        of = f"{folds} of {len(space.cells()) * experiment.folds}"
        lines.append(
            [f"{grid} ({study.name})", str(len(space.cells())), *counts, of, f"{study.active_seconds / 3600:.2f}"]
        )
    print_table("Task 2's grid: how its cells stand", columns, lines)
    say("complete: every cell stands exactly once" if whole else "not complete: `trackdl grid` goes on with it")
    return whole


def show(result: Result) -> str:
    """Print the best configurations and the report's choice; return it in a line."""
    grid = next(iter(result.experiment.grids))
    best = grid_table.best_cells(result.table, grid)
    first = result.experiment.grids[grid].cells()[0]
    place = next(i for i in range(len(best)) if all(best[name][i] == value for name, value in first.items()))
    columns = ["place", *DIMENSIONS, "parameters", "CPU s a fold", "score"]
    lines = [
        [
            str(i + 1),
            *(str(best[name][i]) for name in DIMENSIONS),
            f"{best.parameters[i]:,}",
            f"{best.cpu_seconds[i]:.0f}",
            f"{best.score[i]:.2%} ± {best.spread[i]:.2%}",
        ]
        for i in sorted({*range(min(5, len(best))), place, len(best) - 1})
    ]
    print_table(f"Task 2's grid: mean validation accuracy of {result.experiment.folds} folds", columns, lines)
    say(f"run {result.run.id}")
    return (
        f"Task 2, grid of {len(best)}: best {best.score[0]:.2%} (mean of folds, which chose it); "
        f"the report's choice, its grid's first cell, {best.score[place]:.2%}, place {place + 1}."
    )
