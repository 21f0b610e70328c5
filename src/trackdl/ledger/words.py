"""What figures are called: in words, by what they measure."""

from collections.abc import Mapping, Sequence
from typing import Any

from trackdl.spec.keys import short_names

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


def form_share(share: float) -> str:
    """Return a share of 1 as text; a very small or large one as a bound."""
    if 0 < share < 0.001:
        return "< 0.1\u00a0%"
    return "> 99.9\u00a0%" if 0.999 < share < 1 else f"{100 * share:.1f}\u00a0%"


def value_words(value: Any) -> str:
    """Return a candidate's value as text: yes and no for true and false."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def key_words(keys: Sequence[str]) -> dict[str, str]:
    """Return what people read for keys: the last part of each, unless two are the same."""
    return {key: name.replace("_", " ").replace(".", " ") for name, key in short_names(list(keys), ()).items()}


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
