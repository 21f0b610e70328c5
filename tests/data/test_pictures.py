import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw, ImageFile
from scipy import ndimage
from torchvision import transforms
from torchvision.transforms import functional

from trackdl.data.images import load_images
from trackdl.data.preprocessing.digits import to_digit
from trackdl.data.preprocessing.image_files import FORMATS, LONGEST, MAX_SIDE, read_image
from trackdl.errors import InputError
from trackdl.spec.images import ImageData

GAMMA = [[(20, 15), (45, 30), (60, 80)], [(100, 10), (60, 80), (40, 150)]]  # an upright sign without a symmetry


def draw(size=(133, 160), pen=6, shift=(0, 0), scale=1.0, paper=255, ink=0, strokes=GAMMA):
    """Draw polylines with round pens, four times finer than asked for and scaled down."""
    image = Image.new("L", (size[0] * 4, size[1] * 4), paper)
    brush = ImageDraw.Draw(image)
    for stroke in strokes:
        points = [((x * scale + shift[0]) * 4, (y * scale + shift[1]) * 4) for x, y in stroke]
        brush.line(points, fill=ink, width=round(pen * 4), joint="curve")
        for x, y in points:
            brush.ellipse((x - pen * 2, y - pen * 2, x + pen * 2, y + pen * 2), fill=ink)
    return image.resize(size, Image.Resampling.BOX)


def content(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def likeness(first, second):
    """Correlation of two digits' ink, blurred by a pixel so that a shift of half a pixel hardly counts."""
    blurred = [ndimage.gaussian_filter(np.asarray(digit), 1).ravel() for digit in (first, second)]
    return np.corrcoef(*blurred)[0, 1]


# Reading


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "GIF"])
def test_each_format_is_read(kind):
    options = {"quality": 95} if kind in ("JPEG", "AVIF", "WEBP", "HEIF") else {}
    image = draw().convert("RGB")
    read = read_image(content(image, kind, **options))
    assert (read.mode, read.size) == ("L", image.size)
    assert np.abs(np.asarray(read, float) - np.asarray(image.convert("L"), float)).mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_each_mode_keeps_its_tones(mode):
    grey = Image.fromarray(np.tile(np.where(np.arange(40) < 20, 0, 255), (40, 1)).astype(np.uint8))
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).convert(mode)
    elif mode == "F":
        image = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    else:
        image = grey.convert(mode)
    read = read_image(content(image, "TIFF" if mode in ("CMYK", "I", "F") else "PNG"))
    assert np.array_equal(np.asarray(read), np.asarray(grey))


def test_sixteen_bits_are_scaled_and_not_cut_off():
    tones = np.array([[0, 257 * 100, 65535]], dtype=np.uint16).repeat(3, axis=0)
    assert np.asarray(read_image(content(Image.fromarray(tones))))[0].tolist() == [0, 100, 255]


