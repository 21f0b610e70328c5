"""Which artifacts of a run a figure is computed from, and by which formula."""

import json
from dataclasses import dataclass
from functools import cache

from trackdl import spec
from trackdl.errors import InputError
from trackdl.spec import GridSpec
from trackdl.system.paths import project_root

# The grid's figures come from its committed table, whose cells were fitted once, for hours.
GRID_TABLE = "experiments/results/grid.csv"
# How the table was made, and the accuracies of its best cell and of the report's choice when trained again.
GRID_ORIGIN = "experiments/results/grid.json"
# The table of our grid with padding: it is quoted with the hypotheses, no figure comes from it.
PADDED_TABLE = "experiments/results/grid-padded.csv"
# The commands that make a task's figures, if not the task's own command.
COMMANDS = {"grid": "`trackdl grid --export experiments/results`"}
GRID = {
    "rank_of_choice": "rank of a cell",
    "choice_cv_accuracy": "accuracy of a cell",
    "best_cv_accuracy": "accuracy of the best cell",
}


@dataclass(frozen=True)
class Recipe:
    """How a figure is computed from a run.

    Attributes:
        artifacts: The artifacts that are read.
        formula: Its name in `formulas.FORMULAS`.
        select: The formula's argument.
        model: Which of the run's models has the artifacts, by its tags' protocol and network; empty if the run is the
            model.
        logged: The metric, and its step, under which the run logged the same figure; None if it logged none.
    """

    artifacts: tuple[str, ...]
    formula: str
    select: str = ""
    model: str = ""
    logged: tuple[str, int] | None = None


def recipe(task: str, metric: str, epoch: int | None, seed: int) -> Recipe:
    """Return how a task's figure is computed.

    Args:
        task: The run's task; a search's finalist keeps what `fashion` keeps.
        metric: As the task logs it, preceded by the model's name for Task 4, and by the group's for failed fits.
        epoch: The figure's epoch.
        seed: The training's.

    Raises:
        InputError: The task keeps nothing that such a figure could be computed from.
    """
    found = None
    if task == "heart":
        found = _of_heart(metric, seed)
    elif task == "grid":
        found = _of_grid(metric)
    elif task == "transfer":
        found = _of_transfer(metric, epoch)
    elif task in ("mnist", "fashion", "search"):
        found = _of_classifier(metric, epoch)
    if found is None:
        raise InputError(f"task {task}, metric {metric!r}: no run keeps what this could be computed from")
    return found


@cache
def _choice() -> str:
    """Return, as JSON, the configuration that the report calls the best: its grid's first."""
    grid = spec.load(project_root() / "experiments" / "grid.yaml", GridSpec)
    return json.dumps(grid.cells("report")[0], sort_keys=True)


def _of_grid(metric: str) -> Recipe | None:
    group, _, name = metric.rpartition("/")
    if metric in GRID:
        return Recipe((GRID_TABLE,), GRID[metric], _choice())
    if metric == "fresh_test_accuracy":
        return Recipe((GRID_ORIGIN, GRID_TABLE), "accuracy of the best cell trained again")
    if metric == "networks":
        return Recipe((GRID_TABLE,), "cells that are networks")
    return Recipe((GRID_ORIGIN,), "failed fits of a group", group or "all") if name == "failed_fits" else None


def _of_heart(metric: str, seed: int) -> Recipe | None:
    model, _, name = metric.rpartition("/")
    if name == "test_accuracy":
        logged = ("test_accuracy_by_seed", seed)
        return Recipe(("predictions/test.csv",), "accuracy of a seed's rows", model=model, logged=logged)
    if name == "cv_accuracy":
        logged = ("cv_accuracy", 0)
        return Recipe(("predictions/cross_validation.csv",), "mean accuracy of the folds", model=model, logged=logged)
    if name == "batch_loss":
        return Recipe(("training.json",), "last batch's loss", model=model)
    if name == "batch_losses":
        return Recipe(("training.json",), "losses of every tenth batch", model=model)
    if name == "test_loss" and model.startswith("as-reported/"):
        return Recipe(("predictions/test.csv",), "broadcast loss by rows", model=model)
    return None


def _of_transfer(metric: str, epoch: int | None) -> Recipe | None:
    logged = (metric, epoch or 0)
    if metric == "batch_losses":
        return Recipe(("history/batches.safetensors",), "losses of all epochs' batches")
    if metric in ("train_loss", "train_accuracy"):
        formula = f"{_kind(metric)} of an epoch"
        return Recipe(("predictions/train-epochs.safetensors",), formula, str(epoch), logged=logged)
    if metric.startswith("val_accuracy"):
        name = metric.removeprefix("val_accuracy").strip("_").replace("_", " ") or "transferred"
        return Recipe(("predictions/held_out.json",), "accuracy of a column", name, logged=logged)
    return None


def _of_classifier(metric: str, epoch: int | None) -> Recipe | None:
    kind, logged = _kind(metric), (metric, epoch or 0)
    if metric == "batch_losses" and epoch:
        return Recipe(_of_epochs("history/epoch", epoch), "losses of each epoch's batches")
    if metric in ("best_test_loss", "best_test_accuracy"):
        return Recipe(("predictions/test.safetensors",), kind, logged=logged)
    if metric in ("best_val_loss", "best_val_accuracy") and epoch:
        return Recipe(_of_epochs("predictions/val-epoch", epoch), f"{kind} of the best epoch", logged=logged)
    if metric in ("train_loss", "train_accuracy"):
        formula = "accuracy of the batches" if kind == "accuracy" else "mean loss of the batches"
        return Recipe((f"history/epoch-{epoch:05d}.safetensors",), formula, logged=logged)
    outputs = metric.replace("_loss", "").replace("_accuracy", "")
    if outputs in ("val", "test", "val_dropout") and outputs != metric:
        path = f"predictions/{outputs.replace('_', '-')}-epoch-{epoch:05d}.safetensors"
        return Recipe((path,), kind, logged=logged)
    return None


def _kind(metric: str) -> str:
    return "accuracy" if "accuracy" in metric else "cross-entropy"


def _of_epochs(name: str, last: int) -> tuple[str, ...]:
    return tuple(f"{name}-{number:05d}.safetensors" for number in range(1, last + 1))
