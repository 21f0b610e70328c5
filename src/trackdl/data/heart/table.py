"""The heart disease table: its rows, their split, and an audit of duplicates, leaks and missing values."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from trackdl.data.download import datasets as sources
from trackdl.data.heart.schema import FEATURES, MISSING_AS_ZERO, TARGET, parse_table
from trackdl.errors import InputError

CLASSES = ("normal", "heart disease")


@dataclass(frozen=True, eq=False)
class HeartTable:
    """All rows and their split.

    Attributes:
        frame: The features and, last, the target, with the types of `schema.parse_table`.
        train: The places of the training rows, int64 [n], in the order in which they are learnt.
        test: The places of the test rows, int64 [m].
        origin: "report", or "own" for the user's tables.
        digest: SHA-256, hex, of the rows.
    """

    frame: pd.DataFrame
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    origin: str
    digest: str

    @property
    def targets(self) -> NDArray[np.int64]:
        """Return the target of every row, int64 [n + m], 1 for heart disease."""
        return self.frame[TARGET.name].to_numpy()

    @property
    def train_rows(self) -> pd.DataFrame:
        """The training rows."""
        return self.frame.iloc[self.train]

    @property
    def test_rows(self) -> pd.DataFrame:
        """The test rows."""
        return self.frame.iloc[self.test]


def load_heart(
    csv: Path | None = None, test_csv: Path | None = None, test_share: float = 0.2, seed: int = 0
) -> HeartTable:
    """Read the report's rows and split, or the user's own.

    Args:
        csv: A table of the same schema to use instead of the report's.
        test_csv: A table of test rows; without it a stratified share of `csv` is held out.
        test_share: That share, 0 to 1.
        seed: Determines which rows are held out.

    Raises:
        InputError: A table does not follow the schema, or has too few rows of a class.
        TrackdlError: The report's table is missing and cannot be fetched.
    """
    if csv is None:
        files = sources.read("heart")
        frame = parse_table(files["heart.csv"], "heart.csv")
        train, test = (
            np.loadtxt(files[f"{part}_rows.txt"].decode().splitlines(), np.int64) for part in ("train", "test")
        )
    elif test_csv is None:
        frame = _read(csv)
        try:
            train, test = train_test_split(
                np.arange(len(frame)), test_size=test_share, random_state=seed % 2**32, stratify=frame[TARGET.name]
            )
        except ValueError as error:
            raise InputError(
                f"{csv}: {len(frame)} rows cannot be split into training and test rows: {error}"
            ) from error
    else:
        tables = [_read(csv), _read(test_csv)]
        frame = pd.concat(tables, ignore_index=True)
        train, test = np.split(np.arange(len(frame)), [len(tables[0])])
    digest = hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()
    table = HeartTable(frame, train, test, "own" if csv else "report", digest)
    for rows, name in ((table.train_rows, csv), (table.test_rows, test_csv or csv)):
        if rows[TARGET.name].nunique() < 2:
            raise InputError(f"{name}: all of its {len(rows)} rows have one {TARGET.name}; both 0 and 1 are needed")
    return table


def _read(path: Path) -> pd.DataFrame:
    try:
        return parse_table(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Audit:
    """The findings in a table, whose rows are counted from 0.

    Attributes:
        duplicates: Pairs of rows that agree in every column.
        contradictions: Pairs that agree in every feature but not in the target.
        leaks: Pairs of both kinds with one training row and one test row.
        near: Pairs that differ in exactly one feature.
        near_leaks: Those with one training row and one test row.
        zeros: The number of rows with 0 for a missing value, by column.
    """

    duplicates: list[tuple[int, int]]
    contradictions: list[tuple[int, int]]
    leaks: list[tuple[int, int]]
    near: list[tuple[int, int]]
    near_leaks: list[tuple[int, int]]
    zeros: dict[str, int]


def audit(table: HeartTable) -> Audit:
    """Find duplicate rows, leaks between training and test rows, and zeros that mean "missing"."""
    columns = [column.name for column in FEATURES]
    codes = np.stack([pd.factorize(table.frame[name])[0] for name in columns], axis=1)
    tested = np.zeros(len(codes), bool)
    tested[table.test] = True
    same: list[tuple[int, int]] = []
    near: list[tuple[int, int]] = []
    for row in range(len(codes) - 1):
        differ = (codes[row + 1 :] != codes[row]).sum(axis=1)
        same += [(row, row + 1 + int(other)) for other in np.flatnonzero(differ == 0)]
        near += [(row, row + 1 + int(other)) for other in np.flatnonzero(differ == 1)]
    targets = table.targets
    return Audit(
        duplicates=[(a, b) for a, b in same if targets[a] == targets[b]],
        contradictions=[(a, b) for a, b in same if targets[a] != targets[b]],
        leaks=[(a, b) for a, b in same if tested[a] != tested[b]],
        near=near,
        near_leaks=[(a, b) for a, b in near if tested[a] != tested[b]],
        zeros={name: int((table.frame[name] == 0).sum()) for name in MISSING_AS_ZERO},
    )
