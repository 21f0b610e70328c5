"""The heart disease table: its rows and split, as a `Dataset` over a frame, and what is wrong with them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset

from trackdl.data.download import datasets as sources
from trackdl.data.heart.schema import FEATURES, MISSING_AS_ZERO, TARGET, parse_table
from trackdl.errors import InputError

__all__ = ["CLASSES", "Audit", "HeartDataset", "HeartTable", "audit", "load_heart"]

CLASSES = ("normal", "heart disease")

Encode = Callable[[pd.DataFrame], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class HeartTable:
    """All rows, and which of them are learnt from and which tested on.

    Attributes:
        frame: The features and, last, the target; see `heart_schema`.
        train: int64 [n], places of the training rows, in the order in which they are learnt.
        test: int64 [m], places of the test rows.
        origin: "report", or "own" for tables that the user names.
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


class HeartDataset(Dataset[tuple[Tensor, Tensor]]):
    """A torch `Dataset` over a pandas frame: an item is a row's inputs, float32 [d], and its target, float32 [].

    Args:
        frame: Rows with features and target.
        encode: Turns the frame's rows into numbers, float32 [n, d].
    """

    def __init__(self, frame: pd.DataFrame, encode: Encode) -> None:
        self.inputs = torch.from_numpy(encode(frame))
        self.targets = torch.from_numpy(frame[TARGET.name].to_numpy(np.float32))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]


def load_heart(
    csv: Path | None = None, test_csv: Path | None = None, test_share: float = 0.2, seed: int = 0
) -> HeartTable:
    """Read the report's rows and split, or the user's own.

    Args:
        csv: A table of the same schema instead of the report's.
        test_csv: Such a table to test on; without it a stratified share of `csv` is set aside.
        test_share: That share.
        seed: Draws it.

    Raises:
        InputError: A table is not of the schema, or a class has too few rows to be split, or is missing.
        TrackdlError: The report's table cannot be had whole.
    """
    table = _load(csv, test_csv, test_share, seed)
    for rows, name in ((table.train_rows, csv), (table.test_rows, test_csv or csv)):
        if rows[TARGET.name].nunique() < 2:
            raise InputError(f"{name}: all of its {len(rows)} rows have one {TARGET.name}; both 0 and 1 are needed")
    return table


def _load(csv: Path | None, test_csv: Path | None, test_share: float, seed: int) -> HeartTable:
    if csv is None:
        files = sources.read("heart")
        frame = parse_table(files["heart.csv"], "heart.csv")
        train, test = (_row_numbers(files[f"{part}_rows.txt"]) for part in ("train", "test"))
        return HeartTable(frame, train, test, "report", _digest(frame))
    frame = parse_table(_read(csv), str(csv))
    if test_csv is not None:
        learnt = len(frame)
        frame = pd.concat([frame, parse_table(_read(test_csv), str(test_csv))], ignore_index=True)
        return HeartTable(frame, np.arange(learnt), np.arange(learnt, len(frame)), "own", _digest(frame))
    try:
        train, test = train_test_split(
            np.arange(len(frame)), test_size=test_share, random_state=seed % 2**32, stratify=frame[TARGET.name]
        )
    except ValueError as error:
        raise InputError(f"{csv}: {len(frame)} rows cannot be split into training and test rows: {error}") from error
    return HeartTable(frame, train, test, "own", _digest(frame))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _row_numbers(content: bytes) -> NDArray[np.int64]:
    return np.array([int(line) for line in content.decode().splitlines() if not line.startswith("#")], np.int64)


def _digest(frame: pd.DataFrame) -> str:
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


@dataclass(frozen=True)
class Audit:
    """What was looked for in a table. Rows are places in its frame, from 0.

    Attributes:
        duplicates: Pairs of rows that agree in every column.
        contradictions: Pairs that agree in every feature and not in the target.
        leaks: The pairs of both kinds that stand on different sides of the split.
        near: Pairs that agree in all features but one.
        near_leaks: Those of them on different sides.
        zeros: How many rows write a missing value as 0, by column.
    """

    duplicates: list[tuple[int, int]]
    contradictions: list[tuple[int, int]]
    leaks: list[tuple[int, int]]
    near: list[tuple[int, int]]
    near_leaks: list[tuple[int, int]]
    zeros: dict[str, int]


def audit(table: HeartTable) -> Audit:
    """Look for duplicated rows, for a leak between training and test rows, and for zeros that mean "missing"."""
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
