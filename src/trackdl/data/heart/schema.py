"""The heart table's schema: its columns, their valid values, and a check that reports problems by row and column."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from trackdl.errors import InputError, one_line
from trackdl.system.findings import first_few


@dataclass(frozen=True)
class Column:
    """A column of numbers from `low` to `high`, whole or not, or of `categories`."""

    name: str
    low: float = 0
    high: float = 0
    whole: bool = True
    categories: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The valid values, for messages."""
        if self.categories:
            return f"one of {', '.join(self.categories)}"
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"

    def read(self, value: Any) -> Any:
        """Return a valid value as str, int or float.

        Raises:
            ValueError: The value is missing or not valid.
        """
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            raise ValueError("is missing")
        invalid = ValueError(f"is {value!r:.40}")
        if self.categories:
            if value not in self.categories:
                raise invalid
            return str(value)
        try:
            number = math.nan if isinstance(value, bool | np.bool_) else float(value)
        except (TypeError, ValueError, OverflowError):
            raise invalid from None
        if not self.low <= number <= self.high or (self.whole and not number.is_integer()):
            raise invalid
        return int(number) if self.whole else number


# The ranges cover a living person, and 0 where the table writes 0 for "not measured".
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
# A 0 in these columns means "not measured".
MISSING_AS_ZERO = ("RestingBP", "Cholesterol")


def parse_table(content: bytes, name: str) -> pd.DataFrame:
    """Read a CSV file with the heart table's columns, in any order, and check every cell.

    Args:
        content: The file.
        name: Its name in messages.

    Returns:
        The rows in the file's order, the columns in the schema's: str, int64 and float64, the target last.

    Raises:
        InputError: The file is not such a table; problems are reported by row (1 is the first below the header) and
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
        raise InputError(f"{name}: not a CSV table: {one_line(error)}") from error
    cells.columns = [str(cell).strip() for cell in cells.iloc[0]]
    columns = (*FEATURES, TARGET)
    _check_header(list(cells.columns), columns, name)
    if len(cells) < 2:
        raise InputError(f"{name}: no rows below the header")
    return _frame(cells.iloc[1:].to_dict("records"), columns, name)


def check_rows(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Check records of the features, as in a request to a model; the target is an unknown column.

    Raises:
        InputError: There are no rows, a column is missing or unknown, or a value is not valid.
    """
    given = [dict(row) for row in rows]
    if not given:
        raise InputError("no rows were given")
    for number, row in enumerate(given, 1):
        _check_header([str(key) for key in row], FEATURES, f"row {number}")
    return _frame(given, FEATURES, "rows")


def _check_header(found: list[str], columns: Sequence[Column], name: str) -> None:
    expected = [column.name for column in columns]
    missing = [column for column in expected if column not in found]
    unknown = [column for column in found if column not in expected]
    twice = sorted({column for column in found if found.count(column) > 1} - set(unknown))
    problems = [
        f"{problem} {first_few(map(repr, names))}"
        for problem, names in (("missing column", missing), ("unknown column", unknown), ("duplicate column", twice))
        if names
    ]
    if problems:
        raise InputError(f"{name}: {'; '.join(problems)}. The columns are {', '.join(expected)}")


def _frame(rows: list[dict[Any, Any]], columns: Sequence[Column], name: str) -> pd.DataFrame:
    """Check every cell of `rows`, and return them with the columns' types."""
    problems = []
    for number, row in enumerate(rows, 1):
        for column in columns:
            value = row[column.name]
            try:
                row[column.name] = column.read(value.strip() if isinstance(value, str) else value)
            except ValueError as error:
                problems.append(f"row {number}, column {column.name}: {error}; it may be {column.expected}")
    if problems:
        raise InputError(first_few((f"{name}: {problem}" for problem in problems), "\n"))
    types = {c.name: "object" if c.categories else "int64" if c.whole else "float64" for c in columns}
    return pd.DataFrame(rows, columns=list(types)).astype(types)
