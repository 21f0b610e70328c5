"""The exhaustive study: a grid whose cells are known by their parameters, each finished exactly once."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, Trial, TrialState

from trackdl.studies.store import storage

__all__ = ["RUN", "Census", "GridStudy", "GridTrial", "fold_results"]

Cell = dict[str, Any]

# A trial's user attributes.
FOLD = "fold {}"
RUN = "mlflow_run"
ERROR = "error"
# A study's.
ACTIVE = "active seconds"
MEASURED = "{} {}"  # what, and of which cell


@dataclass(frozen=True)
class Census:
    """How the cells of a grid stand; each is counted once, in the first group that it belongs to.

    Attributes:
        doubled: Finished more than once.
        done: Finished once, with every fold.
        under_way: Begun and not ended: by a command that runs now, or by one that is gone.
        failed: Tried, and failed each time.
        missing: Not begun.
    """

    doubled: list[Cell]
    done: list[Cell]
    under_way: list[Cell]
    failed: list[Cell]
    missing: list[Cell]

    @property
    def complete(self) -> bool:
        """Whether every cell stands exactly once."""
        return not (self.doubled or self.under_way or self.failed or self.missing)


@dataclass(frozen=True)
class GridTrial:
    """A cell in work: its trial, and the folds that it has finished, as JSON values."""

    trial: Trial
    cell: Cell

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.trial.number

    @property
    def run_id(self) -> str | None:
        """The MLflow run that shows the trial."""
        return self.trial.user_attrs.get(RUN)

    def folds(self) -> dict[int, dict[str, Any]]:
        """Return the finished folds."""
        return _folds(self.trial.user_attrs)

    def note(self, key: str, value: Any) -> None:
        """Keep a user attribute with the trial."""
        self.trial.set_user_attr(key, value)


class _Exhaustive(optuna.samplers.GridSampler):
    """GridSampler, whose cells are handed out by `GridStudy`.

    Left to itself it counts failed cells as visited, skips cells when it is given another seed, hands cells to two
    askers at once, and ends by stopping a `Study.optimize` that is not there.
    """

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None: ...


class GridStudy:
    """An exhaustive study whose cells are known by their parameters: each is finished exactly once.

    One process works on a study at a time (`alone`). Every cell waits in the store as a trial with fixed parameters;
    a trial left RUNNING by a process that is gone is taken up again, with the folds that it had finished.

    Args:
        name: The study's.
        space: Each dimension's values; it becomes the sampler's.
        folds: How many folds make a cell whole.
    """

    def __init__(self, name: str, space: dict[str, list[Any]], cells: list[Cell], folds: int) -> None:
        self.name, self.space, self.cells, self.folds = name, space, cells, folds
        self.study = optuna.create_study(
            study_name=name,
            storage=storage(),
            sampler=_Exhaustive(space, seed=0),  # the order of cells is no matter of the experiment's seed
            pruner=optuna.pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )

    def census(self) -> Census:
        """Count the cells."""
        groups: dict[str, list[Cell]] = {name: [] for name in ("doubled", "done", "under_way", "failed", "missing")}
        standing = self._standing()
        for cell in self.cells:
            states = Counter(trial.state for trial in standing.get(_key(cell), []))
            whole = [t for t in standing.get(_key(cell), []) if t.state == TrialState.COMPLETE and self._whole(t)]
            if states[TrialState.COMPLETE] > 1:
                group = "doubled"
            elif whole:
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
        found = []
        standing = self._standing()
        for cell in self.cells:
            whole = [t for t in standing.get(_key(cell), []) if t.state == TrialState.COMPLETE and self._whole(t)]
            found += [(cell, whole[0])] if whole else []
        return found

    def trials_in_grid(self) -> list[FrozenTrial]:
        """Return the trials whose folds count: finished ones and those that can be taken up."""
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        return self.study.get_trials(deepcopy=False, states=states)

    def take_up(self) -> Iterator[GridTrial]:
        """Yield the cells that are to be worked on: those left half-done first, then those that wait."""
        standing = self._standing()
        for cell in self.cells:
            trials = standing.get(_key(cell), [])
            open_states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
            if not any(trial.state in open_states for trial in trials):
                self.study.enqueue_trial(cell)
        for left in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            yield self._opened(Trial(self.study, left._trial_id))
        while self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            trial = self._opened(self.study.ask())
            taken = [t.state for t in self._standing()[_key(trial.cell)] if t.number != trial.number]
            if TrialState.COMPLETE in taken or TrialState.RUNNING in taken:
                # The store was cut off while the cell was enqueued, and it was enqueued once more.
                self.fail(trial, "the cell stands in another trial")
                continue
            yield trial

    def _opened(self, trial: Trial) -> GridTrial:
        return GridTrial(trial, {name: trial.suggest_categorical(name, values) for name, values in self.space.items()})

    @property
    def active_seconds(self) -> float:
        """How long commands have worked on the study, up to the last fold that was kept."""
        return float(self.study.user_attrs.get(ACTIVE, 0.0))

    def add_active(self, seconds: float) -> None:
        """Count time that was worked on the study."""
        self.study.set_user_attr(ACTIVE, self.active_seconds + seconds)

    def measured(self, what: str) -> dict[str, float]:
        """Return what was measured of cells once the grid stood, by the keys that `keep_measured` was given."""
        prefix = MEASURED.format(what, "")
        attributes = self.study.user_attrs.items()
        return {key.removeprefix(prefix): float(value) for key, value in attributes if key.startswith(prefix)}

    def keep_measured(self, what: str, key: str, value: float) -> None:
        """Keep what was measured of a cell once the grid stood."""
        self.study.set_user_attr(MEASURED.format(what, key), value)

    def importances(self, seed: int) -> dict[str, float]:
        """Return how much of the scores' variance each dimension explains by itself, by fANOVA (Hutter et al., 2014).

        What is left to 1 are interactions. Shares are of the whole space: where combinations are no cells of the grid,
        they are of what the forest extrapolates into these. The evaluator is asked directly, because
        `get_param_importances` makes the sum 1 and calls it experimental not to. Empty where all scores are alike.
        """
        complete = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        varied = [name for name, values in self.space.items() if len(values) > 1]
        if len({trial.value for trial in complete}) < 2 or not varied:
            return {}
        evaluator = FanovaImportanceEvaluator(seed=seed)
        return dict(evaluator.evaluate(self.study, params=varied))

    def keep_fold(self, trial: GridTrial, fold: int, result: dict[str, Any]) -> None:
        """Keep a finished fold with its trial: from here on it is not trained again."""
        trial.note(FOLD.format(fold), result)

    def complete(self, trial: GridTrial, value: float) -> None:
        """End a trial whose folds are all there."""
        self.study.tell(trial.number, value)

    def fail(self, trial: GridTrial, why: str) -> None:
        """End a trial that cannot be finished; the next command tries its cell again."""
        trial.note(ERROR, why)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def _whole(self, trial: FrozenTrial) -> bool:
        return sorted(_folds(trial.user_attrs)) == list(range(self.folds))

    def _standing(self) -> dict[str, list[FrozenTrial]]:
        found: dict[str, list[FrozenTrial]] = {}
        for trial in self.study.get_trials(deepcopy=False):
            # Between its asking and its last suggestion a trial knows only what it was told.
            told = trial.system_attrs.get("fixed_params", trial.params)
            found.setdefault(_key(told), []).append(trial)
        return found


def fold_results(trial: FrozenTrial) -> dict[int, dict[str, Any]]:
    """Return the folds that a trial holds, as JSON values."""
    return _folds(trial.user_attrs)


def _folds(attributes: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {int(key.split()[1]): value for key, value in attributes.items() if key.startswith("fold ")}


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)
