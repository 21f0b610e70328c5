"""Formulas: how each figure of the ledger is computed from a run's predictions and histories.

A formula reads artifacts as bytes; nothing is trained, and no metric that the run logged is used.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from trackdl.analysis import grid_table
from trackdl.analysis.scores import mean_loss, score
from trackdl.analysis.stats import corrected_estimate
from trackdl.errors import TrackdlError
from trackdl.ledger.words import cell_words
from trackdl.spec.grid import REPORT

F = TypeVar("F")

CONFUSION = "confusion of classes"
TEST_BATCH = 10  # rows, as Task 4's report tests


@dataclass(frozen=True)
class Computed:
    """A figure of one seed: of an accuracy, over how many examples; of a mean over folds, its 95 % interval."""

    value: float
    examples: int | None = None
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class ComputedCurve:
    """A curve of one seed: its losses, float64 [points], and how many examples an epoch has."""

    losses: NDArray[np.float64]
    size: int


# A point of a curve: its epoch, and how many of the epoch's examples were seen before its batch.
Place = tuple[int, int]


def compute(formula: str, files: Sequence[bytes], select: str, seed: int) -> Computed:
    """Compute a figure by a formula of `FORMULAS` from the artifacts that it reads.

    It reads a part of them, `select`: an epoch, a column, a cell or a group; of several trainings, that of `seed`.

    Raises:
        TrackdlError: The formula is unknown, or the artifacts are not what it reads.
    """
    with _reading(formula):
        return _named(FORMULAS, formula)(files, select, seed)


def compute_confusion(predictions: bytes, classes: bytes) -> tuple[list[str], NDArray[np.int64]]:
    """Return the classes' names, and how many examples of each class were taken for each, [true class, predicted].

    Raises:
        TrackdlError: The artifacts are no predictions and names of classes.
    """
    with _reading(CONFUSION):
        names: list[str] = json.loads(classes)
        rows = _predictions(predictions)
        return names, confusion_matrix(rows["target"], rows["label"], labels=range(len(names)))


def compute_curve(formula: str, files: Sequence[bytes], seed: int, places: Sequence[Place]) -> ComputedCurve:
    """Compute a curve at some of its points by a formula of `CURVES`; the rest is as in `compute`.

    Raises:
        TrackdlError: The formula is unknown, the artifacts are not what it reads, or the training has no such points.
    """
    with _reading(formula):
        return _named(CURVES, formula)(files, seed, places)


def _named(formulas: Mapping[str, F], name: str) -> F:
    if name not in formulas:
        raise TrackdlError(f"no formula is called {name!r}; there are {', '.join(formulas)}")
    return formulas[name]


@contextmanager
def _reading(formula: str) -> Iterator[None]:
    """Raise TrackdlError if the artifacts that the block reads are not what it expects."""
    try:
        yield
    except (SafetensorError, KeyError, ValueError, IndexError, TypeError) as error:
        raise TrackdlError(
            f"the artifacts are not what the formula {formula!r} reads: {type(error).__name__}: {error}"
        ) from error


def _predictions(content: bytes, epoch: str = "") -> pd.DataFrame:
    """Read what is kept of outputs (`archive.condensed`), of several epochs that of one.

    There is a row for each example: its predicted class, `label`, its `loss`, and its true class, `target`.
    """
    tensors = load(content)
    labels, losses = tensors["labels"], tensors["losses"].astype(np.float64)
    if epoch:
        (place,) = np.flatnonzero(tensors["epochs"] == int(epoch))
        labels, losses = labels[place], losses[place]
    return pd.DataFrame({"label": labels, "loss": losses, "target": tensors["targets"]})


def _of_seed(content: bytes, seed: int) -> pd.DataFrame:
    """Read the predictions of a table's rows by one seed: `label`, `target`, and probabilities."""
    frame = pd.read_csv(io.BytesIO(content))
    rows = frame[frame["seed"] == seed]
    if rows.empty:
        raise ValueError(f"no rows of seed {seed}")
    return rows


def _accuracy(rows: pd.DataFrame) -> Computed:
    return Computed(float((rows["label"] == rows["target"]).mean()), len(rows))


