"""Images of one drawn sign made like MNIST's.

    digit = to_digit(read_image(Path("letter.jpg")), "mnist")  # float32 [28, 28], 1 = ink

The steps: remove the paper, separate ink from noise and specks, thin the ink to a line, make the line upright, scale it
into 20×20, redraw it with a pen as thick as a digit's, and put its centre of mass at the centre of 28×28 (LeCun, Cortes
and Burges, "The MNIST database"; the upright line is the "deslanting" of LeCun et al., 1998, section III). The new line
no longer shows what a network trained on digits has never seen: the pen, the paper, the size.
"""

import math
from typing import Any, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from trackdl.data.preprocessing.sheets import (
    blurred,
    coarsened,
    dilated,
    eroded,
    fits,
    flattened,
    median,
    otsu,
    surface,
)
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
_LEAST_CONTRAST = 0.04  # of the paper's tone (10 of 255 on white)
_NOISE_FACTOR = 5.0  # ink is this many times deeper than the paper's noise
# Of the ink's typical depth: faint pixels count where they touch certain ones.
_FAINT, _FAINT_IN_GLARE, _CERTAIN = 0.3, 0.2, 0.6
_SPECK = 0.08  # of the largest piece of ink: a piece with less is dirt
_MAIN_PIECE = 0.3  # of all ink: if no piece has as much, and they are many, the ink is the paper's grain
_MOST_SIGNS, _MOST_PIECES = 30, 300
_OVERLAP = 0.25  # of the narrower piece's width: pieces that share so many columns are one below the other
_APART = 0.2, 0.08  # of the taller piece's height: signs below each other, and side by side, are further apart
_FLAT = 0.4  # of its width: a piece that is lower is a stroke, and no sign in a column of signs
_SMALL, _DIRT = 0.4, 0.25  # of a larger piece's size: what belongs to a sign, and what is dirt if it is far from all
_SPECKS = "no sign found: there are specks all over the image, and no stroke"
_CORNER = 0.35  # of the largest piece that touches no side: one that touches a side and is smaller is no ink
_ALONG = 0.5  # of a side of the image: ink that runs along more of it is an edge
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
        InputError: `mnist` finds no ink, only specks, an edge all round, or several signs; or there is no such
            preprocessing.
    """
    if preprocessing == "report":
        return _report_transform(image)
    if preprocessing != "mnist":
        raise InputError(f"preprocessing {preprocessing!r}: may be {' or '.join(get_args(Preprocessing))}.")
    grey = image if image.mode == "L" else image.convert("RGB").convert("L")
    digit = mnist_ink(grey)
    if digit is None:
        digits = _redrawn(grey)
        if len(digits) > 1:
            raise InputError(
                f"there are {len(digits)} signs on the image, not one: cut it, or read them one by one "
                "(`trackdl predict ... --split`)"
            )
        (digit,) = digits
    return torch.from_numpy(digit)


def split_digits(image: Image.Image) -> Tensor:
    """Make an image like MNIST's, as `to_digit` does by `mnist`, of each sign on an image.

    Returns:
        float32 `[n, 28, 28]`, line by line, from left to right.

    Raises:
        InputError: As `to_digit`, except for several signs.
    """
    grey = image if image.mode == "L" else image.convert("RGB").convert("L")
    digit = mnist_ink(grey)
    return torch.from_numpy(np.stack(_redrawn(grey) if digit is None else [digit]))


def _redrawn(image: Image.Image) -> list[Floats]:
    tones = _working_copy(image)
    flat = flattened(tones)
    signs = _signs(_depth(flat), _FAINT if flat is tones else _FAINT_IN_GLARE)
    return [_draw(_upright(np.argwhere(_thin(ink)).astype(np.float64))) for ink in signs]


def _report_transform(image: Image.Image) -> Tensor:
    """Apply the report's GreekTransform to an image read by ImageFolder and ToTensor."""
    from torchvision.transforms import functional  # takes two seconds, which `mnist` does without

    pixels = functional.rgb_to_grayscale(functional.to_tensor(image.convert("RGB")))
    # `affine` pads the shrunk image with black, which the inversion turns into ink, as in the report.
    shrunk = functional.affine(pixels, 0, [0, 0], _REPORT_SCALE, [0.0])
    digit: Tensor = functional.invert(functional.center_crop(shrunk, [SIDE, SIDE]))[0]
    return digit


