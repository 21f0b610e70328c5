"""Published beside measured: each number that the report prints, next to ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trackdl.spec import Reported

__all__ = ["Row", "beside", "cells"]


@dataclass(frozen=True)
class Row:
    """One published number and its counterpart; `measured` is None where the run did not come so far."""

    metric: str
    epoch: int | None
    published: float
    measured: float | None


def beside(reported: Sequence[Reported], history: Callable[[str], Sequence[tuple[int, float]]]) -> list[Row]:
    """Put each published number beside the run's.

    Args:
        reported: The experiment's published numbers.
        history: Returns a metric's (epoch, value) points; of a number without an epoch the last one counts.
    """
    rows = []
    recorded = {metric: dict(history(metric)) for metric in {item.metric for item in reported}}
    for item in reported:
        points = recorded[item.metric]
        epoch = item.epoch if item.epoch is not None else max(points, default=None)
        rows.append(Row(item.metric, item.epoch, item.value, points.get(epoch) if epoch is not None else None))
    return rows


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the rows as a table's text: what, the report's number, ours, and how far apart they are."""

    def one(row: Row) -> list[str]:
        accuracy = row.metric.endswith("accuracy")
        form = "{:.2%}".format if accuracy else "{:.4f}".format
        what = row.metric if row.epoch is None else f"{row.metric}, epoch {row.epoch}"
        if row.measured is None:
            return [what, form(row.published), "not reached", ""]
        apart = row.measured - row.published
        return [
            what,
            form(row.published),
            form(row.measured),
            f"{apart * 100:+.2f} points" if accuracy else f"{apart:+.4f}",
        ]

    return [one(row) for row in rows]
