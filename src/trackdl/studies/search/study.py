"""The study that searches for better networks: TPE with a pruner, or two objectives."""

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
from trackdl.studies.study import RUN, Study, StudyTrial

HISTORY = "history"  # the user attribute of a trial that has its epochs


class SearchTrial(StudyTrial):
    """A trial, its parameters, and the epochs that it has been trained for."""

    def __init__(self, trial: Trial | FrozenTrial, params: dict[str, Any]) -> None:
        super().__init__(trial, params)
        self.history = histories(trial)


class SearchStudy(Study):
    """A search's study.

    Args:
        spec: The search; the caller observes its limits on trials and minutes.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec, self.two = spec, spec.study.objectives != "accuracy"
        study = optuna.create_study(
            study_name=spec.study_name,
            storage=storage(),
            pruner=_pruner(spec),
            directions=["maximize", "minimize"] if self.two else ["maximize"],
            load_if_exists=True,
        )
        super().__init__(study)
        known = study.get_trials(deepcopy=False)
        # A study that is resumed must not draw the same random numbers again.
        study.sampler = _sampler(spec, spec.experiment.training.seed + len(known))
        if not known:
            for values in spec.first:
                self.study.enqueue_trial(values)

    def interrupted(self) -> Iterator[SearchTrial]:
        """Yield the trials that a dead process has left RUNNING."""
        yield from map(self._opened, self._interrupted())

    def ended(self) -> dict[str, tuple[SearchTrial, str, str]]:
        """Return the ended trials by the ids of their runs, each with its state and the reason."""
        return {
            t.user_attrs[RUN]: (SearchTrial(t, t.params), t.state.name, t.user_attrs.get(self.REASON, ""))
            for t in self.trials()
            if t.state.is_finished() and RUN in t.user_attrs
        }

    def ask(self) -> SearchTrial:
        """Start a new trial."""
        return self._opened(self.study.ask())

    def _opened(self, trial: Trial) -> SearchTrial:
        params: dict[str, Any] = {}
        for key, choice in self.spec.space.items():
            if not isinstance(choice, Range):
                params[key] = trial.suggest_categorical(key, choice)
            elif choice.whole:
                params[key] = trial.suggest_int(key, int(choice.low), int(choice.high), log=choice.log)
            else:
                params[key] = trial.suggest_float(key, choice.low, choice.high, log=choice.log)
        return SearchTrial(trial, params)

    def keep(self, trial: SearchTrial, epochs: list[Epoch]) -> bool:
        """Store further epochs of a trial; return whether the pruner stops it."""
        trial.history = [e for e in trial.history if e.epoch < epochs[0].epoch] + epochs
        trial.note(HISTORY, [asdict(epoch) for epoch in trial.history])
        if self.two:
            return False
        reported = self.study._storage.get_trial(trial.trial._trial_id).intermediate_values
        for epoch in epochs:
            if epoch.epoch not in reported:
                trial.trial.report(epoch.val_accuracy, epoch.epoch)
        return trial.trial.should_prune()

    def complete(self, trial: SearchTrial) -> None:
        """End a trial that has been trained to its last epoch."""
        accuracy = trial.history[-1].val_accuracy
        seconds = sum(epoch.cpu_seconds for epoch in trial.history)
        self.study.tell(trial.number, [accuracy, seconds] if self.two else accuracy)

    def prune(self, trial: SearchTrial, why: str) -> None:
        """End a trial before its last epoch."""
        self._end(trial, TrialState.PRUNED, why)

    def trials(self) -> list[FrozenTrial]:
        """Return all trials that were started."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]

    def counts(self) -> Counter[str]:
        """Return the number of trials in each state; REFUSED are those that were pruned before any training."""
        return Counter(
            "REFUSED" if trial.state == TrialState.PRUNED and RUN not in trial.user_attrs else trial.state.name
            for trial in self.trials()
        )

    def best(self) -> list[FrozenTrial]:
        """Return the complete trials, by accuracy, the best first; with two objectives, those of the Pareto front."""
        found = self.study.best_trials if self.two else self._completed()
        return sorted(found, key=lambda trial: -trial.values[0])

    def _completed(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def importances(self) -> dict[str, float]:
        """Return each key's own share of the accuracy's variance, by fANOVA (Hutter et al., 2014).

        What the shares lack of 1 is due to interactions. Empty if there are fewer than four complete
        trials, or all have the same accuracy.
        """
        complete = self._completed()
        if len(complete) < 4 or len({trial.values[0] for trial in complete}) < 2:
            return {}
        evaluator = FanovaImportanceEvaluator(seed=self.spec.experiment.training.seed)
        return dict(evaluator.evaluate(self.study, target=lambda trial: trial.values[0]))


def histories(trial: Trial | FrozenTrial) -> list[Epoch]:
    """Return the epochs that a trial has been trained for."""
    return [Epoch(**epoch) for epoch in trial.user_attrs.get(HISTORY, [])]


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