def test_tones_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match=r"damaged.*finite"):
        read_image(content(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode):
    ink = draw()
    image = Image.new("RGBA", ink.size, (0, 0, 0, 0))  # black where it cannot be seen
    image.paste((0, 0, 0, 255), mask=ink.point(lambda tone: 255 if tone < 128 else 0))
    read = np.asarray(read_image(content(image.convert(mode))))
    assert read[0, 0] == 255
    assert read.min() == 0


def test_white_ink_on_transparency_is_seen():
    ink = draw().point(lambda tone: 255 if tone < 128 else 0)
    image = Image.new("RGBA", ink.size, (255, 255, 255, 0))
    image.putalpha(ink)
    assert likeness(to_digit(read_image(content(image)), "mnist"), REFERENCE) > 0.98
    assert np.asarray(read_image(content(image), colour=True)).min() == 0


def test_nothing_but_transparency_is_blank():
    assert read_image(content(Image.new("RGBA", (9, 9), (0, 0, 0, 0)))).getextrema() == (255, 255)


def test_a_transparent_tone_of_sixteen_bits_is_white():
    tones = np.array([[0, 1000, 65535]], dtype=np.uint16).repeat(3, axis=0)
    read = read_image(content(Image.fromarray(tones), transparency=0))
    assert np.asarray(read)[0].tolist() == [255, 4, 255]


def test_a_camera_s_orientation_is_applied():
    image = Image.new("L", (40, 20), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert read_image(content(image, "JPEG", exif=exif)).size == (20, 40)


def test_the_first_frame_of_an_animation_is_read():
    frames = [draw(), draw(ink=200)]
    read = read_image(content(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.asarray(read).min() == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_frames_without_anything_on_them_are_passed_over(kind):
    blank = Image.new("L", draw().size, 255)
    whole = content(blank, kind, save_all=True, append_images=[blank.point(lambda _: 250), draw()])
    assert likeness(to_digit(read_image(whole), "mnist"), REFERENCE) > 0.95
    assert read_image(content(blank, kind, save_all=True, append_images=[blank])).getextrema()[0] > 247


def test_a_phone_s_image_of_fifty_megapixels_is_read():
    image = Image.new("L", (8660, 5774), 230)
    image.paste(draw(size=(1330, 1600), scale=10, pen=60, paper=230, ink=40), (3000, 2000))
    read = read_image(content(image, "JPEG", quality=80))
    assert LONGEST <= max(read.size) < 2 * LONGEST
    assert likeness(to_digit(read, "mnist"), to_digit(draw(), "mnist")) > 0.95


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_large_image_is_made_smaller(mode):
    image = Image.new("L", (4200, 2100), 255)
    image.paste(0, (0, 0, 4200, 1050))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    read = read_image(content(image.convert(mode), "TIFF" if mode in ("CMYK", "F") else "PNG"))
    assert read.size == (2100, 1050)
    assert [read.getpixel((5, row)) for row in (5, 1040)] == [0, 255]


def test_a_large_image_is_turned_as_the_camera_says():
    image = Image.new("L", (4200, 2100), 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(content(image, exif=exif)).size == (1050, 2100)


@pytest.mark.parametrize("side", [20_000, 12_000, 5_000])  # Pillow raises, warns, and says nothing
def test_too_many_pixels_are_refused_by_the_header(side):
    assert side * side > FORMATS["PNG"]
    with pytest.raises(InputError, match=r"big\.png: too large .*"):
        read_image(png_header(side, side), name="big.png")


def test_a_side_that_is_too_long_is_refused_by_the_header():
    with pytest.raises(InputError, match=r"PNG may have 24,000,000, 30,000 on a side"):
        read_image(png_header(MAX_SIDE + 1, 1))


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_s_limit_is_named_before_anything_is_decoded(kind, monkeypatch):
    image = Image.new("RGB", (40, 30), "white")
    monkeypatch.setitem(FORMATS, kind, 1199)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=rf"big: too large \(40×30 pixels; a file of {kind} may have 1,199"):
        read_image(content(image, kind), name="big")


def test_a_warning_of_pillow_s_is_not_needed_to_refuse():
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(InputError, match="12000×12000"):
        read_image(png_header(12_000, 12_000))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "not an image"),
        (b"%PDF-1.7\n", "not an image"),
        (content(draw())[:300], "damaged or cut short"),
        (content(draw(), "JPEG")[:600], "damaged or cut short"),
        (content(draw(), "BMP")[:900], "damaged or cut short"),
    ],
    ids=["empty", "text", "eps", "svg", "pdf", "png", "jpeg", "bmp"],
)
@pytest.mark.parametrize("as_file", [True, False])
def test_what_is_no_whole_image_is_named(made, problem, as_file, tmp_path):
    file = tmp_path / "letter.png"
    file.write_bytes(made)
    with pytest.raises(InputError, match=f"letter.png: .*{problem}"):
        read_image(file) if as_file else read_image(made, name="letter.png")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="it is not there"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match="not an ordinary file"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="not an ordinary file"):
        read_image(Path("/dev/zero"))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([content(draw(), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    st.floats(0.3, 1),
)
def test_damage_gives_an_image_or_an_input_error(whole, changes, share):
    damaged = bytearray(whole)
    for place, byte in changes:
        damaged[int(place * len(damaged))] = byte
    try:
        read = read_image(bytes(damaged[: int(share * len(damaged))]))
    except InputError:
        return
    assert read.mode == "L"
    assert max(read.size) < 2 * LONGEST


# The report's transform


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 150), st.integers(1, 150), st.just(3))))
def test_report_is_the_report_s_transform(pixels):
    def greek_transform(x):
        x = functional.rgb_to_grayscale(x)
        x = functional.affine(x, 0, (0, 0), 36 / 128, 0)
        x = functional.center_crop(x, (28, 28))
        return functional.invert(x)

    image = Image.fromarray(pixels)
    wanted = transforms.Compose([transforms.ToTensor(), greek_transform])(image)
    digit = to_digit(image, "report")
    assert digit.dtype == torch.float32
    assert torch.equal(digit, wanted[0])


# Redrawing as MNIST's makers would have

REFERENCE = to_digit(draw(), "mnist")


def test_a_digit_is_upright_fills_its_box_and_lies_on_its_centre_of_mass():
    digit = REFERENCE.numpy()
    assert digit.dtype == np.float32
    assert (digit.min(), digit.max()) == (0, 1)
    rows, columns = np.nonzero(digit > 0.25)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    assert ndimage.center_of_mass(digit) == pytest.approx((13.5, 13.5), abs=0.1)
    slanted = draw(size=(260, 160), strokes=[[(x + 0.5 * (160 - y), y) for x, y in stroke] for stroke in GAMMA])
    assert likeness(to_digit(slanted, "mnist"), REFERENCE) > 0.93


