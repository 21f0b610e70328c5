"""A grid: an experiment trained with every value of some of its keys, each cell exactly once.

Possible cells are trained; the table lists the others with the reason. `trackdl grid` continues wherever it was
stopped, however it was stopped: a cell is identified by its parameters, each finished fit is stored with its trial, and
only this process writes to the stores. Workers train a fit and return the result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trackdl.analysis import grid_table
from trackdl.data.images import load_images
from trackdl.spec import GridSpec
from trackdl.spec.grid import REPORT
from trackdl.studies.grid.conclusions import Conclusions, conclude, show_conclusions
from trackdl.studies.grid.fits import FreshTask, TimeTask, fit_fold, fit_fresh, time_batch
from trackdl.studies.grid.measurements import tested_afresh, time_cells
from trackdl.studies.grid.study import GridStudy, fold_results
from trackdl.studies.grid.work import Fit, keep_origin, provenance, studies_of, table_of, trained
from trackdl.studies.store import storage
from trackdl.system.console import print_table, say, say_json
from trackdl.tabular.faults import failed_fits
from trackdl.tracking.runs import Run
from trackdl.training.image_splits import check_apart, grid_with_size
from trackdl.workers.pool import Engine, count_workers, work_through

TRAINS = ("fit_fold", "fit_fresh", "time_batch")  # covered by the code digest, with all that they reach

Test = Callable[[FreshTask], float]
Clock = Callable[[TimeTask], float]


@dataclass(frozen=True)
class Result:
    """The task's result: the trials' parent run, the table with a row per fold, and the conclusions."""

    experiment: GridSpec
    run: Run
    table: pd.DataFrame
    conclusions: Conclusions


def run(
    experiment: GridSpec,
    workers: int | None = None,
    export: Path | None = None,
    fit: Fit = fit_fold,
    test: Test = fit_fresh,
    clock: Clock = time_batch,
    engine: Engine = work_through,
) -> Result:
    """Complete the grid; what is finished already is kept.

    Args:
        experiment: The protocol.
        workers: The number of single-threaded processes; one per core by default.
        export: A folder to write the finished table to, together with its provenance.
        fit: Trains one fold, in a worker.
        test: Trains a cell from a new seed and tests it, in a worker.
        clock: Times a cell's training, in a worker.
        engine: Distributes the fits over processes or machines.

    Raises:
        InputError: Another process is working on this grid, or `workers` is not positive.
        TrackdlError: Some cells have failed; the others are kept.
    """
    count = count_workers(workers)
    storage()  # reports an unusable store before anything else is done
    experiment = grid_with_size(experiment)
    check_apart(experiment.experiment.data)
    with trained(experiment, experiment, count, fit, engine) as (parent, studies):
        times = time_cells(experiment, studies, partial(engine, clock), count)
        table = table_of(experiment, studies, times)
        content = grid_table.to_csv(experiment, table)
        grid_table.check_whole(experiment, *grid_table.read(content.encode()))
        parent.text(content, "grid.csv")  # kept even if the analysis fails
        main = studies[list(experiment.grids).index(REPORT)]
        fresh = tested_afresh(experiment, main, table, partial(engine, test), count)
        importances = main.importances(experiment.experiment.training.seed)
        conclusions = conclude(parent, experiment, table, fresh, importances)
        parent.metrics({f"best_{experiment.part}_accuracy": conclusions.curse.score})
        origin = _origin(experiment, parent, studies, conclusions)
        keep_origin(parent, experiment.name, content, origin, export)
    return Result(experiment, parent, table, conclusions)


def _origin(experiment: GridSpec, run: Run, studies: list[GridStudy], found: Conclusions) -> dict[str, Any]:
    """Return the table's provenance, and what was tested afresh."""
    images = load_images(experiment.experiment.data)
    fresh: dict[str, Any] = {"best_cell": found.curse.winner, "test_pictures": len(images.test_labels)}
    fresh["best"] = list(found.curse.fresh)
    if found.curse.report_fresh:
        fresh["choice"] = list(found.curse.report_fresh)
    space = {name: experiment.space[key] for name, key in experiment.names.items()}
    failures = {"report_failures": failed_fits(space, experiment.fits)} if experiment.faults else {}
    return {**provenance(run, images.digest, studies), "fresh": fresh, **failures}


