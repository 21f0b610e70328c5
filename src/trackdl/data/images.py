"""IDX files of images and labels as tensors, images as a network's input, and the validation split."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trackdl.data.catalogue import CATALOGUE
from trackdl.data.download.datasets import DATASETS, read
from trackdl.errors import InputError, TrackdlError

_UNSIGNED_BYTE = 0x08  # the IDX format's code for the type of the items
_CHUNK = 1 << 17  # pixels looked up at a time: their indices and results stay in a core's cache


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The tensors of an image data set: images are uint8 `[n, 28, 28]`, 0 = background, labels int64 `[n]`.

    Attributes:
        train_images: The training images.
        train_labels: Their labels, indices of `classes`.
        test_images: The test images.
        test_labels: Their labels.
        classes: The classes' names.
        digest: SHA-256, hex, of all files: `download.datasets.Dataset.digest`.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    digest: str


def load_images(name: str, root: Path | None = None) -> ImageSet:
    """Read an image data set, verified, and fetched if necessary.

    Args:
        name: A key of `catalogue.CATALOGUE`.
        root: The data folder; `None` is `paths.data_root()`.

    Raises:
        TrackdlError: As `download.datasets.read`.
    """
    arrays = {file: torch.from_numpy(read_idx(content, file)) for file, content in read(name, root).items()}
    return ImageSet(
        train_images=arrays["train-images-idx3-ubyte"],
        train_labels=arrays["train-labels-idx1-ubyte"].long(),
        test_images=arrays["t10k-images-idx3-ubyte"],
        test_labels=arrays["t10k-labels-idx1-ubyte"].long(),
        classes=CATALOGUE[name].classes,
        digest=DATASETS[name].digest,
    )


def read_idx(content: bytes, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
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


def normalise(pixels: Tensor, mean: float, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `(pixels / 255 - mean) / std` as a network's input, bit for bit what torchvision's transforms return.

    Each of the 256 values is computed once, in float32, and then looked up. For 47 million pixels this is faster than
    arithmetic, and no array except the result is larger than a chunk.

    Args:
        pixels: Images, uint8 `[n, height, width]`, on the CPU.
        mean: The mean of pixels as fractions of 255.
        std: Their standard deviation.
        dtype: A floating-point type.

    Returns:
        `dtype` `[n, 1, height, width]`, contiguous.

    Raises:
        ValueError: `pixels` are not uint8 with three axes: fractions must not be divided by 255 again.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3:
        raise ValueError(f"pixels must be uint8 [n, height, width], not {pixels.dtype} {list(pixels.shape)}")
    table = torch.arange(256, dtype=torch.float32).div_(255).sub_(mean).div_(std).to(dtype)
    out = torch.empty((len(pixels), 1, *pixels.shape[1:]), dtype=dtype)
    # numpy has no bfloat16: integers of the same width carry the values.
    carrier = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    values, source, target = table.view(carrier).numpy(), pixels.reshape(-1).numpy(), out.view(carrier).view(-1).numpy()
    for start in range(0, len(source), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        # Every byte is a valid index; "clip" only prevents numpy from buffering the result.
        np.take(values, source[chunk], out=target[chunk], mode="clip")
    return out


def validation_split(total: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split examples at random, not by class, as the report's `random_split` does.

    Args:
        total: The number of examples.
        share: The share for validation, 0 to 1; rounded to whole examples.
        seed: Determines the split, alike on every machine.

    Returns:
        The indices of the training and of the validation examples, int64, each sorted.

    Raises:
        InputError: One of the two parts would be empty.
    """
    held_out = round(total * share)
    if not 0 < held_out < total:
        raise InputError(
            f"key 'data.validation': {share:g} of {total} examples leaves one part empty; 0.2 is the report's"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[held_out:].sort().values, order[:held_out].sort().values
