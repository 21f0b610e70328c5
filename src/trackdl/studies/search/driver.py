"""The search's driver: asks the study for trials, hands out their epochs, stores what comes back."""

import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import torch
from optuna.trial import FrozenTrial, Trial

from trackdl import spec
from trackdl.data.images import ImageSet
from trackdl.errors import DataMissing, TrackdlError
from trackdl.networks.build import count_parameters
from trackdl.plots import search as plots_search
from trackdl.spec import ClassifySpec, SearchSpec
from trackdl.studies.driver import Driver
from trackdl.studies.search.segments import SegmentResult, SegmentTask
from trackdl.studies.search.study import SearchStudy, histories
from trackdl.studies.store import storage_folder
from trackdl.system.paths import whole_file
from trackdl.tracking import trials
from trackdl.tracking.runs import Run
from trackdl.training.image_splits import network_for
from trackdl.workers.pool import Failed, Lost

log = logging.getLogger(__name__)

PICTURE = "pictures/learning_curve.png"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}


@dataclass(frozen=True)
class _Open:
    """An open trial; `state` is its checkpoint's file."""

    trial: Trial | FrozenTrial
    experiment: ClassifySpec
    run: Run
    state: Path


class SearchDriver(Driver):
    """Asks the study for trials, hands out their epochs, stores what comes back."""

    def __init__(self, experiment: SearchSpec, study: SearchStudy, parent: Run, images: ImageSet) -> None:
        super().__init__(experiment.name, parent)
        self.experiment, self.study, self.images = experiment, study, images
        self.ready: deque[_Open] = deque()
        minutes = experiment.study.minutes
        self.deadline = monotonic() + 60 * minutes if minutes else None

    def resume(self) -> None:
        """Complete the runs of ended trials, and resume the open trials, that a dead process has left."""
        ended = self.study.ended()
        for run in self.unfinished.values():
            if found := ended.get(run.id):
                self.open[run.id] = run
                self._end(self._opened(found, run), found.state.name, found.user_attrs.get(self.study.REASON, ""))
        for trial in self.study.interrupted():
            self._begin(trial)

    def next_task(self) -> tuple[_Open, SegmentTask] | None:
        """Return the next epoch to train: of an open trial, else of a new one, until the time is up."""
        # Not in `keep`: an interruption while a run is closed would lose the epoch that was just trained.
        self.studio.deliver()
        if self.deadline and monotonic() > self.deadline:
            return None
        while not self.ready:
            if len(self.study.trials()) >= self.experiment.study.trials:
                return None
            self._begin(self.study.ask())
        opened = self.ready.popleft()
        state = opened.state.read_bytes() if opened.state.exists() else None
        # The checkpoint counts: it differs from the history if the process was killed between writing the two.
        reached = len(histories(opened.trial)) if state else 0
        return opened, SegmentTask(opened.experiment, state, reached + 1)

    def _begin(self, trial: Trial) -> None:
        if why := self.experiment.refusal(trial.params):
            # Known before anything is trained, so it is not a failure.
            self.study.prune(trial, why)
            return
        opened = self._opened(trial, self.open_run(self.study.name, trial))
        opened.run.text(spec.to_yaml(opened.experiment), "experiment.yaml")
        history = histories(trial)
        if history and history[-1].epoch >= opened.experiment.training.epochs:
            self._complete(opened)  # its process was killed before it could end the trial
        else:
            self.ready.append(opened)

    def _opened(self, trial: Trial | FrozenTrial, run: Run) -> _Open:
        state = storage_folder() / "studies" / self.study.id / f"trial-{trial.number:05d}.safetensors"
        return _Open(trial, self.experiment.of_trial(trial.params), run, state)

    def keep(self, opened: _Open, outcome: SegmentResult | Failed | Lost) -> str:
        """Store an epoch's outcome, and return a short text about it.

        Raises:
            DataMissing, OSError: The machine is at fault, not the trial, which stays open.
        """
        trial = opened.trial
        if isinstance(outcome, Failed) and isinstance(outcome.error, DataMissing | OSError):
            raise outcome.error  # every other trial would fail too
        if isinstance(outcome, Failed | Lost):
            self.study.fail(trial, str(outcome))
            self._end(opened, "FAIL", str(outcome))
            log.warning("trial %d failed: %s", trial.number, outcome)
            return f"trial {trial.number} failed"
        pruned = self.study.keep(trial, outcome.epochs)
        with whole_file(opened.state) as part:
            part.write_bytes(outcome.state)
        last = histories(trial)[-1]
        words = f"trial {trial.number}, epoch {last.epoch}: {last.val_accuracy:.2%}"
        if last.epoch >= self.experiment.experiment.training.epochs:
            self._complete(opened)
            return f"{words}, complete"
        if pruned:
            self.study.prune(trial, f"after epoch {last.epoch}, by {self.experiment.study.pruner}")
            self._end(opened, "PRUNED", f"after epoch {last.epoch}")
            return f"{words}, pruned"
        self.ready.append(opened)
        return words

    def _complete(self, opened: _Open) -> None:
        self.study.complete(opened.trial)
        self._end(opened, "COMPLETE", "")

    def _end(self, opened: _Open, state: str, why: str) -> None:
        """Log the results of a trial that has ended; its run is closed when its figure is drawn."""
        history = histories(opened.trial)
        curves = {
            name: [(epoch.epoch, float(getattr(epoch, name))) for epoch in history]
            for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        }
        with torch.device("meta"):
            size = count_parameters(network_for(opened.experiment, self.images))
        single = {"cpu_seconds": sum(e.cpu_seconds for e in history), "epochs": len(history), "parameters": size}
        trials.log_once(opened.run, {**curves, **{name: [(0, float(value))] for name, value in single.items()}})
        opened.run.tags({"trackdl.trial_state": state, **({"trackdl.why": why} if why else {})})
        opened.state.unlink(missing_ok=True)
        reached = (
            f": {history[-1].val_accuracy:.2%} on the validation split after epoch {len(history)}" if history else ""
        )
        words = f"{state.lower()}{reached}{f' ({why})' if state == 'FAIL' else ''}; {size:,} parameters"
        self.describe(self.study, opened.trial, opened.run, words, PICTURE if history else None)
        if history:
            curve = [(opened.trial.number, [epoch.val_accuracy for epoch in history], state == "COMPLETE")]
            close = partial(self._close, opened, STATUS[state])
            self.studio.draw(close, plots_search.learning_curves, curve, f"Trial {opened.trial.number}")
        else:
            self.close_run(opened.run, STATUS[state])

    def _close(self, opened: _Open, status: str, png: bytes) -> None:
        opened.run.content(png, PICTURE)
        self.study.show_image(opened.trial, "learning_curve.png", png)
        self.close_run(opened.run, status)

    def finish(self) -> None:
        """Close the runs of ended trials; open ones, if the time is up, wait for the next command."""
        if self.ready:
            log.info("time is up, and %d trials are open: the same command resumes them", len(self.ready))
        for opened in self.ready:
            self.study.pause(opened.trial)
            self.describe(self.study, opened.trial, opened.run, "waits: the time was up; the next command resumes it")
        super().finish()

    def abandon(self) -> None:
        """Close the runs of ended trials, and mark those of open ones KILLED; the next command resumes them."""
        try:
            self.studio.deliver(everything=True)
        except TrackdlError as error:
            log.warning("the run of a trial that has ended could not be completed: %s", error)
        finally:
            super().abandon()
