"""The sheet of paper on a photograph, and its light: a sheet on a desk, hard shadows, reflections.

    tones = flattened(tones)  # of one sheet, evenly lit

An image of one evenly lit paper stays as it is. Of any other, the background of each pixel is the grey closing of its
neighbourhood: what it is without dark strokes. A closing keeps the edges of everything that is wider than its window,
of a shadow as of a desk, so dividing by it removes both. The grain of a desk is left, so if a sheet of paper with ink
on it lies there, the rest is made paper.
"""

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

cv2.setNumThreads(0)  # images are small, and processes that fork must have no threads

_COARSE_SIDE = 128  # sheets are looked for at this size
_LEAST_SIDE = 8  # then: what is narrower is no photograph
_WINDOW = 0.22  # of the shorter side: strokes are narrower, desks and shadows wider
_LIT, _LEAST_LIT = 0.15, 0.45  # of the shorter side, and tone: so wide a part of paper is as light; boards are not
_STEP = 0.1  # of the background: a smooth surface that misses it by more cannot be an even light
_STEP_AREA = 0.01  # of the image: where it must be missed
_LEAST_SHEET, _MOST_SHEET = 0.08, 0.97  # of the image
_CONVEX = 0.93  # of its convex hull, a sheet covers at least so much
_RECTANGULAR = 0.84  # of the smallest rectangle around it, a sheet that lies in the image covers at least so much
_INK = 0.8  # of the background: ink is darker
_CLEAR, _MOSTLY = 0.9, 0.7  # of the background, and of an area: so much of paper is so light, and less of a desk
_NOT_LITTLE = 0.15  # of a sheet's ink
_LEAST_INK, _MOST_INK = 0.002, 0.4  # of a sheet


def flattened(tones: Floats) -> Floats:
    """Return the tones of a sheet, 0..1, as in even light; the same ones, if the light is even and all is paper."""
    coarse, step = coarsened(tones)
    if min(coarse.shape) < _LEAST_SIDE:
        return tones
    lit = eroded(coarse, _window(coarse, _LIT)).max()
    if lit < _LEAST_LIT or not _has_steps(background := _background(coarse)):
        return tones
    fine = blurred(tones, 0.7, cv2.BORDER_REPLICATE)
    flat: Floats = np.clip(fine / np.maximum(_background(fine), 1 / 255), 0, 1)
    sheet = _sheet(coarse, (coarse / np.maximum(background, 1 / 255)).astype(np.float32))
    if sheet is None:
        return flat
    rows, columns = (slice(int(at.min()) * step, (int(at.max()) + 1) * step) for at in np.nonzero(sheet))
    there = ndimage.zoom(sheet, step, order=0)[: tones.shape[0], : tones.shape[1]]
    alone: Floats = np.where(there, flat, np.median(flat[there]))[rows, columns].astype(np.float32)
    return alone


def coarsened(tones: Floats) -> tuple[Floats, int]:
    """Return tones at about `_COARSE_SIDE` pixels, and how many times smaller that is."""
    step = max(1, round(max(tones.shape) / _COARSE_SIDE))
    return np.ascontiguousarray(blurred(tones, max(1.0, step / 2), cv2.BORDER_REPLICATE)[::step, ::step]), step


def blurred(pixels: NDArray[Any], sigma: float, border: int = cv2.BORDER_REFLECT) -> NDArray[Any]:
    """Return the convolution with a Gaussian that is cut off at four standard deviations."""
    kernel = cv2.getGaussianKernel(2 * int(4 * sigma + 0.5) + 1, sigma)
    return cv2.sepFilter2D(pixels, -1, kernel, kernel, borderType=border)


