"""Photographs of Greek letters by invented writers, for tests of a transfer on letters that nobody has seen.

    python benchmarks/letters.py FOLDER                            # 24 letters by writers 0 to 9: 240 photographs
    python benchmarks/letters.py FOLDER --writers 10 14 --side 3024
    python benchmarks/letters.py FOLDER --letters alpha beta gamma

A writer has a font of matplotlib's, a slant, a pen and a proportion; each photograph adds an unsteady
hand, perspective, uneven light, and noise. They stand in for writers and are no handwriting.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

NAMES = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta",
    "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
SIGNS = dict(zip(NAMES, "αβγδεζηθικλμνξοπρστυφχψω", strict=True))
FONTS = (
    "STIXGeneralItalic", "DejaVuSans", "DejaVuSerif-Italic", "STIXGeneral", "DejaVuSansMono-Oblique", "DejaVuSerif",
    "DejaVuSans-Oblique", "STIXGeneralBolIta", "DejaVuSansMono", "DejaVuSerif-BoldItalic", "DejaVuSans-Bold",
    "STIXGeneralBol", "DejaVuSerif-Bold", "DejaVuSansMono-Bold",
)  # fmt: skip
INK = 320  # pixels: letters are drawn and distorted in a square of this side


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--writers", type=int, nargs=2, default=(0, 10), metavar=("FIRST", "END"))
    parser.add_argument("--letters", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--side", type=int, default=400, help="pixels")
    given = parser.parse_args()
    work = [(given.folder, name, writer, given.side) for name in given.letters for writer in range(*given.writers)]
    with ProcessPoolExecutor() as pool:
        for _ in pool.map(photograph, *zip(*work, strict=True)):
            pass


def photograph(folder: Path, name: str, writer: int, side: int) -> None:
    """Write one letter of one writer as a JPEG of `side` pixels."""
    random = np.random.default_rng([writer, NAMES.index(name)])
    ink = letter(name, writer, random)
    size = round(side * random.uniform(0.35, 0.7))
    glyph = ink.resize((size, size), Image.Resampling.BICUBIC)
    sheet = Image.new("L", (side, side))
    right, down = random.uniform(-0.08, 0.08, 2) * side
    sheet.paste(glyph, (round((side - size) / 2 + right), round((side - size) / 2 + down)))
    tilt = random.uniform(-0.12, 0.12, 2) / side  # how the camera is held
    sheet = sheet.transform(
        sheet.size, Image.Transform.PERSPECTIVE, (1, 0, 0, 0, 1, 0, *tilt), Image.Resampling.BILINEAR
    )
    covered = np.asarray(sheet.filter(ImageFilter.GaussianBlur(side / 1000)), np.float32) / 255
    along = np.linspace(-1, 1, side, dtype=np.float32)
    slope = random.uniform(-0.2, 0.2, 2).astype(np.float32)
    light = random.uniform(0.65, 0.9) * (1 + slope[0] * along[:, None] + slope[1] * along)
    tones = light * (1 - random.uniform(0.5, 0.85) * covered)
    grain = random.normal(0, 0.012, (INK, INK)).astype(np.float32)
    tones += np.tile(grain, (side // INK + 1,) * 2)[:side, :side]
    colours = tones[..., None] * np.array([1, 0.98, 0.93], np.float32)
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(colours * 255, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(place / f"writer_{writer:02}.jpg", quality=90)


def letter(name: str, writer: int, random: np.random.Generator) -> Image.Image:
    """Return the ink of a letter as a writer draws it, mode L, a square cut close to it."""
    own = np.random.default_rng([writer, 999])
    shear, aspect, pen = own.uniform(-0.1, 0.4), own.uniform(0.75, 1.3), int(own.integers(0, 5))
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{FONTS[writer % len(FONTS)]}.ttf"
    face = ImageFont.truetype(file, INK // 2, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (INK, INK))
    ImageDraw.Draw(canvas).text((INK / 2, INK / 2), SIGNS[name], 255, face, "mm", stroke_width=pen)
    turn = np.deg2rad(random.uniform(-12, 12))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = rotation @ np.array([[1, 0], [shear, aspect]])
    at = np.indices((INK, INK), dtype=np.float64) - INK / 2
    moved = np.einsum("ij,jhw->ihw", matrix, at) + INK / 2
    moved += 7 * field(random, INK / 7) + 1.5 * field(random, INK / 25)
    ink = Image.fromarray(ndimage.map_coordinates(np.asarray(canvas, np.float64), moved, order=1).astype(np.uint8))
    ink = ink.crop(ink.point(lambda tone: 255 * (tone > 40)).getbbox())
    square = Image.new("L", (max(ink.size) + 8,) * 2)
    square.paste(ink, ((square.width - ink.width) // 2, (square.height - ink.height) // 2))
    return square


def field(random: np.random.Generator, width: float) -> NDArray[np.float64]:
    """Return a smooth random displacement of every pixel, with the standard deviation 1: [2, height, width]."""
    made = ndimage.gaussian_filter(random.normal(size=(2, INK, INK)), (0, width, width), mode="wrap")
    return made / made.std()


if __name__ == "__main__":
    main()
