"""The grid's driver: hands out folds, keeps their results, ends trials. The only writer to both stores.

Optuna's store decides what is done; what MLflow shows of it is written after, and once.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from trackdl.plots import common as plots
from trackdl.spec import GridSpec
from trackdl.studies.grid.fits import FoldResult, FoldTask
from trackdl.studies.grid.study import RUN, GridStudy, GridTrial
from trackdl.tracking import trials
from trackdl.tracking.runs import Run
from trackdl.tracking.store import defer_interrupts
from trackdl.workers.figures import Studio
from trackdl.workers.pool import Failed, Lost

__all__ = ["Cell", "GridDriver"]

log = logging.getLogger(__name__)


@dataclass
class Cell:
    """A cell in work."""

    study: GridStudy
    trial: GridTrial
    run: Run
    failed: bool = field(default=False)


class GridDriver:
    """Hands out folds, keeps their results, ends trials: the only writer to both stores."""

    def __init__(self, experiment: GridSpec, studies: list[GridStudy], parent: Run) -> None:
        self.experiment, self.studies, self.parent = experiment, studies, parent
        self.counted = time.monotonic()
        self.open: dict[str, Cell] = {}
        self.left = trials.unfinished("grid", parent)
        self.studio = Studio()

    def tasks(self) -> Iterator[tuple[tuple[Cell, int], FoldTask]]:
        """Yield the folds to be trained; cells that were left with all their folds are ended in passing."""
        spec = self.experiment
        for study in self.studies:
            for trial in study.take_up():
                cell = self._open(study, trial)
                done = trial.folds()
                for fold in range(spec.folds):
                    if fold not in done and not cell.failed:
                        yield (cell, fold), FoldTask(spec.model(trial.cell), spec.training, spec.data, spec.folds, fold)
                if len(done) == spec.folds:
                    self._draw(cell)

    def _open(self, study: GridStudy, trial: GridTrial) -> Cell:
        tag = f"{study.name}/{trial.number}"
        tags = {"trackdl.task": "grid", "trackdl.trial": tag}
        known = trial.run_id or (self.left[tag].id if tag in self.left else None)
        name = f"{study.name}, trial {trial.number}"
        with defer_interrupts():
            run = trials.open_trial(self.parent, known, name, trial.cell, tags)
            self.open[run.id] = Cell(study, trial, run)
        trial.note(RUN, run.id)
        trial.note("mlflow_page", trials.page(self.parent, run))
        for fold, result in trial.folds().items():
            self._log_fold(run, fold, result)
        return self.open[run.id]

    def finish(self) -> None:
        """End the cells whose pictures are still being drawn."""
        self.studio.deliver(everything=True)
        self.studio.close()

    def abandon(self) -> None:
        """Mark the runs of open cells KILLED; the next command takes the cells up."""
        self.studio.close()
        trials.kill(cell.run for cell in self.open.values())

    def keep(self, cell: Cell, fold: int, outcome: FoldResult | Failed | Lost) -> str:
        """Take a fold's outcome into the stores, and return a few words on it."""
        self.studio.deliver()
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
            self._draw(cell)
        accuracy = outcome.history["val_accuracy"][-1]
        return f"trial {cell.trial.number}, fold {fold}: {accuracy:.2%}, {outcome.seconds:.0f} s"

    def _fail(self, cell: Cell, fold: int, outcome: Failed | Lost) -> str:
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

    def _draw(self, cell: Cell) -> None:
        """Have the picture of a whole cell drawn; with it the cell is complete."""
        folds = [result["history"] for _, result in sorted(cell.trial.folds().items())]
        title = f"{cell.study.name}, trial {cell.trial.number}"
        self.studio.draw(partial(self._complete, cell), plots.fold_curves, folds, title)

    def _complete(self, cell: Cell, picture: bytes) -> None:
        folds = [result for _, result in sorted(cell.trial.folds().items())]
        means = {
            name: np.mean([fold["history"][name] for fold in folds], axis=0).tolist() for name in folds[0]["history"]
        }
        last = [fold["history"]["val_accuracy"][-1] for fold in folds]
        cell.run.png(picture, "pictures/folds.png")
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
