"""Image files of any origin, read safely as grey or colour images.

    image = read_image(Path("letter.jpg"))  # mode L

A served model calls `read_image` on bytes from strangers, so it checks an image's header first, decodes only plain
raster formats, and reports every fault as an `InputError`.
"""

import io
import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from pillow_heif import register_heif_opener

from trackdl.errors import InputError
from trackdl.system.paths import read_bounded

# Raster formats that are decoded by libraries of their own, and how many pixels a file of each may have: a core decodes
# so many in a second, in 300 MB. JPEG is decoded at a reduced size. EPS and WMF are left out because they run another
# program, and so are containers of other images (ICO, ICNS, PSD, FITS and the like).
FORMATS = {
    "AVIF": 12_000_000,
    "BMP": 24_000_000,
    "GIF": 12_000_000,
    "HEIF": 25_000_000,
    "JPEG": 80_000_000,
    "JPEG2000": 4_000_000,
    "PNG": 24_000_000,
    "PPM": 24_000_000,
    "QOI": 1_000_000,
    "TIFF": 24_000_000,
    "WEBP": 12_000_000,
}
register_heif_opener()
_SECONDS = 0.8  # of a core, for an image of as many pixels as its format may have
MAX_SIDE = 30_000  # pixels: a decoder's work for each row costs more than its pixels
MAX_BYTES = 256 * 2**20
# An image with a side of at least twice as many pixels is read at a half, a third, ... of its size.
LONGEST = 2048
_FRAMES = 4  # that are looked at for one with something on it
_BLANK = 8  # tones: what differs by less is nothing that anybody drew


def reading_threads() -> int:
    """Return how many threads should read files at once.

    Threads are enough, since Pillow and OpenCV do most of their work without Python's lock; few, since a file takes up
    to 300 MB while it is decoded.
    """
    return min(4, os.cpu_count() or 1)


def read_image(source: Path | bytes, name: str | None = None, *, colour: bool = False) -> Image.Image:
    """Read an image as grey tones, or colours, on a white background.

    A camera's orientation is applied, transparency becomes white (black, if nothing can be seen on white), and 16 bits,
    32 bits and floating point are scaled to eight bits. Of several frames the first with something on it is read. Large
    images are read at a reduced size, whose longer side has between `LONGEST` and twice as many pixels.

    Args:
        source: A file, or its content.
        name: Its name in messages; `None` is the path, or `the image`.
        colour: Keep its colours.

    Returns:
        An image of mode `L`, or `RGB` in colour.

    Raises:
        InputError: The file cannot be opened, is empty or damaged, is no image in one of `FORMATS`, holds tones that
            are not finite, or is larger than its format in `FORMATS` may be (known before it is decoded).
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    content = source if isinstance(source, bytes) else read_bounded(source, MAX_BYTES)
    if not content:
        raise InputError(f"{name}: the file is empty. Give an image ({', '.join(FORMATS)}).")
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: {len(content):,} bytes; an image may have {MAX_BYTES:,}. Scale it down.")
    try:
        with _opened(content) as image:
            return _decoded(image, "RGB" if colour else "L")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow raises these itself where a header inside the file claims more than the first one.
        raise InputError(f"{name}: too large ({error}). Scale it down, or save it as JPEG.") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that can be read. Give one of {', '.join(FORMATS)}.") from error
    except Exception as error:  # on damaged files decoders raise errors of any type
        raise InputError(f"{name}: the image is damaged or cut short ({error}). Save it again.") from error


def decoding_cost(content: bytes) -> tuple[int, float]:
    """Return, from an image file's header, its pixels and about how many seconds one core takes to decode it.

    Both are 0 if it is refused.
    """
    try:
        with _opened(content) as image:
            pixels = image.width * image.height
            return pixels, _SECONDS * pixels / FORMATS[image.format or ""]
    except Exception:  # decoding it will say what is wrong with it
        return 0, 0.0


def _opened(content: bytes) -> Image.Image:
    """Return an image whose header was read, and which is small enough to be decoded.

    Raises:
        DecompressionBombError: It is too large.
        UnidentifiedImageError: It is in none of `FORMATS`.
    """
    image = Image.open(io.BytesIO(content), formats=tuple(FORMATS))
    most = FORMATS[image.format or ""]
    if image.width * image.height > most or max(image.size) > MAX_SIDE:
        raise Image.DecompressionBombError(
            f"{image.width}×{image.height} pixels; a file of {image.format} may have {most:,}, {MAX_SIDE:,} on a side"
        )
    return image


def _decoded(image: Image.Image, mode: str) -> Image.Image:
    """Decode an opened image to mode `L` or `RGB`."""
    if max(image.size) >= 2 * LONGEST and image.format == "JPEG":
        image.draft(None, (image.width * LONGEST // max(image.size), image.height * LONGEST // max(image.size)))
    made = _frame(image, mode)
    for number in range(1, min(getattr(image, "n_frames", 1), _FRAMES)):
        if not _is_blank(made):
            break
        image.seek(number)
        made = _frame(image, mode)
    return made


def _frame(image: Image.Image, mode: str) -> Image.Image:
    """Decode the current frame to mode `L` or `RGB`, on white; on black, if it is only seen there."""
    image.load()
    frame = image
    factor = max(image.size) // LONGEST
    if image.mode.startswith("I;"):
        frame = frame.convert("I")
    if factor > 1 and image.mode not in ("1", "P"):
        frame = frame.reduce(factor)
    if image.mode.startswith(("I", "F")):
        frame = _eight_bits(frame, image)
    elif image.has_transparency_data:
        coloured = frame.convert("RGBA")
        grounds = (Image.alpha_composite(Image.new("RGBA", frame.size, tone), coloured) for tone in ("white", "black"))
        frame = next((on for on in grounds if not _is_blank(on.convert("L"))), Image.new("L", frame.size, "white"))
    if frame.mode != mode:
        frame = frame.convert(mode if frame.mode in ("L", "RGB") else "RGB").convert(mode)
    if factor > 1 and image.mode in ("1", "P"):
        frame = frame.reduce(factor)  # of a palette's numbers no mean can be taken
    frame.getexif()[ExifTags.Base.Orientation] = image.getexif().get(ExifTags.Base.Orientation, 1)
    return ImageOps.exif_transpose(frame)


def _is_blank(image: Image.Image) -> bool:
    """Return whether an image of mode `L` or `RGB` has a single tone, as far as anybody sees."""
    return all(high - low < _BLANK for low, high in np.reshape(image.getextrema(), (-1, 2)))


def _eight_bits(image: Image.Image, whole: Image.Image) -> Image.Image:
    """Scale 16 or 32 bits or floating point to 0..255; the tone that means transparency in `whole` becomes white."""
    tones = np.asarray(image).astype(np.float64)
    if not np.isfinite(tones).all():
        raise ValueError("it holds tones that are not finite numbers")
    low, high = min(0.0, float(tones.min())), float(tones.max())
    if whole.mode.startswith("I;16"):
        high = 65535.0
    else:  # the mode does not define white: take the smallest usual one
        high = next((white for white in (1.0, 255.0, 65535.0) if high <= white), high)
    white = whole.info.get("transparency")
    if isinstance(white, int):
        tones[tones == white] = high
    tones -= low
    tones *= 255 / (high - low)
    return Image.fromarray(np.rint(tones, out=tones).astype(np.uint8))
