"""A task's own table: each number that the report prints next to the run's."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trackdl import spec
from trackdl.errors import InputError
from trackdl.ledger.recipes import recipe
from trackdl.spec import Reported
from trackdl.spec.base import TrainedSpec
from trackdl.spec.ledger import LedgerSpec
from trackdl.system.console import counted
from trackdl.system.findings import first_few

log = logging.getLogger(__name__)

# Settings that a repetition of the report's training may change. A number of an epoch that is not reached has a warning
# of its own.
_NO_PROTOCOL = {"seeds", "training.seed", "training.device", "training.precision", "training.epochs", "data.split_seed"}

_MOST_LINES = 40  # of a table of epochs


@dataclass(frozen=True)
class NumberRow:
    """One published number and its counterpart.

    `measured` is None if the run did not reach the epoch, or logs no such metric.
    """

    metric: str
    epoch: int | None
    published: float
    measured: float | None


def check_numbers(experiment: TrainedSpec) -> None:
    """Warn before a training of published numbers that it cannot be compared with.

    These are of an unknown metric, of a later epoch, or of other settings: those in the report's file of that name.
    """
    epochs = experiment.training.epochs
    if changed := _changed(experiment) if experiment.numbers else []:
        log.warning(
            "%s: this is not the report's protocol, so its numbers are no fair comparison: %s",
            experiment.name,
            first_few(changed),
        )
    later = []
    for item in experiment.numbers:
        epoch = epochs if item.epoch is None else item.epoch
        try:
            recipe(experiment.task, item.metric, epoch, experiment.training.seed)
        except InputError as error:
            log.warning("%s.yaml, reported: %s", experiment.name, error)
        if epoch > epochs and experiment.task != "table":
            later.append(f"{item.metric} of epoch {epoch}")
    if later:
        log.warning(
            "%s.yaml, reported: this training has %s, so it will not reach %s",
            experiment.name,
            counted(epochs, "epoch"),
            first_few(later),
        )


def _changed(experiment: TrainedSpec) -> list[str]:
    """Return the settings that differ from the report's file, but for seeds, hardware, and epochs."""
    if not spec.experiment_file(experiment.name).is_file():
        return []
    ours, reports = spec.flatten(experiment), spec.flatten(spec.named(experiment.name))
    file = spec.experiment_file("ledger")
    as_reported = spec.load(file, LedgerSpec).as_reported.get(experiment.name, {}) if file.is_file() else {}
    return [
        f"{key}: {ours.get(key, 'none')} instead of {reports.get(key, 'none')}"
        for key in dict.fromkeys([*reports, *ours])
        if ours.get(key) not in (reports.get(key), as_reported.get(key, reports.get(key))) and key not in _NO_PROTOCOL
    ]


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
    """Return the rows as a table's columns and lines: a line per epoch, the report's number and ours per metric.

    Of more than `_MOST_LINES` epochs, the table has the first, every tenth and the last; the ledger has all.
    """
    metrics = list(dict.fromkeys(row.metric for row in rows))
    epochs = sorted({row.epoch for row in rows}, key=lambda epoch: math.inf if epoch is None else epoch)
    few = len(epochs) <= _MOST_LINES
    if not few:
        epochs = [epoch for epoch in epochs if epoch in (epochs[0], epochs[-1], None) or epoch % 10 == 0]
    found = {(row.epoch, row.metric): row for row in rows}
    names = [f"{metric.replace('_', ' ')}, {whose}" for metric in metrics for whose in ("report", "trackdl")]
    columns = ["epoch" if few else "epoch, every 10th", *names]
    lines = []
    for epoch in epochs:
        line = ["last" if epoch is None else str(epoch)]
        for metric in metrics:
            row = found.get((epoch, metric))
            line += ["", ""] if row is None else [_form(row, row.published), _form(row, row.measured)]
        lines.append(line)
    return columns, lines


def _form(row: NumberRow, value: float | None) -> str:
    if value is None:
        return "see the ledger" if row.epoch is None else "not reached"
    return f"{value:.2%}" if row.metric.endswith("accuracy") else f"{value:.4f}"
