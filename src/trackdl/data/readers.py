"""Readers of images that an experiment names or points to; `data.images` adds what a network needs to know of them.

Every fault of the files is an `InputError` that names the file, found before more than `MAX_PIXELS` are decoded.
"""

import gzip
import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trackdl.data.catalogue import CATALOGUE
from trackdl.data.download.datasets import DATASETS, read
from trackdl.data.preprocessing.image_files import FORMATS, MAX_BYTES, read_image, reading_threads
from trackdl.data.preprocessing.squares import to_square
from trackdl.errors import InputError, TrackdlError, one_line
from trackdl.spec.images import MAX_CLASSES, ImageData
from trackdl.system.findings import first_few
from trackdl.system.paths import in_report, is_passed_over, read_bounded

MAX_PIXELS = 1_000_000_000  # of all images, training and test, three for a pixel in colour
_UNSIGNED_BYTE = 0x08  # the IDX format's code for the type of the items
_IDX = re.compile(r"(?:.*-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(?:\.gz)?")
_NPZ = ("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")
_LAYOUT = "It must hold one folder for each class, at least two, with that class's images in it: letters/alpha/1.png."
_READING = {"size", "colour", "rename", "per_class", "classes", "test_share", "test_seed"}
_Arrays = list[NDArray[Any]]  # training images and labels, test images and labels


@dataclass(frozen=True, eq=False)
class Pixels:
    """The images of a data set.

    Attributes:
        train_images: The training images, uint8 `[n, side, side]`, or in colour `[n, 3, side, side]`.
        train_labels: Their labels, int64 `[n]`, indices of `classes`.
        test_images: The test images.
        test_labels: Their labels.
        classes: The classes' names.
        digest: SHA-256, hex, of all files and of the keys by which they were read.
        files: The files of the training and of the test images; empty if an image has no file of its own.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    digest: str
    files: tuple[Sequence[Path], Sequence[Path]] = field(default=((), ()), kw_only=True)


def read_pixels(data: ImageData, root: Path | None = None) -> Pixels:
    """Read the images of an experiment.

    Args:
        data: Its section `data`.
        root: The folder of named data sets; `None` is `paths.data_root()`.

    Raises:
        InputError: Files are missing or wrong, or they do not fit the keys.
        TrackdlError: As `download.datasets.read`.
    """
    found = _SOURCES[data.source](data, root)
    if not 2 <= len(found.classes) <= MAX_CLASSES:
        raise InputError(f"key 'data': {len(found.classes):,} classes; there may be 2 to {MAX_CLASSES:,}")
    return replace(found, digest=_with_keys(found.digest, data))


def digest_of(data: ImageData) -> str:
    """Return the digest of an experiment's images; those of a named data set are not read for it.

    Raises:
        InputError: As `read_pixels`.
        TrackdlError: As `read_pixels`.
    """
    return _with_keys(_named_digest(data.dataset), data) if data.dataset else read_pixels(data).digest


def _named_digest(name: str) -> str:
    stored, prefix = CATALOGUE[name].stored
    digest = DATASETS[stored].digest
    return _sha256_of([digest, name]) if prefix else digest  # one archive holds several data sets


def _with_keys(digest: str, data: ImageData) -> str:
    """Return the digest of files that are read by the keys of an experiment."""
    options = data.model_dump(include=_READING)
    return _sha256_of([digest, json.dumps(options, sort_keys=True)]) if options else digest


def read_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: two zeros, the items' type, the number of axes, their lengths, the items.

    Args:
        content: The whole file, uncompressed.
        name: The file's name in messages.

    Returns:
        A writable uint8 array of one to three axes, none of them empty.

    Raises:
        TrackdlError: The content is not such a file, or its length does not match its header.
    """
    axes = content[3] if content[:3] == bytes([0, 0, _UNSIGNED_BYTE]) and len(content) > 3 else 0
    if not 1 <= axes <= 3:
        raise TrackdlError(
            f"{name} is not an IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'},"
            " and 00 00 08 01, 02 or 03 is right"
        )
    start = 4 + 4 * axes
    if len(content) < start:
        raise TrackdlError(f"{name} breaks off in its header, after {len(content)} of {start} bytes")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    # Compared before anything is allocated: a header may claim any size.
    if len(content) - start != math.prod(shape) or 0 in shape:
        raise TrackdlError(f"{name} claims the shape {list(shape)} but holds {len(content) - start} items")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _named(data: ImageData, root: Path | None) -> Pixels:
    """Read a named data set, whose files are kept as their source has them."""
    name = str(data.dataset)
    known = CATALOGUE[name]
    stored, prefix = known.stored
    contents = read(stored, root)
    if prefix:
        with zipfile.ZipFile(io.BytesIO(*contents.values())) as archive:
            members = {Path(member).name: member for member in archive.namelist()}
            contents = {file: archive.read(path) for file, path in members.items() if file.startswith(prefix)}
    parts = {}
    for file, content in contents.items():
        if match := _IDX.fullmatch(file):
            parts[_part(match)] = read_idx(gzip.decompress(content) if file.endswith(".gz") else content, file)
    train, train_labels, test, test_labels = (parts[part] for part in _PARTS)
    if known.transposed:
        train, test = train.swapaxes(1, 2), test.swapaxes(1, 2)
    arrays = [train, train_labels - known.first_label, test, test_labels - known.first_label]
    return _of_arrays(data, arrays, name, known.classes, _named_digest(name))


