"""MNIST and Fashion-MNIST: verified IDX files become tensors, and the tensors a network's input."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trackdl.data.download.datasets import DATASETS, read
from trackdl.errors import InputError, TrackdlError

MNIST_MEAN_STD = (0.1307, 0.3081)  # the report's, tasks 1 and 3
FASHION_MEAN_STD = (0.5, 0.5)  # the report's, task 2

_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}
_UNSIGNED_BYTE = 0x08  # the IDX format's code for the type of these files' items
_CHUNK = 1 << 17  # pixels looked up at a time: their indices and results stay in a core's cache


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set of labelled grey pictures.

    Attributes:
        name: `mnist` or `fashion`.
        train_images: Pictures, uint8 `[n, 28, 28]`, 0 is the background.
        train_labels: Their classes, int64 `[n]`, indices of `classes`.
        test_images: As `train_images`.
        test_labels: As `train_labels`.
        classes: The classes' names.
        digest: `sources.Dataset.digest`: one SHA-256, in hexadecimal, for all the files read.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    digest: str


def load_images(name: Literal["mnist", "fashion"], root: Path | None = None) -> ImageSet:
    """Read a data set of pictures, verified, and fetched where needed.

    Args:
        name: Which one.
        root: The data folder; `None` is `paths.data_root()`.

    Raises:
        TrackdlError: As `sources.fetch`.
    """
    arrays = {file: torch.from_numpy(read_idx(content, file)) for file, content in read(name, root).items()}
    return ImageSet(
        name=name,
        train_images=arrays["train-images-idx3-ubyte"],
        train_labels=arrays["train-labels-idx1-ubyte"].long(),
        test_images=arrays["t10k-images-idx3-ubyte"],
        test_labels=arrays["t10k-labels-idx1-ubyte"].long(),
        classes=_CLASSES[name],
        digest=DATASETS[name].digest,
    )


def read_idx(content: bytes, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Read an IDX file of unsigned bytes: two zeros, the items' type, the number of axes, their lengths, the items.

    Args:
        content: The whole file, uncompressed.
        name: What messages call the file.

    Returns:
        A writable uint8 array of one to three axes, none of them empty.

    Raises:
        TrackdlError: The content is not such a file, or its header and its length disagree.
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


def normalise(pixels: Tensor, mean: float, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `(pixels / 255 - mean) / std` as a network's input, to the bit what torchvision's transforms give.

    There are only 256 values: each is computed once, in float32, and then looked up. On a data set of 47 million pixels
    this is faster than arithmetic, and no array but the result is larger than a chunk.

    Args:
        pixels: Pictures, uint8 `[n, height, width]`, in the CPU's memory.
        mean: Of the pixels as fractions of 255.
        std: Of the same.
        dtype: The result's, a floating-point one.

    Returns:
        `[n, 1, height, width]`, contiguous.

    Raises:
        ValueError: `pixels` are not uint8 with three axes: fractions would be divided by 255 again.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3:
        raise ValueError(f"pixels must be uint8 [n, height, width], not {pixels.dtype} {list(pixels.shape)}")
    table = torch.arange(256, dtype=torch.float32).div_(255).sub_(mean).div_(std).to(dtype)
    out = torch.empty((len(pixels), 1, *pixels.shape[1:]), dtype=dtype)
    # Integers of the same width carry the values through numpy, which has no bfloat16.
    carrier = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    values, source, target = table.view(carrier).numpy(), pixels.reshape(-1).numpy(), out.view(carrier).view(-1).numpy()
    for start in range(0, len(source), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        # Every byte is a valid index; "clip" only keeps numpy from buffering the result.
        np.take(values, source[chunk], out=target[chunk], mode="clip")
    return out


def validation_split(total: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split examples at random, not by class, as the report's `random_split` does.

    Args:
        total: How many examples there are.
        share: Which part of them is held back, 0 to 1; rounded to whole examples.
        seed: Decides which; the same seed gives the same split on every machine.

    Returns:
        The indices to learn from and those held back, int64, each sorted.

    Raises:
        InputError: One of the two parts would be empty.
    """
    back = round(total * share)
    if not 0 < back < total:
        raise InputError(
            f"key 'data.validation': {share:g} of {total} examples leaves one part empty; 0.2 is the report's"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[back:].sort().values, order[:back].sort().values
