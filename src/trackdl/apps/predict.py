"""`trackdl predict`: a registered model's predictions for images or table rows, as a table or JSON."""

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trackdl import serving
from trackdl.data import training_images
from trackdl.data.preprocessing.image_files import read_image
from trackdl.data.tables.cells import Cells, read_cells
from trackdl.data.training_images import TrainingImages
from trackdl.errors import FileError, InputError
from trackdl.serving import ServedImages, ServedTable
from trackdl.system.console import print_table, say_json
from trackdl.system.findings import first_few
from trackdl.system.paths import visible_files
from trackdl.tracking.registry.files import find, verified

log = logging.getLogger(__name__)

# Images read before they are classified, and numbers in the network's inputs for them: a large folder does not fill the
# memory.
_BATCH, _MOST_NUMBERS = 128, 16_000_000
_STDIN = "-"


@dataclass(frozen=True)
class Loaded:
    """A registered version in use; `learnt` are its training images, or None, and `why` they are not known."""

    name: str
    version: str
    run_id: str
    served: ServedImages | ServedTable
    learnt: TrainingImages | None
    why: str


def load(uri: str) -> Loaded:
    """Load a registered version.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `runs:/ID` of the run that registered it.

    Raises:
        InputError: There is no such model.
        TrackdlError: The version's files are not those that were registered.
    """
    found = find(uri)
    with verified(found) as folder:
        served = serving.serve(folder / "data" / "model")
        file = folder / "data" / "model" / training_images.FILE
        table = isinstance(served, ServedTable)
        learnt, why = (None, "a model of a table keeps no record of its training rows") if table else _learnt(file)
    return Loaded(found.name, str(found.version), str(found.run_id), served, learnt, why)


def predict(uri: str, files: Sequence[str], *, split: bool = False) -> list[dict[str, Any]]:
    """Return a registered model's predictions for files.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `runs:/ID` of the run that registered it.
        files: Images, folders of images, CSV tables, or `-` for standard input.
        split: Read all signs on each image, from left to right.

    Returns:
        An item for each image, sign or row, in order: `file`, `row` (of a table, from 1) or `sign` (of a split image,
        from 1), `label`, `probabilities`, `unfamiliar` (if the model looks at it), `copy_of` (if the training images
        are known: the one that this image is a copy of, or None), `model` and `version`; or `file` and `error` for a
        file that cannot be used.

    Raises:
        InputError: There is no such model, a folder has no images, or the model cannot be used with `split`.
        TrackdlError: The version's files are not those that were registered.
    """
    model = load(uri)
    served, learnt = model.served, model.learnt
    if split:
        check_split(model.name, served)
    if isinstance(served, ServedTable):
        answers: Iterable[dict[str, Any]] = (item for file in files for item in _rows(served, file))
    else:
        if learnt is None:
            log.info(
                "%s version %s: %s, so it is not known whether it learnt these", model.name, model.version, model.why
            )
        names = list(_image_files(files))
        answers = (item for item, _ in classified(served, learnt, names, split=split))
    return [item | {"model": model.name, "version": model.version} for item in answers]


def check_split(title: str, served: ServedImages | ServedTable) -> None:
    """Raise an error if a model, called `title` in it, cannot read several signs on an image.

    Raises:
        InputError: It is a model of table rows, or its preprocessing does not look for signs.
    """
    if isinstance(served, ServedTable):
        raise InputError(f"--split: {title} is a model of table rows, and --split is for images")
    if served.card.preprocessing != "mnist":
        raise InputError(
            f"--split: {title} does not look for signs (its preprocessing is {served.card.preprocessing}, not mnist):"
            " cut the images, and leave --split out"
        )


def _learnt(file: Path) -> tuple[TrainingImages | None, str]:
    """Return the images that a model was trained on; None and the reason, if there is no record of them."""
    if not file.exists():
        return None, "it was registered without a record of its training images"
    try:
        return training_images.from_file(file), ""
    except FileError as error:
        return None, f"its {file.name} {error}"


def show(answers: Sequence[dict[str, Any]], *, top: int, as_json: bool) -> None:
    """Print predictions; then raise an error if files could not be used.

    Args:
        answers: The items returned by `predict`.
        top: The number of classes shown for each, most probable first; 0 is three, or all with `as_json`.
        as_json: Print one JSON array instead of a table.

    Raises:
        InputError: Files could not be used; the predictions for all others have been printed.
    """
    if as_json:
        say_json([_top(item, top) for item in answers])
    elif answers:
        title = f"{answers[0]['model']} version {answers[0]['version']}"
        heads = ["file", "label", "probability", "next"]
        lines = [_line(item, top or 3) for item in answers]
        for head, key in (("unfamiliar", "unfamiliar"), ("copy of training image", "copy_of")):
            if any(found := [item.get(key) or "" for item in answers]):
                heads.append(head)
                for line, value in zip(lines, found, strict=True):
                    line.append("yes" if value is True else value)
        print_table(title, heads, lines)
    _warn_of_copies(answers)
    failed = [item for item in answers if "error" in item]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(answers)} could not be used:\n"
            + "\n".join(f"  {item['error']}" for item in failed[:20])
            + ("\n  ..." if len(failed) > 20 else "")
        )


