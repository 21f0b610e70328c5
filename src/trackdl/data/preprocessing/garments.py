"""Images of garments made like Fashion-MNIST's.

The steps are those of Xiao, Rasul and Vollgraf ("Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017, section 2): trim edges of the corners' tone, shrink the longer edge to 28 by leaving out rows and
columns, sharpen, put in the middle of 28×28, negate. They start from colours; these steps start from grey tones.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from trackdl.data.preprocessing.digits import SIDE
from trackdl.errors import InputError

_CLOSE = 0.05 * 255  # tones this close to the corners' are background


def to_garment(image: Image.Image) -> NDArray[np.float32]:
    """Make an image like Fashion-MNIST's.

    An image of 28×28 is taken as one of the data set's own, and is only negated if its background is light.

    Args:
        image: Mode `L`, one article on a background of a single tone, light or dark.

    Returns:
        float32 `[28, 28]` in 0..1, 0 = background.

    Raises:
        InputError: The image has a single tone.
    """
    tones = np.asarray(image, dtype=np.uint8)
    corners = float(np.median([tones[0, 0], tones[0, -1], tones[-1, 0], tones[-1, -1]]))
    if corners > 127:
        tones, corners = 255 - tones, 255 - corners
    if image.size != (SIDE, SIDE):
        tones = _centre(_trim(tones, corners))
    return (tones / 255).astype(np.float32)


def _trim(tones: NDArray[np.uint8], background: float) -> NDArray[np.uint8]:
    foreground = np.abs(tones - np.float32(background)) > _CLOSE
    rows, columns = foreground.any(axis=1).nonzero()[0], foreground.any(axis=0).nonzero()[0]
    if not rows.size:
        raise InputError("the image has a single tone: there is nothing on it")
    return tones[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _centre(tones: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = tones.shape
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(tones).resize(size, Image.Resampling.NEAREST)
    canvas = Image.new("L", (SIDE, SIDE), 0)
    corner = ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2)
    canvas.paste(small.filter(ImageFilter.UnsharpMask(radius=1.0, percent=100, threshold=0)), corner)
    return np.asarray(canvas)
