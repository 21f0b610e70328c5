"""Which artifacts of a run a figure is computed from, and by which formula."""

import re
from dataclasses import dataclass, replace

from trackdl.errors import InputError
from trackdl.ledger.folder import ORIGIN, TABLE
from trackdl.ledger.words import OF_CLASS, is_cell

GRID = {
    "rank_of_choice": "rank of a cell",
    **{f"choice_{part}_accuracy": "accuracy of a cell" for part in ("cv", "val", "test")},
    **{f"best_{part}_accuracy": "accuracy of the best cell" for part in ("cv", "val", "test")},
}
# Of each cell, after its last epoch.
CELLS = (*(f"{part}_{what}" for part in ("train", "val", "test") for what in ("loss", "accuracy")), "seconds")
# The metrics that have a formula, in words, by kind.
METRICS = {
    "classify": "test_loss, test_accuracy, test_f1, the same of val and val_dropout, train_loss, train_accuracy, "
    "best_val_loss, best_val_accuracy, best_test_loss, best_test_accuracy, best_test_f1, test_recall[CLASS], the same "
    "of precision and f1, test_confusion[TRUE CLASS, PREDICTED CLASS], parameters, seconds, and of curves batch_losses",
    "transfer": "train_loss, train_accuracy, val_accuracy, val_accuracy_random_features, "
    "val_accuracy_all_layers_trained, test_loss, test_accuracy, test_recall[CLASS] and the like, parameters, seconds, "
    "and of curves batch_losses",
    "table": "test_accuracy, test_loss, test_auc, test_brier, test_log_loss, test_f1, test_f1_macro, "
    "test_recall[CLASS], the same of precision and f1, test_confusion[TRUE CLASS, PREDICTED CLASS], cv_accuracy, "
    "train_loss, train_accuracy, batch_loss, and of curves batch_losses, each behind PROTOCOL/NETWORK/ or "
    "baselines/NAME/",
    "grid": "rank_of_choice, choice_cv_accuracy, best_cv_accuracy (or with val or test, by which it is judged), "
    "fresh_test_accuracy, networks, failed_fits, and of cells those of `reported_table`",
}
F1 = "macro F1"
CLASSES = "classes.json"  # the names, in the order of the outputs
_LOGGED = {"fit_seconds": "fit_seconds", "seconds": "fit_seconds", "parameters": "parameters"}
_OF_CLASS = re.compile(rf"(?P<outputs>\w+)_(?P<measure>{'|'.join(OF_CLASS)})\[(?P<classes>.+)\]")
# A metric that a run has logged, read as if it were an artifact: what no artifact keeps.
LOGGED = "logged/"


@dataclass(frozen=True)
class Recipe:
    """How a figure is computed from a run: by which of `formulas.FORMULAS`, from which artifacts.

    `select` is the formula's argument. `model` is which of the run's models has the artifacts, by protocol and network;
    empty if the run is the model. `logged` is the metric, and its step, under which the run logged the same figure.
    """

    artifacts: tuple[str, ...]
    formula: str
    select: str = ""
    model: str = ""
    logged: tuple[str, int] | None = None


def recipe(kind: str, metric: str, epoch: int | None, seed: int, choice: str = "") -> Recipe:
    """Return how a figure of an experiment is computed; a search's finalist keeps what the kind `classify` keeps.

    Args:
        kind: The experiment's.
        metric: As the task logs it, preceded by the model's name for a table, and by the group's for failed fits.
        epoch: The figure's.
        seed: The training's.
        choice: As JSON, the cell of a grid that the report calls the best.

    Raises:
        InputError: An experiment of this kind keeps nothing that such a figure could be computed from.
    """
    if kind == "table":
        found = _of_table(metric, seed)
    elif kind == "grid":
        found = _of_grid(metric, choice)
    elif metric in _LOGGED:
        at = 0 if metric == "parameters" else _needed(epoch)
        found = Recipe((f"{LOGGED}{_LOGGED[metric]}",), "logged value of an epoch", str(at))
    elif kind == "transfer":
        found = _of_transfer(metric, epoch)
    else:
        found = _of_classifier(metric, epoch)
    if found is None:
        known = METRICS.get(kind, METRICS["classify"])
        raise InputError(f"no formula: {metric!r} is no metric of a {kind} experiment; its metrics are {known}")
    return found


def _of_grid(metric: str, choice: str) -> Recipe | None:
    group, _, name = metric.rpartition("/")
    if is_cell(group) and name in CELLS:
        return Recipe((TABLE,), "number of a cell", metric)
    if metric in GRID:
        return Recipe((TABLE,), GRID[metric], choice)
    if metric == "fresh_test_accuracy":
        return Recipe((ORIGIN, TABLE), "accuracy of the best cell trained again")
    if metric == "networks":
        return Recipe((TABLE,), "cells that are networks")
    return Recipe((ORIGIN,), "failed fits of a group", group or "all") if name == "failed_fits" else None


