"""Train figures of a bundle again, chosen at random, from the bundle's own files, and compare what comes out.

On the same platform the same training gives the same evidence, byte by byte; elsewhere its value must be one that a
more run may give.
"""

import io
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.errors import TrackdlError
from trackdl.ledger import evidence, folder
from trackdl.ledger.archive import PARENT, Archive, lineage, models_below
from trackdl.ledger.formulas import compute
from trackdl.ledger.model import Evidence, Figure, Ledger
from trackdl.ledger.recipes import recipe
from trackdl.ledger.rule import FEWEST, form, of_another
from trackdl.spec import Experiment, GridSpec, RecoverSpec, TrainedSpec, TransferSpec
from trackdl.spec.base import Unit
from trackdl.spec.grid import REPORT
from trackdl.studies.grid.fits import FoldTask, fit_fold, fit_printed
from trackdl.studies.store import storage
from trackdl.system import databases, processes
from trackdl.system.console import say
from trackdl.system.machine import environment
from trackdl.tasks import _report_weights, _start
from trackdl.tracking import store
from trackdl.workers.pool import work_through

EXPERIMENT = "experiment.yaml"
SKIPPED = "not trained again"  # how the reason begins why a figure was chosen and could not be checked


@dataclass(frozen=True)
class _Choice:
    """What can be trained again: of which experiment and run, its name, and what returns what is wrong, if anything."""

    experiment: str
    run: str
    name: str
    again: Callable[[], str]


def differences(
    ledger: Ledger, experiments: Mapping[str, Experiment], archive: Archive, count: int, seed: int | None
) -> list[str]:
    """Train so many figures again, and return in words where another value comes out.

    Raises:
        TrackdlError: Data are missing, or a training fails.
    """
    choices = list(_of_runs(ledger, experiments, archive))
    for name, experiment in experiments.items():
        if f"{folder.COMMITTED}{name}" in ledger.runs:
            choices += _of_table(ledger, experiment)
    found = []
    with tempfile.TemporaryDirectory() as scratch, _scratch_store(Path(scratch)):
        for choice in _chosen(choices, count, random.Random(seed)):
            say(f"training again: {choice.name}")
            wrong = choice.again()
            say(f"{choice.name}: {wrong or 'agrees'}")
            found += [f"{choice.name}: {wrong}"] if wrong and not wrong.startswith(("agrees", SKIPPED)) else []
    return found


def _chosen(choices: list[_Choice], count: int, at_random: random.Random) -> list[_Choice]:
    """Return so many choices, each of another run, from as many experiments as possible."""
    at_random.shuffle(choices)
    by_experiment: dict[str, dict[str, _Choice]] = {name: {} for name in sorted({one.experiment for one in choices})}
    for one in choices:
        by_experiment[one.experiment].setdefault(one.run, one)
    groups = [list(own.values()) for own in by_experiment.values()]
    at_random.shuffle(groups)
    return [one for layer in zip_longest(*groups) for one in layer if one][:count]


@contextmanager
def _scratch_store(scratch: Path) -> Iterator[None]:
    """Use stores of their own within the block, which are gone with the folder."""
    files = {"MLFLOW_TRACKING_URI": "mlflow.db", "TRACKDL_STORAGE": "optuna.db"}
    stores = {name: databases.sqlite_url(scratch / file) for name, file in files.items()}
    try:
        with processes.environment_variables(stores):
            store.client.cache_clear()
            storage.cache_clear()
            yield
    finally:
        store.client.cache_clear()
        storage.cache_clear()


def _of_runs(ledger: Ledger, experiments: Mapping[str, Experiment], archive: Archive) -> Iterator[_Choice]:
    """Yield the figures that come from runs, each with one of its seeds."""
    for figure in ledger.figures:
        for item in figure.evidence:
            if item.run.startswith(folder.COMMITTED) or not isinstance(experiments[figure.task], TrainedSpec):
                continue
            name = f"{figure.task} {figure.metric}, epoch {figure.epoch}, seed {item.seed}"
            again = partial(_run_again, ledger, figure, item, archive)
            yield _Choice(figure.task, item.run, name, again)


