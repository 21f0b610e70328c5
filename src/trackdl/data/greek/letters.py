"""Greek letters: the report's 27 images, a folder of the user's, or letters drawn from fonts instead."""

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from trackdl.data.download.datasets import DATASETS, fetch
from trackdl.data.duplicates import copies, squares, tell
from trackdl.data.greek.synthetic import render_letters
from trackdl.data.preprocessing.image_files import MAX_BYTES, read_image, reading_threads
from trackdl.data.readers import class_folders
from trackdl.errors import InputError, TrackdlError
from trackdl.system.findings import first_few
from trackdl.system.paths import read_bounded

log = logging.getLogger(__name__)

COMPARED = 64  # pixels on a side of images that are compared

Prepare = Callable[[Image.Image], Tensor]


@dataclass(frozen=True, eq=False)
class Letters:
    """Labelled images of letters, without the images themselves: a few hundred photographs would take gigabytes.

    Attributes:
        squares: The images as `duplicates.copies` compares them, uint8 `[n, channels, COMPARED, COMPARED]`.
        inputs: What was prepared of each image, `[n, ...]`.
        labels: int64 `[n]`, indices of `classes`.
        classes: The classes' names, sorted.
        names: Each image's class and file, `alpha/alpha_001.png`, sorted as torchvision's ImageFolder sorts.
        origin: `report` for the report's 27 images in any folder; `own` for others; `synthetic` for letters drawn from
            fonts, which every result made with them must mention.
        digest: SHA-256, hex, of the lines that `sha256sum` prints for all files.
    """

    squares: Tensor
    inputs: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    names: tuple[str, ...]
    origin: Literal["report", "own", "synthetic"]
    digest: str


def _nothing(_: Image.Image) -> Tensor:
    return torch.empty(0)


def load_letters(
    folder: Path | None = None, root: Path | None = None, prepare: Prepare = _nothing, *, colour: bool = False
) -> Letters:
    """Read a folder of class folders or the report's letters, or draw letters if those are not available.

    Args:
        folder: A folder of class folders; `None` is `TRACKDL_GREEK_DIR` if it is set, else the report's 27 images.
        root: The data folder that holds the report's images; `None` is `data_root()`.
        prepare: Makes what is kept of an image, whose mode is `L` or `RGB`: a network's input, say.
        colour: Read the images in colour.

    Returns:
        The letters; if they are synthetic, a warning with the reason is logged.

    Raises:
        InputError: The folder is missing, has fewer than two classes or an empty one, or holds a file that is no image
            or that `prepare` refuses.
    """
    if folder is None and (named := os.environ.get("TRACKDL_GREEK_DIR")):
        folder = Path(named).expanduser()
    try:
        folder = folder or fetch("greek", root)
    except TrackdlError as error:
        log.warning("The report's 27 Greek letters are not available; synthetic ones replace them. %s", error)
        return _synthetic(prepare)
    return read_folders([folder], {}, prepare, colour=colour)[0]


def read_folders(
    folders: Sequence[Path], rename: Mapping[str, str], prepare: Prepare = _nothing, *, colour: bool = False
) -> list[Letters]:
    """Read folders as `load_letters` does; the first two arguments and the errors are those of `class_folders`."""
    return [
        _read(folder, classes, prepare, colour=colour)
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
    known, kept = letters.squares, letters
    if letters.origin == "own":
        labels = letters.labels
        found = {place: other for place, other in copies(known).items() if labels[place] == labels[other]}
        left["train"] = tell(found, letters.names, letters.names, "training images are copies, and are left out")
        kept = _without(letters, found)
    if unseen:
        found = copies(unseen.squares, known)
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
        squares=letters.squares[kept],
        inputs=letters.inputs[kept],
        names=tuple(letters.names[place] for place in kept),
        labels=letters.labels[kept],
    )


def _read(folder: Path, classes: Mapping[str, Sequence[Path]], prepare: Prepare, *, colour: bool) -> Letters:
    # Not at the top: the code digest would leave out a module that displays something.
    from trackdl.system.console import progress

    names = [file.relative_to(folder).as_posix() for of_class in classes.values() for file in of_class]

    def read(name: str) -> tuple[str, Tensor, Tensor]:
        content = read_bounded(folder / name, MAX_BYTES)
        image = read_image(content, str(folder / name), colour=colour)
        return hashlib.sha256(content).hexdigest(), *_kept(image, str(folder / name), prepare)

    found = []
    with ThreadPoolExecutor(reading_threads()) as pool, progress("images", len(names), every=100) as advance:
        for each in pool.map(read, names):
            found.append(each)
            advance("")
    digests, compared, inputs = zip(*found, strict=True)
    digest = _digest(dict(zip(names, digests, strict=True)))
    return Letters(
        squares=torch.cat(compared),
        inputs=torch.stack(inputs),
        labels=torch.tensor([label for label, of_class in enumerate(classes.values()) for _ in of_class]),
        classes=tuple(classes),
        names=tuple(names),
        origin="report" if digest == DATASETS["greek"].digest else "own",
        digest=digest,
    )


def _kept(image: Image.Image, name: str, prepare: Prepare) -> tuple[Tensor, Tensor]:
    """Return what is kept of an image: as it is compared, and as it is prepared."""
    try:
        return squares([image], COMPARED), prepare(image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _synthetic(prepare: Prepare) -> Letters:
    """Draw as many letters as the report has."""
    rendered = render_letters()
    classes = tuple(sorted(rendered))
    images = {f"{name}/{i:03}": image for name in classes for i, image in enumerate(rendered[name], start=1)}
    compared, inputs = zip(*(_kept(image, name, prepare) for name, image in images.items()), strict=True)
    return Letters(
        squares=torch.cat(compared),
        inputs=torch.stack(inputs),
        labels=torch.tensor([label for label, name in enumerate(classes) for _ in rendered[name]]),
        classes=classes,
        names=tuple(images),
        origin="synthetic",
        digest=_digest({name: hashlib.sha256(image.tobytes()).hexdigest() for name, image in images.items()}),
    )


def _digest(digests: Mapping[str, str]) -> str:
    """Return the digest of the files' digests, by name."""
    lines = [f"{digest}  {name}\n" for name, digest in digests.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