def _of_class(path: str, found: re.Match[str], rows: str = "", model: str = "") -> Recipe:
    """Return the recipe of a measure of one class, whose name may hold any sign."""
    select = f"{found['measure']}/{found['classes']}"
    return Recipe((path, CLASSES), f"measure of a class{rows}", select, model)


def _of_table(metric: str, seed: int) -> Recipe | None:
    model, _, name = metric.partition("[")[0].rpartition("/")
    if (of_class := _OF_CLASS.fullmatch(metric.removeprefix(f"{model}/"))) and of_class["outputs"] == "test":
        return _of_class("predictions/test.csv", of_class, ", of a seed's rows", model)
    test, folds, training = "predictions/test.csv", "predictions/cross_validation.csv", "training.json"
    found = {
        "test_accuracy": Recipe((test,), "accuracy of a seed's rows", logged=("test_accuracy_by_seed", seed)),
        "cv_accuracy": Recipe((folds,), "mean accuracy of the folds", logged=("cv_accuracy", 0)),
        "test_loss": Recipe((test, training), "loss of a seed's rows"),
        "batch_loss": Recipe((training,), "last batch's loss"),
        **{name: Recipe((training,), "last epoch's value", name) for name in ("train_loss", "train_accuracy")},
        "batch_losses": Recipe((training,), "losses of every tenth batch"),
        **{
            f"test_{score}": Recipe((test,), "score of a seed's rows", score)
            for score in ("auc", "brier", "log_loss", "f1", "f1_macro")
        },
    }.get(name)
    return found and replace(found, model=model)


def _of_transfer(metric: str, epoch: int | None) -> Recipe | None:
    logged = (metric, epoch or 0)
    if (found := _OF_CLASS.fullmatch(metric)) and found["outputs"] == "test":
        return _of_class("predictions/test.safetensors", found)
    if metric == "batch_losses":
        return Recipe(("history/batches.safetensors",), "losses of all epochs' batches")
    if metric in ("train_loss", "train_accuracy"):
        formula = f"{_kind(metric)} of an epoch"
        return Recipe(("predictions/train-epochs.safetensors",), formula, str(_needed(epoch)), logged=logged)
    if metric in ("test_loss", "test_accuracy"):
        return Recipe(("predictions/test.safetensors",), _kind(metric), logged=logged if epoch else None)
    if metric.startswith("val_accuracy"):
        name = metric.removeprefix("val_accuracy").strip("_").replace("_", " ") or "transferred"
        return Recipe(("predictions/held_out.json",), "accuracy of a column", name, logged=logged)
    return None


def _of_classifier(metric: str, epoch: int | None) -> Recipe | None:
    kind, logged = _kind(metric), (metric, epoch or 0)
    if metric == "batch_losses" and epoch:
        return Recipe(_of_epochs("history/epoch", epoch), "losses of each epoch's batches")
    if metric in ("best_test_loss", "best_test_accuracy", "best_test_f1"):
        return Recipe(("predictions/test.safetensors",), kind, logged=None if kind == F1 else logged)
    if metric in ("best_val_loss", "best_val_accuracy"):
        return Recipe(_of_epochs("predictions/val-epoch", _needed(epoch)), f"{kind} of the best epoch", logged=logged)
    if metric in ("train_loss", "train_accuracy"):
        formula = "accuracy of the batches" if kind == "accuracy" else "mean loss of the batches"
        return Recipe((f"history/epoch-{_needed(epoch):05d}.safetensors",), formula, logged=logged)
    found = _OF_CLASS.fullmatch(metric)
    if found and found["outputs"] == "best_test":
        return _of_class("predictions/test.safetensors", found)
    outputs = found["outputs"] if found else metric.replace("_loss", "").replace("_accuracy", "").replace("_f1", "")
    if outputs in ("val", "test", "val_dropout") and outputs != metric:
        path = f"predictions/{outputs.replace('_', '-')}-epoch-{_needed(epoch):05d}.safetensors"
        return _of_class(path, found) if found else Recipe((path,), kind, logged=None if kind == F1 else logged)
    return None


def _needed(epoch: int | None) -> int:
    if epoch is None:
        raise InputError("no formula: the number needs its epoch")
    return epoch


def _kind(metric: str) -> str:
    return "accuracy" if "accuracy" in metric else F1 if metric.endswith("f1") else "cross-entropy"


def _of_epochs(name: str, last: int) -> tuple[str, ...]:
    return tuple(f"{name}-{number:05d}.safetensors" for number in range(1, last + 1))
