"""A task's own table: each number that the report prints next to the run's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trackdl.spec import Reported


@dataclass(frozen=True)
class NumberRow:
    """One published number and its counterpart; `measured` is None if the run did not reach the epoch."""

    metric: str
    epoch: int | None
    published: float
    measured: float | None


def compare(reported: Sequence[Reported], history: Callable[[str], Sequence[tuple[int, float]]]) -> list[NumberRow]:
    """Pair each published number of the report's main training with the run's, by the history of its metric.

    A number without an epoch is paired with that of the last one.
    """
    main = [item for item in reported if not item.series]
    points = {metric: dict(history(metric)) for metric in {item.metric for item in main}}
    last = {metric: max(of_metric, default=-1) for metric, of_metric in points.items()}
    return [
        NumberRow(
            item.metric,
            item.epoch,
            item.value,
            points[item.metric].get(last[item.metric] if item.epoch is None else item.epoch),
        )
        for item in main
    ]


def table(rows: Sequence[NumberRow]) -> tuple[list[str], list[list[str]]]:
    """Return the rows as a table's columns and lines: a line per epoch, the report's number and ours per metric."""
    metrics = list(dict.fromkeys(row.metric for row in rows))
    epochs = list(dict.fromkeys(row.epoch for row in rows))
    found = {(row.epoch, row.metric): row for row in rows}
    columns = ["epoch", *(f"{metric}, {whose}" for metric in metrics for whose in ("report", "trackdl"))]
    lines = []
    for epoch in epochs:
        line = ["last" if epoch is None else str(epoch)]
        for metric in metrics:
            row = found.get((epoch, metric))
            line += ["", ""] if row is None else [_form(metric, row.published), _form(metric, row.measured)]
        lines.append(line)
    return columns, lines


def _form(metric: str, value: float | None) -> str:
    if value is None:
        return "not reached"
    return f"{value:.2%}" if metric.endswith("accuracy") else f"{value:.4f}"
