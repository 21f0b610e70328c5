"""Images of one drawn sign made like MNIST's.

    digit = to_digit(read_image(Path("letter.jpg")), "mnist")  # float32 [28, 28], 1 = ink

The steps: remove the paper, separate ink from noise and specks, thin the ink to a line, make the line upright, scale it
into 20×20, redraw it with a pen as thick as a digit's, and put its centre of mass at the centre of 28×28 (LeCun, Cortes
and Burges, "The MNIST database"; the upright line is the "deslanting" of LeCun et al., 1998, section III). The new line
no longer shows what a network trained on digits has never seen: the pen, the paper, the size.
"""

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage
from torch import Tensor

from trackdl.errors import InputError
from trackdl.spec import Preprocessing

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

SIDE = 28  # pixels on a side of an MNIST image
_BOX = 20  # the longer side of a digit's ink
# Ink over line length in MNIST's first 1,200 training digits: quartiles 1.9, 2.3 and 2.7 pixels. A thin line keeps
# small loops open, and letters have more of them than digits.
_STROKE = 1.9
_OFF_CENTRE = 0.6  # pixels: MNIST's centres of mass lie up to 0.52 from (14, 14)
_FINE = 8  # the line is drawn this many times finer than MNIST's pixels
_WORKING_SIDES = 128, 640  # images are scaled to a longer side in this range before ink is looked for
_COARSE_SIDE = 128  # the paper varies slowly and is estimated at this size
_LEAST_CONTRAST = 0.04  # of the paper's tone (10 of 255 on white)
_NOISE_FACTOR = 5.0  # ink is this many times deeper than the paper's noise
_FAINT, _CERTAIN = 0.3, 0.6  # of the ink's typical depth: faint pixels count where they touch certain ones
_SPECK = 0.08  # of the largest piece of ink: a piece with less is dirt
_MAIN_PIECE = 0.3  # of all ink: if no piece has as much, the ink is the paper's grain
_EIGHT = np.ones((3, 3), dtype=bool)  # neighbours at a corner count
_REPORT_SCALE = 36 / 128  # the report's Task 3


