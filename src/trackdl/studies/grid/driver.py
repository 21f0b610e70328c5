"""The grid's driver: hands out folds, stores their results, ends trials."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from optuna.trial import Trial

from trackdl.plots import common as plots
from trackdl.spec import GridSpec
from trackdl.studies.driver import Driver
from trackdl.studies.grid.fits import FoldResult, FoldTask
from trackdl.studies.grid.study import GridStudy, fold_results
from trackdl.system.console import counted
from trackdl.tracking import trials
from trackdl.tracking.runs import Run
from trackdl.workers.pool import Failed, Lost

log = logging.getLogger(__name__)
PICTURE = "pictures/folds.png"


@dataclass
class Cell:
    """An open cell."""

    study: GridStudy
    trial: Trial
    run: Run
    failed: bool = False


class GridDriver(Driver):
    """Hands out folds, stores their results, ends trials."""

    def __init__(self, experiment: GridSpec, studies: list[GridStudy], parent: Run) -> None:
        super().__init__(experiment.name, parent)
        self.experiment, self.studies = experiment, studies
        self.counted = time.monotonic()

    def tasks(self) -> Iterator[tuple[tuple[Cell, int], FoldTask]]:
        """Yield the folds to train; a cell whose folds an earlier process has all trained is completed on the way."""
        spec = self.experiment
        for study in self.studies:
            for trial in study.unfinished():
                cell = Cell(study, trial, self.open_run(study.name, trial))
                done = fold_results(trial)
                for fold, result in done.items():
                    self._log_fold(cell.run, fold, result)
                for fold in range(spec.fits):
                    if fold not in done and not cell.failed:
                        yield (cell, fold), FoldTask(spec.of_cell(trial.params), spec.judge, fold)
                if len(done) == spec.fits:
                    self._draw(cell)

    def keep(self, cell: Cell, fold: int, outcome: FoldResult | Failed | Lost) -> str:
        """Store a fold's outcome, and return a short text about it."""
        now = time.monotonic()
        cell.study.add_active(now - self.counted)
        self.counted = now
        if cell.failed:
            return "a fold of a cell that has failed"
        if isinstance(outcome, Failed | Lost):
            return self._fail(cell, fold, str(outcome))
        result = outcome.as_json()
        cell.study.keep_fold(cell.trial, fold, result)
        self._log_fold(cell.run, fold, result)
        self.studio.deliver()  # not before: an interruption while a run is closed would lose the fold
        if len(fold_results(cell.trial)) == self.experiment.fits:
            self._draw(cell)
        accuracy = outcome.history[f"{self.experiment.part}_accuracy"][-1]
        return f"trial {cell.trial.number}, fold {fold}: {accuracy:.2%}, {outcome.seconds:.0f} s"

    def _fail(self, cell: Cell, fold: int, why: str) -> str:
        cell.failed = True
        cell.study.fail(cell.trial, f"fold {fold}: {why}")
        self.describe(cell.study, cell.trial, cell.run, f"failed at fold {fold}: {why}")
        cell.run.tags({"trackdl.error": why})
        self.close_run(cell.run, "FAILED")
        log.error("trial %d of %s failed at fold %d: %s", cell.trial.number, cell.study.name, fold, why)
        return f"trial {cell.trial.number} failed"

    def _log_fold(self, run: Run, fold: int, result: dict[str, Any]) -> None:
        curves = {f"fold_{fold}_{name}": list(enumerate(values, 1)) for name, values in result["history"].items()}
        trials.log_once(run, {**curves, f"fold_{fold}_fit_seconds": [(0, result["fit_seconds"])]})

    def _draw(self, cell: Cell) -> None:
        """Have the figure of a cell with all its folds drawn; the cell is complete when the figure arrives."""
        folds = [result for _, result in sorted(fold_results(cell.trial).items())]
        title = f"{cell.study.name}, trial {cell.trial.number}"
        histories = [fold["history"] for fold in folds]
        self.studio.draw(
            partial(self._complete, cell, folds), plots.fold_curves, histories, title, self.experiment.part
        )

    def _complete(self, cell: Cell, folds: list[dict[str, Any]], png: bytes) -> None:
        means = {
            name: np.mean([fold["history"][name] for fold in folds], axis=0).tolist() for name in folds[0]["history"]
        }
        accuracy = f"{self.experiment.part}_accuracy"
        last = [fold["history"][accuracy][-1] for fold in folds]
        cell.run.content(png, PICTURE)
        cell.study.show_image(cell.trial, "folds.png", png)
        curves = {name: list(enumerate(values, 1)) for name, values in means.items()}
        single = {
            **({f"{accuracy}_std": float(np.std(last, ddof=1))} if len(last) > 1 else {}),
            "parameters": folds[0]["parameters"],
            "fit_seconds": sum(fold["fit_seconds"] for fold in folds),
            "cpu_seconds": sum(fold["cpu_seconds"] for fold in folds),
        }
        trials.log_once(cell.run, {**curves, **{name: [(0, value)] for name, value in single.items()}})
        self.close_run(cell.run, "FINISHED")
        mean = float(np.mean(last))
        fits = counted(len(last), "fit")
        self.describe(cell.study, cell.trial, cell.run, f"complete: {mean:.2%}, the mean of {fits}", PICTURE)
        cell.study.complete(cell.trial, mean if np.isfinite(mean) else 0.0)  # Optuna takes no NaN, of one that diverged
