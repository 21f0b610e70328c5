"""Measurements on a finished grid: the training time of every cell, and tests of the best cell and the chosen one."""

import json
import random
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, TypeVar

import pandas as pd

from trackdl.analysis import grid_table
from trackdl.analysis.winners_curse import best_cell
from trackdl.errors import TrackdlError
from trackdl.spec import GridSpec
from trackdl.spec.keys import with_keys
from trackdl.studies.grid.fits import FreshTask, TimeTask
from trackdl.studies.grid.study import GridStudy
from trackdl.system.console import progress
from trackdl.workers.pool import Failed, Lost

Task = TypeVar("Task")
Place = tuple[GridStudy, str]  # a study, and the key of a value that it stores
Spread = Callable[[Callable[[], tuple[Place, Task] | None], int], Iterator[tuple[Place, float | Failed | Lost]]]

NEW_SEEDS = 1000  # the distance from the experiment's seed to the first seed of the tests


def time_cells(
    experiment: GridSpec, studies: list[GridStudy], spread: "Spread[TimeTask]", workers: int
) -> list[list[float]]:
    """Return the median processor time of a training step, in milliseconds, for each cell of each study.

    The folds' own times were measured hours apart, under different loads. Here all cells are timed briefly and in
    random order, so a change of load affects all of them alike.
    """
    tasks: dict[Place, TimeTask] = {}
    for study in studies:
        for cell in study.cells:
            task = TimeTask(experiment.of_cell(cell), experiment.judge, experiment.timing.batches)
            tasks |= {(study, _key(cell, repeat)): task for repeat in range(experiment.timing.repeats)}
    order = list(tasks)
    random.Random(experiment.experiment.training.seed).shuffle(order)
    ordered = {place: tasks[place] for place in order}
    _measure("timed", ordered, spread, workers, "grid, cells timed", "{:.1f} ms".format)
    times = []
    for study in studies:
        kept = study.measured("timed")
        repeats = range(experiment.timing.repeats)
        times.append([median(kept[_key(cell, repeat)] for repeat in repeats) for cell in study.cells])
    return times


def tested_afresh(
    experiment: GridSpec, study: GridStudy, table: pd.DataFrame, spread: "Spread[FreshTask]", workers: int
) -> tuple[list[float], list[float]]:
    """Return the test accuracies of the best cell, and of the report's choice if it has one, trained from new seeds."""
    first_seed = experiment.experiment.training.seed + NEW_SEEDS
    seeds = range(first_seed, first_seed + experiment.fresh_seeds)
    best, choice = grid_table.cell_of(study.cells, best_cell(table)[0]), experiment.choice_cell
    tasks: dict[Place, FreshTask] = {}
    for cell in (best, choice) if choice else (best,):
        for seed in seeds:
            trained = with_keys(experiment.of_cell(cell), {"training.seed": seed})
            tasks[study, _key(cell, seed)] = FreshTask(trained, experiment.judge)
    _measure("fresh", tasks, spread, workers, "grid, best cell from new seeds", "{:.2%}".format)
    kept = study.measured("fresh")
    return [kept[_key(best, seed)] for seed in seeds], [kept[_key(choice, seed)] for seed in seeds] if choice else []


def _measure(
    what: str, tasks: dict[Place, Task], spread: "Spread[Task]", workers: int, title: str, words: Callable[[float], str]
) -> None:
    """Run the tasks whose values are not stored yet, and store each value as soon as it is known."""
    kept = {study: study.measured(what) for study, _ in tasks}
    todo = {(study, key): task for (study, key), task in tasks.items() if key not in kept[study]}
    waiting = iter(todo.items())
    with progress(title, len(todo), every=10) as advance:
        for (study, key), outcome in spread(lambda: next(waiting, None), workers):
            if isinstance(outcome, Failed | Lost):
                raise TrackdlError(f"{title}: {key} failed: {outcome}. The same command tries it again")
            study.keep_measured(what, key, outcome)
            advance(words(outcome))


def _key(cell: dict[str, Any], number: int) -> str:
    return f"{json.dumps(cell, sort_keys=True)} {number}"
