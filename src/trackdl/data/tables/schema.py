"""The columns of a table: inferred from its training rows or spelt out, and every cell checked against them."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trackdl.data.tables.cells import Cells, called
from trackdl.errors import InputError
from trackdl.spec.table import Column, TableData
from trackdl.system.findings import first_few

# More different texts are names or numbers of the rows, not categories.
MOST_CATEGORIES = 100
MOST_CLASSES = 20
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_LARGEST, _LARGEST_WHOLE = 1e30, 2.0**53


@dataclass(frozen=True)
class Schema:
    """The features of a table, and the classes of its target."""

    columns: Sequence[Column]
    target: str
    classes: Sequence[str]


def text_of(value: Any) -> str:
    """Return a category or class as text: 1, 1.0, "1" and "1.0" are one."""
    text = str(value).strip()
    whole, point, rest = text.partition(".")
    return whole if point and not rest.strip("0") and re.fullmatch(r"[-+]?\d+", whole) else text


# Words that people write for 1 and 0, or for yes and no.
_TRUTH = {"1": True, "true": True, "yes": True, "y": True, "0": False, "false": False, "no": False, "n": False}


def meant(text: str, choices: Iterable[str]) -> str:
    """Return which of some texts is certainly meant: the same, in another case, or as true is 1, Y or yes.

    >>> meant("asy", ["ASY", "ATA"]), meant("True", ["0", "1"]), meant("maybe", ["no", "yes"])
    ('ASY', '1', 'maybe')
    """
    known = list(choices)
    plain = text.casefold()
    alike = [text] if text in known else [one for one in known if one.casefold() == plain]
    truths = {one.casefold(): _TRUTH.get(one.casefold()) for one in known}
    if not alike and plain in _TRUTH and sorted(truths.values(), key=str) == [False, True]:
        alike = [one for one in known if truths[one.casefold()] == _TRUTH[plain]]
    return alike[0] if len(alike) == 1 else text


def in_order(texts: Iterable[str]) -> list[str]:
    """Return different texts in order: numeric if all of them are numbers, else alphabetic."""
    different = sorted(set(texts))
    return sorted(different, key=float) if all(map(_NUMBER.fullmatch, different)) else different


def read_value(column: Column, value: Any, *, strict: bool = True) -> Any:
    """Return a valid value as str, int or float; a missing one, where that may be, as "" or NaN.

    Args:
        column: The column.
        value: A text, a number or None.
        strict: Refuse a category that the column does not have.

    Raises:
        ValueError: The value is missing or not valid.
    """
    nothing = value is None or (isinstance(value, float) and math.isnan(value))
    if column.missing and (nothing or value in column.missing):
        return "" if column.categories else math.nan
    if nothing or value == "":
        raise ValueError("is missing")
    invalid = ValueError(f"is {value!r:.40}")
    if column.categories:
        text = value if value in column.categories else meant(text_of(value), column.categories)
        if strict and text not in column.categories:
            raise invalid
        return text
    if isinstance(value, str) and column.whole and (column.low, column.high) == (0, 1):
        value = meant(value, ["0", "1"])
    try:
        number = math.nan if isinstance(value, bool | np.bool_) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise invalid from None
    low, high = (-_LARGEST if column.low is None else column.low), (_LARGEST if column.high is None else column.high)
    if not low <= number <= high or (column.whole and not (number.is_integer() and abs(number) <= _LARGEST_WHOLE)):
        raise invalid
    return int(number) if column.whole else number


def frame_of(
    values: Mapping[str, Sequence[Any]], columns: Sequence[Column], name: str, *, strict: bool = True
) -> pd.DataFrame:
    """Check every cell, and return the rows with the columns' types: str, int64 or float64.

    Args:
        values: The cells, by column.
        columns: The columns.
        name: The table's name in messages.
        strict: As in `read_value`.

    Raises:
        InputError: Cells are not valid; they are named by row (1 is the first below the header) and column.
    """
    problems: list[tuple[int, int, str]] = []
    made: dict[str, list[Any]] = {}
    for place, column in enumerate(columns):
        of_column = made[column.name] = []
        for number, value in enumerate(values[column.name], 1):
            try:
                given = value.strip() if isinstance(value, str) else value
                of_column.append(read_value(column, given, strict=strict))
            except ValueError as error:
                words = f"row {number}, column {column.name}: {error}; it may be {column.expected}"
                problems.append((number, place, words))
    raise_all(name, problems)
    types = {
        column.name: "object" if column.categories else "int64" if column.whole and not column.missing else "float64"
        for column in columns
    }
    return pd.DataFrame(made, columns=list(types)).astype(types)


def raise_all(name: str, problems: Iterable[tuple[int, int, str]]) -> None:
    """Raise an InputError with the first few problems of a table, by row and column, if there are any."""
    if found := [f"{name}: {words}" for _, _, words in sorted(problems)]:
        raise InputError(first_few(found, "\n"))


def check_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> pd.DataFrame:
    """Check records of the features, as in a request to a model; the target is an unknown column.

    Raises:
        InputError: There are no rows, a column is missing or unknown, or a value is not valid.
    """
    given = list(rows)
    if not given:
        raise InputError("no rows were given")
    names = [column.name for column in columns]
    spelt: dict[tuple[str, ...], list[str]] = {}  # by the row's own names: mostly all rows have the same
    for number, row in enumerate(given):
        own = tuple(map(str, row))
        if own not in spelt:
            spelt[own] = called(own, names)
            check_header(spelt[own], names, f"row {number + 1}")
        given[number] = dict(zip(spelt[own], row.values(), strict=True))
    return frame_of({name: [row[name] for row in given] for name in names}, columns, "rows")


def check_header(found: Sequence[str], expected: Sequence[str], name: str) -> None:
    """Raise an InputError if columns are missing or unknown."""
    problems = [
        f"{problem} {first_few(map(repr, names))}"
        for problem, names in (
            ("missing column", [column for column in expected if column not in found]),
            ("unknown column", [column for column in found if column not in expected]),
        )
        if names
    ]
    if problems:
        raise InputError(f"{name}: {'; '.join(problems)}. The columns are {', '.join(expected)}")


def infer(cells: Cells, train: Iterable[int], data: TableData) -> list[Column]:
    """Return the columns of a table's features as its training rows show them.

    A column is numbers if all of its cells are; those of `data.text` and those with a text in most rows are categories.
    Numbers are whole if those of all rows are, which affects nothing but what is accepted later.

    Args:
        cells: The table.
        train: The places of the training rows.
        data: The experiment's section.

    Raises:
        InputError: A column is neither, or has no value, or too many categories.
    """
    rows = sorted(train)
    if unknown := [column for column in data.text if column not in cells.header]:
        raise InputError(
            f"{cells.name}: no column {unknown[0]!r}, which text names. The columns are {', '.join(cells.header)}"
        )
    return [_infer(cells, place, rows, data) for place, column in enumerate(cells.header) if column != data.target]


def _infer(cells: Cells, place: int, rows: Sequence[int], data: TableData) -> Column:
    name = cells.header[place]
    texts = {row + 1: cells.rows[row][place] for row in rows if cells.rows[row][place] not in data.missing}
    where = f"{cells.name}: column {name}"
    if not texts:
        raise InputError(f"{where}: missing in all {len(rows)} training rows; leave it out: drop: [{name}]")
    if empty := [row for row, text in texts.items() if not text]:
        raise InputError(
            f"{cells.name}: row {empty[0]}, column {name}: is missing, as in {len(empty)} training rows; if that may"
            " be, name what stands for it: missing: ['']"
        )
    others = [row for row, text in texts.items() if not _NUMBER.fullmatch(text)]
    if name not in data.text and not others:
        every = [row[place] for row in cells.rows if row[place] not in data.missing]
        numbers = [float(text) for text in every if _NUMBER.fullmatch(text)]
        whole = all(number.is_integer() and abs(number) <= _LARGEST_WHOLE for number in numbers)
        return Column(name=name, whole=whole, missing=data.missing)
    if name not in data.text and 2 * len(others) <= len(texts):
        raise InputError(
            f"{cells.name}: row {others[0]}, column {name}: is {texts[others[0]]!r:.40} among numbers; name it in"
            " missing if it stands for a missing value, or the column in text if its numbers are names of categories"
        )
    categories = in_order(map(text_of, texts.values()))
    if len(categories) > MOST_CATEGORIES:
        raise InputError(
            f"{where}: {len(categories)} different texts in {len(rows)} training rows, more than {MOST_CATEGORIES};"
            f" leave it out: drop: [{name}]"
        )
    return Column(name=name, categories=categories, missing=data.missing)


def check_target(cells: Cells, data: TableData) -> None:
    """Check that every row has a class.

    Raises:
        InputError: There is no such column, or a row's class is missing or unknown.
    """
    target = str(data.target)
    if target not in cells.header:
        raise InputError(f"{cells.name}: no column {target!r}, the target. The columns are {', '.join(cells.header)}")
    place, known = cells.header.index(target), {text_of(key) for key in data.classes}
    problems: list[tuple[int, int, str]] = []
    for number, row in enumerate(cells.rows, 1):
        where, text = f"row {number}, column {target}", row[place]
        if not text or text in data.missing:
            problems.append((number, 0, f"{where}: is missing; every row needs its class"))
        elif known and class_of(text, data) not in known:
            problems.append((number, 0, f"{where}: is {text!r:.40}; it may be one of {', '.join(in_order(known))}"))
    raise_all(cells.name, problems)


def class_of(text: str, data: TableData) -> str:
    """Return the key in `classes` that a row's class is, as it is written or renamed; without any, the class."""
    keys = {text_of(key): name for key, name in data.classes.items()}
    found = meant(text_of(text), keys)
    of_name = {name: key for key, name in keys.items()}
    return found if found in keys else of_name.get(meant(found, of_name), found)


