"""Train figures of a bundle again, chosen at random, from the bundle's own files, and compare what comes out.

On the same platform the same training gives the same evidence, byte by byte; elsewhere its value must be one that a
further training may have.
"""

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.errors import TrackdlError
from trackdl.ledger import evidence, folder
from trackdl.ledger.archive import PARENT, Archive, models_below
from trackdl.ledger.formulas import compute
from trackdl.ledger.model import Evidence, Figure, Ledger
from trackdl.ledger.recipes import recipe
from trackdl.ledger.rule import FEWEST, form, of_another
from trackdl.spec import Experiment, GridSpec, RecoverSpec, TrainedSpec, TransferSpec
from trackdl.spec.grid import REPORT
from trackdl.studies.grid.fits import FoldTask, fit_fold, fit_printed
from trackdl.studies.store import storage
from trackdl.system.console import say
from trackdl.tasks import _report_weights, _start
from trackdl.tracking import store
from trackdl.workers.pool import work_through

EXPERIMENT = "experiment.yaml"
SKIPPED = "not trained again"  # how the reason begins why a figure was chosen and could not be checked


@dataclass(frozen=True)
class _Choice:
    """What can be trained again: its name, and what does it and returns what is wrong, if anything."""

    name: str
    again: Callable[[], str]


def differences(
    ledger: Ledger, experiments: Mapping[str, Experiment], archive: Archive, count: int, seed: int
) -> list[str]:
    """Train so many figures again, and return in words where another value comes out.

    Raises:
        TrackdlError: Data are missing, or a training fails.
    """
    choices = [
        *_of_runs(ledger, experiments, archive),
        *(
            one
            for name in experiments
            if f"{folder.COMMITTED}{name}" in ledger.runs
            for one in _of_table(experiments[name])
        ),
    ]
    found = []
    with tempfile.TemporaryDirectory() as scratch, _scratch_store(Path(scratch)):
        for choice in random.Random(seed).sample(choices, min(count, len(choices))):
            say(f"training again: {choice.name}")
            wrong = choice.again()
            say(f"{choice.name}: {wrong or 'agrees'}")
            found += [f"{choice.name}: {wrong}"] if wrong and not wrong.startswith(("agrees", SKIPPED)) else []
    return found


@contextmanager
def _scratch_store(scratch: Path) -> Iterator[None]:
    """Use stores of their own within the block, which are gone with the folder."""
    names = {"MLFLOW_TRACKING_URI": "mlflow.db", "TRACKDL_STORAGE": "optuna.db"}
    before = {name: os.environ.get(name) for name in names}
    os.environ |= {name: f"sqlite:///{scratch / file}" for name, file in names.items()}
    store.client.cache_clear()
    storage.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}
        store.client.cache_clear()
        storage.cache_clear()


def _of_runs(ledger: Ledger, experiments: Mapping[str, Experiment], archive: Archive) -> Iterator[_Choice]:
    """Yield the figures that come from runs, each with one of its seeds."""
    for figure in ledger.figures:
        for item in figure.evidence:
            if item.run.startswith(folder.COMMITTED) or not isinstance(experiments[figure.task], TrainedSpec):
                continue
            name = f"{figure.task} {figure.metric}, epoch {figure.epoch}, seed {item.seed}"
            yield _Choice(name, lambda figure=figure, item=item: _run_again(ledger, figure, item, archive))  # type: ignore[misc]


def _run_again(ledger: Ledger, figure: Figure, item: Evidence, archive: Archive) -> str:
    """Run the experiment of a figure's run again, and compare the figure's evidence."""
    top = item.run
    while (above := archive.get(top).tags.get(PARENT)) and archive.get(top).tags.get("trackdl.network"):
        top = above
    record = archive.get(top)
    kind = record.tags["trackdl.kind"]
    text = archive.fetch(top, EXPERIMENT).decode()
    experiment = spec.parse(text, f"run {top}, {EXPERIMENT}", spec.KINDS[kind])
    if isinstance(experiment, TransferSpec):
        if experiment.source != _report_weights.URI:
            return f"{SKIPPED}: it starts from a network of ours, whose weights are not in the bundle"
        if not _report_weights.try_register():
            return f"{SKIPPED}: the report's weights, from which it starts, are not available here"
    _start.start(experiment)
    mine = evidence.Store()
    (made, *_) = mine.finished(experiment.name, {"trackdl.spec_digest": spec.digest(experiment)})
    model = ledger.runs[item.run].model
    run = models_below(mine, made.run)[model] if model else made.run
    files = [mine.fetch(run, path) for path in item.artifacts]
    if all(content == archive.fetch(item.run, path) for content, path in zip(files, item.artifacts, strict=True)):
        return ""
    one = recipe(kind, figure.metric, figure.epoch, item.seed)
    value = compute(one.formula, files, one.select, item.seed).value
    return _within(
        value, item.value, [each.value for each in figure.evidence], lambda number: form(figure.unit, number)
    )


def _within(value: float, before: float, values: Sequence[float], words: Callable[[float], str]) -> str:
    """Return what to say of a value that comes from other evidence than before: is it one of a further training?"""
    low = high = np.array([before])
    if len(values) >= FEWEST:
        low, high = of_another(np.array(values)[:, None])
    if value == before or low[0] <= value <= high[0]:
        return (
            f"agrees within the seeds' spread ({words(value)}, and {words(before)} in the bundle), on another platform"
        )
    return f"trained again it is {words(value)}; the bundle has {words(before)}"


def _of_table(experiment: Experiment) -> Iterator[_Choice]:
    """Yield the fits of a committed table."""
    grid = experiment.grid if isinstance(experiment, RecoverSpec) else experiment
    if not isinstance(grid, GridSpec):
        return
    fits, _ = grid_table.read(folder.read_committed(f"{folder.COMMITTED}{grid.name}", folder.TABLE))
    fit = fit_printed if isinstance(experiment, RecoverSpec) else fit_fold
    for _, alike in fits[fits["grid"] == REPORT].groupby(grid_table.dimensions(fits)):
        for place, row in enumerate(alike.to_dict("records")):
            cell = grid_table.cell_of(grid.cells(REPORT), {str(key): value for key, value in row.items()})
            task = FoldTask(grid.of_cell(cell), grid.judge, int(row["fold"]))
            name = f"{grid.name}, {', '.join(f'{key} {value}' for key, value in cell.items())}, fit {task.fold}"
            yield _Choice(name, lambda alike=alike, place=place, task=task: _fit_again(alike, place, fit, task))  # type: ignore[misc]


def _fit_again(alike: pd.DataFrame, place: int, fit: Callable[[FoldTask], Any], task: FoldTask) -> str:
    """Fit a row of a table again, as its worker did: with one thread; `alike` are the rows of its configuration."""
    waiting = iter([(0, task)])
    ((_, outcome),) = work_through(fit, lambda: next(waiting, None), 1)
    if not hasattr(outcome, "history"):
        raise TrackdlError(f"the fit failed: {outcome}")
    made = {f"{name}_{n}": value for name, values in outcome.history.items() for n, value in enumerate(values, 1)}
    row = alike.iloc[place]
    if all(value == row[name] for name, value in made.items()):
        return ""
    accuracies = grid_table.last(alike, "held_accuracy").tolist()
    judging = "val_accuracy" if "val_accuracy" in outcome.history else "test_accuracy"
    value = outcome.history[judging][-1]
    return _within(value, accuracies[place], accuracies, lambda number: form("fraction", number))