def mnist_ink(image: Image.Image) -> Floats | None:
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
    return cv2.medianBlur(np.asarray(image), 3).astype(np.float32) / np.float32(255)


def _depth(tones: Floats) -> Floats:
    """Return each pixel's difference from the paper towards the ink, as a share of the paper's tone; paper is 0."""
    coarse, step = coarsened(tones)
    plain, smooth = fits(coarse)
    paper = surface(smooth, tones.shape)
    if _ink_is_dark(coarse - surface(plain, coarse.shape)):
        depth = (paper - tones) / np.clip(paper, 0.2, None)
    else:
        depth = (tones - paper) / np.clip(1 - paper, 0.2, None)
    return _without_shadows(depth - median(depth[depth <= 2 * median(np.abs(depth))]), step)


def _ink_is_dark(residual: NDArray[Any]) -> bool:
    """Return whether ink is darker than paper: ink is rare, or else (cut tight, drawn bold) the thinner of the two."""
    spread = float(residual.std())
    skewness = float((residual**3).mean()) / max(spread**3, 1e-12)
    if abs(skewness) > 1:
        return skewness < 0
    dark = residual < otsu(residual)
    # Distances to the other tone only: the image's edge ends no region. In doubt, ink is dark.
    widths = [
        float(cv2.distanceTransform(region.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max())
        for region in (dark, ~dark)
    ]
    return widths[0] < 1.3 * widths[1]


def _without_shadows(depth: NDArray[Any], step: int) -> Floats:
    """Remove depth that covers a wider area than any stroke: the shadow on one side of the paper."""
    coarse = blurred(depth, max(1.0, step / 1.5))[::step, ::step]
    window = max(3, round(0.4 * max(coarse.shape)))
    narrow = eroded(coarse, window)
    if narrow.max() <= 0:
        return depth.astype(np.float32)
    shadow = blurred(dilated(narrow, window), window / 6)
    lifted: Floats = depth - _resize(np.clip(shadow, 0, None), *depth.shape)
    return lifted.astype(np.float32)


def _signs(depth: Floats, share: float) -> list[Bools]:
    """Return each sign's strokes, in reading order: a cropped mask, its longer side about `_BOX * _FINE` pixels."""
    depth = blurred(depth, max(0.5, max(depth.shape) / 256))
    noise = 1.4826 * median(np.abs(depth - np.float32(median(depth))))
    # If ink covers half of the image, the median's deviation measures ink, not noise.
    least = max(_NOISE_FACTOR * noise, _LEAST_CONTRAST) if noise < 0.06 else _LEAST_CONTRAST
    deep = depth[depth > least]
    if deep.size < 4:
        raise InputError("no ink found: the image is blank, or too faint to read")
    typical = median(deep[deep >= otsu(deep)])
    faint = max(share * typical, min(least, typical / 2))
    pieces, count = _pieces(depth > faint)
    mask = _chosen(pieces, count, pieces[depth > _CERTAIN * typical])
    # 0.5 is the threshold in this map, so that it can be scaled before it is cut, and the outline stays smooth.
    soft = np.clip(depth / (2 * faint), 0, 1)
    return [_smooth(sign, soft) for sign in _apart(mask, np.minimum(depth, typical))]


def _pieces(mask: Bools) -> tuple[NDArray[np.int32], int]:
    """Return each pixel's piece of a mask, 0 outside, and the last piece's number; neighbours at a corner count."""
    count, pieces = cv2.connectedComponentsWithAlgorithm(mask.view(np.uint8), 8, cv2.CV_32S, cv2.CCL_SAUF)
    return np.asarray(pieces, dtype=np.int32), count - 1


def _chosen(pieces: NDArray[np.int32], count: int, numbers: NDArray[Any]) -> Bools:
    """Return a mask of the pieces that have some numbers."""
    chosen = np.zeros(count + 1, dtype=bool)
    chosen[numbers] = True
    mask: Bools = chosen[pieces]
    return mask


def _widened(mask: Bools, pixels: int) -> Bools:
    """Return a mask with all that is within so many steps from it, to the side, up or down."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.view(np.uint8), cross, iterations=pixels).view(np.bool_)


def _smooth(mask: Bools, soft: Floats) -> Bools:
    """Return a sign's strokes of a smooth outline, its longer side about `_BOX * _FINE` pixels."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    near = _widened(mask, 2)
    inside = slice(top, top + height), slice(left, left + width)
    soft = np.pad(np.where(near[inside], soft[inside], np.float32(0)), 3)
    scale = _BOX * _FINE / (max(soft.shape) - 6)
    thickened = cv2.dilate(soft, np.ones((max(1, round(1 / scale)),) * 2, np.uint8))  # a hairline outlives shrinking
    large = _resize(thickened, round(soft.shape[0] * scale), round(soft.shape[1] * scale))
    smooth = blurred(dilated(large, 3), 1.2)
    strokes: Bools = smooth > smooth.max() / 2
    return strokes


def _apart(mask: Bools, depth: Floats) -> list[Bools]:
    """Return each sign's ink, without specks, frames and edges; pieces that a skip of the pen separates are one."""
    gap = max(1, round(0.012 * max(mask.shape)))
    pieces, count = _pieces(_widened(mask, gap))
    pieces[~mask] = 0
    masses = np.bincount(pieces.ravel(), weights=depth.ravel(), minlength=count + 1)
    masses[0] = 0
    masses = _without_edges(pieces, masses)
    kept = np.flatnonzero(masses >= _SPECK * masses.max())
    scattered = masses.max() < _MAIN_PIECE * masses.sum()
    if scattered and len(kept) > _MOST_PIECES:
        raise InputError(_SPECKS)
    boxes = np.array([[(at.start, at.stop) for at in found] for found in ndimage.find_objects(pieces)])[kept - 1]
    framed = [index for index in range(len(kept)) if not _is_frame(pieces == kept[index], boxes, index)]
    kept, boxes = kept[framed], boxes[framed]
    groups = _grouped(boxes)
    if scattered and not 1 < len(groups) <= _MOST_SIGNS:
        raise InputError(_SPECKS)
    return [_chosen(pieces, count, kept[group]) for group in groups]


def _without_edges(pieces: NDArray[Any], masses: NDArray[Any]) -> NDArray[Any]:
    """Return the masses of the pieces of ink; 0 for the edge of a sheet, which runs along a side of the image.

    What a shadow leaves in a corner is small and touches the image's sides.

    Raises:
        InputError: A piece runs all round the image.
    """
    sides = [np.bincount(side, minlength=len(masses)) for side in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1])]
    length = np.repeat(pieces.shape[::-1], 2)
    along = np.stack(sides) / length[:, None]
    along[:, 0] = 0
    if (along > _ALONG).all(axis=0).any():
        raise InputError("no sign found: a dark edge runs all round the image. Cut it off, down to the paper")
    inside = np.where((along > _ALONG).any(axis=0), 0, masses)
    inside[(along > 0).any(axis=0) & (inside < _CORNER * inside[~(along > 0).any(axis=0)].max())] = 0
    return inside if inside.max() > _SPECK * masses.max() else masses