def classes_of(cells: Cells, data: TableData) -> tuple[NDArray[np.int64], list[str]]:
    """Return the class of each row, int64 [n], and the classes' names in order.

    Raises:
        InputError: There are too many or too few.
    """
    target, place = data.target, cells.header.index(str(data.target))
    names = {text_of(key): name for key, name in data.classes.items()}
    keys = {text: class_of(text, data) for text in {row[place] for row in cells.rows}}
    found = [names.get(keys[row[place]], keys[row[place]]) for row in cells.rows]
    present = set(found)
    classes = [name for name in dict.fromkeys(names.values()) if name in present] or in_order(present)
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"{cells.name}: column {target} has {len(classes)} different values, too many for classes; it may have 2 to"
            f" {MOST_CLASSES}. A target that is a quantity cannot be stated"
        )
    if len(classes) < 2:
        raise InputError(
            f"{cells.name}: all of its {len(found)} rows have one {target}, {classes[0]}; two classes are needed"
        )
    if data.positive:
        if data.positive not in classes or len(classes) > 2:
            there = ", ".join(classes)
            raise InputError(f"{cells.name}: positive is {data.positive!r}; it may be one of two classes, here {there}")
        classes.sort(key=lambda name: name == data.positive)
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name] for name in found], np.int64), classes
