"""The cells of a CSV file as people save it: by any usual separator and encoding, with decimal points or commas."""

import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from PIL import Image

from trackdl.data.preprocessing.image_files import FORMATS
from trackdl.errors import InputError, one_line
from trackdl.system.findings import first_few

MAX_COLUMNS = 2_000
_SIGNS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SEPARATORS = "".join(_SIGNS)
_COMMA, _POINT = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?"), re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?\d{1,3},\d{3}")
_UNNAMED = re.compile(r"(?:Unnamed: \d+)?")  # as pandas reads a column without a name, and writes it
# What other programs' files begin with.
_OTHERS = {
    b"PK\x03\x04": "a workbook (or a zip archive), not its table",
    b"\xd0\xcf\x11\xe0": "a workbook, not its table",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
}


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
        if unknown := [column for column in columns if column and column not in self.header]:
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

    def called(self, columns: Sequence[str]) -> "Cells":
        """Return the table with its columns named as in `columns`, if only their spelling differs (`resting_bp`)."""
        return Cells(self.name, called(self.header, columns), self.rows)


def called(found: Sequence[str], expected: Sequence[str]) -> list[str]:
    """Return names as they are expected, where only one is meant: letters and digits are the same, in any case."""

    def plain(name: str) -> str:
        return "".join(filter(str.isalnum, name.casefold()))

    there, wanted = Counter(map(plain, found)), Counter(map(plain, expected))
    known = {plain(name): name for name in expected if wanted[plain(name)] == there[plain(name)] == 1}
    return [known.get(plain(name), name) for name in found]


def read_cells(content: bytes, name: str) -> Cells:
    """Read a CSV file.

    The separator is a comma, semicolon, tab or bar: the one that a first line `sep=;` names, else the one that gives
    the header most columns. Empty rows are left out, and so are columns without a name that are empty or, in the first
    place, number the rows.

    Args:
        content: The file: UTF-8, with or without a byte order mark, or UTF-16 with one.
        name: Its name in messages.

    Raises:
        InputError: The file is no such table; a row of another length is named (row 1 is the first below the header).
    """
    text = _decoded(content, name)
    first, _, rest = text.partition("\n")
    if named := re.fullmatch(rf'"?sep=([{SEPARATORS}])"?\s*', first):
        text = rest
    separator = named[1] if named else _separator(text)
    try:
        lines = [[cell.strip() for cell in row] for row in _parse(text, separator)]
    except csv.Error as error:
        raise InputError(f"{name}: not a CSV table: {one_line(error)}") from error
    header, *rows = [line for line in lines if any(line)] or [[]]
    if len(header) > MAX_COLUMNS:
        raise InputError(f"{name}: {len(header):,} columns; a table may have {MAX_COLUMNS:,}")
    if not header:
        raise InputError(f"{name}: not a CSV table: it is empty")
    if wrong := [(number, len(row)) for number, row in enumerate(rows, 1) if len(row) != len(header)]:
        number, count = wrong[0]
        words = f"row {number} has {count} cells, but the header has {len(header)}, separated by {_SIGNS[separator]}"
        quotes = (
            "; a number with a decimal comma needs quotes there" if separator == "," and count > len(header) else ""
        )
        raise InputError(f"{name}: not a CSV table: {words}{quotes}")
    if not rows:
        raise InputError(f"{name}: no rows below the header")
    kept = [
        place
        for place, column in enumerate(header)
        if not _UNNAMED.fullmatch(column) or _is_content([row[place] for row in rows], first=place == 0)
    ]
    rows = [[row[place] for place in kept] for row in rows]
    return Cells(name, [header[place] for place in kept], _with_points(rows, separator))


def _decoded(content: bytes, name: str) -> str:
    """Return a file's text, or say what else it looks like."""
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    place = -1
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
        if "\0" not in text:
            return text
    except UnicodeDecodeError as error:
        place = error.start
    found = next((words for start, words in _OTHERS.items() if content.startswith(start)), "")
    with contextlib.suppress(Exception), Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
        found = f"an image ({image.format})"
    if found:
        raise InputError(f"{name}: this is {found}; expected a CSV table")
    if place < 0 or utf16:
        words = "not UTF-8 or UTF-16 text" if utf16 else "not UTF-8 text; it may be UTF-16 without a byte order mark"
    else:
        sign = content[place : place + 1].decode("cp1252", "replace")
        line = content.count(b"\n", 0, place) + 1
        words = f"not UTF-8 text: byte {place}, in line {line}, is “{sign}” if it is Windows-1252"
    raise InputError(f"{name}: {words}; expected a CSV table, saved as “CSV UTF-8”")


def _is_content(cells: list[str], *, first: bool) -> bool:
    """Return whether a column without a name is more than nothing, or the rows' numbers in the first place."""
    return any(cells) and not (first and all(map(str.isdecimal, cells)) and len(set(cells)) == len(cells))


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