_PARTS = [(part, kind) for part in ("train", "test") for kind in ("images", "labels")]


def _part(match: re.Match[str]) -> tuple[str, str]:
    """Return of which part of a data set an IDX file is: train or test, images or labels."""
    return "train" if match[1] == "train" else "test", match[2]


def _digits(data: ImageData, _: Path | None) -> Pixels:
    """Read scikit-learn's 1,797 digits of 8×8 pixels, 0 to 16."""
    from sklearn.datasets import load_digits  # takes a second

    found = load_digits()
    images, labels = np.rint(found.images * (255 / 16)).astype(np.uint8), found.target
    kept, held = (part.numpy() for part in _test_split(data, torch.from_numpy(labels), list("0123456789"), "digits"))
    arrays = [images[kept], labels[kept], images[held], labels[held]]
    return _of_arrays(data, arrays, "digits", tuple(map(str, range(10))))


def _idx(data: ImageData, _: Path | None) -> Pixels:
    """Read the four IDX files of a folder."""
    folder = in_report(str(data.idx))
    found: dict[tuple[str, str], Path] = {}
    files = [path for path in _visible(folder) if path.is_file()] if folder.is_dir() else []
    for path in files:  # an unpacked file comes before its .gz
        if (match := _IDX.fullmatch(path.name)) and path.name != f"{found.get(_part(match), path).name}.gz":
            if _part(match) in found:
                raise InputError(f"{folder}: {found[_part(match)].name} and {path.name} are the same part. Keep one")
            found[_part(match)] = path
    if missing := ["-".join(part) for part in _PARTS if part not in found]:
        raise InputError(
            f"{folder}: there is no {first_few(missing)}. It must hold train-images-idx3-ubyte,"
            " train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or test-...), gzipped or not"
        )
    arrays: _Arrays = []
    for path in (found[part] for part in _PARTS):
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                head = file.read(16)
                axes = min(3, int.from_bytes(head[3:4], "big"))
                claimed = math.prod(int.from_bytes(head[at : at + 4], "big") for at in (4, 8, 12)[:axes])
                content = head + file.read(min(claimed, MAX_PIXELS + 1) + 1)
            _check_limit(len(content) - 17, str(path))
            arrays.append(read_idx(content, str(path)))
        except InputError:
            raise
        except (OSError, EOFError, zlib.error, TrackdlError) as error:
            raise InputError(str(error) if isinstance(error, TrackdlError) else f"{path}: {one_line(error)}") from error
    return _of_arrays(data, arrays, str(folder))


def _npz(data: ImageData, _: Path | None) -> Pixels:
    """Read the four arrays of an npz file; no pickle is loaded."""
    path = in_report(str(data.npz))
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
        names = next((names for names in _NPZ if sizes.keys() >= set(names)), None)
        if names is None:
            wanted = " or ".join(map(", ".join, _NPZ))
            raise InputError(f"{path}: its arrays are {first_few(sorted(sizes))}; expected {wanted}")
        _check_limit(sum(sizes[name] for name in names) - 512, str(path))
        with np.load(path, allow_pickle=False) as loaded:
            arrays = [loaded[name] for name in names]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, MemoryError) as error:
        raise InputError(f"{path}: is not a complete npz file of plain arrays ({one_line(error)})") from error
    return _of_arrays(data, arrays, str(path))


def _check_limit(pixels: int, where: str, what: str = "") -> None:
    if pixels > MAX_PIXELS:
        advice = "Give a smaller `size:`" if what else "Store smaller images (`size:` is applied after reading)"
        raise InputError(f"{where}: {what}more than {MAX_PIXELS:,} values of pixels, the limit. {advice}")


