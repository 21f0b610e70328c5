"""The study that searches for better networks: TPE with a pruner, or two objectives."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from trackdl.spec import SearchSpec
from trackdl.spec.search import Range
from trackdl.studies.search.segments import Epoch
from trackdl.studies.study import RUN, Study, kept

HISTORY = "history"  # what is kept of a trial: its epochs


class SearchStudy(Study):
    """A search's study; its caller observes the limits on trials and minutes."""

    def __init__(self, spec: SearchSpec) -> None:
        self.spec, self.two = spec, spec.study.objectives != "accuracy"
        metrics = {"validation accuracy": StudyDirection.MAXIMIZE}
        metrics |= {"CPU seconds": StudyDirection.MINIMIZE} if self.two else {}
        super().__init__(spec.study_name, None, _pruner(spec), metrics)
        known = self.in_state()
        # A study that is resumed must not draw the same random numbers again.
        self.study.sampler = _sampler(spec, spec.experiment.training.seed + len(known))
        if not known:
            for values in spec.first:
                self.study.enqueue_trial(values)

    def ended(self) -> dict[str, FrozenTrial]:
        """Return the ended trials by the ids of their runs."""
        return {t.user_attrs[RUN]: t for t in self.trials() if t.state.is_finished() and RUN in t.user_attrs}

    def _with_params(self, trial: Trial) -> Trial:
        for key, choice in self.spec.space.items():
            if not isinstance(choice, Range):
                trial.suggest_categorical(key, choice)
            elif choice.whole:
                trial.suggest_int(key, int(choice.low), int(choice.high), log=choice.log)
            else:
                trial.suggest_float(key, choice.low, choice.high, log=choice.log)
        return trial

    def keep(self, trial: Trial | FrozenTrial, epochs: list[Epoch]) -> bool:
        """Store further epochs of a trial; return whether the pruner stops it."""
        before = [epoch for epoch in histories(trial) if epoch.epoch < epochs[0].epoch]
        self.keep_aside(HISTORY, [asdict(epoch) for epoch in before + epochs], trial)
        if self.two:
            return False
        reported = self.study._storage.get_trial(trial._trial_id).intermediate_values
        for epoch in epochs:
            if epoch.epoch not in reported:
                trial.report(epoch.val_accuracy, epoch.epoch)
        return trial.should_prune()

    def complete(self, trial: Trial | FrozenTrial) -> None:
        """End a trial that has been trained to its last epoch."""
        history = histories(trial)
        accuracy, seconds = history[-1].val_accuracy, sum(epoch.cpu_seconds for epoch in history)
        self.study.tell(trial.number, [accuracy, seconds] if self.two else accuracy)

    def pause(self, trial: Trial | FrozenTrial) -> None:
        """Put a trial that is not finished back into the queue, so that it does not seem to be running."""
        self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    @property
    def searched(self) -> dict[str, str]:
        """What is searched: the values or the range of each key."""
        return {key: _words(choice) for key, choice in self.spec.space.items()}

    def prune(self, trial: Trial | FrozenTrial, why: str) -> None:
        """End a trial before its last epoch."""
        self._end(trial, TrialState.PRUNED, why)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that were started."""
        return [trial for trial in self.in_state() if trial.state != TrialState.WAITING]

    def trained(self) -> list[FrozenTrial]:
        """Return all trials with an epoch, those that wait for the next command among them."""
        return [trial for trial in self.in_state() if histories(trial)]

    def counts(self) -> Counter[str]:
        """Return the number of trials in each state; REFUSED are those that were pruned before any training."""
        return Counter(
            "REFUSED" if trial.state == TrialState.PRUNED and RUN not in trial.user_attrs else trial.state.name
            for trial in self.trials()
        )

    def best(self) -> list[FrozenTrial]:
        """Return the complete trials, by accuracy, the best first; with two objectives, those of the Pareto front."""
        found = self.study.best_trials if self.two else self.in_state(TrialState.COMPLETE)
        return sorted(found, key=lambda trial: -trial.values[0])

    def importances(self) -> dict[str, float]:
        """Return each key's own share of the accuracy's variance; empty with fewer than four complete trials."""
        return self._shares(self.spec.experiment.training.seed, fewest=4)


def histories(trial: Trial | FrozenTrial) -> list[Epoch]:
    """Return the epochs that a trial has been trained for."""
    return [Epoch(**epoch) for epoch in kept(trial).get(HISTORY, [])]


def _words(choice: Range | Sequence[Any]) -> str:
    if not isinstance(choice, Range):
        return ", ".join(map(str, choice))
    return f"{choice.low:g} to {choice.high:g}" + (", on a logarithmic scale" if choice.log else "")


def _pruner(spec: SearchSpec) -> BasePruner:
    settings = spec.study
    if settings.objectives != "accuracy" or settings.pruner == "none":
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(settings.min_epochs, spec.experiment.training.epochs, settings.reduction_factor)
    return SuccessiveHalvingPruner(settings.min_epochs, settings.reduction_factor)


def _sampler(spec: SearchSpec, seed: int) -> BaseSampler:
    if spec.study.sampler == "random":
        return RandomSampler(seed=seed)
    # Explicit, since these defaults are new: dimensions are modelled together, and running trials count as bad.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=10)
