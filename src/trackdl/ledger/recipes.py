"""Which artifacts of a run a figure is computed from, and by which formula."""

import json
from dataclasses import dataclass

from trackdl.errors import InputError

__all__ = ["COMMANDS", "GRID_ORIGIN", "GRID_TABLE", "PADDED_TABLE", "Recipe", "recipe"]


# The grid's figures come of its committed table, whose cells were fitted once, for hours.
GRID_TABLE = "experiments/results/grid.csv"
# What made the table, and what came of the best cell and the report's choice when they were trained again.
GRID_ORIGIN = "experiments/results/grid.json"
# The same grid with padding, ours: told beside the hypotheses, no figure comes of it.
PADDED_TABLE = "experiments/results/grid-padded.csv"
# What makes a task's figures, where it is not its own command alone.
COMMANDS = {"grid": "`trackdl grid --export experiments/results`"}
GRID = {
    "rank_of_choice": "rank of a cell",
    "choice_cv_accuracy": "accuracy of a cell",
    "best_cv_accuracy": "accuracy of the best cell",
}
# The configuration that the report calls the best.
CHOICE = json.dumps(
    {
        "activation": "relu",
        "conv_layers": 2,
        "dense_nodes": 128,
        "dropout": 0.1,
        "filter_size": 3,
        "filters": 16,
        "pool_size": 2,
    }
)


@dataclass(frozen=True)
class Recipe:
    """How a figure comes from a run.

    Attributes:
        model: Which of the run's models has them, by its tags' group and name; empty where the run is the model.
        artifacts: What is read.
        formula: Its name in `formulas.FORMULAS`.
        select: What the formula is told besides.
        logged: The metric, and its step, under which the run logged the same figure; None where it logged none.
    """

    artifacts: tuple[str, ...]
    formula: str
    select: str = ""
    model: str = ""
    logged: tuple[str, int] | None = None


def recipe(task: str, metric: str, epoch: int | None, seed: int) -> Recipe:
    """Return how a task's figure is computed.

    Args:
        task: Whose run it is; a search's finalist keeps what `fashion` keeps.
        metric: As the task logs it; of Task 4 with the model's name before it, of failed fits with their group's.
        epoch: The epoch that it is of.
        seed: The training's.

    Raises:
        InputError: The task keeps nothing that such a figure could be computed from.
    """
    if task == "heart":
        return _of_table(metric, seed)
    if task == "grid" and metric in GRID:
        return Recipe((GRID_TABLE,), GRID[metric], CHOICE)
    if task == "grid" and metric == "fresh_test_accuracy":
        return Recipe((GRID_ORIGIN, GRID_TABLE), "accuracy of the best cell trained again")
    if task == "grid" and metric == "networks":
        return Recipe((GRID_TABLE,), "cells that are networks")
    if task == "grid" and metric.rpartition("/")[2] == "failed_fits":
        return Recipe((GRID_ORIGIN,), "failed fits of a group", metric.rpartition("/")[0] or "all")
    if metric == "batch_losses" and task == "transfer":
        return Recipe(("history/batches.safetensors",), "losses of all epochs' batches")
    if metric == "batch_losses" and epoch:
        return Recipe(_of_epochs("history/epoch", epoch), "losses of each epoch's batches")
    kind = "accuracy" if "accuracy" in metric else "cross-entropy"
    logged = (metric, epoch or 0)
    if task == "transfer" and metric in ("train_loss", "train_accuracy"):
        return Recipe(("predictions/train-epochs.safetensors",), f"{kind} of an epoch", str(epoch), logged=logged)
    if task == "transfer" and metric.startswith("val_accuracy"):
        name = metric.removeprefix("val_accuracy").strip("_").replace("_", " ") or "transferred"
        return Recipe(("predictions/held_out.json",), "accuracy of a column", name, logged=logged)
    if task in ("mnist", "fashion", "search"):
        if metric in ("train_loss", "train_accuracy"):
            formula = "accuracy of the batches" if kind == "accuracy" else "mean loss of the batches"
            return Recipe((f"history/epoch-{epoch:05d}.safetensors",), formula, logged=logged)
        if metric in ("val_loss", "val_accuracy", "test_loss", "test_accuracy"):
            part = metric.partition("_")[0]
            return Recipe((f"predictions/{part}-epoch-{epoch:05d}.safetensors",), kind, logged=logged)
        if metric in ("val_loss_dropout", "val_accuracy_dropout"):
            return Recipe((f"predictions/val-dropout-epoch-{epoch:05d}.safetensors",), kind, logged=logged)
        if metric in ("best_test_loss", "best_test_accuracy"):
            return Recipe(("predictions/test.safetensors",), kind, logged=logged)
        if metric in ("best_val_loss", "best_val_accuracy") and epoch:
            return Recipe(_of_epochs("predictions/val-epoch", epoch), f"{kind} of the best epoch", logged=logged)
    raise InputError(f"task {task}, metric {metric!r}: no run keeps what this could be computed from")


def _of_epochs(name: str, last: int) -> tuple[str, ...]:
    return tuple(f"{name}-{number:05d}.safetensors" for number in range(1, last + 1))


def _of_table(metric: str, seed: int) -> Recipe:
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
    raise InputError(f"task heart, metric {metric!r}: no run keeps what this could be computed from")