def _of_arrays(
    data: ImageData, arrays: _Arrays, where: str, classes: Sequence[str] | None = None, digest: str = ""
) -> Pixels:
    """Check arrays and convert their images as the keys ask."""
    if not digest:
        contents = (hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for array in arrays)
        digest = _sha256_of([f"{sha} {array.dtype} {array.shape}" for sha, array in zip(contents, arrays, strict=True)])
    for part, images, labels in zip(("training", "test"), arrays[::2], arrays[1::2], strict=True):
        colour = images.ndim == 4 and bool({1, 3} & {images.shape[1], images.shape[3]})
        if images.dtype != np.uint8 or not images.size or not (images.ndim == 3 or colour):
            raise InputError(
                f"{where}, {part} images: {images.dtype} {list(images.shape)}; expected uint8 [n, height, width], or in"
                " colour [n, height, width, 3], from 0 to 255"
            )
        if labels.dtype.kind not in "iu" or labels.size != len(images):
            raise InputError(
                f"{where}, {part} labels: {labels.dtype} {list(labels.shape)}; expected a whole number for each of"
                f" {len(images):,} images"
            )
    train, test = (_channels_last(images) for images in arrays[::2])
    side = data.size or train.shape[1]
    if not data.size and {*train.shape[1:3], *test.shape[1:3]} != {side}:
        sizes = " and ".join(f"{images.shape[1]}×{images.shape[2]}" for images in (train, test))
        raise InputError(f"{where}: training and test images of {sizes} pixels; they must be square: give `size:`")
    _check_size(data, len(train) + len(test), side, where)
    targets = [torch.from_numpy(numbers.ravel().astype(np.int64)) for numbers in arrays[1::2]]
    names = data.classes if isinstance(data.classes, list) else classes
    names = names or tuple(map(str, range(int(str(data.classes or 0)))))
    most = len(names) or MAX_CLASSES
    trained = torch.from_numpy(np.unique(targets[0].numpy()))
    for part, numbers in zip(("training", "test"), targets, strict=True):
        outside = (numbers < 0) | (numbers >= most)
        if (wrong := outside if outside.any() else ~torch.isin(numbers, trained)).any():
            place = int(wrong.int().argmax())
            may = f"with {most:,} classes it may be 0 to {most - 1}" if outside.any() else "no training image has it"
            raise InputError(f"{where}: {part} image {place + 1:,} has the label {numbers[place]}; {may}")
    # Without names the classes are the training labels, whatever number they begin with.
    known = torch.arange(len(names)) if names else trained
    names = names or tuple(map(str, trained.tolist()))
    targets = [torch.searchsorted(known, numbers) for numbers in targets]
    _check_renamed(data.rename, names)
    renamed = _renamed(data.rename, names, where)
    if data.per_class:
        kept = _limited(data, targets[0])
        train, targets[0] = train[kept.numpy()], targets[0][kept]
    return Pixels(_converted(data, train, side), targets[0], _converted(data, test, side), targets[1], renamed, digest)


def _channels_last(images: NDArray[Any]) -> NDArray[Any]:
    if images.ndim == 3:
        return images[..., None]
    return images if images.shape[3] in (1, 3) else images.transpose(0, 2, 3, 1)


def _converted(data: ImageData, images: NDArray[Any], side: int) -> Tensor:
    """Return images, uint8 [n, height, width, channels], as squares of `side` pixels in as many channels as asked."""
    if images.shape[1:] == (side, side, data.channels):
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2) if data.colour else images[..., 0]))
    out = _empty(data, len(images), side)
    for index, image in enumerate(images):
        plain = np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)
        out[index] = _square(data, Image.fromarray(plain), side)
    return torch.from_numpy(out)


def _empty(data: ImageData, count: int, side: int) -> NDArray[np.uint8]:
    return np.empty((count, 3, side, side) if data.colour else (count, side, side), np.uint8)


def _square(data: ImageData, image: Image.Image, side: int) -> NDArray[np.uint8]:
    pixels = np.asarray(to_square(image.convert("RGB" if data.colour else "L"), side))
    return pixels.transpose(2, 0, 1) if data.colour else pixels


def _check_size(data: ImageData, count: int, side: int, where: str) -> None:
    what = f"{count:,} images of {side}×{side} pixels{' in colour' if data.colour else ''} are "
    _check_limit(count * data.channels * side * side, where, what)


def _check_renamed(rename: Mapping[str, str], names: Iterable[str]) -> None:
    if unknown := [old for old in rename if old not in set(names)]:
        raise InputError(f"key 'data.rename': there is no class {unknown[0]!r}; the classes are {first_few(names)}")