def _run_again(ledger: Ledger, figure: Figure, item: Evidence, archive: Archive) -> str:
    """Run the experiment of a figure's run again, and compare the figure's evidence."""
    # A table's model has a run of its own, below that of its protocol, which is below the experiment's.
    *_, record = takewhile(lambda one: one.tags.get("trackdl.task") == figure.task, lineage(archive, item.run))
    kind = record.tags["trackdl.kind"]
    text = archive.fetch(record.run, EXPERIMENT).decode()
    experiment = spec.parse(text, f"run {record.run}, {EXPERIMENT}", spec.KINDS[kind])
    if isinstance(experiment, TransferSpec):
        if experiment.source != _report_weights.URI:
            return f"{SKIPPED}: it starts from a network of ours, whose weights are not in the bundle"
        if not _report_weights.try_register():
            return f"{SKIPPED}: the report's weights, from which it starts, are not available here"
    with redirect_stdout(io.StringIO()):  # what it prints of its store would look like the user's
        _start.start(experiment)
    mine = evidence.Store()
    newest = mine.finished(experiment.name, {"trackdl.spec_digest": spec.digest(experiment)})
    made = next(run for run in newest if PARENT not in run.tags)
    model = ledger.runs[item.run].model
    run = models_below(mine, made.run)[model] if model else made.run
    files = [mine.fetch(run, path) for path in item.artifacts]
    if all(content == archive.fetch(item.run, path) for content, path in zip(files, item.artifacts, strict=True)):
        return ""
    one = recipe(kind, figure.metric, figure.epoch, item.seed)
    value = compute(one.formula, files, one.select, item.seed).value
    values = [each.value for each in figure.evidence]
    return _within(figure.unit, value, item.value, values, same=ledger.environment == environment())


def _within(unit: Unit, value: float, before: float, values: Sequence[float], *, same: bool) -> str:
    """Return what to say of a value that comes from other evidence than before: is it one that one more run may give?

    On the same platform (`same`) the evidence should have been the same, byte by byte.
    """
    low = high = np.array([before])
    if len(values) >= FEWEST:
        low, high = of_another(np.array(values)[:, None])
    both = f"{form(unit, value)}, and {form(unit, before)} in the bundle"
    if same:
        return f"trained again on the platform that the ledger names, its evidence differs ({both})"
    if value == before or low[0] <= value <= high[0]:
        return f"agrees within the seeds' spread ({both}), on another platform"
    return f"trained again it differs by more than the seeds do ({both})"


def _of_table(ledger: Ledger, experiment: Experiment) -> Iterator[_Choice]:
    """Yield the fits of a committed table."""
    grid = experiment.grid if isinstance(experiment, RecoverSpec) else experiment
    if not isinstance(grid, GridSpec):
        return
    fits, _ = grid_table.read(folder.read_committed(f"{folder.COMMITTED}{grid.name}", folder.TABLE))
    facts = ledger.runs[f"{folder.COMMITTED}{grid.name}"]
    same = ledger.environment == environment() and facts.code_digest == ledger.current_code.get(grid.name)
    fit = fit_printed if isinstance(experiment, RecoverSpec) else fit_fold
    for _, alike in fits[fits["grid"] == REPORT].groupby(grid_table.dimensions(fits)):
        for place, row in enumerate(alike.to_dict("records")):
            cell = grid_table.cell_of(grid.cells(REPORT), {str(key): value for key, value in row.items()})
            task = FoldTask(grid.of_cell(cell), grid.judge, int(row["fold"]))
            name = f"{grid.name}, {', '.join(f'{key} {value}' for key, value in cell.items())}, fit {task.fold}"
            yield _Choice(experiment.name, name, name, partial(_fit_again, alike, place, fit, task, same=same))


def _fit_again(alike: pd.DataFrame, place: int, fit: Callable[[FoldTask], Any], task: FoldTask, *, same: bool) -> str:
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
    return _within("fraction", value, accuracies[place], accuracies, same=same)
