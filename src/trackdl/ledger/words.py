"""What figures are called: in words, by what they measure."""

from collections.abc import Mapping
from typing import Any

METRICS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "best_val_loss": "validation loss of the best epoch",
    "best_val_accuracy": "validation accuracy of the best epoch",
    "best_test_accuracy": "test accuracy of the weights kept",
    "batch_loss": "loss of the last batch",
    "batch_losses": "loss per batch",
    "fit_seconds": "seconds of training",
    "rank_of_choice": "rank of the \u201cbest\u201d among the grid's networks",
    "failed_fits": "fits of the report's grid search that failed",
    "networks": "configurations of the report's grid that are networks",
}
# Measures of single classes: test_recall[CLASS], and test_confusion[TRUE CLASS, PREDICTED CLASS], a count of examples.
OF_CLASS = ("recall", "precision", "f1", "confusion")
# For letters that were trained on, "training" is what a report calls test; held out they are validated.
HELD_OUT = {("transfer", "val_accuracy"): "accuracy on letters held out"}


def metric_words(kind: str, metric: str, series: str = "") -> str:
    """Return what a number measures: the model's name if there are several, the metric, the series of trainings."""
    before, bracket, classes = metric.partition("[")
    model, _, last = before.rpartition("/")
    words = HELD_OUT.get((kind, last)) or METRICS.get(last, last.replace("_", " "))
    words = f"{words} of {classes.removesuffix(']')}" if bracket else words
    words = f"{words}, {series}" if series else words
    return f"{model.replace('/', ', ')}: {words}" if model and not is_cell(model) else words


def cell_words(cell: Mapping[Any, Any]) -> str:
    """Return a cell of a grid as text that is the same for 32 and 32.0: dropout=0.3, filters=32."""

    def text(value: Any) -> str:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return str(value)
        return str(value) if isinstance(value, str | bool) else str(int(number) if number.is_integer() else number)

    return ", ".join(f"{name}={text(value)}" for name, value in cell.items())


def cell_of(metric: str) -> str:
    """Return the cell of a grid that a metric is of, as `cell_words` has it; empty if it is of none."""
    model = metric.partition("[")[0].rpartition("/")[0]
    return model if is_cell(model) else ""


def is_cell(model: str) -> bool:
    """Return whether the part of a metric before its last slash is a cell of a grid: dropout=0.3, filters=32."""
    return "=" in model
