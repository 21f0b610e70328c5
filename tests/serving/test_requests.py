"""Whatever a model of pictures is asked: it answers pixels and pictures, and refuses everything else in one way."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from support.served import b64, card, content, letter, network
from trackdl.data.preprocessing.garments import to_garment
from trackdl.errors import InputError
from trackdl.serving import PictureCard, ServedPictures
from trackdl.serving.requests import MAX_PICTURES, read_request

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 28, 28))
NUMERIC = ["u1", "i2", "u4", "i8", "f2", "f4", "f8"]


@pytest.fixture(scope="module")
def served() -> ServedPictures:
    return ServedPictures(network(), card(tuple("0123456789")))


@pytest.mark.parametrize("dtype", NUMERIC)
def test_pixels_of_every_type_and_nesting_are_the_same_question(dtype: str) -> None:
    typed = PIXELS.astype(dtype)
    expected = PIXELS.astype(np.float32)
    for form in (typed, typed.astype(object), typed.tolist(), list(typed)):
        np.testing.assert_array_equal(read_request(form), expected)
    np.testing.assert_array_equal(read_request(typed[0].tolist()), expected[:1])


def test_pictures_come_as_text_bytes_and_data_addresses() -> None:
    data = content(letter())
    text = b64(data)
    broken = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    asked = read_request([text, broken, f"data:image/png;base64,{text}"])
    for form in (text, np.array(text, dtype=object), np.array([text]), np.array([[text]], dtype=object), [data]):
        asked += read_request(form)
    assert len(asked) == 8
    assert all(np.array_equal(picture, asked[0]) for picture in asked)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK")]
)
def test_a_picture_of_any_colour_is_answered(served: ServedPictures, kind: str, mode: str) -> None:
    (answer,) = served.records(b64(content(letter(mode), kind)))
    (plain,) = served.records([b64(content(letter("L")))])
    assert answer["label"] == plain["label"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def with_value(value: object) -> list:
    pixels = PIXELS.tolist()
    pixels[1][2][3] = value
    return pixels


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "picture 2, row 3, column 4 is nan"),
        (float("inf"), "column 4 is inf"),
        (-float("inf"), "column 4 is -inf"),
        (1e300, r"column 4 is 1e\+300"),
        (256, "column 4 is 256"),
        (-1, "column 4 is -1"),
        (10**400, "far beyond"),
        (None, "null among the pixels"),
        (True, "true or false among"),
        ("7", "type str among"),
        ({}, "an object among"),
        ([1], "lists of unequal length"),
    ],
)
def test_a_pixel_that_is_none_is_named(value: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_request(with_value(value))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1, 256])
def test_an_array_with_such_a_pixel_too(wrong: float) -> None:
    pixels = PIXELS.astype(np.float64)
    pixels[0, 0, 0] = wrong
    with pytest.raises(InputError, match="row 1, column 1"):
        read_request(pixels)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side: int) -> bytes:
    """Return a PNG of so many black pixels, a thousandth of their size."""
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(b"\0" * (side + 1)) for _ in range(side)) + rows.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "no pictures"),
        (np.zeros((0, 28, 28)), "no pictures"),
        (5, "shape"),
        (None, "null"),
        ({"a": 1}, "an object"),
        (np.zeros((27, 28)), "shape"),
        (np.zeros(784), "shape"),
        (np.zeros((1, 1, 28, 28)), "shape"),
        (np.zeros((28, 28), bool), "true or false"),
        (np.zeros((28, 28), complex), "complex"),
        (np.zeros((28, 28), "M8[s]"), "datetime"),
        ([[0] * 28] * 27 + [[0] * 27], "unequal"),
        ([[[0] * 28] * 28, [[0] * 28] * 27], "unequal"),
        ("no base64!", "picture 1: not base64"),
        ("abcde", "not base64"),
        ("é", "not base64"),
        ("", "empty"),
        ("data:image/png,xyz", "without ';base64,'"),
        (b64(b"hello"), "not a picture"),
        (b64(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a picture"),
        (b64(b"%PDF-1.4\n"), "not a picture"),
        (b64(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not a picture"),
        (b64(content(letter(), "JPEG")[:-400]), "cut short"),
        ([b64(content(letter())), b64(content(letter())[:-40])], "picture 2: .*cut short"),
        ([b64(content(letter())), 5], "type str among"),
        ([["a"] * 28] * 28, "texts of shape"),
        (["x"] * (MAX_PICTURES + 1), "at once"),
        (b64(content(Image.new("L", (60, 60), 255))), "no ink"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_picture_is_refused(served: ServedPictures, wrong: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        served.records(wrong)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(InputError, match="too large"):
        read_request(b64(bomb(12_000)))


def test_many_large_pictures_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackdl.serving.requests._MAX_DECODED", 150_000)
    text = b64(content(letter()))
    assert len(read_request([text] * 2)) == 2
    with pytest.raises(InputError, match="picture 3: more than 150,000 pixels"):
        read_request([text] * 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_answered_or_refused(given_: object) -> None:
    with pytest.raises(InputError):
        read_request(given_)


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_dims=4, max_side=4)))
@settings(max_examples=100, deadline=None)
def test_any_small_array_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        read_request(array)


def test_each_version_preprocesses_as_its_card_says() -> None:
    text = b64(content(letter()))
    shown = {
        how: ServedPictures(network(), card(tuple("0123456789"), how)).shown(read_request(text))
        for how in ("report", "mnist", "fashion")
    }
    assert {tuple(digits.shape) for digits in shown.values()} == {(1, 1, 28, 28)}
    assert not np.allclose(shown["report"], shown["mnist"])
    assert not np.allclose(shown["fashion"], shown["mnist"])
    none = PictureCard(**(card(tuple("0123456789")).model_dump() | {"preprocessing": None}))
    with pytest.raises(InputError, match="28×28 pixels only"):
        ServedPictures(network(), none).records(text)


def test_a_garment_is_made_as_the_data_set_was() -> None:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 8:20] = 200
    np.testing.assert_allclose(to_garment(Image.fromarray(pixels)) * 255, pixels, atol=0.01)
    np.testing.assert_allclose(to_garment(Image.fromarray(255 - pixels)) * 255, pixels, atol=0.01)
    photo = Image.new("L", (400, 500), 250)
    photo.paste(60, (150, 100, 250, 400))
    garment = to_garment(photo)
    seen = np.argwhere(garment > 0.5)
    assert seen[:, 0].min() == 0
    assert seen[:, 0].max() == 27
    assert 8 <= seen[:, 1].max() - seen[:, 1].min() <= 10
    with pytest.raises(InputError, match="one tone"):
        to_garment(Image.new("L", (50, 60), 255))


def test_many_pixels_are_answered_in_parts_as_if_at_once(served: ServedPictures) -> None:
    many = np.random.default_rng(1).integers(0, 256, (600, 28, 28))
    answers = served.records(many)
    assert len(answers) == 600
    for index in (0, 511, 512, 599):
        (alone,) = served.records(many[index])
        assert alone["probabilities"] == pytest.approx(answers[index]["probabilities"], abs=1e-5)