def _macro_f1(rows: pd.DataFrame) -> Computed:
    """Return the mean F1 score of the classes that occur among the targets or the predictions."""
    return Computed(float(f1_score(rows["target"], rows["label"], average="macro")))


def _of_class(select: str, classes: bytes, rows: pd.DataFrame) -> Computed:
    """Return a class's recall, precision or F1 score; or how many examples of one class were taken for another.

    Args:
        select: "recall/NAME", or another of `words.OF_CLASS`; "confusion/TRUE, PREDICTED".
        classes: The classes' names, as JSON.
        rows: The predicted classes, `label`, and the true ones, `target`.
    """
    measure, _, select = select.partition("/")
    names: list[str] = json.loads(classes)
    if measure == "confusion":
        pairs = {f"{true}, {taken}": place for place, (true, taken) in enumerate(product(names, repeat=2))}
        true, taken = divmod(_known(select, pairs), len(names))
        return Computed(float(((rows["target"] == true) & (rows["label"] == taken)).sum()))
    one = _known(select, {name: place for place, name in enumerate(names)})
    actual, named = rows["target"] == one, rows["label"] == one
    score_of = {"recall": recall_score, "precision": precision_score, "f1": f1_score}[measure]
    value = float(score_of(actual, named, zero_division=0.0))
    return Computed(value, int(actual.sum()) if measure == "recall" else None)


def _known(name: str, places: Mapping[str, int]) -> int:
    if name not in places:
        raise ValueError(f"there is no {name!r}; there are {', '.join(list(places)[:12])}")
    return places[name]


def _cross_entropy(rows: pd.DataFrame) -> Computed:
    return Computed(float(rows["loss"].to_numpy().mean()))


def _best(files: Sequence[bytes], measure: Callable[[pd.DataFrame], Computed]) -> Computed:
    """Return a measure of the epoch with the best accuracy, the first of equals."""
    return measure(max(map(_predictions, files), key=lambda epoch: _accuracy(epoch).value))


def _batches_loss(content: bytes) -> Computed:
    tensors = load(content)
    sizes = tensors["sizes"].astype(np.float64)
    return Computed(float((tensors["losses"].astype(np.float64) * sizes).sum() / sizes.sum()))


def _batches_accuracy(content: bytes) -> Computed:
    tensors = load(content)
    total = int(tensors["sizes"].sum())
    return Computed(int(tensors["right"].sum()) / total, total)


def _rows_accuracy(content: bytes, column: str) -> Computed:
    rows = json.loads(content)["rows"]
    return Computed(sum(row[column] == row["truth"] for row in rows) / len(rows), len(rows))


