"""`trackdl predict`: what a registered model says of pictures or rows, as a table or JSON."""

import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from trackdl import serving
from trackdl.data.heart.schema import TARGET
from trackdl.data.preprocessing.image_files import read_image
from trackdl.errors import InputError
from trackdl.serving import ServedPictures, ServedTable
from trackdl.system.console import print_table, say
from trackdl.tracking.registry import files as artifacts

__all__ = ["predict", "show"]

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".pgm", ".ppm", ".qoi", ".tif", ".tiff", ".webp")
_AT_ONCE = 128  # pictures read before they are looked at: a large folder does not fill the memory
_STDIN = "-"


def predict(uri: str, files: Sequence[str]) -> list[dict[str, Any]]:
    """Ask a registered model about files.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        files: Pictures, folders of pictures, CSV tables, or `-`: one of these on standard input.

    Returns:
        An item for each picture or row, in order: `file`, `row` (of a table, from 1), `label`, `probabilities`, `model`
        and `version`; or `file` and `error` for a file that cannot be answered.

    Raises:
        InputError: There is no such model or file.
        TrackdlError: The version's files are not those that were registered.
    """
    found = artifacts.find(uri)
    with artifacts.verified(found) as folder:
        served = serving.serve(folder / "data" / "model")
    named = {"model": found.name, "version": str(found.version)}
    if isinstance(served, ServedTable):
        answers: Iterable[dict[str, Any]] = (item for file in files for item in _rows(served, file))
    else:
        answers = _pictures(served, list(_picture_files(files)))
    return [item | named for item in answers]


def show(answers: Sequence[dict[str, Any]], *, top: int, as_json: bool) -> None:
    """Print answers, and raise what could not be answered.

    Args:
        answers: What `predict` returned.
        top: How many classes of each are shown, the most probable first.
        as_json: Print one JSON array instead of a table; it has all classes where `top` is 0.

    Raises:
        InputError: Files could not be answered; the others have been printed.
    """
    if as_json:
        say(json.dumps([_top(item, top) for item in answers], indent=1, ensure_ascii=False))
    elif answers:
        title = f"{answers[0]['model']} version {answers[0]['version']}"
        print_table(title, ["file", "label", "probability", "then"], [_line(item, top or 3) for item in answers])
    failed = [item for item in answers if "error" in item]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(answers)} could not be answered:\n"
            + "\n".join(f"  {item['error']}" for item in failed[:20])
            + ("\n  ..." if len(failed) > 20 else "")
        )


def _top(item: dict[str, Any], top: int) -> dict[str, Any]:
    if not top or "error" in item:
        return item
    return item | {"probabilities": dict(_ranked(item)[:top])}


def _ranked(item: dict[str, Any]) -> list[tuple[str, float]]:
    return sorted(item["probabilities"].items(), key=lambda pair: pair[1], reverse=True)


def _line(item: dict[str, Any], top: int) -> list[str]:
    name = f"{item['file']}, row {item['row']}" if "row" in item else item["file"]
    if "error" in item:
        return [name, "", "", "not answered, see below"]
    (label, probability), *others = _ranked(item)[:top]
    return [name, label, f"{probability:.1%}", ", ".join(f"{other} {share:.1%}" for other, share in others)]


def _picture_files(files: Sequence[str]) -> Iterator[str]:
    """Name every picture; of folders, those that end as pictures do, in order, hidden ones left out."""
    for file in files:
        path = Path(file)
        if file == _STDIN or not path.is_dir():
            yield file
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not inside:
            raise InputError(f"{file}: no pictures in this folder ({', '.join(SUFFIXES)})")
        yield from map(str, inside)


def _pictures(served: ServedPictures, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        shown = [_shown(served, name) for name in some]
        good = [item for item in shown if not isinstance(item, dict)]
        answers = iter(served.look(good) if good else [])
        for name, item in zip(some, shown, strict=True):
            yield item if isinstance(item, dict) else {"file": name, **next(answers)}


def _shown(served: ServedPictures, name: str) -> Image.Image | dict[str, Any]:
    """Read a picture that the model can be shown; return the answer that says why not where it is none."""
    try:
        source = sys.stdin.buffer.read() if name == _STDIN else Path(name)
        picture = read_image(source, "standard input" if name == _STDIN else name)
    except InputError as error:
        return {"file": name, "error": str(error)}
    try:
        served.shown([picture])
    except InputError as error:
        return {"file": name, "error": f"{name}: {str(error).removeprefix('image 1: ')}"}
    return picture


def _rows(served: ServedTable, file: str) -> Iterator[dict[str, Any]]:
    try:
        content = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
        answers = served.records(_records(content))
    except OSError as error:
        yield {"file": file, "error": f"{file}: cannot be read ({error.strerror})"}
    except InputError as error:
        yield {"file": file, "error": f"{file}: {error}"}
    else:
        for number, item in enumerate(answers, 1):
            yield {"file": file, "row": number} | item


def _records(content: bytes) -> list[dict[str, Any]]:
    """Read a CSV's rows as texts; the column that the model tells, where the table has it, is no question to it."""
    try:
        table = pd.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig"
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"not a CSV table: {' '.join(str(error).split())[:200]}") from error
    table.columns = table.columns.str.strip()
    rows = table.drop(columns=TARGET.name, errors="ignore").to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]
