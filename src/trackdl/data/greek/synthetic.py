"""Greek letters drawn from fonts, which replace the report's 27 images where those are not available.

They show that a workflow runs, not how well it reads handwriting. matplotlib ships the fonts; with the same versions of
Pillow and matplotlib every machine draws the same images.
"""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 133  # pixels, as the report's images

_LETTERS = {"alpha": "α", "beta": "β", "gamma": "γ"}
_FONTS = (
    "DejaVuSans-Oblique",
    "cmmi10",
    "STIXGeneralItalic",
    "DejaVuSerif",
    "DejaVuSans-Bold",
    "STIXGeneral",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono",
    "STIXGeneralBolIta",
)
_CMMI10 = {"α": "\u00ae", "β": "\u00af", "γ": "\u00b0"}  # their codes in TeX's font of mathematical italics
_FONT_PIXELS = 320
_CANVAS = 640  # pixels: holds a letter of that size, sheared and rotated


def render_letters(per_class: int = 9) -> dict[str, tuple[Image.Image, ...]]:
    """Draw α, β and γ in several fonts, slants, weights, sizes, places, inks and paper tones.

    Args:
        per_class: The number of images of each letter.

    Returns:
        Each class's images, mode `L`, 133×133, dark ink on lighter paper.
    """
    return {
        name: tuple(_draw(letter, _FONTS[index % len(_FONTS)], [place, index]) for index in range(per_class))
        for place, (name, letter) in enumerate(_LETTERS.items())
    }


def _draw(letter: str, font: str, seed: list[int]) -> Image.Image:
    """Draw one letter on paper."""
    random = np.random.default_rng(seed)
    glyph = _glyph(letter, font, random)
    shrink = random.uniform(0.4, 0.7) * SIDE / max(glyph.size)
    glyph = glyph.resize((round(glyph.width * shrink), round(glyph.height * shrink)), Image.Resampling.BOX)
    right, down = (int(shift) for shift in random.integers(-10, 10, 2, endpoint=True))
    ink = Image.new("L", (SIDE, SIDE))
    ink.paste(glyph, ((SIDE - glyph.width) // 2 + right, (SIDE - glyph.height) // 2 + down))
    tone = random.uniform(140, 240)
    light = np.linspace(-1, 1, SIDE) * random.uniform(-12, 12)
    paper = tone + light[:, None] + random.normal(0, 1.5, (SIDE, SIDE))
    covered = np.asarray(ink) / 255
    depth = random.uniform(0.55, 0.9) * tone
    return Image.fromarray(np.rint(np.clip(paper - depth * covered, 0, 255)).astype(np.uint8))


def _glyph(letter: str, font: str, random: np.random.Generator) -> Image.Image:
    """Return a letter's ink, large and cropped, with random weight, slant and rotation."""
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    # The basic layout: the other one needs libraries that a machine may lack.
    face = ImageFont.truetype(file, _FONT_PIXELS, layout_engine=ImageFont.Layout.BASIC)
    sign = _CMMI10[letter] if font == "cmmi10" else letter
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    weight = int(random.integers(0, 7))
    middle = _CANVAS / 2
    ImageDraw.Draw(canvas).text((middle, middle), sign, fill=255, font=face, anchor="mm", stroke_width=weight)
    shear, turn = random.uniform(-0.1, 0.35), random.uniform(-8, 8)
    canvas = canvas.transform(
        canvas.size, Image.Transform.AFFINE, (1, shear, -shear * middle, 0, 1, 0), Image.Resampling.BILINEAR
    ).rotate(turn, Image.Resampling.BILINEAR)
    return canvas.crop(canvas.getbbox())
