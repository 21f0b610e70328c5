"""The heart table's schema: its columns, what each may hold, and a check that names what is wrong by row and column."""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trackdl.errors import InputError

__all__ = ["CATEGORIES", "FEATURES", "MISSING_AS_ZERO", "NUMBERS", "TARGET", "Column", "check_rows", "parse_table"]

# A message lists at most so many problems.
HANDFUL = 6


@dataclass(frozen=True)
class Column:
    """A column: a number between `low` and `high`, whole or not, or one of `categories`."""

    name: str
    low: float = 0
    high: float = 0
    whole: bool = True
    categories: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What the column may hold, in words."""
        if self.categories:
            return f"one of {', '.join(self.categories)}"
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"

    def read(self, value: Any) -> Any:
        """Return the value as the table holds it: str, int or float.

        Raises:
            ValueError: It is not what the column may hold; the message says what is wrong with it.
        """
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise ValueError("is missing")
        if self.categories:
            if value not in self.categories:
                raise ValueError(f"is {value!r:.40}")
            return str(value)
        if isinstance(value, bool | np.bool_):
            raise ValueError(f"is {value!r:.40}")
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"is {value!r:.40}") from None
        if not self.low <= number <= self.high or (self.whole and not number.is_integer()):
            raise ValueError(f"is {value!r:.40}")
        return int(number) if self.whole else number


# The ranges hold what is possible in a living person, and 0 where the table writes it for "not measured".
FEATURES = (
    Column("Age", 0, 120),
    Column("Sex", categories=("F", "M")),
    Column("ChestPainType", categories=("ASY", "ATA", "NAP", "TA")),
    Column("RestingBP", 0, 300),
    Column("Cholesterol", 0, 1000),
    Column("FastingBS", 0, 1),
    Column("RestingECG", categories=("LVH", "Normal", "ST")),
    Column("MaxHR", 30, 250),
    Column("ExerciseAngina", categories=("N", "Y")),
    Column("Oldpeak", -10, 10, whole=False),
    Column("ST_Slope", categories=("Down", "Flat", "Up")),
)
TARGET = Column("HeartDisease", 0, 1)
NUMBERS = tuple(column.name for column in FEATURES if not column.categories)
CATEGORIES = {column.name: column.categories for column in FEATURES if column.categories}
# Nobody alive has these at 0: the table's makers wrote 0 where nothing was measured.
MISSING_AS_ZERO = ("RestingBP", "Cholesterol")


def parse_table(content: bytes, name: str) -> pd.DataFrame:
    """Read a CSV of the heart table's columns, in any order, every cell checked.

    Args:
        content: The file.
        name: What messages call it.

    Returns:
        The rows in the file's order, the columns in the schema's: str, int64 and float64, the target last.

    Raises:
        InputError: It is no such table; the first problems are named by row (1 is the first below the header) and
            column.
    """
    try:
        text = content.decode("utf-8-sig")
        cells = pd.read_csv(
            io.StringIO(text), dtype=str, header=None, keep_default_na=False, skipinitialspace=True, index_col=False
        )
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text (byte {error.start}); expected a CSV table") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise InputError(f"{name}: not a CSV table: {' '.join(str(error).split())[:200]}") from error
    header = [str(cell).strip() for cell in cells.iloc[0]]
    columns = (*FEATURES, TARGET)
    _check_header(header, [column.name for column in columns], name)
    if len(cells) < 2:
        raise InputError(f"{name}: no rows below the header")
    rows: list[dict[str, Any]] = [
        dict(zip(header, row, strict=True)) for row in cells.iloc[1:].itertuples(index=False, name=None)
    ]
    return _frame(rows, columns, name)


def check_rows(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Check records of the features, as a model is asked about them; other columns are an error, the target too.

    Raises:
        InputError: A column is missing or unknown, or a value is not what its column may hold.
    """
    given = [dict(row) for row in rows]
    if not given:
        raise InputError("no rows were given")
    names = [column.name for column in FEATURES]
    for number, row in enumerate(given, 1):
        _check_header([str(key) for key in row], names, f"row {number}")
    return _frame(given, FEATURES, "rows")


def _check_header(found: list[str], expected: list[str], name: str) -> None:
    missing = [column for column in expected if column not in found]
    unknown = [column for column in found if column not in expected]
    twice = sorted({column for column in found if found.count(column) > 1} - set(unknown))
    problems = [
        f"{word} {', '.join(repr(column) for column in columns[:HANDFUL])}"
        for word, columns in (("missing column", missing), ("unknown column", unknown), ("twice the column", twice))
        if columns
    ]
    if problems:
        raise InputError(f"{name}: {'; '.join(problems)}. The columns are {', '.join(expected)}")


def _frame(rows: list[dict[str, Any]], columns: tuple[Column, ...], name: str) -> pd.DataFrame:
    problems = []
    for number, row in enumerate(rows, 1):
        for column in columns:
            value = row[column.name]
            try:
                row[column.name] = column.read(value.strip() if isinstance(value, str) else value)
            except ValueError as error:
                problems.append(f"row {number}, column {column.name}: {error}; it may be {column.expected}")
    if problems:
        more = f"\n... and {len(problems) - HANDFUL} more" if len(problems) > HANDFUL else ""
        raise InputError("\n".join(f"{name}: {problem}" for problem in problems[:HANDFUL]) + more)
    types = {c.name: "object" if c.categories else "int64" if c.whole else "float64" for c in columns}
    return pd.DataFrame(rows, columns=list(types)).astype(types)
