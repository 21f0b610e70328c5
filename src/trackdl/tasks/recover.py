"""Recover what a report leaves out: train every candidate several times, and judge them by the printed numbers.

The trainings are an Optuna study of the grid's kind: `trackdl recover` continues wherever it was stopped.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.data.images import load_images
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import charts
from trackdl.ledger import recovery as judge
from trackdl.ledger.model import Recovered
from trackdl.ledger.words import cell_words, key_words, value_words
from trackdl.spec import ClassifySpec, RecoverSpec
from trackdl.spec.grid import REPORT
from trackdl.studies.grid.diverging import or_diverged
from trackdl.studies.grid.fits import fit_printed
from trackdl.studies.grid.work import Fit, keep_origin, provenance, table_of, trained
from trackdl.studies.store import storage
from trackdl.system.console import print_table, say
from trackdl.tracking.runs import Run
from trackdl.training.image_splits import check_apart, grid_with_size
from trackdl.workers.pool import Engine, count_workers, work_through

MOST = 1e6  # that a printed loss may be
TRAINS = ("fit_printed",)  # covered by the code digest, with all that it reaches


@dataclass(frozen=True)
class Result:
    """The task's result: the trainings' parent run, and what the printed numbers say."""

    experiment: RecoverSpec
    run: Run
    found: Recovered


def run(
    experiment: RecoverSpec,
    workers: int | None = None,
    export: Path | None = None,
    fit: Fit = fit_printed,
    engine: Engine = work_through,
) -> Result:
    """Train every candidate, and judge them; what is finished already is kept.

    Args:
        experiment: The candidates.
        workers: The number of single-threaded processes; one per core by default.
        export: A folder to write the trainings' table to, together with its provenance.
        fit: Trains a candidate once, in a worker.
        engine: Distributes the fits over processes or machines.

    Raises:
        InputError: Another process is working on it, or the report prints no number that can be compared.
        TrackdlError: Some trainings have failed; the others are kept.
    """
    count = count_workers(workers)
    storage()  # reports an unusable store before anything else is done
    # The embedded experiment has no printed numbers, because they do not affect the trainings.
    printed = spec.load(spec.experiment_file(experiment.experiment.name), ClassifySpec)
    for item in judge.measured(printed, experiment):
        if not 0 <= item.value <= (1 if item.unit == "fraction" else MOST):
            raise InputError(f"{printed.name}.yaml: no training can give the printed {item.metric} {item.value:g}")
    experiment = grid_with_size(experiment)
    check_apart(experiment.experiment.data)
    grid = experiment.grid
    with trained(experiment, grid, count, partial(or_diverged, fit), engine) as (parent, studies):
        content = grid_table.to_csv(grid, table_of(grid, studies))
        parent.text(content, "grid.csv")  # kept even if the analysis fails
        try:
            found = judge.recovered(printed, experiment, content.encode())
        except ValueError as error:
            raise TrackdlError(f"{experiment.name}: its trainings cannot be judged: {error}") from error
        parent.text(found.model_dump_json(indent=1), "recovery.json")
        parent.text(charts.standalone(charts.recovery(found, printed.label)), "pictures/recovery.svg")
        parent.metrics({"share_of_likelihood": found.candidates[0].weight})
        origin = provenance(parent, load_images(experiment.experiment.data).digest, studies)
        keep_origin(parent, experiment.name, content, origin, export)
    return Result(experiment, parent, found)


def show(result: Result) -> str:
    """Print the candidates, the likeliest first, and what the numbers say; return a one-line summary."""
    label = result.experiment.experiment.label
    print_table(f"{label}: what the report leaves out", *judge.table(result.found))
    say(result.found.words)
    for cell, reason in result.experiment.grid.impossible(REPORT):
        say(f"{cell_words(cell)} is no network, and not among the candidates: {reason}")
    say(f"run {result.run.id}; its pictures/recovery.svg shows the printed numbers over each candidate")
    best = result.found.candidates[0]
    values = ", ".join(f"{name} {value_words(best.values[key])}" for key, name in key_words(list(best.values)).items())
    return f"{label}: of what the report leaves out, {values} is likeliest, with {best.weight:.1%} of the likelihood."