def _probabilities(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probabilities of the second of two classes, [n], or of each of more, [n, classes]."""
    if "probability" in rows:
        return rows["probability"].to_numpy(np.float64)
    return rows.filter(regex="^probability_").to_numpy(np.float64)


def _table_score(content: bytes, name: str, seed: int) -> Computed:
    rows = _of_seed(content, seed)
    found = score(rows["target"].to_numpy(), rows["label"].to_numpy(), _probabilities(rows))
    return Computed(float(getattr(found, name)))


def _table_loss(content: bytes, training: bytes, seed: int) -> Computed:
    """Return the mean loss by which the network was trained; of the broadcast one, what the test loop printed."""
    loss, rows = json.loads(training)["loss"], _of_seed(content, seed)
    if loss == "broadcast":
        return _broadcast_loss(content, seed)
    return Computed(mean_loss(loss, rows["target"].to_numpy(), _probabilities(rows)))


def _folds_accuracy(content: bytes) -> Computed:
    """Return the mean over folds with its interval, corrected for training rows that folds share."""
    frame = pd.read_csv(io.BytesIO(content))
    right = frame["label"] == frame["target"]
    held, total = frame.groupby("fold").size(), frame["row"].nunique()
    found = corrected_estimate(right.groupby(frame["fold"]).mean().to_numpy(), float((held / (total - held)).mean()))
    return Computed(found.mean, bounds=(found.low, found.high))


def _first_member(content: bytes, seed: int) -> dict[str, Any]:
    """Return the history of a seed's first network from Task 4's `training.json`."""
    (of_seed,) = [item for item in json.loads(content)["seeds"] if item["seed"] == seed]
    history: dict[str, Any] = of_seed["members"][0]
    return history


def _broadcast_loss(content: bytes, seed: int) -> Computed:
    """Return what the report's test loop prints: the sum of the batches' broadcast losses, divided by the rows."""
    rows = _of_seed(content, seed)
    predicted, truth = (rows[name].to_numpy(np.float64) for name in ("probability", "target"))
    starts = range(0, len(rows), TEST_BATCH)
    losses = [((predicted[i : i + TEST_BATCH, None] - truth[None, i : i + TEST_BATCH]) ** 2).mean() for i in starts]
    return Computed(float(np.sum(losses) / len(rows)))


def _epochs_losses(files: Sequence[bytes], places: Sequence[Place]) -> ComputedCurve:
    """Read `history/epoch-N.safetensors` of the epochs 1, 2, ..."""
    losses, sizes = zip(*((epoch["losses"], epoch["sizes"]) for epoch in map(load, files)), strict=True)
    return _at_places(losses, sizes, range(1, len(files) + 1), places)


def _all_losses(content: bytes, places: Sequence[Place]) -> ComputedCurve:
    tensors = load(content)
    return _at_places(tensors["losses"], tensors["sizes"], tensors["epochs"].tolist(), places)


def _at_places(losses: Any, sizes: Any, epochs: Sequence[int], places: Sequence[Place]) -> ComputedCurve:
    """Return the losses of batches, [epochs][batches], at `places`, by the batches' sizes."""
    found: dict[Place, float] = {}
    for epoch, values, counts in zip(epochs, losses, sizes, strict=True):
        before = np.cumsum(counts) - counts
        found |= {(epoch, int(seen)): float(value) for seen, value in zip(before, values, strict=True)}
    return ComputedCurve(np.array([found[place] for place in places]), int(np.sum(sizes[0])))


def _tenth_losses(content: bytes, seed: int, places: Sequence[Place]) -> ComputedCurve:
    """Read Task 4's `training.json`: every tenth batch's loss, and the examples seen before it since the start."""
    history = _first_member(content, seed)
    epochs, points = len(history["train_loss"]), history["batch_losses"]
    each = len(points) // epochs
    size = int(points[each][0]) if epochs > 1 else max(seen for seen, _ in points) + 1
    found = {(int(seen) // size + 1, int(seen) % size): float(loss) for seen, loss in points}
    return ComputedCurve(np.array([found[place] for place in places]), size)


def _cells(content: bytes) -> pd.DataFrame:
    """Return the report's grid with a row for each cell; `score` is its fits' mean accuracy after the last epoch."""
    fits, _ = grid_table.read(content)
    report = fits[fits["grid"] == REPORT].assign(score=grid_table.last(fits, "held_accuracy"))
    cells = report.groupby(grid_table.dimensions(fits))["score"]
    if report.empty or (cells.count() != report["fold"].nunique()).any():
        raise ValueError("no configurations, or some without all folds")
    return cells.mean().reset_index()


def _score(cells: pd.DataFrame, cell: Mapping[str, Any]) -> float:
    return float(cells.loc[grid_table.is_cell(cells, cell), "score"].iloc[0])


def _cell_number(content: bytes, select: str, seed: int) -> Computed:
    """Return a metric of a cell of the report's grid after its last epoch: of its nth training, or 0: of their mean."""
    words, _, metric = select.rpartition("/")
    fits, _ = grid_table.read(content)
    names = grid_table.dimensions(fits)
    report = fits[fits["grid"] == REPORT].sort_values("fold")
    values = report[metric] if metric in report else grid_table.last(report, metric)
    found = [
        value for value, cell in zip(values, report[names].to_dict("records"), strict=True) if cell_words(cell) == words
    ]
    if not found:
        raise ValueError(f"no cell {words}")
    return Computed(float(np.mean(found) if seed == 0 else found[seed - 1]))


def _cell_rank(content: bytes, select: str) -> Computed:
    cells = _cells(content)
    return Computed(float((cells["score"] > _score(cells, json.loads(select))).sum() + 1))


def _fresh(origin: bytes, table: bytes) -> Computed:
    """Return the mean test accuracy of the table's best cell over new seeds."""
    fresh, cells = json.loads(origin)["fresh"], _cells(table)
    if _score(cells, fresh["best_cell"]) < cells["score"].max():
        raise ValueError("the cell that was trained again is not the table's best")
    return Computed(float(np.mean(fresh["best"])), int(fresh["test_pictures"]))


def _failed_fits(origin: bytes, group: str) -> Computed:
    """Return how many fits of a group, or of all, failed when the report's search was repeated with its fault."""
    groups = json.loads(origin)["report_failures"]
    return Computed(float(sum(sum(groups[name].values()) for name in (groups if group == "all" else [group]))))


Formula = Callable[[Sequence[bytes], str, int], Computed]

FORMULAS: dict[str, Formula] = {
    "accuracy": lambda files, _, __: _accuracy(_predictions(files[0])),
    "cross-entropy": lambda files, _, __: _cross_entropy(_predictions(files[0])),
    "macro F1": lambda files, _, __: _macro_f1(_predictions(files[0])),
    "logged value of an epoch": lambda files, select, _: Computed(float(json.loads(files[0])[select])),
    "accuracy of the best epoch": lambda files, _, __: _best(files, _accuracy),
    "cross-entropy of the best epoch": lambda files, _, __: _best(files, _cross_entropy),
    "accuracy of an epoch": lambda files, select, _: _accuracy(_predictions(files[0], select)),
    "cross-entropy of an epoch": lambda files, select, _: _cross_entropy(_predictions(files[0], select)),
    "mean loss of the batches": lambda files, _, __: _batches_loss(files[0]),
    "accuracy of the batches": lambda files, _, __: _batches_accuracy(files[0]),
    "accuracy of a column": lambda files, select, _: _rows_accuracy(files[0], select),
    "accuracy of a seed's rows": lambda files, _, seed: _accuracy(_of_seed(files[0], seed)),
    "mean accuracy of the folds": lambda files, _, __: _folds_accuracy(files[0]),
    "number of a cell": lambda files, select, seed: _cell_number(files[0], select, seed),
    "rank of a cell": lambda files, select, _: _cell_rank(files[0], select),
    "accuracy of a cell": lambda files, select, _: Computed(_score(_cells(files[0]), json.loads(select))),
    "accuracy of the best cell": lambda files, _, __: Computed(float(_cells(files[0])["score"].max())),
    "accuracy of the best cell trained again": lambda files, _, __: _fresh(*files),
    "cells that are networks": lambda files, _, __: Computed(float(len(_cells(files[0])))),
    "failed fits of a group": lambda files, select, _: _failed_fits(files[0], select),
    "last batch's loss": lambda files, _, seed: Computed(float(_first_member(files[0], seed)["batch_losses"][-1][1])),
    "last epoch's value": lambda files, select, seed: Computed(float(_first_member(files[0], seed)[select][-1])),
    "score of a seed's rows": lambda files, select, seed: _table_score(files[0], select, seed),
    "loss of a seed's rows": lambda files, _, seed: _table_loss(files[0], files[1], seed),
    "measure of a class": lambda files, select, _: _of_class(select, files[1], _predictions(files[0])),
    "measure of a class, of a seed's rows": lambda files, select, seed: _of_class(
        select, files[1], _of_seed(files[0], seed)
    ),
    "broadcast loss by rows": lambda files, _, seed: _broadcast_loss(files[0], seed),
}

CurveFormula = Callable[[Sequence[bytes], int, Sequence[Place]], ComputedCurve]

CURVES: dict[str, CurveFormula] = {
    "losses of each epoch's batches": lambda files, _, places: _epochs_losses(files, places),
    "losses of all epochs' batches": lambda files, _, places: _all_losses(files[0], places),
    "losses of every tenth batch": lambda files, seed, places: _tenth_losses(files[0], seed, places),
}