def _is_frame(piece: Bools, boxes: NDArray[Any], index: int) -> bool:
    """Return whether a piece of ink is a box drawn around all others."""
    (top, bottom), (left, right) = boxes[index]
    others = np.delete(boxes, index, axis=0)
    if not len(others) or others.min(axis=0)[0, 0] <= top or others.max(axis=0)[0, 1] >= bottom:
        return False
    if others.min(axis=0)[1, 0] <= left or others.max(axis=0)[1, 1] >= right:
        return False
    rows, columns = round(0.1 * (bottom - top)), round(0.1 * (right - left))
    core = piece[top + rows : bottom - rows, left + columns : right - columns]
    return bool(core.sum() < 0.15 * piece.sum())


def _grouped(boxes: NDArray[Any]) -> list[NDArray[Any]]:
    """Return which pieces of ink, [n, 2 axes, start and stop], make up each sign, in reading order."""
    if len(boxes) == 1:
        return [np.array([0])]
    starts, stops = boxes[:, :, 0], boxes[:, :, 1]
    heights, widths = (stops - starts).T
    sizes = np.maximum(heights, widths)
    tall, large = np.maximum(heights[:, None], heights), np.maximum(sizes[:, None], sizes)
    # From a piece's end to the next one's start, negative where they overlap.
    below, beside = (np.maximum(starts[:, None], starts) - np.minimum(stops[:, None], stops)).transpose(2, 0, 1)
    over = -beside > _OVERLAP * np.minimum(widths[:, None], widths)
    flat = heights < _FLAT * widths
    one = over & ((below < _APART[0] * tall) | flat[:, None] | flat)
    one |= (below < 0) & (beside < _APART[1] * tall)
    # A dot, an accent, or a short stroke belongs to the sign that it is near.
    one |= (np.minimum(sizes[:, None], sizes) < _SMALL * large) & (np.maximum(below, beside) < large / 2)
    _, numbers = connected_components(csr_array(one), directed=False)
    groups = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    groups = [group for group in groups if sizes[group].max() >= _DIRT * sizes.max()]
    lines: list[list[NDArray[Any]]] = []
    for group in sorted(groups, key=lambda group: float(starts[group, 0].min() + stops[group, 0].max())):
        middle = (starts[group, 0].min() + stops[group, 0].max()) / 2
        if lines and middle < max(stops[other, 0].max() for other in lines[-1]):
            lines[-1].append(group)
        else:
            lines.append([group])
    return [group for line in lines for group in sorted(line, key=lambda group: int(starts[group, 1].min()))]


