"""Images and labels as tensors, images as a network's input, and the validation split.

images = load_images(ImageData(dataset="mnist"))
inputs = normalise(images.train_images, images.mean, images.std)
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trackdl.data.catalogue import CATALOGUE, Preprocessing
from trackdl.data.preprocessing.squares import border
from trackdl.data.readers import Pixels, read_pixels
from trackdl.errors import InputError
from trackdl.spec.images import ImageData

_CHUNK = 1 << 17  # pixels looked up at a time: their indices and results stay in a core's cache
_DARK = 64  # of 255: a darker border is the background of light signs

Constant = float | tuple[float, float, float]  # a mean or standard deviation: of grey, or of each channel


@dataclass(frozen=True, eq=False)
class ImageSet(Pixels):
    """The images of a data set, and what a network and its card need to know of them.

    Attributes:
        mean: The mean that inputs are normalised by, of pixels as fractions of 255.
        std: The standard deviation.
        source: The data set's home page, or where the files are.
        preprocessing: How a served model makes an image file like these images; see `serving.cards`.
    """

    mean: Constant
    std: Constant
    source: str
    preprocessing: Preprocessing

    @property
    def channels(self) -> int:
        """1, or 3 in colour."""
        return 3 if self.train_images.ndim == 4 else 1

    @property
    def side(self) -> int:
        """The images' side, pixels."""
        return self.train_images.shape[-1]

    def emptied(self) -> "ImageSet":
        """Return what is known of the images, with a single one of each kind."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name)[:1].clone() for name in names})


def load_images(data: ImageData, root: Path | None = None) -> ImageSet:
    """Read the images of an experiment; those of a named data set are verified, and fetched if necessary.

    Args:
        data: The experiment's section `data`.
        root: The folder of named data sets; `None` is `paths.data_root()`.

    Raises:
        InputError: Files are missing or wrong, or they do not fit the keys.
        TrackdlError: As `download.datasets.read`.
    """
    pixels = read_pixels(data, root)
    known = CATALOGUE[data.dataset] if data.dataset else None
    mean, std = _constants(data, pixels.train_images, known.mean_std if known else ())
    preprocessing: Preprocessing = "square"
    if known and data.size is None and not data.colour:
        preprocessing = known.preprocessing
    elif not data.colour and np.median(border(pixels.train_images.numpy().transpose(1, 2, 0))) < _DARK:
        preprocessing = "square-dark"
    source = known.source if known else str(getattr(data, data.source))
    return ImageSet(**vars(pixels), mean=mean, std=std, source=source, preprocessing=preprocessing)


def _constants(data: ImageData, pixels: Tensor, usual: tuple[float, ...]) -> tuple[Constant, Constant]:
    """Return the mean and the standard deviation that the images are normalised by."""
    given: Any = data.normalise or list(usual) or "training"
    mean, std = [0.0, 1.0] if given == "none" else _measured(pixels) if given == "training" else given
    return _by_channel(mean, data.channels), _by_channel(std, data.channels)


def _by_channel(value: Any, channels: int) -> Constant:
    """Return a number as it is for grey images, and three for colour."""
    if channels == 1:
        return float(value)
    red, green, blue = map(float, value if isinstance(value, list) else [value] * 3)
    return red, green, blue


def _measured(pixels: Tensor) -> list[Any]:
    """Return the mean and standard deviation of pixels as fractions of 255, rounded to six digits; lists for colour."""
    counts = np.zeros((pixels.shape[1] if pixels.ndim == 4 else 1, 256))
    for block in torch.split(pixels, max(1, (_CHUNK << 5) // pixels[0].numel())):  # counting takes eight times as much
        for channel, count in enumerate(counts):
            count += np.bincount((block[:, channel] if block.ndim == 4 else block).numpy().ravel(), minlength=256)
    tones, total = np.arange(256) / 255, counts.sum(axis=1)
    means = (counts @ tones) / total
    stds = np.sqrt((counts * (tones - means[:, None]) ** 2).sum(axis=1) / total)
    if stds.min() < 1e-6:
        raise InputError("key 'data': all training images have one and the same tone, so they cannot be normalised")
    return [found if len(found) > 1 else found[0] for found in (means.round(6).tolist(), stds.round(6).tolist())]


def normalise(pixels: Tensor, mean: Constant, std: Constant, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `(pixels / 255 - mean) / std` as a network's input, bit for bit what torchvision's transforms return.

    Args:
        pixels: Images, uint8 `[n, height, width]`, or in colour `[n, 3, height, width]`, on the CPU.
        mean: The mean of pixels as fractions of 255.
        std: Their standard deviation.
        dtype: A floating-point type.

    Returns:
        `dtype` `[n, channels, height, width]`, contiguous.

    Raises:
        ValueError: `pixels` are not uint8 of these shapes: fractions must not be divided by 255 again.
    """
    return look_up(pixels, lookup_table(mean, std, dtype))


