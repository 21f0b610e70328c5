"""Greek letters: the report's 27 pictures, a folder of one's own, or letters drawn from fonts in their place."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from trackdl.data.download.datasets import DATASETS, fetch
from trackdl.data.greek.synthetic import render_letters
from trackdl.data.preprocessing.pictures import read_picture
from trackdl.errors import InputError, TrackdlError

__all__ = ["Letters", "load_letters"]

logger = logging.getLogger(__name__)

_LAYOUT = "It must hold one folder for each class, at least two, with that class's pictures in it: greek/alpha/1.png."


@dataclass(frozen=True, eq=False)
class Letters:
    """Labelled pictures of letters.

    Attributes:
        pictures: Mode `L`, of any size, as `read_picture` gives them.
        labels: int64 `[n]`, indices of `classes`.
        classes: The classes' names, sorted.
        names: Each picture's class and file, `alpha/alpha_001.png`, sorted as torchvision's ImageFolder sorts.
        origin: `report` for the report's own 27 pictures, wherever they lie; `own` for others; `synthetic` for letters
            drawn from fonts, which whatever is made of them must say.
        digest: One SHA-256, in hexadecimal, for all names and contents: that of the lines that `sha256sum` prints.
    """

    pictures: tuple[Image.Image, ...]
    labels: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]
    origin: Literal["report", "own", "synthetic"]
    digest: str


def load_letters(folder: Path | None = None, root: Path | None = None) -> Letters:
    """Read a folder of class folders, or the report's letters, or draw some where those cannot be had.

    Args:
        folder: A folder of class folders; `None` is `TRACKDL_GREEK_DIR` where it is set, else the report's 27 pictures.
        root: The data folder in which the report's pictures are kept; `None` is `data_root()`.

    Returns:
        The letters; a warning is logged, with the reason, when they are synthetic.

    Raises:
        InputError: The folder named is missing, has fewer than two classes or an empty one, or holds a file that is no
            picture.
    """
    if folder is None and (named := os.environ.get("TRACKDL_GREEK_DIR")):
        folder = Path(named)
    if folder is not None:
        return _read(folder.expanduser())
    try:
        folder = fetch("greek", root)
    except TrackdlError as error:
        logger.warning("The report's 27 Greek letters cannot be had; synthetic ones take their place. %s", error)
        return _synthetic()
    return _read(folder)


def _read(folder: Path) -> Letters:
    """Read every picture below the class folders of `folder`."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of letters. {_LAYOUT}")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        found = f"the only class is {classes[0]!r}" if classes else "there is no class in it"
        raise InputError(f"{folder}: {found}. {_LAYOUT}")
    pictures, labels, names, contents = [], [], [], []
    for label, name in enumerate(classes):
        files = _visible_files(folder / name)
        if not files:
            raise InputError(f"{folder / name}: there is no picture in this class. {_LAYOUT}")
        for file in files:
            content = _content(file)
            pictures.append(read_picture(content, name=str(file)))
            labels.append(label)
            names.append(file.relative_to(folder).as_posix())
            contents.append(content)
    digest = _digest(names, contents)
    return Letters(
        pictures=tuple(pictures),
        labels=torch.tensor(labels),
        classes=tuple(classes),
        names=tuple(names),
        origin="report" if digest == DATASETS["greek"].digest else "own",
        digest=digest,
    )


def _visible_files(folder: Path) -> list[Path]:
    """Return the files below `folder`, sorted by name, but for hidden ones (`.DS_Store`)."""
    below = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from error


def _synthetic() -> Letters:
    """Draw as many letters as the report has."""
    rendered = render_letters()
    classes = tuple(sorted(rendered))
    every = [
        (label, f"{name}/{i + 1:03}", picture)
        for label, name in enumerate(classes)
        for i, picture in enumerate(rendered[name])
    ]
    labels, names, pictures = zip(*every, strict=True)
    return Letters(
        pictures=pictures,
        labels=torch.tensor(labels),
        classes=classes,
        names=names,
        origin="synthetic",
        digest=_digest(names, [picture.tobytes() for picture in pictures]),
    )


def _digest(names: Sequence[str], contents: Sequence[bytes]) -> str:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in zip(names, contents, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
