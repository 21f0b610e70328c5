"""A table: its rows, their split, and an audit of duplicates, leaks and missing values."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import datasets as sklearn_datasets
from sklearn.model_selection import train_test_split

from trackdl.data.download import datasets as sources
from trackdl.data.tables.cells import Cells, read_cells
from trackdl.data.tables.heart import HEART, HOME
from trackdl.data.tables.schema import Schema, check_header, check_target, classes_of, frame_of, infer
from trackdl.errors import InputError
from trackdl.spec.table import Column, TableData
from trackdl.system.findings import first_few
from trackdl.system.paths import in_report, read_bounded

log = logging.getLogger(__name__)

# Among more rows an audit does not look for near duplicates, and pairs each duplicate with the first of its kind alone.
MOST_COMPARED = 2_000
MAX_BYTES = 200_000_000  # of a CSV file
MOST_BY_CHANCE = 0.01  # of the rows: if more of them may be alike by chance, alike rows are no copies

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """All rows and their split.

    Attributes:
        frame: The features and, last, the target: the class's place in `schema.classes`.
        train: The places of the training rows, int64 [n], in the order in which they are learnt.
        test: The places of the test rows, int64 [m].
        schema: The columns and classes.
        origin: "report", or "own" for the user's table in place of the report's.
        source: Where the rows come from.
        twins: For each row, a number that it shares with the rows whose features are the same; where that may well be
            chance, in the published data sets and in tables of few different rows, each row has a number of its own.
    """

    frame: pd.DataFrame
    train: Places
    test: Places
    schema: Schema
    origin: str = "report"
    source: str = ""
    twins: Places = field(default_factory=lambda: np.arange(0))

    @cached_property
    def digest(self) -> str:
        """The SHA-256, hex, of the rows."""
        return hashlib.sha256(self.frame.to_csv(index=False).encode()).hexdigest()

    @property
    def test_digest(self) -> str:
        """The SHA-256, hex, of the rows and of the choice of test rows."""
        return hashlib.sha256(self.digest.encode() + np.sort(self.test).tobytes()).hexdigest()

    @property
    def targets(self) -> NDArray[np.int64]:
        """Return the class of every row, int64 [n + m]."""
        return self.frame.iloc[:, -1].to_numpy()

    def apart(self, parts: Sequence[tuple[Places, Places]]) -> list[tuple[Places, Places]]:
        """Return folds, as the places of training and of held-out rows, without training rows that are held out too."""
        return [(learn[~np.isin(self.twins[learn], self.twins[held])], held) for learn, held in parts]

    @property
    def train_rows(self) -> pd.DataFrame:
        """The training rows."""
        return self.frame.iloc[self.train]

    @property
    def test_rows(self) -> pd.DataFrame:
        """The test rows."""
        return self.frame.iloc[self.test]


def load_table(data: TableData, seed: int = 0) -> Table:
    """Read a table and split it.

    Args:
        data: The experiment's section.
        seed: Determines which rows are held out, if the experiment names none.

    Raises:
        InputError: A file is no such table, or has too few rows of a class; cells are named by row and column.
        TrackdlError: A table that trackdl brings is missing and cannot be fetched.
    """
    settings = HEART if data.dataset == "heart" else data
    split: tuple[Places, Places] | None = None
    others: Cells | None = None
    origin, source = "report", f"scikit-learn's {data.sklearn}" if data.sklearn else str(data.csv)
    if data.csv:
        cells = _read(data.csv)
        others = _read(data.test_csv) if data.test_csv else None
        origin = "own" if data.dataset else "report"
    elif data.sklearn:
        cells, settings = _of_sklearn(data)
    else:
        files = sources.read("heart")
        cells, source = read_cells(files["heart.csv"], "heart.csv"), HOME
        train, test = (_numbers(files[f"{part}_rows.txt"], part) for part in ("train", "test"))
        split = None if data.test_rows else (train, test)
    parts = [part.without(settings.drop) for part in (cells, others) if part]
    names = [*settings.columns, str(settings.target)] if settings.columns else parts[0].header
    parts = [part.called(names) for part in parts]
    for part in parts:
        check_header(part.header, names, part.name)
        check_target(part, settings)
    columns = [
        column.model_copy(update={"missing": column.missing or settings.missing})
        for column in settings.columns.values()
    ]
    frame = _frame(parts, columns) if columns else None
    whole = _joined(parts)
    targets, classes = classes_of(whole, settings)
    if others:
        if sorted(others.rows) == sorted(cells.rows):
            raise InputError(
                f"{others.name}: has the rows of {cells.name}; a network cannot be tested on what it has learnt"
            )
        split = np.arange(len(cells.rows)), np.arange(len(cells.rows), len(whole.rows))
    train, test = split or _split(data, whole, targets, classes, seed)
    _check_split(whole, targets, classes, train, test)
    if frame is None:
        columns = infer(whole, train, settings)
        frame = _frame(parts, columns, strict=False)
        _warn(frame, columns, whole.name)
    twins = _twins(frame, train) if data.csv else np.arange(len(frame))
    test = _unseen(whole.name, twins, train, test, None if others is None else len(cells.rows))
    _check_split(whole, targets, classes, train, test)
    frame[settings.target] = targets
    return Table(frame, train, test, Schema(columns, str(settings.target), classes), origin, source, twins)


def _twins(frame: pd.DataFrame, train: Places) -> Places:
    """Return `Table.twins`.

    If the columns were independent, one training row would be like another with the probability that both have the
    same value in each column. Where more than one in a hundred rows would have a twin by chance, none counts as one.
    """
    shares = [frame.iloc[train][column].value_counts(normalize=True, dropna=False) for column in frame.columns]
    if len(train) * float(np.prod([(share**2).sum() for share in shares])) > MOST_BY_CHANCE:
        return np.arange(len(frame))
    return np.asarray(frame.groupby(list(frame.columns), dropna=False).ngroup(), np.int64)


def _unseen(name: str, twins: Places, train: Places, test: Places, begins: int | None) -> Places:
    """Return the test rows without those whose features are a training row's; a separate test table begins at `begins`.

    Raises:
        InputError: All of them are.
    """
    known = np.isin(twins[test], twins[train])
    if known.any():
        first = dict(zip(twins[train][::-1].tolist(), train[::-1].tolist(), strict=True))
        words = first_few(
            [f"row {row + 1 - (begins or 0)} (as {first[twins[row]] + 1})" for row in test[known].tolist()]
        )
        of = f"{known.sum()} of {len(test)} test rows{' of test_csv' if begins else ''}"
        if known.all():
            raise InputError(
                f"{name}: {of} are copies of training rows: {words}. A network cannot be tested on what it has learnt"
            )
        log.warning("%s: %s are copies of training rows, and are not counted: %s", name, of, words)
    return test[~known]


def _frame(parts: list[Cells], columns: list[Column], *, strict: bool = True) -> pd.DataFrame:
    frames = [
        frame_of(dict(zip(part.header, zip(*part.rows, strict=True), strict=True)), columns, part.name, strict=strict)
        for part in parts
    ]
    return pd.concat(frames, ignore_index=True)


def _warn(frame: pd.DataFrame, columns: list[Column], name: str) -> None:
    """Warn of categories that only test rows have."""
    for column in columns:
        if column.categories and (new := sorted({*frame[column.name]} - {*column.categories, ""})):
            named = first_few(map(repr, new))
            log.warning("%s: column %s: no training row has %s; encoded as no category", name, column.name, named)


def _read(named: str) -> Cells:
    path = in_report(named)
    return read_cells(read_bounded(path, MAX_BYTES), str(path))


def _of_sklearn(data: TableData) -> tuple[Cells, TableData]:
    """Return one of scikit-learn's tables, and what is known of it: its target and the order of its classes."""
    bunch = getattr(sklearn_datasets, f"load_{data.sklearn}")()
    names = [str(name) for name in bunch.target_names]
    rows = [[*map(repr, row), names[target]] for row, target in zip(bunch.data.tolist(), bunch.target, strict=True)]
    known = {"target": "class", "classes": data.classes or {name: name for name in names}}
    cells = Cells(f"scikit-learn's {data.sklearn}", [*map(str, bunch.feature_names), "class"], rows)
    return cells, data.model_copy(update=known)


