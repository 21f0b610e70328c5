"""Greek letters: the report's 27 images, a folder of the user's, or letters drawn from fonts instead."""

import hashlib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from trackdl.data.download.datasets import DATASETS, fetch
from trackdl.data.duplicates import copies, squares, tell
from trackdl.data.greek.synthetic import render_letters
from trackdl.data.preprocessing.image_files import MAX_BYTES, read_image
from trackdl.data.readers import class_folders
from trackdl.errors import InputError, TrackdlError
from trackdl.system.findings import first_few
from trackdl.system.paths import read_bounded

log = logging.getLogger(__name__)

COMPARED = 64  # pixels on a side of images that are compared


@dataclass(frozen=True, eq=False)
class Letters:
    """Labelled images of letters.

    Attributes:
        images: Mode `L`, of any size, as `read_image` returns them.
        labels: int64 `[n]`, indices of `classes`.
        classes: The classes' names, sorted.
        names: Each image's class and file, `alpha/alpha_001.png`, sorted as torchvision's ImageFolder sorts.
        origin: `report` for the report's 27 images in any folder; `own` for others; `synthetic` for letters drawn from
            fonts, which every result made with them must mention.
        digest: SHA-256, hex, of the lines that `sha256sum` prints for all files.
    """

    images: tuple[Image.Image, ...]
    labels: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]
    origin: Literal["report", "own", "synthetic"]
    digest: str


def load_letters(folder: Path | None = None, root: Path | None = None, *, colour: bool = False) -> Letters:
    """Read a folder of class folders or the report's letters, or draw letters if those are not available.

    Args:
        folder: A folder of class folders; `None` is `TRACKDL_GREEK_DIR` if it is set, else the report's 27 images.
        root: The data folder that holds the report's images; `None` is `data_root()`.
        colour: Read the images in colour.

    Returns:
        The letters; if they are synthetic, a warning with the reason is logged.

    Raises:
        InputError: The folder is missing, has fewer than two classes or an empty one, or holds a file that is no image.
    """
    if folder is None and (named := os.environ.get("TRACKDL_GREEK_DIR")):
        folder = Path(named).expanduser()
    try:
        folder = folder or fetch("greek", root)
    except TrackdlError as error:
        log.warning("The report's 27 Greek letters are not available; synthetic ones replace them. %s", error)
        return _synthetic()
    return read_folders([folder], {}, colour=colour)[0]


def read_folders(folders: Sequence[Path], rename: Mapping[str, str], *, colour: bool = False) -> list[Letters]:
    """Read folders of class folders; the arguments and errors are those of `readers.class_folders`."""
    return [
        _read(folder, classes, colour=colour)
        for folder, classes in zip(folders, class_folders(folders, rename), strict=True)
    ]


def apart(letters: Letters, unseen: Letters | None) -> tuple[Letters, Letters | None, dict[str, list[str]]]:
    """Leave out copies, so that no letter is learnt from and tested on: of the letters of one class, and of the test.

    Args:
        letters: Those to learn from, which are held out in turn; only a folder of the user's may have copies.
        unseen: Those that are only tested.

    Returns:
        Both, and the names of what was left out of "train" and "test".

    Raises:
        InputError: All letters of the test are copies.
    """
    left: dict[str, list[str]] = {}
    known, kept = squares(letters.images, COMPARED), letters
    if letters.origin == "own":
        labels = letters.labels
        found = {place: other for place, other in copies(known).items() if labels[place] == labels[other]}
        left["train"] = tell(found, letters.names, letters.names, "training images are copies, and are left out")
        kept = _without(letters, found)
    if unseen:
        found = copies(squares(unseen.images, COMPARED), known)
        left["test"] = tell(
            found, unseen.names, letters.names, "test images are copies of training images, and are not counted"
        )
        unseen = _without(unseen, found)
        if not unseen.names:
            raise InputError(
                f"all {len(found)} test images are copies of training images, {first_few(left['test'])}: a network"
                " cannot be tested on what it has learnt. Name a folder of other images"
            )
    return kept, unseen, left


def _without(letters: Letters, places: Collection[int]) -> Letters:
    """Return the letters except those at some places; the digest stays that of all files."""
    kept = [place for place in range(len(letters.names)) if place not in places]
    return replace(
        letters,
        images=tuple(letters.images[place] for place in kept),
        names=tuple(letters.names[place] for place in kept),
        labels=letters.labels[kept],
    )


def _read(folder: Path, classes: Mapping[str, Sequence[Path]], *, colour: bool) -> Letters:
    files = [file for of_class in classes.values() for file in of_class]
    contents = {file.relative_to(folder).as_posix(): read_bounded(file, MAX_BYTES) for file in files}
    digest = _digest(contents)
    return Letters(
        images=tuple(read_image(data, str(folder / name), colour=colour) for name, data in contents.items()),
        labels=torch.tensor([label for label, of_class in enumerate(classes.values()) for _ in of_class]),
        classes=tuple(classes),
        names=tuple(contents),
        origin="report" if digest == DATASETS["greek"].digest else "own",
        digest=digest,
    )


def _synthetic() -> Letters:
    """Draw as many letters as the report has."""
    rendered = render_letters()
    classes = tuple(sorted(rendered))
    images = {f"{name}/{i:03}": image for name in classes for i, image in enumerate(rendered[name], start=1)}
    return Letters(
        images=tuple(images.values()),
        labels=torch.tensor([label for label, name in enumerate(classes) for _ in rendered[name]]),
        classes=classes,
        names=tuple(images),
        origin="synthetic",
        digest=_digest({name: image.tobytes() for name, image in images.items()}),
    )


def _digest(contents: Mapping[str, bytes]) -> str:
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