def eroded(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """Return each pixel's minimum over a square."""
    return cv2.erode(pixels, np.ones((side, side), np.uint8), borderType=cv2.BORDER_REPLICATE)


def dilated(pixels: NDArray[Any], side: int) -> NDArray[Any]:
    """Return each pixel's maximum over the square that `eroded` takes, reflected: one that is even has no middle."""
    middle = (side - 1) // 2
    return cv2.dilate(pixels, np.ones((side, side), np.uint8), anchor=(middle,) * 2, borderType=cv2.BORDER_REPLICATE)


def _background(tones: Floats) -> Floats:
    side = _window(tones, _WINDOW)
    return eroded(dilated(tones, side), side)


def _window(tones: Floats, share: float) -> int:
    return max(3, round(share * int(min(tones.shape))))


def _has_steps(background: Floats) -> bool:
    """Return whether no smooth surface, as of light that falls off, is like a background."""
    if np.ptp(background) <= _STEP * background.max():
        return False  # a plane is like it
    misses = np.abs(background - surface(fits(background)[1], background.shape))
    return bool(np.mean(misses > _STEP * background.max()) > _STEP_AREA)


@functools.lru_cache(64)
def _powers(count: int) -> NDArray[np.float64]:
    """Return 1, x, x², x³, x⁴ at `count` places from -1 to 1, `[5, count]`."""
    return np.vander(np.linspace(-1, 1, count), 5, increasing=True).T.copy()


def surface(coefficients: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a quadratic surface at every pixel; x and y are in -1..1, and `coefficients` those of yⁱxʲ, `[3, 3]`."""
    rows, columns = (_powers(count)[:3] for count in shape)
    made: NDArray[np.float64] = rows.T @ (coefficients @ columns)
    return made


def fits(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coefficients, as `surface` takes them, of a surface by least squares, and those that the paper has.

    Even light falls off smoothly: the paper is a quadratic surface, and Cauchy weights keep the ink out of its fit.
    """
    values = values.astype(np.float64)
    plain = paper = _fit(values, np.ones(values.shape))
    for _ in range(8):
        residual = values - surface(paper, values.shape)
        paper = _fit(values, 1 / (1 + (residual / (2 * _spread(np.abs(residual)))) ** 2) ** 2)
    return plain, paper


def _spread(sizes: NDArray[np.float64]) -> float:
    """Return the standard deviation of noise by the median of its sizes, and at least one tone of 255."""
    normal, least = 1.4826, 1 / 255
    if np.count_nonzero(sizes < least / normal) > sizes.size // 2 + 1:
        return least  # the median is not needed, which takes most of the time
    return max(normal * median(sizes), least)


def median(values: NDArray[Any]) -> float:
    """Return the median, three times as fast as NumPy does it."""
    ordered = np.partition(values, values.size // 2, axis=None)
    upper = ordered[values.size // 2]
    return float(upper if values.size % 2 else np.mean([ordered[: values.size // 2].max(), upper]))


_TERMS = (0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)  # of a quadratic surface: powers of y and x


def _fit(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of weighted least squares by the normal equations: six well-scaled terms allow it."""
    rows, columns = (_powers(count) for count in values.shape)
    moments = rows @ weights @ columns.T
    # Of fewer than three rows or columns no surface says how it bends between them.
    y, x = np.array([term for term in _TERMS if term[0] < values.shape[0] and term[1] < values.shape[1]]).T
    sides = (rows[:3] @ (weights * values) @ columns[:3].T)[y, x]
    coefficients = np.zeros((3, 3))
    coefficients[y, x] = np.linalg.lstsq(moments[np.add.outer(y, y), np.add.outer(x, x)], sides, rcond=None)[0]
    return coefficients


def otsu(values: NDArray[Any]) -> float:
    """Return the threshold that best separates two classes (Otsu, 1979)."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[-2::-1]
    mass = np.cumsum(counts * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    return float(edges[1:-1][np.nan_to_num(between).argmax()])


def _sheet(coarse: Floats, flat: Floats) -> Bools | None:
    """Return where a sheet with ink on it lies, less its edge; None if there is none, or ink crosses the edge."""
    middle = otsu(coarse)
    for threshold in (middle, otsu(coarse[coarse > middle]), otsu(coarse[coarse <= middle])):
        pieces = ndimage.label(coarse > threshold)[0]
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        for label in np.flatnonzero(sizes > _LEAST_SHEET * coarse.size):
            found = ndimage.binary_opening(ndimage.binary_fill_holes(pieces == label), iterations=2)
            inner: Bools = ndimage.binary_erosion(found, iterations=2, border_value=1)
            if _is_sheet(found) and _has_ink(inner, flat):
                return None if _goes_on(~ndimage.binary_dilation(found, iterations=2), inner, flat) else inner
    return None


def _has_ink(sheet: Bools, flat: Floats) -> bool:
    """Return whether there is ink on a sheet, most of which does not cross its edge."""
    whole, crossing, area = *_ink(sheet, flat, 1), int(sheet.sum())
    return _LEAST_INK * area < whole < _MOST_INK * area and whole > crossing


def _goes_on(outside: Bools, sheet: Bools, flat: Floats) -> bool:
    """Return whether paper with ink on it goes on outside of a sheet, which is then the part without shadow."""
    clear = np.mean(flat[outside] > _CLEAR) if outside.any() else 0
    return bool(clear > _MOSTLY and _ink(outside, flat, 0)[0] > _NOT_LITTLE * _ink(sheet, flat, 1)[0])


def _ink(region: Bools, flat: Floats, beyond: int) -> tuple[int, int]:
    """Return how much ink lies within a region, and how much crosses its edge; it goes on `beyond` the image."""
    ink = ndimage.label((flat < _INK) & region, np.ones((3, 3)))[0]
    rim = np.unique(ink[region & ~ndimage.binary_erosion(region, border_value=beyond)])
    crossing = int((np.isin(ink, rim) & (ink > 0)).sum())
    return int((ink > 0).sum()) - crossing, crossing


def _is_sheet(found: Bools) -> bool:
    """Return whether a region is convex, and a rectangle more or less, if the image's edge does not cut it off."""
    area = int(found.sum())
    if not _LEAST_SHEET * found.size < area < _MOST_SHEET * found.size:
        return False
    edge = found & ~ndimage.binary_erosion(found)
    points = np.argwhere(edge).astype(float)
    points = np.concatenate([points + offset for offset in ((0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5))])
    try:
        hull = ConvexHull(points)
    except QhullError:
        return False
    if area < _CONVEX * hull.volume:
        return False
    if found[0].any() or found[-1].any() or found[:, 0].any() or found[:, -1].any():
        return True
    corners = points[hull.vertices]
    sides = np.roll(corners, -1, axis=0) - corners
    along = sides / np.linalg.norm(sides, axis=1, keepdims=True)
    across = along[:, ::-1] * (1, -1)
    return bool(area > _RECTANGULAR * (np.ptp(corners @ along.T, axis=0) * np.ptp(corners @ across.T, axis=0)).min())
