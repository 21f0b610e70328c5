"""The grid's study: its cells are identified by their parameters, and each is finished exactly once."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from trackdl.errors import InputError
from trackdl.studies.study import Study, kept

Cell = dict[str, Any]

FOLD = "fold "  # with its number, what is kept of a trial
# What is kept of a study.
ACTIVE = "active seconds"
MEASURED = "{} {}"  # the kind of measurement, and its cell


@dataclass(frozen=True)
class Census:
    """The cells of a grid by their state; each is in the first group that it belongs to.

    They are `doubled` (finished more than once), `done` (finished once, with every fold), `under_way` (whether their
    process still runs or not), `failed` at each try, or `missing`, which are not started.
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


class GridStudy(Study):
    """An exhaustive study, whose cells are identified by their parameters; each is finished exactly once.

    Optuna's queue hands out the cells as trials with fixed parameters, so its sampler is never used. `cells` are those
    combinations in `space` that are networks; a finished cell has `folds` folds.
    """

    REASON = "error"

    def __init__(self, name: str, space: dict[str, list[Any]], cells: list[Cell], folds: int) -> None:
        self.space, self.cells, self.folds = space, cells, folds
        # GridSampler would also hand out combinations that cannot be built, identifies cells by their trials' numbers
        # instead of their parameters, and in the end stops a Study.optimize that does not run here.
        super().__init__(name, RandomSampler(seed=0), NopPruner(), {"mean accuracy": StudyDirection.MAXIMIZE})

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
        return self.in_state(TrialState.COMPLETE, TrialState.RUNNING)

    def check_seed(self, seed: int) -> None:
        """Check that the kept fits begin with a seed, so that one table never mixes two.

        Raises:
            InputError: They begin with another one.
        """
        folds = [fold for trial in self.trials_in_grid() for fold in fold_results(trial).items()]
        kept = sorted({result["seed"] - number for number, result in folds})
        if kept and seed not in kept:
            raise InputError(
                f"training.seed: it is {seed}, but the fits that the study {self.name} keeps were trained from seed "
                f"{', '.join(map(str, kept))}. Go on with that one, or set TRACKDL_STORAGE to another database, where "
                f"seed {seed} trains everything anew"
            )

    def unfinished(self) -> Iterator[Trial]:
        """Yield the trials to work on: first those that a dead process left unfinished, then those in the queue."""
        by_cell = self._trials_by_cell()
        for cell in self.cells:
            if all(trial.state in (TrialState.FAIL, TrialState.PRUNED) for trial in by_cell[_key(cell)]):
                self.study.enqueue_trial(cell)
        yield from self.interrupted()
        while self.in_state(TrialState.WAITING):
            trial = self.ask()
            others = [t.state for t in self._trials_by_cell()[_key(trial.params)] if t.number != trial.number]
            if TrialState.COMPLETE in others or TrialState.RUNNING in others:
                # The store's answer was lost while the cell was enqueued, so it was enqueued once more.
                self.fail(trial, "the cell has another trial")
            else:
                yield trial

    def _with_params(self, trial: Trial) -> Trial:
        for name, values in self.space.items():
            trial.suggest_categorical(name, values)
        return trial

    def _trials_by_cell(self) -> defaultdict[str, list[FrozenTrial]]:
        found: defaultdict[str, list[FrozenTrial]] = defaultdict(list)
        for trial in self.in_state():
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
        kept_aside = self.study._storage.get_study_system_attrs(self.study._study_id).items()
        return {key.removeprefix(prefix): float(value) for key, value in kept_aside if key.startswith(prefix)}

    def keep_measured(self, what: str, key: str, value: float) -> None:
        """Store a measurement of a cell."""
        self.keep_aside(MEASURED.format(what, key), value)

    @property
    def searched(self) -> dict[str, str]:
        """What is varied: the values of each key."""
        return {key: ", ".join(map(str, values)) for key, values in self.space.items()}

    def keep_fold(self, trial: Trial, fold: int, result: dict[str, Any]) -> None:
        """Store a finished fold with its trial; from now on it is not trained again."""
        self.keep_aside(f"{FOLD}{fold}", result, trial)

    def importances(self, seed: int) -> dict[str, float]:
        """Return each dimension's own share of the scores' variance.

        They are shares of the whole space: the forest extrapolates into combinations that are not cells of the grid.
        """
        varied = [name for name, values in self.space.items() if len(values) > 1]
        return self._shares(seed, 2, varied) if varied else {}

    def complete(self, trial: Trial, value: float) -> None:
        """End a trial that has all its folds."""
        self.study.tell(trial.number, value)


def fold_results(trial: Trial | FrozenTrial) -> dict[int, dict[str, Any]]:
    """Return a trial's finished folds, as JSON values."""
    folds = ((key.removeprefix(FOLD), value) for key, value in kept(trial).items() if key.startswith(FOLD))
    return {int(fold): value for fold, value in folds}


def _key(cell: Cell) -> str:
    return json.dumps(cell, sort_keys=True)