def _renamed(rename: Mapping[str, str], names: Sequence[str], where: str) -> tuple[str, ...]:
    renamed = tuple(rename.get(name, name) for name in names)
    for index, name in enumerate(renamed):
        if name in renamed[:index]:
            both = f"{names[renamed.index(name)]!r} and {names[index]!r}"
            raise InputError(f"{where}: two classes are called {name!r} after `rename:`: {both}")
    return renamed


def _drawn(labels: Tensor, seed: int, count_of: Callable[[int, int], int]) -> Tensor:
    """Return the indices, sorted, of images drawn at random: of each class as many as `count_of(label, its images)`."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        drawn.append(members[order[: count_of(label, len(members))]])
    return torch.cat(drawn).sort().values


def _limited(data: ImageData, labels: Tensor) -> Tensor:
    """Return the indices of at most `per_class` images of each class."""
    return _drawn(labels, data.test_seed, lambda _, images: data.per_class or images)


def _test_split(data: ImageData, labels: Tensor, names: Sequence[str], where: str) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the test images: of each class at least one, and never all."""

    def count_of(label: int, images: int) -> int:
        if images < 2:
            raise InputError(
                f"{where}: class {names[label]!r} has one image, and a split into training and test takes two. Add"
                " images, or name a `test_folder:`"
            )
        return min(max(1, round(images * data.test_share)), images - 1)

    held = _drawn(labels, data.test_seed, count_of)
    return torch.ones(len(labels), dtype=torch.bool).index_fill(0, held, value=False).nonzero().flatten(), held