def to_digit(image: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Make an image like MNIST's.

    Args:
        image: One sign on paper of a single tone, dark on light or light on dark, as `read_image` returns it; other
            modes are converted as torchvision's ImageFolder does.
        preprocessing: `report` is the transform of the report's Task 3: grey, scaled by 36/128, the middle 28×28,
            inverted. `mnist` finds the ink and redraws it, but keeps an image of MNIST's own as it is.

    Returns:
        float32 `[28, 28]` in 0..1, 1 = ink; not yet normalised.

    Raises:
        InputError: `mnist` finds no ink or only scattered specks, or there is no such preprocessing.
    """
    if preprocessing == "report":
        return _report_transform(image)
    if preprocessing != "mnist":
        raise InputError(f"preprocessing {preprocessing!r}: may be {' or '.join(get_args(Preprocessing))}.")
    grey = image if image.mode == "L" else image.convert("RGB").convert("L")
    digit = _mnist_ink(grey)
    if digit is None:
        ink = _ink(_depth(_working_copy(grey)))
        digit = _draw(_upright(np.argwhere(_thin(ink)).astype(np.float64)))
    return torch.from_numpy(digit)


def to_digits(
    images: Sequence[Image.Image], preprocessing: Preprocessing, names: Sequence[str] | None = None
) -> Tensor:
    """Apply `to_digit` to several images.

    Args:
        images: As for `to_digit`.
        preprocessing: As for `to_digit`.
        names: The images' names in messages; `None` counts them from 1.

    Returns:
        float32 `[n, 1, 28, 28]` in 0..1, 1 = ink; not yet normalised.

    Raises:
        InputError: As `to_digit`, with the image's name.
    """
    digits = torch.empty(len(images), 1, SIDE, SIDE)
    for index, image in enumerate(images):
        try:
            digits[index, 0] = to_digit(image, preprocessing)
        except InputError as error:
            raise InputError(f"{names[index] if names else f'image {index + 1}'}: {error}") from error
    return digits


def _report_transform(image: Image.Image) -> Tensor:
    """Apply the report's GreekTransform to an image read by ImageFolder and ToTensor."""
    from torchvision.transforms import functional  # takes two seconds, which `mnist` does without

    pixels = functional.rgb_to_grayscale(functional.to_tensor(image.convert("RGB")))
    # `affine` pads the shrunk image with black, which the inversion turns into ink, as in the report.
    shrunk = functional.affine(pixels, 0, [0, 0], _REPORT_SCALE, [0.0])
    digit: Tensor = functional.invert(functional.center_crop(shrunk, [SIDE, SIDE]))[0]
    return digit


def _mnist_ink(image: Image.Image) -> Floats | None:
    """Return the ink of an image of MNIST's form, light on dark or its negative; None for any other image.

    The form is a box of 20 pixels with its centre of mass in the middle. All of MNIST's 70,000 images have it to half a
    pixel, and none of Fashion-MNIST's.
    """
    if image.size != (SIDE, SIDE):
        return None
    tones = np.asarray(image)
    for ink in (tones, 255 - tones):
        box = Image.fromarray(ink).getbbox()
        if box and _BOX - 1 <= max(box[2] - box[0], box[3] - box[1]) <= _BOX:
            centre = np.array(ndimage.center_of_mass(ink))
            if np.abs(centre - SIDE / 2).max() < _OFF_CENTRE:
                return ink.astype(np.float32) / np.float32(255)
    return None


def _resize(pixels: NDArray[Any], height: int, width: int) -> Floats:
    """Scale with antialiasing: Pillow widens the filter when it shrinks."""
    image = Image.fromarray(pixels.astype(np.float32))
    return np.asarray(image.resize((max(1, width), max(1, height)), Image.Resampling.BICUBIC), dtype=np.float32)


def _working_copy(image: Image.Image) -> Floats:
    """Return the tones 0..1 at a size where a stroke is several pixels wide, without single pixels of noise."""
    longer = max(image.size)
    side = min(max(longer, _WORKING_SIDES[0]), _WORKING_SIDES[1])
    if side != longer:
        size = (max(1, round(image.width * side / longer)), max(1, round(image.height * side / longer)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(image.filter(ImageFilter.MedianFilter(3)), dtype=np.float32) / np.float32(255)


def _quadratic(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the terms 1, x, y, xy, x², y² at every pixel, `[pixels, 6]`, with x and y in -1..1."""
    y, x = (grid.ravel() for grid in np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1)


def _fit(terms: NDArray[Any], values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Return the coefficients of weighted least squares by the normal equations: six well-scaled terms allow it."""
    weighted = terms * weights[:, None]
    coefficients: NDArray[Any] = np.linalg.lstsq(weighted.T @ terms, weighted.T @ values, rcond=None)[0]
    return coefficients


def _depth(tones: Floats) -> Floats:
    """Return each pixel's difference from the paper towards the ink, as a share of the paper's tone; paper is 0."""
    step = max(1, round(max(tones.shape) / _COARSE_SIDE))
    coarse = ndimage.gaussian_filter(tones, max(1.0, step / 2), mode="nearest")[::step, ::step]
    terms, values = _quadratic(coarse.shape), coarse.ravel()
    plain = surface = _fit(terms, values, np.ones(values.size))
    # Even light falls off smoothly: the paper is a quadratic surface, and Cauchy weights keep the ink out of its fit.
    for _ in range(8):
        residual = values - terms @ surface
        spread = max(1.4826 * float(np.median(np.abs(residual))), 1 / 255)
        surface = _fit(terms, values, 1 / (1 + (residual / (2 * spread)) ** 2) ** 2)
    paper = (_quadratic(tones.shape) @ surface).reshape(tones.shape)
    if _ink_is_dark((values - terms @ plain).reshape(coarse.shape)):
        depth = (paper - tones) / np.clip(paper, 0.2, None)
    else:
        depth = (tones - paper) / np.clip(1 - paper, 0.2, None)
    return _without_shadows(depth - np.median(depth[depth <= 2 * np.median(np.abs(depth))]), step)


def _ink_is_dark(residual: NDArray[Any]) -> bool:
    """Return whether ink is darker than paper: ink is rare, or else (cut tight, drawn bold) the thinner of the two."""
    spread = float(residual.std())
    skewness = float((residual**3).mean()) / max(spread**3, 1e-12)
    if abs(skewness) > 1:
        return skewness < 0
    dark = residual < _otsu(residual)
    # Distances to the other tone only: the image's edge ends no region. In doubt, ink is dark.
    widths = [float(ndimage.distance_transform_edt(region).max()) for region in (dark, ~dark)]
    return widths[0] < 1.3 * widths[1]


def _without_shadows(depth: NDArray[Any], step: int) -> Floats:
    """Remove depth that covers a wider area than any stroke: the shadow on one side of the paper."""
    coarse = ndimage.gaussian_filter(depth, max(1.0, step / 1.5))[::step, ::step]
    window = max(3, round(0.4 * max(coarse.shape)))
    shadow = ndimage.gaussian_filter(ndimage.grey_opening(coarse, (window, window), mode="nearest"), window / 6)
    lifted: Floats = depth - _resize(np.clip(shadow, 0, None), *depth.shape)
    return lifted.astype(np.float32)


def _otsu(values: NDArray[Any]) -> float:
    """Return the threshold that best separates two classes (Otsu, 1979)."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[-2::-1]
    mass = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    return float(edges[1:-1][np.nan_to_num(between).argmax()])


def _ink(depth: Floats) -> Bools:
    """Return the strokes as a cropped mask without specks, its longer side about `_BOX * _FINE` pixels."""
    depth = ndimage.gaussian_filter(depth, max(0.5, max(depth.shape) / 256))
    noise = 1.4826 * float(np.median(np.abs(depth - np.median(depth))))
    # If ink covers half of the image, the median's deviation measures ink, not noise.
    least = max(_NOISE_FACTOR * noise, _LEAST_CONTRAST) if noise < 0.06 else _LEAST_CONTRAST
    deep = depth[depth > least]
    if deep.size < 4:
        raise InputError("no ink found: the image is blank, or too faint to read")
    typical = float(np.median(deep[deep >= _otsu(deep)]))
    faint = max(_FAINT * typical, min(least, typical / 2))
    mask: Bools = ndimage.binary_propagation(depth > _CERTAIN * typical, structure=_EIGHT, mask=depth > faint)
    mask = _without_specks(mask, np.minimum(depth, typical))
    rows, columns = ndimage.find_objects(mask.astype(np.int8))[0]
    near = ndimage.binary_dilation(mask, iterations=2)
    # 0.5 is the threshold in this map, so that it can be scaled before it is cut, and the outline stays smooth.
    soft = np.pad(np.where(near, np.clip(depth / (2 * faint), 0, 1), 0)[rows, columns], 3)
    scale = _BOX * _FINE / (max(soft.shape) - 6)
    thickened = ndimage.maximum_filter(soft, max(1, round(1 / scale)))  # a hairline outlives the shrinking
    large = _resize(thickened, round(soft.shape[0] * scale), round(soft.shape[1] * scale))
    smooth = ndimage.gaussian_filter(ndimage.maximum_filter(large, 3), 1.2)
    strokes: Bools = smooth > smooth.max() / 2
    return strokes


def _without_specks(mask: Bools, depth: Floats) -> Bools:
    """Keep the large enough pieces of ink; pieces that a skip of the pen separates belong together."""
    gap = max(1, round(0.012 * max(mask.shape)))
    pieces, count = ndimage.label(ndimage.binary_dilation(mask, iterations=gap), _EIGHT)
    masses = np.asarray(ndimage.sum_labels(np.where(mask, depth, 0), pieces, np.arange(count + 1)))
    masses[0] = 0
    if masses.max() < _MAIN_PIECE * masses.sum():
        raise InputError("no sign found: there are specks all over the image, and no stroke")
    kept: Bools = mask & (masses >= _SPECK * masses.max())[pieces]
    return kept


def _removable(code: int) -> bool:
    """Return whether the first pass removes a pixel; bit i of `code` is its neighbour i, clockwise from the top."""
    n, ne, e, se, s, sw, w, nw = (bool(code >> bit & 1) for bit in range(8))
    runs = sum(not a and (b or c) for a, b, c in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n)))
    neighbours = min((nw or n) + (ne or e) + (se or s) + (sw or w), (n or ne) + (e or se) + (s or sw) + (w or nw))
    return runs == 1 and 2 <= neighbours <= 3 and not ((n or ne or not se) and e)


# The pixels that each pass removes, by the code of their neighbours. The second pass is the first turned by half a
# circle, so its code is rotated by four bits.
_REMOVABLE = np.array([_removable(code) for code in range(256)])
_REMOVABLE = np.stack([_REMOVABLE, _REMOVABLE[[(code >> 4 | code << 4) & 255 for code in range(256)]]])
# The neighbours' offsets (row, column), clockwise from the top.
_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def _thin(mask: Bools) -> Bools:
    """Thin a mask to lines one pixel wide (Guo and Hall, 1989, algorithm A1)."""
    padded = np.pad(mask, 1).view(np.uint8)
    height, width = padded.shape
    inner = padded[1:-1, 1:-1]
    codes = np.empty(inner.shape, np.uint8)
    unchanged = 0
    while unchanged < 2:
        for removable in _REMOVABLE:
            codes[:] = 0
            for bit, (dy, dx) in enumerate(_AROUND):
                codes |= padded[1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx] << bit
            gone = inner & removable.view(np.uint8)[codes]
            inner -= gone
            unchanged = 0 if gone.any() else unchanged + 1
    return inner.view(np.bool_)


def _upright(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shear the points (row, column) of a line until rows and columns do not correlate; 45° at most."""
    rows, columns = (line - line.mean(axis=0)).T
    shear = float(np.clip((rows * columns).sum() / max(float((rows * rows).sum()), 1e-9), -1, 1))
    return np.stack([rows, columns - shear * rows], axis=1)


def _draw(line: NDArray[np.float64]) -> Floats:
    """Draw the points (row, column) of a line with MNIST's pen, size and place."""
    line = line - line.min(axis=0)
    # The line of a dot is hardly longer than a pixel and stays a dot: bold strokes need no more than 1.4.
    line = (line * min((_BOX - _STROKE) * _FINE / max(float(line.max()), 1.0), 1.4)).round().astype(np.intp)
    pen, side = math.ceil(_STROKE * _FINE / 2), SIDE * _FINE
    canvas = np.ones(line.max(axis=0) + 1 + 2 * pen, dtype=bool)
    canvas[tuple((line + pen).T)] = False
    ink = np.clip(_STROKE * _FINE / 2 + 0.5 - ndimage.distance_transform_edt(canvas), 0, 1)
    top, left = (round(centre + 0.5) + side // 2 for centre in ndimage.center_of_mass(ink))
    window = np.pad(ink, side)[top : top + side, left : left + side]
    digit: Floats = window.reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3)).astype(np.float32)
    return digit