def _warn_of_copies(answers: Sequence[dict[str, Any]]) -> None:
    looked_at = {item["file"]: item["copy_of"] for item in answers if "copy_of" in item}
    if found := [f"{file} (= training image {name})" for file, name in looked_at.items() if name]:
        are = "is a copy of an image" if len(found) == 1 else "are copies of images"
        log.warning(
            "%s of %s images %s that this model was trained on: %s. Answers for these do not show how good it is",
            len(found),
            len(looked_at),
            are,
            first_few(found),
        )


def _top(item: dict[str, Any], top: int) -> dict[str, Any]:
    if not top or "error" in item:
        return item
    return item | {"probabilities": dict(_ranked(item)[:top])}


def _ranked(item: dict[str, Any]) -> list[tuple[str, float]]:
    return sorted(item["probabilities"].items(), key=lambda pair: pair[1], reverse=True)


def _line(item: dict[str, Any], top: int) -> list[str]:
    name = ", ".join([item["file"], *(f"{part} {item[part]}" for part in ("row", "sign") if part in item)])
    if "error" in item:
        return [name, "", "", "not used, see below"]
    (label, probability), *others = _ranked(item)[:top]
    return [name, label, f"{probability:.1%}", ", ".join(f"{other} {share:.1%}" for other, share in others)]


def _image_files(files: Sequence[str]) -> Iterator[str]:
    """Yield every file, and all files of folders: an image is known by its content, not by its name."""
    for file in files:
        path = Path(file)
        if file == _STDIN or not path.is_dir():
            yield file
        elif inside := visible_files(path):
            yield from map(str, inside)
        else:
            raise InputError(f"{file}: no images in this folder; hidden files and those of a system are passed over")


def classified(
    served: ServedImages, learnt: TrainingImages | None, names: Sequence[str], *, split: bool
) -> Iterator[tuple[dict[str, Any], Tensor | None]]:
    """Yield an answer for each image file, or each sign on it, and what the network was shown.

    The answers are those of `predict`, without the model's name. Of a file that cannot be used nothing was shown.
    """
    card = served.card
    size = max(1, min(_BATCH, _MOST_NUMBERS // (card.channels * card.size**2)))
    for start in range(0, len(names), size):
        squares: list[Tensor] = []
        batch = [(name, _inputs(served, learnt, squares, name, split=split)) for name in names[start : start + size]]
        inputs = [item for _, item in batch if isinstance(item, Tensor)]
        answers = iter(served.classify(torch.cat(inputs)) if inputs else [])
        copies = iter(learnt.copies(squares) if learnt else [])
        for name, item in batch:
            if not isinstance(item, Tensor):
                yield {"file": name} | item, None
                continue
            known = {"copy_of": next(copies)} if learnt else {}
            for number, shown in enumerate(item, 1):
                yield {"file": name} | ({"sign": number} if split else {}) | next(answers) | known, shown


def _inputs(
    served: ServedImages, learnt: TrainingImages | None, squares: list[Tensor], name: str, *, split: bool
) -> Tensor | dict[str, Any]:
    """Return the network's inputs for an image file, one or as many as it has signs, or {"error": message}.

    An image that can be used is added to `squares`, as it is compared with those of the training.
    """
    label = "standard input" if name == _STDIN else name
    try:
        content = sys.stdin.buffer.read() if name == _STDIN else Path(name)
        image = read_image(content, label, colour=served.card.colour)
    except InputError as error:
        return {"error": str(error)}
    try:
        inputs = served.split(image) if split else served.to_input(image).unsqueeze(0)
    except InputError as error:
        return {"error": f"{label}: {error}"}
    if learnt:
        squares.append(learnt.square(image))
    return inputs


def rows_of(served: ServedTable, content: bytes, label: str) -> tuple[Cells, list[dict[str, Any]]]:
    """Return a CSV file's cells, with its columns called as the model calls them, and an answer for each row.

    Raises:
        InputError: It is no such table, columns are missing, or values are not allowed in their columns.
    """
    columns = [column.name for column in served.card.columns]
    cells = read_cells(content, label).called([*columns, served.card.target])
    # Columns that the training left out, the class among them, may stay in the file.
    known = cells.without([name for name in cells.header if name not in columns])
    try:
        rows = [dict(zip(known.header, row, strict=True)) for row in known.rows]
        return cells, served.records(rows, most=len(rows))  # the limit is a server's
    except InputError as error:
        raise InputError(f"{label}: {error}") from error


def _rows(served: ServedTable, file: str) -> Iterator[dict[str, Any]]:
    try:
        content = sys.stdin.buffer.read() if file == _STDIN else Path(file).read_bytes()
        _, answers = rows_of(served, content, "standard input" if file == _STDIN else file)
    except IsADirectoryError:
        yield {"file": file, "error": f"{file}: this is a folder, and the model reads tables: name CSV files"}
    except OSError as error:
        yield {"file": file, "error": f"{file}: cannot be read ({error.strerror})"}
    except InputError as error:
        yield {"file": file, "error": str(error)}
    else:
        for number, item in enumerate(answers, 1):
            yield {"file": file, "row": number} | item
