"""Pictures changed at random while training, a whole batch at once: mirrored, shifted, a square of them covered.

Every picture of a batch draws its own change. The draws come from torch's global generator, on the CPU, so a trainer's
own random state decides them on any device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trackdl.spec.base import Augmentation

__all__ = ["augment"]


def augment(pictures: Tensor, settings: Augmentation, background: float) -> Tensor:
    """Return a batch with each picture changed by chance; drawn anew with each call.

    Args:
        pictures: Float [n, 1, height, width].
        settings: `flip` mirrors half of the pictures, left to right; `shift` moves each by up to so many pixels
            down or up and right or left, uniformly; `cutout` covers a square of so many pixels a side around a pixel
            drawn uniformly, so part of it may lie outside (DeVries and Taylor, 2017).
        background: What is put where nothing is left of a picture.
    """
    if settings.flip or settings.shift:
        pictures = _moved(pictures, settings, background)
    if settings.cutout:
        pictures = _covered(pictures, settings.cutout, background)
    return pictures


def _moved(pictures: Tensor, settings: Augmentation, background: float) -> Tensor:
    """Mirror and shift by one gather from the padded pictures."""
    count, _, height, width = pictures.shape
    shift, device = settings.shift, pictures.device
    padded = F.pad(pictures, (shift,) * 4, value=background)
    columns = torch.arange(width).expand(count, width)
    if settings.flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    down, right = torch.randint(2 * shift + 1, (2, count, 1))
    rows = torch.arange(height) + down  # [count, height]
    index = rows[:, :, None] * padded.shape[3] + (columns + right)[:, None, :]
    return padded.flatten(1).gather(1, index.flatten(1).to(device)).view_as(pictures)


def _covered(pictures: Tensor, side: int, background: float) -> Tensor:
    count, _, height, width = pictures.shape
    top = torch.randint(height, (count, 1)) - side // 2
    left = torch.randint(width, (count, 1)) - side // 2
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows, in_columns = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    square = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return pictures.masked_fill(square.to(pictures.device), background)