def _joined(parts: list[Cells]) -> Cells:
    """Return the rows of both tables, by the first one's columns."""
    first = parts[0]
    rows = [*first.rows]
    for other in parts[1:]:
        places = [other.header.index(column) for column in first.header]
        rows += [[row[place] for place in places] for row in other.rows]
    return Cells(first.name, first.header, rows)


def _split(data: TableData, cells: Cells, targets: Places, classes: list[str], seed: int) -> tuple[Places, Places]:
    if data.test_rows:
        path = in_report(data.test_rows)
        test = _numbers(read_bounded(path, MAX_BYTES), str(path))
        if len(set(test.tolist())) < len(test) or not len(test) or test.min() < 0 or test.max() >= len(targets):
            raise InputError(
                f"{path}: expected numbers of test rows, each once, from 0 to {len(targets) - 1}, one a line"
            )
        return np.setdiff1d(np.arange(len(targets)), test), test
    counts = np.bincount(targets, minlength=len(classes))
    if counts.min() < 2:
        raise InputError(
            f"{cells.name}: class {classes[counts.argmin()]!r} has one row; it takes two to train and to test, or merge"
            " it with another class by classes"
        )
    try:
        train, test = train_test_split(
            np.arange(len(targets)), test_size=data.test_share, random_state=seed % 2**32, stratify=targets
        )
    except ValueError as error:
        raise InputError(
            f"{cells.name}: {len(targets)} rows cannot be split into training and test rows: {error}"
        ) from error
    return train, test