def _removable(code: int) -> bool:
    """Return whether the first pass removes a pixel; bit i of `code` is its neighbour i, clockwise from the top."""
    n, ne, e, se, s, sw, w, nw = (bool(code >> bit & 1) for bit in range(8))
    runs = sum(not a and (b or c) for a, b, c in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n)))
    neighbours = min((nw or n) + (ne or e) + (se or s) + (sw or w), (n or ne) + (e or se) + (s or sw) + (w or nw))
    return runs == 1 and 2 <= neighbours <= 3 and not ((n or ne or not se) and e)


# The pixels that each pass removes, by the code of their neighbours. The second pass is the first turned by half a
# circle, so its code is rotated by four bits.
_REMOVABLE = np.array([_removable(code) for code in range(256)], dtype=np.uint8)
_REMOVABLE = np.stack([_REMOVABLE, _REMOVABLE[[(code >> 4 | code << 4) & 255 for code in range(256)]]])
# What the neighbours add to a code, by their places: bit i is neighbour i, clockwise from the top.
_BITS = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], dtype=np.float32)


def _thin(mask: Bools) -> Bools:
    """Thin a mask to lines one pixel wide (Guo and Hall, 1989, algorithm A1)."""
    line = mask.astype(np.uint8)
    unchanged = 0
    while unchanged < 2:
        for removable in _REMOVABLE:
            codes = cv2.filter2D(line, -1, _BITS, borderType=cv2.BORDER_CONSTANT)
            gone = np.bitwise_and(line, cv2.LUT(codes, removable))
            line -= gone
            unchanged = 0 if gone.any() else unchanged + 1
    return line.view(np.bool_)


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
    canvas = np.full(line.max(axis=0) + 1 + 2 * pen, 255, dtype=np.uint8)
    canvas[tuple((line + pen).T)] = 0
    ink = _INK_AT[_squared_distances(canvas)]
    rows, columns = (np.arange(length, dtype=np.float64) for length in ink.shape)
    mass = ink.sum()
    top, left = (round(float((ink * at).sum() / mass) + 0.5) - side // 2 for at in (rows[:, None], columns[None, :]))
    window = np.zeros((side, side))
    there = ink[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    window[max(-top, 0) :, max(-left, 0) :][: there.shape[0], : there.shape[1]] = there
    digit: Floats = window.reshape(SIDE, _FINE, SIDE, _FINE).mean(axis=(1, 3)).astype(np.float32)
    return digit


# How black a pixel is, by its squared distance from the line: the pen's edge is one pixel wide.
_INK_AT = np.clip(_STROKE * _FINE / 2 + 0.5 - np.sqrt(np.arange(256)), 0, 1)
_REACH = 9  # pixels: the pen leaves nothing that far away


def _squared_distances(canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return squared distances from the pixels that are 0, not 255; from `_REACH` on they are too large."""
    for axis in (0, 1):
        far = np.minimum(canvas, 255 - _REACH**2) if axis else canvas
        nearest = far.copy()
        ahead, there = np.moveaxis(nearest, axis, 0), np.moveaxis(far, axis, 0)
        for step in range(1, _REACH):
            moved = there + np.uint8(step * step) if axis else there | np.uint8(step * step)
            np.minimum(ahead[step:], moved[:-step], out=ahead[step:])
            np.minimum(ahead[:-step], moved[step:], out=ahead[:-step])
        canvas = nearest
    return canvas
