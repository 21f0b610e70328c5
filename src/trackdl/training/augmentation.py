"""Random augmentation of a whole batch of images at once: strokes, warping, mirroring, shifting, cutout, mixup.

Every image of a batch is changed independently. The random numbers come from torch's global generator on the CPU, so
the trainer's random state determines them on any device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from trackdl.spec.base import Augmentation


def augment(images: Tensor, settings: Augmentation, background: float) -> Tensor:
    """Return a batch of randomly changed images.

    Args:
        images: Float [n, channels, height, width].
        settings: `stroke` is the share of images whose strokes become a pixel thicker or, just as often, thinner;
            `rotate` turns by up to this many degrees; `scale` enlarges by a factor of 1 - scale to 1 + scale; `elastic`
            displaces smoothly, by this many pixels as standard deviation (Simard et al., 2003); `flip` mirrors each
            image left to right with probability one half; `shift` moves it by up to this many pixels vertically and
            horizontally, uniformly; `cutout` covers a square with sides of this many pixels, centred on a uniformly
            drawn pixel, so part of it may lie outside (DeVries and Taylor, 2017).
        background: The value of pixels that are uncovered by a movement, or covered by the square; the smallest.
    """
    if settings.stroke:
        images = _stroked(images, settings.stroke, background)
    if settings.rotate or settings.scale or settings.elastic:
        images = _warped(images, settings, background)
    if settings.flip or settings.shift:
        images = _moved(images, settings, background)
    if settings.cutout:
        images = _covered(images, settings.cutout, background)
    return images


def mix(images: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Return mixed images of a batch, the targets of what was mixed in, and the share of the images' own (mixup).

    The share is drawn from Beta(alpha, alpha) for the batch, as Zhang et al. (2018) do. Here it is the larger part of
    the two, so that an image stays what it is for the most part; over all pairs of images that is the same.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    share = max(share, 1 - share)
    order = torch.randperm(len(images)).to(images.device)
    return share * images + (1 - share) * images[order], targets[order], share


def _stroked(images: Tensor, share: float, background: float) -> Tensor:
    """Thicken or thin bright strokes by a pixel: the largest or smallest of each 2×2 pixels."""
    drawn = torch.rand(len(images), 1, 1, 1).to(images.device)
    padded = F.pad(images, (0, 1, 0, 1), value=background)
    thick, thin = F.max_pool2d(padded, 2, 1), -F.max_pool2d(-padded, 2, 1)
    return torch.where(drawn < share / 2, thick, torch.where(drawn < share, thin, images))


def _warped(images: Tensor, settings: Augmentation, background: float) -> Tensor:
    """Turn, scale and displace by one bilinear sampling; the grid is computed on the CPU, the same for any device."""
    count, _, height, width = images.shape
    turn, size = torch.rand(2, count) * 2 - 1
    turn, size = torch.deg2rad(settings.rotate * turn), 1 / (1 + settings.scale * size)
    rows = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], dim=1).view(count, 2, 2) * size[:, None, None]
    grid = F.affine_grid(F.pad(rows, (0, 1)), [count, 1, height, width], align_corners=False)
    if settings.elastic:
        field = _smooth(height) @ torch.randn(count, 2, height, width) @ _smooth(width).T
        grid += (field * settings.elastic).permute(0, 2, 3, 1) * torch.tensor([2 / width, 2 / height])
    sampled = F.grid_sample(images.float() - background, grid.to(images.device), align_corners=False)
    return (sampled + background).to(images.dtype)


def _smooth(side: int) -> Tensor:
    """Return the matrix of a Gaussian filter over a seventh of the side that keeps the variance of random numbers."""
    places = torch.arange(side)
    return F.normalize(torch.exp(-(((places[:, None] - places) * 7 / side) ** 2) / 2), dim=1)


def _moved(images: Tensor, settings: Augmentation, background: float) -> Tensor:
    """Mirror and shift by one gather from the padded images."""
    count, channels, height, width = images.shape
    shift, device = settings.shift, images.device
    padded = F.pad(images, (shift,) * 4, value=background)
    columns = torch.arange(width).expand(count, width)
    if settings.flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    down, right = torch.randint(2 * shift + 1, (2, count, 1))
    rows = torch.arange(height) + down  # [count, height]
    index = rows[:, :, None] * padded.shape[3] + (columns + right)[:, None, :]
    index = index.flatten(1)[:, None].expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index.to(device)).view_as(images)


def _covered(images: Tensor, side: int, background: float) -> Tensor:
    count, _, height, width = images.shape
    top = torch.randint(height, (count, 1)) - side // 2
    left = torch.randint(width, (count, 1)) - side // 2
    rows, columns = torch.arange(height), torch.arange(width)
    in_rows, in_columns = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
    square = (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
    return images.masked_fill(square.to(images.device), background)
