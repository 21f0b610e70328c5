"""Published beside measured: each number that the report prints, next to ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trackdl.spec import Reported

__all__ = ["NumberRow", "beside", "table"]


@dataclass(frozen=True)
class NumberRow:
    """One published number and its counterpart; `measured` is None where the run did not come so far."""

    metric: str
    epoch: int | None
    published: float
    measured: float | None


def beside(reported: Sequence[Reported], history: Callable[[str], Sequence[tuple[int, float]]]) -> list[NumberRow]:
    """Put each published number beside the run's; where the report has several trainings of one kind, of its main one.

    Args:
        reported: The experiment's published numbers.
        history: Returns a metric's (epoch, value) points; of a number without an epoch the last one counts.
    """
    rows = []
    main = [item for item in reported if not item.series]
    recorded = {metric: dict(history(metric)) for metric in {item.metric for item in main}}
    for item in main:
        points = recorded[item.metric]
        epoch = item.epoch if item.epoch is not None else max(points, default=None)
        rows.append(NumberRow(item.metric, item.epoch, item.value, points.get(epoch) if epoch is not None else None))
    return rows


def table(rows: Sequence[NumberRow]) -> tuple[list[str], list[list[str]]]:
    """Return the rows as a table's columns and lines: a line an epoch, the report's number and ours for each metric."""
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
