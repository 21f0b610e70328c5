"""Whatever a model of pictures is asked: it answers pixels and pictures, and refuses everything else in one way."""

import json
import re
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydantic import TypeAdapter

from support.served import b64, card, colour_model, content, letter, network
from trackdl.data.images import load_images, normalise
from trackdl.data.preprocessing.garments import to_garment
from trackdl.data.preprocessing.image_files import read_image
from trackdl.data.preprocessing.squares import to_square
from trackdl.errors import InputError
from trackdl.serving import ImageCard, ServedImages
from trackdl.serving.images import CostlyError
from trackdl.serving.requests import MAX_IMAGES, read_request
from trackdl.spec.images import ImageData

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 28, 28))
NUMERIC = ["u1", "i2", "u4", "i8", "f2", "f4", "f8"]


@pytest.fixture(scope="module")
def served() -> ServedImages:
    return ServedImages(network(), card(tuple("0123456789")))


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
def test_a_picture_of_any_colour_is_answered(served: ServedImages, kind: str, mode: str) -> None:
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
        (float("nan"), "image 2, row 3, column 4 is nan"),
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
        ([], "no images"),
        (np.zeros((0, 28, 28)), "no images"),
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
        ("no base64!", "image 1: not base64"),
        ("abcde", "not base64"),
        ("é", "not base64"),
        ("", "empty"),
        ("data:image/png,xyz", "without ';base64,'"),
        (b64(b"hello"), "not an image"),
        (b64(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not an image"),
        (b64(b"%PDF-1.4\n"), "not an image"),
        (b64(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image"),
        (b64(content(letter(), "JPEG")[:-400]), "cut short"),
        ([b64(content(letter())), b64(content(letter())[:-40])], "image 2: .*cut short"),
        ([b64(content(letter())), 5], "type str among"),
        ([["a"] * 28] * 28, "texts of shape"),
        (["x"] * (MAX_IMAGES + 1), "at once"),
        (b64(content(Image.new("L", (60, 60), 255))), "no ink"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_picture_is_refused(served: ServedImages, wrong: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        served.records(wrong)


def test_a_decompression_bomb_is_refused_by_its_header(served: ServedImages) -> None:
    with pytest.raises(InputError, match="too large"):
        served.records(b64(bomb(12_000)))


def test_what_many_files_cost_is_known_before_they_are_decoded(served: ServedImages) -> None:
    files = [content(letter())] * 100
    assert len(served.records(files)) == 100
    limited = replace(served, most=1.0)
    assert len(limited.records(files[:20])) == 20
    with pytest.raises(CostlyError, match=r"^100 image files that take about 4\.8 s .* Send fewer at a time\."):
        limited.records(files)
    # Without its pixels, no file can be decoded: its header was enough.
    large = content(Image.new("L", (4000, 4000), 255))[:200]
    with pytest.raises(CostlyError, match=r"^2 image files"):
        limited.records([large, large])
    with pytest.raises(InputError, match=r"image 1: .*cut short"):
        limited.records([large])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@pytest.mark.slow
@given(JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_answered_or_refused(given_: object) -> None:
    with pytest.raises(InputError):
        ServedImages(network(), card(tuple("0123456789"))).records(given_)


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_dims=4, max_side=4)))
@settings(max_examples=100, deadline=None)
def test_any_small_array_is_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError):
        read_request(array)


def test_each_version_preprocesses_as_its_card_says() -> None:
    text = b64(content(letter()))
    shown = {
        how: ServedImages(network(), card(tuple("0123456789"), how)).to_inputs([content(letter())])
        for how in ("report", "mnist", "fashion")
    }
    assert {tuple(digits.shape) for digits in shown.values()} == {(1, 1, 28, 28)}
    assert not np.allclose(shown["report"], shown["mnist"])
    assert not np.allclose(shown["fashion"], shown["mnist"])
    none = ImageCard(**(card(tuple("0123456789")).model_dump() | {"preprocessing": None}))
    with pytest.raises(InputError, match="28×28 pixels only"):
        ServedImages(network(), none).records(text)


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
    with pytest.raises(InputError, match="single tone"):
        to_garment(Image.new("L", (50, 60), 255))


def test_many_pixels_are_answered_in_parts_as_if_at_once(served: ServedImages) -> None:
    many = np.random.default_rng(1).integers(0, 256, (600, 28, 28))
    answers = served.records(many)
    assert len(answers) == 600
    for index in (0, 511, 512, 599):
        (alone,) = served.records(many[index])
        assert alone["probabilities"] == pytest.approx(answers[index]["probabilities"], abs=1e-5)


COLOURS = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3))


def test_a_model_of_its_own_size_and_colour_takes_pixels_and_files_alike() -> None:
    served = colour_model()
    files = [b64(content(Image.fromarray(pixels.astype(np.uint8)))) for pixels in COLOURS]
    assert served.records(COLOURS.tolist()) == served.records(files)
    assert served.records(COLOURS[0])[0] == served.records(files[:1])[0]
    (answer,) = served.records(b64(content(letter("L"))))
    assert list(answer["probabilities"]) == ["red", "green", "blue"]


def test_its_inputs_are_normalised_by_channel() -> None:
    served = colour_model()
    inputs = torch.from_numpy(COLOURS.astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        expected = served.model(normalise(inputs, served.card.mean, served.card.std)).softmax(1).double()
    answers = served.records(COLOURS)
    assert [list(answer["probabilities"].values()) for answer in answers] == [
        pytest.approx(row, abs=1e-6) for row in expected.tolist()
    ]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (COLOURS[..., 0], "pixels of shape [2, 12, 12]: expected [n, 12, 12, 3] or [12, 12, 3]"),
        (np.zeros((1, 28, 28)), "expected [n, 12, 12, 3] or [12, 12, 3]"),
        (np.full((1, 12, 12, 3), 256), "image 1, row 1, column 1, channel 1 is 256"),
        ([], "expected pixels [n, 12, 12, 3] or [12, 12, 3] from 0 to 255"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_its_own_size(wrong: object, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        colour_model().records(wrong)


def test_a_file_is_made_square_as_the_images_of_a_folder_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    for name, mode in (("a", "RGB"), ("b", "RGBA")):
        (tmp_path / name).mkdir()
        letter(mode).resize((70, 31)).save(tmp_path / name / "1.png")
    shutil.copytree(tmp_path, tmp_path.parent / "tested")
    images = load_images(ImageData(folder=".", test_folder="../tested", size=12, colour=True))
    for index, name in enumerate("ab"):
        seen = colour_model().to_input(read_image(tmp_path / name / "1.png", colour=True))
        assert torch.equal(seen, images.train_images[index].float() / 255)


def test_the_whole_image_is_kept_in_proportion_on_its_borders_colour() -> None:
    image = Image.new("RGB", (40, 20), (10, 200, 30))
    image.paste((250, 0, 0), (10, 5, 30, 15))
    square = np.asarray(to_square(image, 20))
    assert square.shape == (20, 20, 3)
    assert (square[:5] == (10, 200, 30)).all()
    assert (square[15:] == (10, 200, 30)).all()
    assert square[10, 10].tolist() == [250, 0, 0]


def test_a_drawing_is_negated_for_a_model_of_light_signs() -> None:
    digits = ImageCard(**(card(tuple("0123456789")).model_dump() | {"preprocessing": "square-dark"}))
    served = ServedImages(network(), digits)
    drawn = letter("L")
    negative = Image.fromarray(255 - np.asarray(drawn))
    assert torch.equal(served.to_input(drawn), served.to_input(negative))
    assert served.to_input(drawn)[0, 0, 0] == 0
    # In colour or not, read once.
    assert torch.equal(served.to_input(drawn), served.to_input(drawn.convert("RGB")))


def test_cards_of_before_still_load() -> None:
    old = card(tuple("0123456789")).model_dump()
    del old["size"], old["colour"]
    read = TypeAdapter(ImageCard).validate_json(json.dumps(old))
    assert (read.size, read.colour) == (28, False)
    new = colour_model().card
    assert TypeAdapter(ImageCard).validate_json(json.dumps(new.model_dump())) == new


def test_what_is_unlike_the_learnt_is_said_beside_the_answer() -> None:
    plain = ServedImages(network(), card(tuple("0123456789")))
    batch = torch.rand(6, 1, 28, 28)
    outputs, energies = plain.energies(plain.card.normalise(batch))
    logits = outputs + energies[:, None]  # the network returns logits less their energy
    assert torch.allclose(torch.logsumexp(logits, dim=1), energies, atol=1e-5)
    assert torch.allclose(plain.model(plain.card.normalise(batch)), outputs)
    least = float(energies.double().median())
    said = ServedImages(plain.model, plain.card.model_copy(update={"least_energy": least})).classify(batch)
    assert [answer["unfamiliar"] for answer in said] == [energy < least for energy in energies.tolist()]
    assert all("unfamiliar" not in answer for answer in plain.classify(batch))
    colour = colour_model()
    outputs, energies = colour.energies(torch.rand(2, 3, 12, 12))
    assert torch.equal(energies, torch.logsumexp(outputs, dim=1))


def test_each_thread_has_its_own_energies() -> None:
    served = ServedImages(network(), card(tuple("0123456789")))
    batches = [torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) for seed in range(16)]
    alone = [served.energies(batch)[1] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: served.energies(batch)[1], batches * 4))
    assert all(torch.equal(one, other) for one, other in zip(alone * 4, together, strict=True))
