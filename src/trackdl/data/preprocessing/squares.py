"""Images of any shape made square: the same for the images of a folder and for those that a served model is given.

The whole image is scaled with its proportions and put in the middle of a square of its border's colour. Nothing is cut
off, and a sign keeps its proportions, which tell it from others: stretched to the square, an l is as wide as an o.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def to_square(image: Image.Image, size: int) -> Image.Image:
    """Return an image (mode L or RGB) with sides of `size` pixels, of the same mode."""
    if image.size == (size, size):
        return image
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    if width == height:
        return scaled
    tone = border(np.asarray(image))
    square = Image.new(image.mode, (size, size), tuple(tone.tolist()) if image.mode == "RGB" else int(tone))
    square.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return square


def square_pixels(image: Image.Image, size: int, *, dark: bool) -> NDArray[np.float32]:
    """Return an image (mode L or RGB) as a network's input: float32 [channels, size, size] in 0..1.

    Args:
        image: Any image.
        size: The sides of the result, pixels.
        dark: Negate an image with a light border, for a network of light signs on a dark ground.
    """
    pixels = np.atleast_3d(np.asarray(to_square(image, size)))
    if dark and np.median(border(pixels)) > 127:
        pixels = 255 - pixels
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the median tone, by channel, of the outermost pixels of an image, uint8 [height, width, ...]."""
    edges = pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]
    return np.asarray(np.median(np.concatenate(edges), axis=0).astype(np.uint8))
