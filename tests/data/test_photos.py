"""Photographs are read right or refused with the reason: twenty made-up ones of each kind."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from support import photos
from trackdl.data.preprocessing.digits import split_digits, to_digit
from trackdl.errors import InputError

REASONS = "no sign found|no ink found|signs on the image"


def features(digit: Any) -> photos.Floats:
    blurred = ndimage.gaussian_filter(np.asarray(digit, dtype=float), 1.2).ravel()
    blurred = blurred - blurred.mean()
    return blurred / np.linalg.norm(blurred)


@pytest.fixture(scope="module")
def nearest() -> Callable[[Any], int]:
    """Return the label of the most similar of a hundred plainly drawn digits."""
    random = np.random.default_rng(0)
    known = [
        features(
            to_digit(Image.fromarray((255 - 255 * np.pad(photos.drawn(random, label, 100), 20)).astype("u1")), "mnist")
        )
        for label in range(10)
        for _ in range(10)
    ]
    return lambda digit: int(np.argmax(np.array(known) @ features(digit))) // 10


@pytest.mark.parametrize("kind", photos.SINGLE)
def test_a_digit_is_read_or_refused(kind: str, nearest: Callable[[Any], int]) -> None:
    right = refused = 0
    for number in range(20):
        random = np.random.default_rng([number, *kind.encode()])
        label = int(random.integers(10))
        image = photos.SINGLE[kind](random, [photos.drawn(random, label, 200)])
        try:
            right += nearest(to_digit(image, "mnist")) == label
        except InputError as error:
            refused += bool(re.search(REASONS, str(error)))
    assert right + refused >= 18
    assert right >= 16


@pytest.mark.slow
@pytest.mark.parametrize(("maker", "least"), [(photos.plain, 20), (photos.on_desk, 18), (photos.hard_shadow, 14)])
def test_several_digits_are_refused_and_read_one_by_one_when_split(
    maker: Callable[..., Image.Image], least: int, nearest: Callable[[Any], int]
) -> None:
    right = refused = 0
    for number in range(20):
        random = np.random.default_rng(number)
        labels = random.integers(0, 10, random.integers(2, 5)).tolist()
        image = maker(random, [photos.drawn(random, label, 200) for label in labels])
        try:
            to_digit(image, "mnist")
        except InputError:
            refused += 1
        try:
            right += [nearest(digit) for digit in split_digits(image)] == labels
        except InputError:
            continue
    assert refused >= least
    assert right >= least - 5


def page(masks: Sequence[photos.Floats], places: Sequence[tuple[int, int]], size: tuple[int, int]) -> Image.Image:
    """Put masks on a white page at places (left, top)."""
    tones = np.full(size[::-1], 255)
    for mask, (left, top) in zip(masks, places, strict=True):
        tones[top : top + mask.shape[0], left : left + mask.shape[1]] -= (200 * mask).astype(int)
    return Image.fromarray(tones.astype(np.uint8))


def test_lines_are_read_from_the_top_and_from_the_left(nearest: Callable[[Any], int]) -> None:
    random = np.random.default_rng(3)
    masks = [photos.drawn(random, label, 80) for label in (4, 7, 2, 0)]
    image = page(masks, [(40, 40), (200, 50), (30, 190), (210, 180)], (360, 320))
    assert [nearest(digit) for digit in split_digits(image)] == [4, 7, 2, 0]


def test_ten_digits_in_a_row_are_read(nearest: Callable[[Any], int]) -> None:
    random = np.random.default_rng(4)
    masks = [photos.drawn(random, label, 160) for label in range(10)]
    image = page(masks, [(60 + 230 * label, 60) for label in range(10)], (2400, 300))
    with pytest.raises(InputError, match=r"10 signs .* --split"):
        to_digit(image, "mnist")
    assert [nearest(digit) for digit in split_digits(image)] == list(range(10))


def test_one_sign_is_split_into_itself() -> None:
    mask = photos.drawn(np.random.default_rng(5), 5, 160)
    image = page([mask], [(60, 60)], (300, 300))
    np.testing.assert_array_equal(split_digits(image)[0], to_digit(image, "mnist"))


def test_a_box_around_a_digit_is_left_out(nearest: Callable[[Any], int]) -> None:
    image = page([photos.drawn(np.random.default_rng(6), 8, 160)], [(110, 80)], (340, 320))
    plain = to_digit(image, "mnist")
    tones = np.array(image)
    tones[20:300, 40:300], inner = 40, tones[26:294, 46:294].copy()
    tones[26:294, 46:294] = inner
    assert nearest(plain) == nearest(to_digit(Image.fromarray(tones), "mnist")) == 8


@pytest.mark.parametrize("wide", [1, 2, 4, 10, 40])
def test_an_edge_all_round_is_no_sign(wide: int) -> None:
    """It is refused by name, or passed over."""
    image = page([photos.drawn(np.random.default_rng(7), 3, 160)], [(200, 200)], (600, 600))
    plain = features(to_digit(image, "mnist"))
    tones = np.full((600, 600), 20)
    tones[wide:-wide, wide:-wide] = np.asarray(image)[wide:-wide, wide:-wide]
    try:
        found = features(to_digit(Image.fromarray(tones.astype(np.uint8)), "mnist")) @ plain
    except InputError as error:
        found = float("all round the image" in str(error))
    assert found > 0.95


def test_a_blank_sheet_on_a_desk_is_no_sign() -> None:
    tones = np.full((600, 500), 60)
    tones[150:450, 120:380] = 230
    with pytest.raises(InputError, match=REASONS):
        to_digit(Image.fromarray(tones.astype(np.uint8)), "mnist")
