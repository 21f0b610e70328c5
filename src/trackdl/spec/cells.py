"""Printed numbers of many cells of a grid: a CSV file with a row for each cell."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackdl.errors import InputError
from trackdl.spec.grid import REPORT, Cell, GridSpec
from trackdl.spec.keys import meant
from trackdl.system.paths import in_report, read_bounded

# Columns of metrics, by what reports call them; and those that name a row and are not read.
METRICS = {
    f"{part}_{short}": f"{part}_{kind}"
    for part in ("train", "val", "test")
    for short, kind in (("acc", "accuracy"), ("accuracy", "accuracy"), ("loss", "loss"))
} | {"seconds": "seconds"}
NAMES_OF_ROWS = ("run", "run_id", "id", "cell", "row", "note")
MAX_BYTES = 5_000_000


@dataclass(frozen=True)
class CellNumber:
    """One printed number of a cell.

    Attributes:
        row: The line of the file that has it.
        cell: The cell, as the grid has it.
        metric: Of ours, e.g. test_accuracy, which is a fraction; `seconds` are never judged.
        value: The number.
        text: As it is printed.
    """

    row: int
    cell: Cell
    metric: str
    value: float
    text: str


def reported_cells(experiment: GridSpec) -> list[CellNumber]:
    """Read the numbers of `reported_table`; none without one.

    The columns are the dimensions, by key or by short name, of which those with one value may be missing, and metrics,
    e.g. test_acc, test_loss, seconds. An empty field is no number. Names of rows, e.g. run, and columns whose name
    begins with _ are passed over.

    Raises:
        InputError: The file cannot be read, a column or value is wrong, or a row is no cell of the grid; names file,
            line and column.
    """
    if not experiment.reported_table:
        return []
    path = in_report(experiment.reported_table)
    try:
        rows = list(csv.reader(read_bounded(path, MAX_BYTES).decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    columns = _columns(experiment, rows[0] if rows else [], path)
    cells = {_known_as(cell.values()): cell for cell in experiment.cells(REPORT)}
    found: list[CellNumber] = []
    lines: dict[tuple[Any, ...], int] = {}
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(columns):
            raise InputError(f"{path}: line {line}: has {len(row)} fields, and the header {len(columns)}")
        given = {name: text.strip() for name, text in zip(columns, row, strict=True) if name}
        only = {name: str(experiment.space[key][0]) for name, key in experiment.names.items()}
        place = _known_as(given.get(name, only[name]) for name in only)
        if place not in cells:
            words = ", ".join(f"{name} {given[name]}" for name in only if name in given)
            raise InputError(f"{path}: line {line}: the grid has no such cell that is a network: {words}")
        if lines.setdefault(place, line) != line:
            raise InputError(f"{path}: line {line}: the same cell as line {lines[place]}")
        for name, text in given.items():
            if name in only or not text:
                continue
            value = _number(text)
            if not math.isfinite(value) or (name.endswith("accuracy") and not 0 <= value <= 1):
                may = "a fraction, 0 to 1" if name.endswith("accuracy") else "a number"
                raise InputError(f"{path}: line {line}, column '{name}': must be {may}, but is {text!r:.40}")
            found.append(CellNumber(line, cells[place], name, value, text))
    return found


def _columns(experiment: GridSpec, header: list[str], path: Path) -> list[str]:
    """Return what each column is: a dimension's short name, a metric of ours, or empty if it is not read."""
    columns = []
    for name in (text.strip() for text in header):
        try:
            known = METRICS.get(name) or experiment.short(name)
        except ValueError as error:
            if name not in NAMES_OF_ROWS and not name.startswith("_"):
                may = [*experiment.names, *METRICS]
                near = meant(name, may)
                words = f"It may be one of {', '.join(may)}; a name that begins with _ is passed over"
                raise InputError(f"{path}: unknown column '{name}': {near}{words}") from error
            known = ""
        if known and known in columns:
            raise InputError(f"{path}: column '{name}' is there twice")
        columns.append(known)
    for name, key in experiment.names.items():
        if name not in columns and len(experiment.space[key]) > 1:
            raise InputError(f"{path}: the column '{name}' is missing: the grid has several values of {key}")
    return columns


def _known_as(values: Any) -> tuple[Any, ...]:
    """Return a cell's values so that what a file calls 1 or 1.0 or true is the same as what the grid has."""
    return tuple(str(value).lower() if math.isnan(number := _number(str(value))) else number for value in values)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
