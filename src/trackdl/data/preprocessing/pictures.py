"""Pictures of any origin made safe to read, and made what a network trained on MNIST takes.

    digit = to_digit(read_picture(Path("letter.jpg")), "mnist")  # float32 [28, 28], 1 = ink

`read_picture` is also what a served model calls on bytes from strangers: it decides by a picture's header, decodes only
plain raster formats, and answers whatever is wrong with one `InputError`.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from trackdl.data.preprocessing.digits import SIDE, draw_as_digit
from trackdl.errors import InputError
from trackdl.spec import Preprocessing

__all__ = ["FORMATS", "MAX_PIXELS", "read_picture", "to_digit", "to_digits"]

# Raster formats whose decoders are libraries of their own. Left out: EPS and WMF, which run or ask for another program,
# and containers of other pictures (ICO, ICNS, PSD, FITS and the like).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
MAX_PIXELS = 80_000_000  # a phone's 50 megapixels pass; what Pillow would warn of (89 million) does not
_MAX_BYTES = 256 * 2**20  # 80 million pixels of three bytes, and a header

_REPORT_SCALE = 36 / 128  # the report's task 3


def read_picture(source: Path | bytes, name: str | None = None) -> Image.Image:
    """Read a picture as grey tones on white paper.

    A camera's orientation is applied, transparency is laid on white, and 16 bits, 32 bits and floating point are
    scaled to eight bits. Of a picture with several frames the first is read.

    Args:
        source: A file, or a picture file's content.
        name: What messages call it; `None` is the path, or `the picture`.

    Returns:
        A picture of mode `L`.

    Raises:
        InputError: It is empty, no picture, of a format not in `FORMATS`, cut short or damaged, of no finite tones,
            larger than `MAX_PIXELS` (known before it is decoded), or cannot be opened.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    size = len(source) if isinstance(source, bytes) else _file_size(source, name)
    if size == 0:
        raise InputError(f"{name}: the file is empty. Give a picture ({', '.join(FORMATS)}).")
    if size > _MAX_BYTES:
        raise InputError(f"{name}: {size:,} bytes; a picture may have {_MAX_BYTES:,}. Scale it down.")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}×{image.height} pixels")
            return _grey(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own limits end here too, where a header inside the file claims more than the first one did.
        raise InputError(
            f"{name}: too large ({error}); a picture may have {MAX_PIXELS:,} pixels. Scale it down."
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not a picture that can be read. Give one of {', '.join(FORMATS)}.") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise InputError(f"{name}: the picture is damaged or cut short ({error}). Save it again.") from error


def _file_size(path: Path, name: str) -> int:
    """Return the size in bytes of what must be an ordinary file."""
    if not path.is_file():
        raise InputError(f"{name}: {'not an ordinary file' if path.exists() else 'there is no such file'}.")
    try:
        with path.open("rb"):
            return path.stat().st_size
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}).") from error


def _grey(image: Image.Image) -> Image.Image:
    """Decode an opened picture to mode `L` on white."""
    image.load()
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        paper = Image.new("RGBA", coloured.size, "white")
        return Image.alpha_composite(paper, coloured).convert("RGB").convert("L")
    return image if image.mode == "L" else image.convert("RGB").convert("L")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 or 32 bits or floating point to 0..255; a tone that stands for transparency becomes white."""
    tones = np.asarray(image).astype(np.float64)
    if not np.isfinite(tones).all():
        raise ValueError("it holds tones that are no finite numbers")
    low, high = min(0.0, float(tones.min())), float(tones.max())
    if image.mode.startswith("I;16"):
        high = 65535.0
    else:  # the mode does not say which tone is white: the least usual one that holds them all
        high = next((white for white in (1.0, 255.0, 65535.0) if high <= white), high)
    white = image.info.get("transparency")
    if isinstance(white, int):
        tones[tones == white] = high
    return Image.fromarray(np.rint((tones - low) / (high - low) * 255).astype(np.uint8))


def to_digit(picture: Image.Image, preprocessing: Preprocessing) -> Tensor:
    """Make a picture one of MNIST's kind.

    Args:
        picture: A picture as `read_picture` returns it; other modes are converted as torchvision's ImageFolder does.
        preprocessing: `report` is the transform of the report's task 3, whatever it does to a picture that is not like
            the report's: grey, scaled by 36/128, the middle 28×28, inverted. `mnist` finds the ink and redraws it as
            MNIST's makers would have (`strokes`).

    Returns:
        float32 `[28, 28]` in 0..1, 1 = ink; not yet normalised.

    Raises:
        InputError: `mnist` finds no ink, or there is no such preprocessing.
    """
    if preprocessing == "mnist":
        grey = picture if picture.mode == "L" else picture.convert("RGB").convert("L")
        return torch.from_numpy(draw_as_digit(grey))
    if preprocessing == "report":
        return _report(picture)
    raise InputError(f"preprocessing {preprocessing!r}: may be {' or '.join(get_args(Preprocessing))}.")


def to_digits(
    pictures: Sequence[Image.Image], preprocessing: Preprocessing, names: Sequence[str] | None = None
) -> Tensor:
    """Make pictures a network's input but for the normalisation.

    Args:
        pictures: Pictures as `read_picture` returns them.
        preprocessing: As for `to_digit`.
        names: What messages call the pictures; `None` counts them from 1.

    Returns:
        float32 `[n, 1, 28, 28]` in 0..1, 1 = ink.

    Raises:
        InputError: As `to_digit`, naming the picture.
    """
    digits = torch.empty(len(pictures), 1, SIDE, SIDE)
    for index, picture in enumerate(pictures):
        try:
            digits[index, 0] = to_digit(picture, preprocessing)
        except InputError as error:
            raise InputError(f"{names[index] if names else f'picture {index + 1}'}: {error}") from error
    return digits


def _report(picture: Image.Image) -> Tensor:
    """Apply the report's GreekTransform to what ImageFolder's loader and ToTensor give."""
    from torchvision.transforms import functional  # two seconds that `mnist` need not pay

    pixels = functional.rgb_to_grayscale(functional.to_tensor(picture.convert("RGB")))
    # Around the shrunk picture `affine` leaves black, which the inversion makes ink: the report's network saw that too.
    shrunk = functional.affine(pixels, 0, [0, 0], _REPORT_SCALE, [0.0])
    digit: Tensor = functional.invert(functional.center_crop(shrunk, [SIDE, SIDE]))[0]
    return digit
