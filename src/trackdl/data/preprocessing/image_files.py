"""Image files of any origin, read safely as grey or colour images.

    image = read_image(Path("letter.jpg"))  # mode L

A served model calls `read_image` on bytes from strangers, so it checks an image's header first, decodes only plain
raster formats, and reports every fault as an `InputError`.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from trackdl.errors import InputError
from trackdl.system.paths import read_bounded

# Raster formats that are decoded by libraries of their own. EPS and WMF are left out because they run another program,
# and so are containers of other images (ICO, ICNS, PSD, FITS and the like).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
MAX_PIXELS = 80_000_000  # a phone's 50 megapixels pass; what Pillow would warn of (89 million) does not
MAX_BYTES = 256 * 2**20  # 80 million pixels of three bytes, and a header


def read_image(source: Path | bytes, name: str | None = None, *, colour: bool = False) -> Image.Image:
    """Read an image as grey tones, or colours, on a white background.

    A camera's orientation is applied, transparency becomes white, and 16 bits, 32 bits and floating point are scaled to
    eight bits. Of several frames the first is read.

    Args:
        source: A file, or its content.
        name: Its name in messages; `None` is the path, or `the image`.
        colour: Keep its colours.

    Returns:
        An image of mode `L`, or `RGB` in colour.

    Raises:
        InputError: The file cannot be opened, is empty or damaged, is no image in one of `FORMATS`, holds tones that
            are not finite, or has more than `MAX_PIXELS` (known before it is decoded).
    """
    name = name or (str(source) if isinstance(source, Path) else "the image")
    content = source if isinstance(source, bytes) else read_bounded(source, MAX_BYTES)
    if not content:
        raise InputError(f"{name}: the file is empty. Give an image ({', '.join(FORMATS)}).")
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: {len(content):,} bytes; an image may have {MAX_BYTES:,}. Scale it down.")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}×{image.height} pixels")
            return _on_white(ImageOps.exif_transpose(image), "RGB" if colour else "L")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow raises these itself where a header inside the file claims more than the first one.
        raise InputError(
            f"{name}: too large ({error}); an image may have {MAX_PIXELS:,} pixels. Scale it down."
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that can be read. Give one of {', '.join(FORMATS)}.") from error
    except Exception as error:  # on damaged files decoders raise errors of any type
        raise InputError(f"{name}: the image is damaged or cut short ({error}). Save it again.") from error


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Decode an opened image to mode `L` or `RGB` on a white background."""
    image.load()
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 or 32 bits or floating point to 0..255; the tone that means transparency becomes white."""
    tones = np.asarray(image).astype(np.float64)
    if not np.isfinite(tones).all():
        raise ValueError("it holds tones that are not finite numbers")
    low, high = min(0.0, float(tones.min())), float(tones.max())
    if image.mode.startswith("I;16"):
        high = 65535.0
    else:  # the mode does not define white: take the smallest usual one
        high = next((white for white in (1.0, 255.0, 65535.0) if high <= white), high)
    white = image.info.get("transparency")
    if isinstance(white, int):
        tones[tones == white] = high
    return Image.fromarray(np.rint((tones - low) / (high - low) * 255).astype(np.uint8))