def show_status(experiment: GridSpec, *, as_json: bool = False) -> bool:
    """Print the state of each grid's cells; return whether every possible cell is finished exactly once.

    With `as_json` that is a JSON array with an object for each grid.

    Raises:
        InputError: The finished fits are of another seed.
    """
    experiment = grid_with_size(experiment)
    grids, whole = [], True
    for grid, study in zip(experiment.grids, studies_of(experiment), strict=True):
        study.check_seed(experiment.experiment.training.seed)
        census, impossible = study.census(), len(experiment.impossible(grid))
        whole = whole and census.complete
        grids.append(
            {
                "grid": grid,
                "study": study.name,
                "cells": len(study.cells) + impossible,
                "impossible": impossible,
                "done": len(census.done),
                "under way": len(census.under_way),
                "failed": len(census.failed),
                "missing": len(census.missing),
                "doubled": len(census.doubled),
                "fits done": sum(len(fold_results(trial)) for trial in study.trials_in_grid()),
                "fits": len(study.cells) * experiment.fits,
                "hours": study.active_seconds / 3600,
            }
        )
    if as_json:
        say_json(grids)
        return whole
    shown = {"grid": "{grid} ({study})", "fits done": "{fits done} of {fits}", "hours": "{hours:.2f}"}
    columns = [name for name in grids[0] if name not in ("study", "fits")]
    lines = [[shown.get(name, f"{{{name}}}").format_map(one) for name in columns] for one in grids]
    print_table(f"{experiment.label}: its cells", columns, lines)
    complete = "complete: every possible cell is finished exactly once"
    say(complete if whole else "not complete: the same command without --status continues it")
    return whole


def show(result: Result) -> str:
    """Print the best configurations and the report's choice; return a one-line summary."""
    experiment = result.experiment
    best, names = grid_table.best_cells(result.table, REPORT), list(experiment.names)
    chosen = np.flatnonzero(grid_table.is_cell(best, experiment.choice_cell)).tolist()
    columns = ["place", *names, "parameters", "CPU ms a batch", "score"]
    lines = [
        [
            str(i + 1),
            *(str(best[name][i]) for name in names),
            f"{best.parameters[i]:,}",
            f"{best.batch_ms[i]:.1f}",
            f"{best.score[i]:.2%}" + (f" ± {best.spread[i]:.2%}" if experiment.fits > 1 else ""),
        ]
        for i in sorted({*range(min(5, len(best))), *chosen, len(best) - 1})
    ]
    judged = {
        "folds": f"mean validation accuracy of {experiment.fits} folds",
        "validation": "accuracy on the validation split",
        "test": "test accuracy",
    }[experiment.judge.by]
    seeds = f", mean of {experiment.seeds} seeds" if experiment.seeds > 1 else ""
    print_table(f"{experiment.label}: {judged}{seeds}", columns, lines)
    impossible = experiment.impossible(REPORT)
    networks = f"{len(best)} of the grid's {len(best) + len(impossible)} configurations are possible"
    reasons = "; ".join(dict.fromkeys(reason for _, reason in impossible))
    say(f"{networks}{', the others fail at ' if impossible else ''}{reasons}")
    show_conclusions(result.conclusions)
    if experiment.remark:
        say()
        say(f"Every figure above was {experiment.remark}.")
    say(f"run {result.run.id}")
    choice = [f"; {experiment.choice_words} {best.score[place]:.2%}, place {place + 1}" for place in chosen]
    return (
        f"{experiment.label}, {networks}: best {best.score[0]:.2%} ({judged}{seeds}, which chose it){''.join(choice)}."
    )