def _sha256_of(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _folder(data: ImageData, _: Path | None) -> Pixels:
    """Read class folders, each file once, by as many threads as there are cores."""
    root = in_report(str(data.folder))
    roots = [root, in_report(data.test_folder)] if data.test_folder else [root]
    if data.test_folder and roots[0].resolve() == roots[1].resolve():
        raise InputError(f"{root}: is folder and test_folder; a network cannot be tested on what it has learnt")
    named = class_folders(roots, data.rename)
    names = list(named[0])
    files = [[(file, label) for label, name in enumerate(names) for file in classes[name]] for classes in named]
    if not data.test_folder:
        split = _test_split(data, _labels(files[0]), names, str(root))
        files = [[files[0][index] for index in part.tolist()] for part in split]
    if data.per_class:
        files[0] = [files[0][index] for index in _limited(data, _labels(files[0])).tolist()]
    (train, test), count = files, len(files[0])
    pixels, digests = _decoded(data, [file for file, _ in train + test], root)
    lines = [
        f"{digest}  {'train' if index < count else 'test'}/{names[label]}/{file.name}"
        for index, (digest, (file, label)) in enumerate(zip(digests, train + test, strict=True))
    ]
    where = [file for file, _ in train], [file for file, _ in test]
    digest = _sha256_of(lines)
    return Pixels(pixels[:count], _labels(train), pixels[count:], _labels(test), tuple(names), digest, files=where)


def image_names(images: Pixels) -> tuple[list[str], list[str]]:
    """Return what messages call the training and the test images: by file, or by number from 1."""
    parts = ("training", images.train_labels, images.files[0]), ("test", images.test_labels, images.files[1])
    train, test = (
        [str(file) for file in files] or [f"{part} image {number:,}" for number in range(1, len(labels) + 1)]
        for part, labels, files in parts
    )
    return train, test


def _labels(files: Sequence[tuple[Path, int]]) -> Tensor:
    return torch.tensor([label for _, label in files])


def class_folders(roots: Sequence[Path], rename: Mapping[str, str]) -> list[dict[str, list[Path]]]:
    """Return the files of each class in each of some folders, which must have the same classes.

    Args:
        roots: Folders of class folders.
        rename: New names of classes, of which each folder may have some.

    Returns:
        For each folder the files by the class's new name; both are sorted.

    Raises:
        InputError: A folder is missing, or is not a folder of class folders; or the classes differ.
    """
    there = [_class_files(folder) for folder in roots]
    _check_renamed(rename, dict.fromkeys(name for classes in there for name in classes))
    named = [
        dict(sorted(zip(_renamed(rename, list(classes), str(folder)), classes.values(), strict=True)))
        for classes, folder in zip(there, roots, strict=True)
    ]
    if differs := sorted(named[0].keys() ^ named[-1].keys()):
        lacks = roots[-1] if differs[0] in named[0] else roots[0]
        raise InputError(f"{lacks}: there is no class {differs[0]!r}, which the other folder has; see `rename:`")
    return named


def _class_files(root: Path) -> dict[str, list[Path]]:
    """Return the files of each class folder in `root`, sorted; hidden files and those of a file system are none."""
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder. {_LAYOUT}")
    inside = _visible(root)
    if images := [path for path in inside if path.is_file() and _is_image(path)]:
        raise InputError(f"{images[0]}: an image beside the class folders. {_right_level(root)}{_LAYOUT}")
    classes = {path.name: _visible(path) for path in inside if path.is_dir()}
    if len(classes) < 2:
        found = f"the only class is {next(iter(classes))!r}" if classes else "there is no class in it"
        raise InputError(f"{root}: {found}. {_right_level(root)}{_LAYOUT}")
    for name, files in classes.items():
        if not files:
            raise InputError(f"{root / name}: there is no image in this class. {_LAYOUT}")
        if inner := [path for path in files if path.is_dir()]:
            advice = f"{_right_level(root) or f'Move {inner[0].name} elsewhere. '}{_LAYOUT}"
            raise InputError(f"{inner[0]}: a folder in the class {name!r}, which holds images. {advice}")
    return classes


def _right_level(root: Path) -> str:
    """Return which folder above or below `root` looks like one of class folders, as advice; empty if none does."""
    above = root.absolute().parent
    if above != root and _is_of_classes(above):
        return f"It looks like one class of {above}: name that folder instead. "
    below = [folder for folder in _folders_in(root) if _is_of_classes(folder)]
    below = below or [inner for folder in _folders_in(root) for inner in _folders_in(folder) if _is_of_classes(inner)]
    if not below:
        return ""
    found = first_few([f"{folder} ({first_few([one.name for one in _folders_in(folder)])})" for folder in below])
    words = f"Class folders are a level below, in {found}. "
    tests = [folder for folder in below if re.search("test|val", folder.name.lower())]
    if len(tests) == 1 and len(below) == 2:
        (learnt,) = (folder for folder in below if folder not in tests)
        return f"{words}Name {learnt} as the folder, and {tests[0]} as that of the test (--test-dir or test_folder:). "
    return f"{words}Name {'it' if len(below) == 1 else 'one of them'} instead. "


def _is_of_classes(folder: Path) -> bool:
    """Return whether a folder holds at least two folders with files, none of which holds another folder."""
    try:
        classes = _folders_in(folder)
        return len(classes) > 1 and all(_visible(one) and not _folders_in(one) for one in classes)
    except InputError:  # a folder that nobody named cannot be read
        return False


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _is_image(path: Path) -> bool:
    """Return whether a file begins as an image does, whatever it is called."""
    try:
        with Image.open(path, formats=tuple(FORMATS)):
            return True
    except Exception:  # on damaged files decoders raise errors of any type
        return False


def _visible(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    if strange := [path.name for path in found if path.name.encode(errors="replace").decode() != path.name]:
        raise InputError(f"{folder}: the name {strange[0]!r} is no UTF-8; rename it")
    return [path for path in found if not is_passed_over(path)]


def _decoded(data: ImageData, files: Sequence[Path], root: Path) -> tuple[Tensor, list[str]]:
    """Return the images of files, and the SHA-256 of each."""
    # Not at the top: the code digest would leave out a module that displays something.
    from trackdl.system.console import progress

    first = read_image(files[0])
    side = data.size or first.width
    _check_size(data, len(files), side, str(root))

    def decode(file: Path) -> tuple[NDArray[np.uint8], str]:
        content = read_bounded(file, MAX_BYTES)
        image = read_image(content, str(file), colour=data.colour)
        if not data.size and image.size != (side, side):
            beside = f", and {files[0]} has {first.width}×{first.height}" if file != files[0] else ""
            advice = "images must be square and of one size: give `size:` to scale them"
            raise InputError(f"{file}: {image.width}×{image.height} pixels{beside}; {advice}")
        return _square(data, image, side), hashlib.sha256(content).hexdigest()

    out, digests = _empty(data, len(files), side), []
    with ThreadPoolExecutor(reading_threads()) as pool, progress("images", len(files)) as advance:
        for index, (pixels, digest) in enumerate(pool.map(decode, files)):
            out[index] = pixels
            digests.append(digest)
            advance("")
    return torch.from_numpy(out), digests


# By the key of an experiment's section `data` that names the source. In a table, so that the code digest of a training
# on a named data set does not cover how the files of others are read.
_SOURCES = {"dataset": _named, "sklearn": _digits, "folder": _folder, "npz": _npz, "idx": _idx}