@pytest.mark.parametrize("pen", [1.5, 3, 6, 12, 16])
def test_a_thin_and_a_bold_pen_give_the_same_stroke(pen):
    digit = to_digit(draw(pen=pen), "mnist")
    assert likeness(digit, REFERENCE) > 0.93
    assert float(digit.sum()) == pytest.approx(float(REFERENCE.sum()), rel=0.12)


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (200, 50), (90, 20), (60, 5), (255, 190), (20, 240), (70, 160)])
def test_paper_and_ink_of_any_tone(paper, ink):
    assert likeness(to_digit(draw(paper=paper, ink=ink), "mnist"), REFERENCE) > 0.98


@pytest.mark.parametrize(
    "image",
    [
        draw(size=(500, 700), shift=(330, 20)),
        draw(size=(1200, 900), shift=(30, 300)),
        draw(size=(2000, 1700), scale=10, pen=60, shift=(300, 50)),
        draw(size=(30, 36), scale=0.22, pen=1.6),
        draw(size=(86, 146), shift=(-17, -7)),  # the ink touches every edge
        draw(size=(80, 140), shift=(-20, -10), pen=9),
    ],
    ids=["off centre", "small on a large sheet", "large", "tiny", "cut tight", "cut into"],
)
def test_size_and_place_do_not_matter(image):
    assert likeness(to_digit(image, "mnist"), REFERENCE) > 0.9


def test_uneven_light_noise_specks_and_jpeg_do_not_matter():
    random = np.random.default_rng(0)
    tones = np.asarray(draw(paper=210, ink=60), dtype=float)
    y, x = np.mgrid[-1:1:160j, -1:1:133j]
    tones = tones * (1 - 0.25 * x - 0.2 * y * y) + random.normal(0, 5, tones.shape)
    tones[140:144, 20:24] = tones[8:11, 60:62] = 30
    photograph = content(Image.fromarray(np.clip(tones, 0, 255).astype(np.uint8)), "JPEG", quality=50)
    assert likeness(to_digit(read_image(photograph), "mnist"), REFERENCE) > 0.95


def test_a_soft_shadow_over_half_of_the_paper_does_not_matter():
    x = np.linspace(-1, 1, 300)
    shadow = 1 - 0.3 / (1 + np.exp(-x / 0.08))
    tones = np.asarray(draw(size=(300, 300), shift=(60, 70), paper=220, ink=50)) * shadow
    assert likeness(to_digit(Image.fromarray(tones.astype(np.uint8)), "mnist"), REFERENCE) > 0.95


def test_a_stroke_apart_is_kept():
    parted = [[(20, 15), (38, 62)], GAMMA[1]]
    digit = to_digit(draw(strokes=parted), "mnist").numpy()
    assert ndimage.label(digit > 0.3, np.ones((3, 3)))[1] == 2


@pytest.mark.parametrize("negative", [False, True])
def test_a_sign_in_mnist_s_own_form_stays_what_it_is(negative):
    ink = (REFERENCE.numpy() * 255).astype(np.uint8)
    digit = to_digit(Image.fromarray(255 - ink if negative else ink), "mnist")
    np.testing.assert_array_equal(digit, ink.astype(np.float32) / 255)


def test_a_small_image_that_is_not_centred_is_redrawn():
    ink = np.roll((REFERENCE.numpy() * 255).astype(np.uint8), 3, axis=1)
    assert likeness(to_digit(Image.fromarray(ink), "mnist"), REFERENCE) > 0.95


@pytest.mark.real
def test_mnist_s_own_images_are_shown_to_the_network_as_it_was_trained():
    for digit in load_images(ImageData(dataset="mnist")).test_images[:500].numpy():
        image = Image.fromarray(digit)
        np.testing.assert_array_equal(to_digit(image, "mnist"), digit.astype(np.float32) / 255)


@pytest.mark.parametrize(
    "tones",
    [
        np.full((133, 133), 200),
        np.full((1, 1), 7),
        np.linspace(120, 230, 133 * 133).reshape(133, 133),
        np.random.default_rng(1).normal(210, 4, (300, 300)),
    ],
    ids=["blank", "1×1", "gradient", "grain"],
)
def test_an_image_without_ink_is_refused(tones):
    with pytest.raises(InputError, match=r"no (ink|sign) found"):
        to_digit(Image.fromarray(tones.astype(np.uint8)), "mnist")


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 255)))
def test_any_image_gives_a_digit_or_an_input_error(tones):
    try:
        digit = to_digit(Image.fromarray(tones), "mnist")
    except InputError:
        return
    assert digit.shape == (28, 28)
    assert torch.isfinite(digit).all()
    assert digit.min() >= 0
    assert 0.5 < digit.max() <= 1


@pytest.mark.parametrize("size", [(5000, 2), (2, 5000), (3, 20000)])
def test_narrow_images_are_no_trouble(size):
    image = Image.new("L", size, 230)
    image.paste(20, (size[0] // 3, size[1] // 3, size[0] // 2 + 1, size[1] // 2 + 1))
    assert to_digit(image, "mnist").max() > 0.9


def test_an_unknown_preprocessing_is_an_error():
    with pytest.raises(InputError, match=r"'best'.*report or mnist"):
        to_digit(draw(), "best")
