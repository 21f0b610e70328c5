"""The cells of a CSV file as people save it: by any usual separator and encoding, with decimal points or commas."""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain

from trackdl.errors import InputError, one_line
from trackdl.system.findings import first_few

MAX_COLUMNS = 2_000
SEPARATORS = ",;\t|"
_COMMA, _POINT = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?"), re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3},\d{3}")


@dataclass(frozen=True)
class Cells:
    """A table's texts: its columns' names, and its rows, each with a cell for every column; `name` is for messages."""

    name: str
    header: list[str]
    rows: list[list[str]]

    def without(self, columns: list[str]) -> "Cells":
        """Return the table without some columns.

        Raises:
            InputError: It has no such column, or two of the columns that are left have one name, or one has none.
        """
        if unknown := [column for column in columns if column not in self.header]:
            raise InputError(f"{self.name}: no column {unknown[0]!r} to drop. The columns are {', '.join(self.header)}")
        kept = [place for place, column in enumerate(self.header) if column not in columns]
        header = [self.header[place] for place in kept]
        if twice := sorted(column for column, count in Counter(header).items() if count > 1):
            raise InputError(
                f"{self.name}: duplicate column {first_few(map(repr, twice))}; every column needs its own name"
            )
        if "" in header:
            place = kept[header.index("")] + 1
            raise InputError(f"{self.name}: column {place} has no name; name it in the file, or drop it: drop: ['']")
        return Cells(self.name, header, [[row[place] for place in kept] for row in self.rows])


def read_cells(content: bytes, name: str) -> Cells:
    """Read a CSV file.

    The separator is a comma, semicolon, tab or bar: the one that a first line `sep=;` names, else the one that gives
    the header most columns. Empty rows, and columns without a name and content, are left out.

    Args:
        content: The file: UTF-8, with or without a byte order mark, or UTF-16 with one.
        name: Its name in messages.

    Raises:
        InputError: The file is no such table; a row of another length is named (row 1 is the first below the header).
    """
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        place = f"(byte {error.start}); expected a CSV table"
        raise InputError(f"{name}: not UTF-8{' or UTF-16' * utf16} text {place}, saved as “CSV UTF-8”") from error
    first, _, rest = text.partition("\n")
    if named := re.fullmatch(rf'"?sep=([{SEPARATORS}])"?\s*', first):
        text = rest
    try:
        lines = [[cell.strip() for cell in row] for row in _parse(text, named[1] if named else _separator(text))]
    except csv.Error as error:
        raise InputError(f"{name}: not a CSV table: {one_line(error)}") from error
    header, *rows = [line for line in lines if any(line)] or [[]]
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{name}: {len(header):,} columns; a table may have {MAX_COLUMNS:,}")
    if not header:
        raise InputError(f"{name}: not a CSV table: it is empty")
    if wrong := [(number, len(row)) for number, row in enumerate(rows, 1) if len(row) != len(header)]:
        number, count = wrong[0]
        raise InputError(f"{name}: not a CSV table: row {number} has {count} cells, but the header has {len(header)}")
    if not rows:
        raise InputError(f"{name}: no rows below the header")
    named_or_full = [place for place, column in enumerate(header) if column or any(row[place] for row in rows)]
    rows = [[row[place] for place in named_or_full] for row in rows]
    return Cells(
        name, [header[place] for place in named_or_full], _with_points(rows, named[1] if named else _separator(text))
    )


def _parse(text: str, separator: str) -> "csv._reader":  # type: ignore[name-defined]  # typeshed has it, csv has not
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )


def _separator(text: str) -> str:
    """Return the separator that gives the first line with content most cells."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def cells(separator: str) -> int:
        try:
            return max(map(len, _parse(first, separator)), default=0)
        except csv.Error:
            return 0

    return max(SEPARATORS, key=cells)


def _with_points(rows: list[list[str]], separator: str) -> list[list[str]]:
    """Return the rows with decimal points where the file has decimal commas.

    It has them if cells look like it, none has a decimal point, and they cannot be thousands.
    """
    commas = [cell for cell in chain.from_iterable(rows) if "," in cell and _COMMA.fullmatch(cell)]
    if not commas or any("." in cell and _POINT.fullmatch(cell) for cell in chain.from_iterable(rows)):
        return rows
    if separator == "," and all(map(_THOUSANDS.fullmatch, commas)):
        return rows
    return [
        [cell.replace(",", ".") if "," in cell and _COMMA.fullmatch(cell) else cell for cell in row] for row in rows
    ]
