"""The study that looks for better networks: TPE with a pruner, or two objectives; each trial told truthfully."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from trackdl.spec import SearchSpec
from trackdl.spec.search import Range
from trackdl.studies.search.segments import Epoch
from trackdl.studies.store import storage

__all__ = ["RUN", "SearchStudy", "SearchTrial", "histories"]

# A trial's user attributes.
RUN = "mlflow_run"
HISTORY = "history"
WHY = "why"


class SearchTrial:
    """A trial in work: the values it was given, and the epochs it has been trained."""

    def __init__(self, trial: Trial | FrozenTrial, values: dict[str, Any]) -> None:
        self.trial, self.values = trial, values
        self.history = [Epoch(**epoch) for epoch in trial.user_attrs.get(HISTORY, [])]

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.trial.number

    @property
    def run_id(self) -> str | None:
        """The MLflow run that shows the trial."""
        return self.trial.user_attrs.get(RUN)

    def note(self, key: str, value: Any) -> None:
        """Keep a user attribute with the trial."""
        self.trial.set_user_attr(key, value)


class SearchStudy:
    """A study in Optuna's store; one process works on it at a time (`store.study_lock`).

    Args:
        spec: The search. What it says of trials and minutes is the caller's to keep.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec, self.name = spec, spec.study_name
        self.two = spec.study.objectives != "accuracy"
        self.study = optuna.create_study(
            study_name=self.name,
            storage=storage(),
            pruner=_pruner(spec),
            directions=["maximize", "minimize"] if self.two else ["maximize"],
            load_if_exists=True,
        )
        told = self.study.get_trials(deepcopy=False)
        # A study that is taken up again must not draw the numbers that it has drawn before.
        self.study.sampler = _sampler(spec, spec.training.seed + len(told))
        if not told:
            for values in spec.first:
                self.study.enqueue_trial(values)

    def interrupted(self) -> Iterator[SearchTrial]:
        """Yield the trials that a process which is gone has left RUNNING."""
        for left in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            yield self._opened(Trial(self.study, left._trial_id))

    def ended(self) -> dict[str, tuple[SearchTrial, str, str]]:
        """Return the trials that have ended, by the ids of their runs, each with its state and why it ended so."""
        return {
            t.user_attrs[RUN]: (SearchTrial(t, t.params), t.state.name, t.user_attrs.get(WHY, ""))
            for t in self.trials()
            if t.state.is_finished() and RUN in t.user_attrs
        }

    def ask(self) -> SearchTrial:
        """Begin a new trial."""
        return self._opened(self.study.ask())

    def _opened(self, trial: Trial) -> SearchTrial:
        values = {}
        for key, choice in self.spec.space.items():
            if not isinstance(choice, Range):
                values[key] = trial.suggest_categorical(key, choice)
            elif choice.whole:
                values[key] = trial.suggest_int(key, int(choice.low), int(choice.high), log=choice.log)
            else:
                values[key] = trial.suggest_float(key, choice.low, choice.high, log=choice.log)
        return SearchTrial(trial, values)

    def keep(self, trial: SearchTrial, epochs: list[Epoch]) -> bool:
        """Keep further epochs of a trial; return whether the pruner gives it up."""
        trial.history = [e for e in trial.history if e.epoch < epochs[0].epoch] + epochs
        trial.note(HISTORY, [asdict(epoch) for epoch in trial.history])
        if self.two:
            return False
        for epoch in epochs:
            if epoch.epoch not in self._frozen(trial).intermediate_values:
                trial.trial.report(epoch.val_accuracy, epoch.epoch)
        return trial.trial.should_prune()

    def _frozen(self, trial: SearchTrial) -> FrozenTrial:
        return self.study._storage.get_trial(trial.trial._trial_id)

    def complete(self, trial: SearchTrial) -> None:
        """End a trial that has been trained to its last epoch."""
        accuracy = trial.history[-1].val_accuracy
        seconds = sum(epoch.cpu_seconds for epoch in trial.history)
        self.study.tell(trial.number, [accuracy, seconds] if self.two else accuracy)

    def prune(self, trial: SearchTrial, why: str) -> None:
        """End a trial before its last epoch."""
        trial.note(WHY, why)
        self.study.tell(trial.number, state=TrialState.PRUNED)

    def fail(self, trial: SearchTrial, why: str) -> None:
        """End a trial that went wrong: it has no value and cannot win."""
        trial.note(WHY, why)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that were begun."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def counts(self) -> Counter[str]:
        """Return how many trials are in each state; REFUSED are those that were pruned before any training."""
        return Counter(
            "REFUSED" if trial.state == TrialState.PRUNED and RUN not in trial.user_attrs else trial.state.name
            for trial in self.trials()
        )

    def best(self) -> list[FrozenTrial]:
        """Return the complete trials: of one objective the best first, of two the Pareto front, by accuracy."""
        if self.two:
            return sorted(self.study.best_trials, key=lambda trial: -trial.values[0])
        return sorted(
            (trial for trial in self.trials() if trial.state == TrialState.COMPLETE), key=lambda trial: -trial.values[0]
        )

    def importances(self) -> dict[str, float]:
        """Return how much of the accuracy's variance each key explains by itself, by fANOVA (Hutter et al., 2014).

        What is left to 1 are interactions, as in `GridStudy.importances`. Over complete trials only; empty
        where there are fewer than four, or all are alike.
        """
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len(complete) < 4 or len({trial.values[0] for trial in complete}) < 2:
            return {}
        evaluator = FanovaImportanceEvaluator(seed=self.spec.training.seed)
        return dict(evaluator.evaluate(self.study, target=lambda trial: trial.values[0]))


def histories(trial: FrozenTrial) -> list[Epoch]:
    """Return the epochs that a trial was trained."""
    return [Epoch(**epoch) for epoch in trial.user_attrs.get(HISTORY, [])]


def _pruner(spec: SearchSpec) -> BasePruner:
    settings = spec.study
    if settings.objectives != "accuracy" or settings.pruner == "none":
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(settings.min_epochs, spec.training.epochs, settings.reduction_factor)
    return SuccessiveHalvingPruner(settings.min_epochs, settings.reduction_factor)


def _sampler(spec: SearchSpec, seed: int) -> BaseSampler:
    if spec.study.sampler == "random":
        return RandomSampler(seed=seed)
    # Named, since they are new defaults: dimensions are modelled together, and trials under way count as bad.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=10)
