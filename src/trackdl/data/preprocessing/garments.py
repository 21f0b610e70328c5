"""Pictures of garments, made as Fashion-MNIST's makers made theirs.

The steps are those of Xiao, Rasul and Vollgraf ("Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017, section 2): trim edges of the corners' tone, shrink the longer edge to 28 by leaving out rows and
columns, sharpen, put in the middle of 28×28, negate. They start from colours; here from grey tones, as
`read_picture` gives them.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from trackdl.data.preprocessing.digits import SIDE
from trackdl.errors import InputError

__all__ = ["to_garment"]

_CLOSE = 0.05 * 255  # tones this close to the corners' are background


def to_garment(picture: Image.Image) -> NDArray[np.float32]:
    """Make a picture one of Fashion-MNIST's kind.

    A picture of 28×28 counts as one of the data set's own, and is only negated where it lies on a light background.

    Args:
        picture: Mode `L`, one article on a background of one tone, light or dark.

    Returns:
        float32 `[28, 28]` in 0..1, 0 = background.

    Raises:
        InputError: The picture is of one tone.
    """
    tones = np.asarray(picture, dtype=np.uint8)
    corners = float(np.median([tones[0, 0], tones[0, -1], tones[-1, 0], tones[-1, -1]]))
    if corners > 127:
        tones, corners = 255 - tones, 255 - corners
    if picture.size != (SIDE, SIDE):
        tones = _in_the_middle(_trim(tones, corners))
    return (tones / 255).astype(np.float32)


def _trim(tones: NDArray[np.uint8], background: float) -> NDArray[np.uint8]:
    seen = np.abs(tones - np.float32(background)) > _CLOSE
    rows, columns = seen.any(axis=1).nonzero()[0], seen.any(axis=0).nonzero()[0]
    if not rows.size:
        raise InputError("the picture is of one tone: nothing stands on it")
    return tones[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _in_the_middle(tones: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = tones.shape
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(tones).resize(size, Image.Resampling.NEAREST)
    canvas = Image.new("L", (SIDE, SIDE), 0)
    canvas.paste(small.filter(ImageFilter.UnsharpMask(radius=1.0, percent=100, threshold=0)), _corner(size))
    return np.asarray(canvas)


def _corner(size: tuple[int, int]) -> tuple[int, int]:
    return (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
