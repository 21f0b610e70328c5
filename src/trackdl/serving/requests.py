"""What a model of pictures may be asked, checked: pixels in whatever nesting and type, or picture files as base64.

MLflow hands over everything as it came (the signature is a tensor of objects, the one kind that lets pixels of any type
and texts pass), so this is where all that is no picture is refused, with the same words under every server.
"""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trackdl.data.preprocessing.digits import SIDE
from trackdl.data.preprocessing.image_files import MAX_PIXELS, read_image
from trackdl.errors import InputError

__all__ = ["MAX_PICTURES", "read_request"]

MAX_PICTURES = 65_536  # at once: the largest data set fits, a million of anything does not
# Of all picture files of one request: five or so of the largest, or a thousand of a scanner's.
_MAX_DECODED = 4 * MAX_PIXELS

_WANTED = f"expected pixels [n, {SIDE}, {SIDE}] or [{SIDE}, {SIDE}] from 0 to 255, or base64 texts of picture files"
_KINDS = {type(None): "null", dict: "an object", list: "lists of unequal length", bool: "true or false"}


def read_request(given: Any) -> NDArray[np.float32] | list[Image.Image]:
    """Return what a request holds.

    Args:
        given: An array of any numeric type, or of objects; nested lists; a text, or bytes of a picture file.

    Returns:
        Pixels, float32 [n, 28, 28], 0 to 255; or pictures of mode `L`, where texts or files were given.

    Raises:
        InputError: It is anything else: ragged, not finite, out of range, no picture; the message names the place.
    """
    array = _array(given)
    if array.size == 0:
        raise InputError(f"no pictures were given: {_WANTED}")
    if array.dtype.kind in "OSU":
        flat = array.ravel().tolist()
        kinds = set(map(type, flat))
        if kinds <= {str, bytes}:
            return _pictures(array, flat)
        array = _numbers(array, kinds)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{_named(array.dtype)} among the pixels: {_WANTED}")
    return _pixels(array)


def _array(given: Any) -> NDArray[Any]:
    if isinstance(given, np.ndarray):
        return given
    try:
        return np.array(given, dtype=object)
    except ValueError as error:
        raise InputError(f"lists of unequal length: {_WANTED}") from error


def _named(dtype: np.dtype[Any]) -> str:
    return {"b": "true or false", "c": "complex numbers"}.get(dtype.kind, f"values of type {dtype}")


def _numbers(array: NDArray[Any], kinds: set[type]) -> NDArray[Any]:
    """Return an array of objects as numbers; a text that looks like a number is none."""
    wrong = [kind for kind in kinds if kind is bool or not issubclass(kind, int | float | np.integer | np.floating)]
    if wrong:
        words = sorted(_KINDS.get(kind, f"values of type {kind.__name__}") for kind in wrong)
        raise InputError(f"{' and '.join(words)} among the pixels: {_WANTED}")
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise InputError("pixels must be numbers from 0 (paper) to 255 (ink), one is far beyond") from error


def _pixels(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.shape[-2:] != (SIDE, SIDE) or array.ndim not in (2, 3):
        raise InputError(f"pixels of shape {list(array.shape)}: expected [n, {SIDE}, {SIDE}] or [{SIDE}, {SIDE}]")
    pixels = array.reshape(-1, SIDE, SIDE)
    _count(len(pixels))
    # One comparison finds all: NaN is not within any bounds.
    wrong = ~((pixels >= 0) & (pixels <= 255))
    if wrong.any():
        place = np.argwhere(wrong)[0]
        value = pixels[tuple(place)]
        where = f"picture {place[0] + 1}, row {place[1] + 1}, column {place[2] + 1}"
        raise InputError(f"pixels must be numbers from 0 (paper) to 255 (ink); {where} is {value:g}")
    return pixels.astype(np.float32)


def _count(pictures: int) -> None:
    if pictures > MAX_PICTURES:
        raise InputError(
            f"{pictures:,} pictures at once; at most {MAX_PICTURES:,} are looked at. Send fewer at a time."
        )


def _pictures(array: NDArray[Any], flat: list[Any]) -> list[Image.Image]:
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise InputError(f"texts of shape {list(array.shape)}: expected one base64 text a picture, [n]")
    _count(len(flat))
    pictures: list[Image.Image] = []
    decoded = 0
    for number, item in enumerate(flat, 1):
        name = f"picture {number}"
        picture = read_image(_decoded(item, name) if isinstance(item, str) else item, name)
        decoded += picture.width * picture.height
        if decoded > _MAX_DECODED:
            raise InputError(f"{name}: more than {_MAX_DECODED:,} pixels in one request. Send fewer at a time.")
        pictures.append(picture)
    return pictures


def _decoded(text: str, name: str) -> bytes:
    """Return what a base64 text or a `data:` address holds; line breaks are as good as none."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError(f"{name}: a data: address without ';base64,'")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: not base64 ({error}). Send a picture file as base64 text.") from error
