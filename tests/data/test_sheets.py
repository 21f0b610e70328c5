"""What finds the ink of a photograph computes what SciPy does, which takes several times longer."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from trackdl.data.preprocessing.digits import _squared_distances, _thin, to_digit
from trackdl.data.preprocessing.sheets import blurred, dilated, eroded, fits, median, surface
from trackdl.errors import InputError


@pytest.fixture
def tones() -> np.ndarray:
    return np.random.default_rng(0).random((41, 60), dtype=np.float32)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 8.8])
def test_a_blur_is_scipy_s(tones: np.ndarray, sigma: float) -> None:
    np.testing.assert_allclose(blurred(tones, sigma), ndimage.gaussian_filter(tones, sigma), atol=1e-6)


@pytest.mark.parametrize("side", [3, 4, 29, 30, 70])
def test_opening_and_closing_are_scipy_s(tones: np.ndarray, side: int) -> None:
    closing, opening = (
        which(tones, (side, side), mode="nearest") for which in (ndimage.grey_closing, ndimage.grey_opening)
    )
    np.testing.assert_array_equal(eroded(dilated(tones, side), side), closing)
    np.testing.assert_array_equal(dilated(eroded(tones, side), side), opening)


@pytest.mark.parametrize("count", [1, 2, 101, 102])
def test_a_median_is_numpy_s(count: int) -> None:
    values = np.random.default_rng(count).random(count)
    assert median(values) == np.median(values)


def test_paper_is_a_quadratic_surface_whatever_lies_on_it() -> None:
    y, x = np.meshgrid(np.linspace(-1, 1, 90), np.linspace(-1, 1, 120), indexing="ij")
    paper = 0.7 + 0.1 * x - 0.2 * y + 0.05 * x * y - 0.1 * y * y
    inked = paper.copy()
    inked[30:60, 50:58] = 0.1
    plain, found = fits(inked)
    assert np.abs(surface(plain, paper.shape) - paper).max() > 0.01
    np.testing.assert_allclose(surface(found, paper.shape), paper, atol=1e-3)
    # At another size it is the same surface.
    np.testing.assert_allclose(surface(found, (2, 2)), paper[::89, ::119], atol=1e-3)


def test_squared_distances_from_a_line_are_those_of_scipy_up_to_the_pen_s_reach() -> None:
    canvas = np.where(np.random.default_rng(1).random((60, 70)) < 0.01, 0, 255).astype(np.uint8)
    expected = np.rint(ndimage.distance_transform_edt(canvas) ** 2)
    np.testing.assert_array_equal(np.minimum(_squared_distances(canvas), 81), np.minimum(expected, 81))


def test_a_thinned_ring_is_a_closed_line() -> None:
    y, x = np.mgrid[-40:41, -50:51]
    radius = np.hypot(y, x)
    ring = (radius > 20) & (radius < 34)
    line = _thin(ring)
    assert not (line & ~ring).any()
    assert ndimage.label(~line)[1] == 2  # inside and outside
    assert ndimage.binary_erosion(line, np.ones((2, 2))).sum() == 0


@pytest.mark.parametrize("size", [(2000, 30), (30, 2000), (300, 1)])
def test_a_blank_strip_has_no_ink(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="no ink found"):
        to_digit(Image.new("L", size, 255), "mnist")
