"""The search's driver: asks the study, hands out epochs, keeps what comes back. The only writer to both stores.

Optuna's store decides what is done; what MLflow shows of it is written after, and once.
"""

import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import torch

from trackdl import spec
from trackdl.errors import DataMissing, TrackdlError
from trackdl.networks.build import count_parameters
from trackdl.networks.fashion import FashionNet
from trackdl.plots import search as plots_search
from trackdl.spec import FashionSpec, SearchSpec
from trackdl.studies.search.segments import SegmentResult, SegmentTask
from trackdl.studies.search.study import RUN, SearchStudy, SearchTrial
from trackdl.studies.store import storage_folder
from trackdl.system.paths import whole_file
from trackdl.tracking import trials
from trackdl.tracking.runs import Run
from trackdl.tracking.store import defer_interrupts
from trackdl.workers.figures import Studio
from trackdl.workers.pool import Failed, Lost

__all__ = ["SearchDriver"]

log = logging.getLogger(__name__)

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}


@dataclass(frozen=True)
class _Open:
    """A trial in work."""

    trial: SearchTrial
    experiment: FashionSpec
    run: Run
    state: Path


class SearchDriver:
    """Asks the study, hands out epochs, keeps what comes back: the only writer to both stores."""

    def __init__(self, experiment: SearchSpec, study: SearchStudy, parent: Run) -> None:
        self.experiment, self.study, self.parent = experiment, study, parent
        self.ready: deque[_Open] = deque()
        self.open: dict[int, _Open] = {}  # whose runs are
        self.studio = Studio()
        minutes = experiment.study.minutes
        self.deadline = monotonic() + 60 * minutes if minutes else None

    def take_up(self) -> None:
        """Take up what a process that is gone has left: trials half-done, and runs of trials that had ended."""
        ended, left = self.study.ended(), trials.unfinished("search", self.parent)
        for run in left.values():
            if found := ended.get(run.id):
                trial, state, why = found
                self._end(self._opened(trial, run), state, why)
        for trial in self.study.interrupted():
            self._begin(trial, left.get(self._tag(trial)))

    def next_task(self) -> tuple[_Open, SegmentTask] | None:
        """Return the next epoch to train: of a trial in work, else of a new one, while there is time."""
        if self.deadline and monotonic() > self.deadline:
            return None
        while not self.ready:
            if len(self.study.trials()) >= self.experiment.study.trials:
                return None
            self._begin(self.study.ask())
        opened = self.ready.popleft()
        state = opened.state.read_bytes() if opened.state.exists() else None
        # The checkpoint counts: where the two differ, the process was killed between writing one and the other.
        reached = len(opened.trial.history) if state else 0
        return opened, SegmentTask(opened.experiment, state, reached + 1)

    def _tag(self, trial: SearchTrial) -> str:
        return f"{self.study.name}/{trial.number}"

    def _begin(self, trial: SearchTrial, left: Run | None = None) -> None:
        if why := self.experiment.refusal(trial.values):
            # Known before anything is trained, so it is no failure.
            self.study.prune(trial, why)
            return
        name = f"{self.study.name}, trial {trial.number}"
        tags = {"trackdl.task": "search", "trackdl.trial": self._tag(trial)}
        known = trial.run_id or (left.id if left else None)
        with defer_interrupts():
            run = trials.open_trial(self.parent, known, name, trial.values, tags)
            opened = self._opened(trial, run)
        trial.note(RUN, run.id)
        trial.note("mlflow_page", trials.page(self.parent, run))
        run.text(spec.to_yaml(opened.experiment), "experiment.yaml")
        if trial.history and trial.history[-1].epoch >= opened.experiment.training.epochs:
            self._complete(opened)  # all but its end was told when its process was killed
        else:
            self.ready.append(opened)

    def _opened(self, trial: SearchTrial, run: Run) -> _Open:
        state = storage_folder() / "studies" / self.study.name / f"trial-{trial.number:05d}.safetensors"
        self.open[trial.number] = _Open(trial, self.experiment.experiment(trial.values), run, state)
        return self.open[trial.number]

    def keep(self, opened: _Open, outcome: SegmentResult | Failed | Lost) -> str:
        """Take an epoch's outcome into the stores, and return a few words on it.

        Raises:
            DataMissing: Not the trial is at fault but the machine; it stays open.
            OSError: The same, of its disk.
        """
        trial = opened.trial
        self.studio.deliver()
        if isinstance(outcome, Failed) and isinstance(outcome.error, DataMissing | OSError):
            raise outcome.error  # every other trial would fail of it too, and none could win any more
        if isinstance(outcome, Failed | Lost):
            why = str(outcome.error) if isinstance(outcome, Failed) else "its worker was killed, twice; out of memory?"
            self.study.fail(trial, why)
            self._end(opened, "FAIL", why)
            log.warning("trial %d failed: %s", trial.number, why)
            return f"trial {trial.number} failed"
        given_up = self.study.keep(trial, outcome.epochs)
        with whole_file(opened.state) as part:
            part.write_bytes(outcome.state)
        last = trial.history[-1]
        words = f"trial {trial.number}, epoch {last.epoch}: {last.val_accuracy:.2%}"
        if last.epoch >= self.experiment.training.epochs:
            self._complete(opened)
            return f"{words}, complete"
        if given_up:
            self.study.prune(trial, f"after epoch {last.epoch}, by {self.experiment.study.pruner}")
            self._end(opened, "PRUNED", f"after epoch {last.epoch}")
            return f"{words}, pruned"
        self.ready.append(opened)
        return words

    def _complete(self, opened: _Open) -> None:
        self.study.complete(opened.trial)
        self._end(opened, "COMPLETE", "")

    def _end(self, opened: _Open, state: str, why: str) -> None:
        """Tell of a trial that has ended; its run is closed when its picture is drawn."""
        history = opened.trial.history
        curves = {
            name: [(epoch.epoch, float(getattr(epoch, name))) for epoch in history]
            for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        }
        with torch.device("meta"):
            size = count_parameters(FashionNet(**opened.experiment.model.model_dump()))
        single = {"cpu_seconds": sum(e.cpu_seconds for e in history), "epochs": len(history), "parameters": size}
        trials.log_once(opened.run, {**curves, **{name: [(0, float(value))] for name, value in single.items()}})
        opened.run.tags({"trackdl.trial_state": state, **({"trackdl.why": why} if why else {})})
        opened.state.unlink(missing_ok=True)
        if history:
            curve = [(opened.trial.number, [epoch.val_accuracy for epoch in history], state == "COMPLETE")]
            close = partial(self._close, opened, STATUS[state])
            self.studio.draw(close, plots_search.learning_curves, curve, f"Trial {opened.trial.number}")
        else:
            self._close(opened, STATUS[state])

    def _close(self, opened: _Open, status: str, picture: bytes | None = None) -> None:
        if picture:
            opened.run.png(picture, "pictures/learning_curve.png")
        trials.close_trial(opened.run, status)
        del self.open[opened.trial.number]

    def stop(self) -> None:
        """Close what has ended; trials that the time has run out for are taken up by the next command."""
        self.studio.deliver(everything=True)
        if self.ready:
            log.info("time is up with %d trials under way: the same command goes on with them", len(self.ready))
        self.abandon()

    def abandon(self) -> None:
        """Tell of trials that have ended, and mark the runs of the others KILLED: the next command takes them up."""
        try:
            self.studio.deliver(everything=True)
        except TrackdlError as error:
            log.warning("a trial that has ended could not be told of: %s", error)
        finally:
            self.studio.close()
            trials.kill(opened.run for opened in self.open.values())