def _numbers(content: bytes, name: str) -> Places:
    try:
        lines = [line.partition("#")[0] for line in content.decode("utf-8-sig").splitlines()]
        return np.array([int(number) for line in lines for number in line.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}: expected numbers of rows, one a line: {error}") from error


def _check_split(cells: Cells, targets: Places, classes: list[str], train: Places, test: Places) -> None:
    for rows, part, least in ((train, "training", len(classes)), (test, "test", 2)):
        present = np.unique(targets[rows])
        if len(present) < least:
            lacking = [name for place, name in enumerate(classes) if place not in present]
            raise InputError(
                f"{cells.name}: its {len(rows)} {part} rows have no class {first_few(map(repr, lacking))}"
                + ("; every class is needed" if least > 2 else "; two classes are needed")
            )


@dataclass(frozen=True)
class Audit:
    """The findings in a table, whose rows are counted from 0.

    Attributes:
        duplicates: Pairs of rows that agree in every column.
        contradictions: Pairs that agree in every feature but not in the target.
        leaks: Pairs of both kinds with one training row and one test row.
        near: Pairs that differ in exactly one feature; not looked for among more than `MOST_COMPARED` rows.
        near_leaks: Those with one training row and one test row.
        zeros: The number of rows with 0 for a missing value, by column.
        missing: The number of rows whose value is missing, by column with such rows.
    """

    duplicates: list[tuple[int, int]]
    contradictions: list[tuple[int, int]]
    leaks: list[tuple[int, int]]
    near: list[tuple[int, int]]
    near_leaks: list[tuple[int, int]]
    zeros: dict[str, int]
    missing: dict[str, int]


def audit(table: Table) -> Audit:
    """Find duplicate rows, leaks between training and test rows, and values that are missing."""
    columns = table.schema.columns
    codes = np.stack([pd.factorize(table.frame[column.name])[0] for column in columns], axis=1)
    tested = np.zeros(len(codes), bool)
    tested[table.test] = True
    same: list[tuple[int, int]] = []
    near: list[tuple[int, int]] = []
    if len(codes) <= MOST_COMPARED:
        for row in range(len(codes) - 1):
            differ = (codes[row + 1 :] != codes[row]).sum(axis=1)
            same += [(row, row + 1 + int(other)) for other in np.flatnonzero(differ == 0)]
            near += [(row, row + 1 + int(other)) for other in np.flatnonzero(differ == 1)]
    else:
        for alike in pd.DataFrame(codes).groupby(list(range(codes.shape[1]))).indices.values():
            same += [(int(alike[0]), int(other)) for other in alike[1:]]
    targets = table.targets
    missing = {c.name: int((table.frame[c.name].isna() | (table.frame[c.name] == "")).sum()) for c in columns}
    return Audit(
        duplicates=[(a, b) for a, b in same if targets[a] == targets[b]],
        contradictions=[(a, b) for a, b in same if targets[a] != targets[b]],
        leaks=[(a, b) for a, b in same if tested[a] != tested[b]],
        near=near,
        near_leaks=[(a, b) for a, b in near if tested[a] != tested[b]],
        zeros={c.name: int((table.frame[c.name] == 0).sum()) for c in columns if c.zero_is_missing},
        missing={name: count for name, count in missing.items() if count},
    )
