"""The grid's study: its cells are identified by their parameters, and each is finished exactly once."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, Trial, TrialState

from trackdl.studies.store import storage
from trackdl.studies.study import Study, StudyTrial

Cell = dict[str, Any]

FOLD = "fold {}"  # a user attribute of a trial
# User attributes of a study.
ACTIVE = "active seconds"
MEASURED = "{} {}"  # the kind of measurement, and its cell


@dataclass(frozen=True)
class Census:
    """The cells of a grid by their state; each is in the first group that it belongs to.

    Attributes:
        doubled: Finished more than once.
        done: Finished once, with every fold.
        under_way: Started and not ended, whether their process still runs or not.
        failed: Tried, and failed each time.
        missing: Not started.
    """

    doubled: list[Cell]
    done: list[Cell]
    under_way: list[Cell]
    failed: list[Cell]
    missing: list[Cell]

    @property
    def complete(self) -> bool:
        """Whether every cell is finished exactly once."""
        return not (self.doubled or self.under_way or self.failed or self.missing)


class GridTrial(StudyTrial):
    """A trial whose parameters are a cell."""

    def folds(self) -> dict[int, dict[str, Any]]:
        """Return the finished folds, as JSON values."""
        return fold_results(self.trial)


class GridStudy(Study):
    """An exhaustive study, whose cells are identified by their parameters; each is finished exactly once.

    Optuna's queue hands out the cells as trials with fixed parameters, so its sampler is never used.

    Args:
        name: The study's.
        space: Each dimension's values.
        cells: The combinations in the space that are networks.
        folds: The number of folds of a finished cell.
    """

    REASON = "error"

    def __init__(self, name: str, space: dict[str, list[Any]], cells: list[Cell], folds: int) -> None:
        self.space, self.cells, self.folds = space, cells, folds
        study = optuna.create_study(
            study_name=name,
            storage=storage(),
            # GridSampler would also hand out combinations that are no networks, identifies cells by their trials'
            # numbers instead of their parameters, and in the end stops a Study.optimize that does not run here.
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )
        super().__init__(study)

    def census(self) -> Census:
        """Group the cells by their state."""
        groups: dict[str, list[Cell]] = {name: [] for name in ("doubled", "done", "under_way", "failed", "missing")}
        by_cell = self._trials_by_cell()
        for cell in self.cells:
            trials = by_cell[_key(cell)]
            states = Counter(trial.state for trial in trials)
            if states[TrialState.COMPLETE] > 1:
                group = "doubled"
            elif self._finished(trials):
                group = "done"
            elif states[TrialState.RUNNING]:
                group = "under_way"
            elif states[TrialState.FAIL] or states[TrialState.COMPLETE]:
                group = "failed"
            else:
                group = "missing"
            groups[group].append(cell)
        return Census(**groups)

    def finished(self) -> list[tuple[Cell, FrozenTrial]]:
        """Return each finished cell with its trial, in the grid's order."""
        by_cell = self._trials_by_cell()
        return [(cell, found[0]) for cell in self.cells if (found := self._finished(by_cell[_key(cell)]))]

    def _finished(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return those trials that are complete, with every fold."""
        every = set(range(self.folds))
        return [trial for trial in trials if trial.state == TrialState.COMPLETE and fold_results(trial).keys() == every]

    def trials_in_grid(self) -> list[FrozenTrial]:
        """Return the trials whose folds count: finished ones, and those that can be resumed."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))

    def unfinished(self) -> Iterator[GridTrial]:
        """Yield the trials to work on: first those that a dead process left unfinished, then those in the queue."""
        by_cell = self._trials_by_cell()
        for cell in self.cells:
            if all(trial.state in (TrialState.FAIL, TrialState.PRUNED) for trial in by_cell[_key(cell)]):
                self.study.enqueue_trial(cell)
        yield from map(self._opened, self._interrupted())
        while self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            trial = self._opened(self.study.ask())
            others = [t.state for t in self._trials_by_cell()[_key(trial.params)] if t.number != trial.number]
            if TrialState.COMPLETE in others or TrialState.RUNNING in others:
                # The store's answer was lost while the cell was enqueued, so it was enqueued once more.
                self.fail(trial, "the cell has another trial")
            else:
                yield trial

    def _opened(self, trial: Trial) -> GridTrial:
        return GridTrial(trial, {name: trial.suggest_categorical(name, values) for name, values in self.space.items()})

    def _trials_by_cell(self) -> defaultdict[str, list[FrozenTrial]]:
        found: defaultdict[str, list[FrozenTrial]] = defaultdict(list)
        for trial in self.study.get_trials(deepcopy=False):
            # Until a trial's parameters are suggested, it has only those that it was enqueued with.
            found[_key(trial.system_attrs.get("fixed_params", trial.params))].append(trial)
        return found

    @property
    def active_seconds(self) -> float:
        """How long commands have worked on the study, up to the last fold that was stored."""
        return float(self.study.user_attrs.get(ACTIVE, 0.0))

    def add_active(self, seconds: float) -> None:
        """Add time that a command has worked on the study."""
        self.study.set_user_attr(ACTIVE, self.active_seconds + seconds)

    def measured(self, what: str) -> dict[str, float]:
        """Return the measurements of cells that `keep_measured` stored, by their keys."""
        prefix = MEASURED.format(what, "")
        attributes = self.study.user_attrs.items()
        return {key.removeprefix(prefix): float(value) for key, value in attributes if key.startswith(prefix)}

    def keep_measured(self, what: str, key: str, value: float) -> None:
        """Store a measurement of a cell."""
        self.study.set_user_attr(MEASURED.format(what, key), value)

    def importances(self, seed: int) -> dict[str, float]:
        """Return each dimension's own share of the scores' variance, by fANOVA (Hutter et al., 2014).

        What the shares lack of 1 is due to interactions. They are shares of the whole space: the forest extrapolates
        into combinations that are not cells of the grid. The evaluator is called directly, because
        `get_param_importances` scales the sum to 1, and its option not to is experimental. Empty if all scores are
        equal.
        """
        complete = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        varied = [name for name, values in self.space.items() if len(values) > 1]
        if len({trial.value for trial in complete}) < 2 or not varied:
            return {}
        evaluator = FanovaImportanceEvaluator(seed=seed)
        return dict(evaluator.evaluate(self.study, params=varied))

    def keep_fold(self, trial: GridTrial, fold: int, result: dict[str, Any]) -> None:
        """Store a finished fold with its trial; from now on it is not trained again."""
        trial.note(FOLD.format(fold), result)

    def complete(self, trial: GridTrial, value: float) -> None:
        """End a trial that has all its folds."""
        self.study.tell(trial.number, value)


def fold_results(trial: Trial | FrozenTrial) -> dict[int, dict[str, Any]]:
    """Return a trial's finished folds, as JSON values."""
    return {int(key.split()[1]): value for key, value in trial.user_attrs.items() if key.startswith("fold ")}


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)