def lookup_table(mean: Constant, std: Constant, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the normalised value of each tone, computed in float32: `dtype` `[channels, 256]`."""
    means, stds = (torch.tensor(value, dtype=torch.float32).reshape(-1, 1) for value in (mean, std))
    return torch.arange(256, dtype=torch.float32).div_(255).sub(means).div_(stds).to(dtype)


def look_up(pixels: Tensor, table: Tensor) -> Tensor:
    """Normalise pixels by the table of `lookup_table`; the rest is as in `normalise`.

    For 47 million pixels this is faster than arithmetic, and no array except the result is larger than a chunk.
    """
    channels = len(table)
    if pixels.dtype != torch.uint8 or (*pixels.shape[1:-2],) != (() if channels == 1 else (channels,)):
        expected = "[n, height, width]" if channels == 1 else f"[n, {channels}, height, width]"
        raise ValueError(f"pixels must be uint8 {expected}, not {pixels.dtype} {list(pixels.shape)}")
    out = torch.empty((len(pixels), channels, *pixels.shape[-2:]), dtype=table.dtype, device=pixels.device)
    if pixels.device.type != "cpu":
        for channel in range(channels):
            out[:, channel] = table[channel][(pixels[:, channel] if channels > 1 else pixels).int()]
        return out
    # numpy has no bfloat16: integers of the same width carry the values.
    carrier = {2: torch.int16, 4: torch.int32, 8: torch.int64}[table.dtype.itemsize]
    values = table.view(carrier).numpy().reshape(-1)
    source, target = pixels.reshape(out.shape).flatten(2).numpy(), out.view(carrier).flatten(2).numpy()
    start_of = (np.arange(channels, dtype=np.int16) * 256)[:, None]  # of each channel's values
    rows = max(1, _CHUNK // max(1, source[:1].size))
    for start in range(0, len(source), rows):
        chunk = slice(start, start + rows)
        index = source[chunk] if channels == 1 else source[chunk] + start_of
        # Every index is valid; "clip" only prevents numpy from buffering the result.
        np.take(values, index, out=target[chunk], mode="clip")
    return out


def validation_split(total: int, share: float | None, seed: int) -> tuple[Tensor, Tensor]:
    """Split examples at random, not by class, as the report's `random_split` does.

    Args:
        total: The number of examples.
        share: The share for validation, 0 to 1; rounded to whole examples. None: there is no validation split.
        seed: Determines the split, alike on every machine.

    Returns:
        The indices of the training and of the validation examples, int64, each sorted.

    Raises:
        InputError: One of the two parts would be empty.
    """
    if share is None:
        return torch.arange(total), torch.arange(0)
    held_out = round(total * share)
    if not 0 < held_out < total:
        raise InputError(
            f"key 'data.validation': {share:g} of {total} examples leaves one part empty; 0.2 is the report's"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[held_out:].sort().values, order[:held_out].sort().values
