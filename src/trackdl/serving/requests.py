"""Checks of the requests to an image model: pixels, nested and of any numeric type, or image files as base64.

MLflow passes requests on as they came, because the signature is a tensor of objects, the only one that admits both
pixels of any type and texts. So invalid requests are refused here, with the same messages under every server.
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

MAX_IMAGES = 65_536  # in one request: the largest data set fits
# Pixels of all image files in one request: four of the largest, or a thousand of a scanner's.
_MAX_DECODED = 4 * MAX_PIXELS

_EXPECTED = f"expected pixels [n, {SIDE}, {SIDE}] or [{SIDE}, {SIDE}] from 0 to 255, or base64 texts of image files"
_KINDS = {type(None): "null", dict: "an object", list: "lists of unequal length", bool: "true or false"}


def read_request(given: Any) -> NDArray[np.float32] | list[Image.Image]:
    """Return the images of a request.

    Args:
        given: An array of numbers or objects; nested lists; base64 texts, or bytes of image files.

    Returns:
        Pixels, float32 [n, 28, 28], 0 to 255; or, for texts and bytes, images of mode `L`.

    Raises:
        InputError: The request is anything else, e.g. ragged, not finite or out of range; the message names the place.
    """
    array = _array(given)
    if array.size == 0:
        raise InputError(f"no images were given: {_EXPECTED}")
    if array.dtype.kind in "OSU":
        flat = array.ravel().tolist()
        kinds = set(map(type, flat))
        if kinds <= {str, bytes}:
            return _decode_all(array, flat)
        array = _numbers(array, kinds)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{_kind(array.dtype)} among the pixels: {_EXPECTED}")
    return _pixels(array)


def _array(given: Any) -> NDArray[Any]:
    if isinstance(given, np.ndarray):
        return given
    try:
        return np.array(given, dtype=object)
    except ValueError as error:
        raise InputError(f"lists of unequal length: {_EXPECTED}") from error


def _kind(dtype: np.dtype[Any]) -> str:
    return {"b": "true or false", "c": "complex numbers"}.get(dtype.kind, f"values of type {dtype}")


def _numbers(array: NDArray[Any], kinds: set[type]) -> NDArray[Any]:
    """Return an array of objects as numbers; texts are refused, even those that look like numbers."""
    wrong = [kind for kind in kinds if kind is bool or not issubclass(kind, int | float | np.integer | np.floating)]
    if wrong:
        words = sorted(_KINDS.get(kind, f"values of type {kind.__name__}") for kind in wrong)
        raise InputError(f"{' and '.join(words)} among the pixels: {_EXPECTED}")
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise InputError("pixels must be numbers from 0 (paper) to 255 (ink); one is far beyond") from error


def _pixels(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.shape[-2:] != (SIDE, SIDE) or array.ndim not in (2, 3):
        raise InputError(f"pixels of shape {list(array.shape)}: expected [n, {SIDE}, {SIDE}] or [{SIDE}, {SIDE}]")
    pixels = array.reshape(-1, SIDE, SIDE)
    _check_count(len(pixels))
    # NaN is found too, because no comparison with it is true.
    wrong = ~((pixels >= 0) & (pixels <= 255))
    if wrong.any():
        place = np.argwhere(wrong)[0]
        value = pixels[tuple(place)]
        where = f"image {place[0] + 1}, row {place[1] + 1}, column {place[2] + 1}"
        raise InputError(f"pixels must be numbers from 0 (paper) to 255 (ink); {where} is {value:g}")
    return pixels.astype(np.float32)


def _check_count(images: int) -> None:
    if images > MAX_IMAGES:
        raise InputError(f"{images:,} images at once; at most {MAX_IMAGES:,} are allowed. Send fewer at a time.")


def _decode_all(array: NDArray[Any], flat: list[Any]) -> list[Image.Image]:
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise InputError(f"texts of shape {list(array.shape)}: expected one base64 text per image, [n]")
    _check_count(len(flat))
    images: list[Image.Image] = []
    decoded = 0
    for number, item in enumerate(flat, 1):
        name = f"image {number}"
        image = read_image(_decode(item, name) if isinstance(item, str) else item, name)
        decoded += image.width * image.height
        if decoded > _MAX_DECODED:
            raise InputError(f"{name}: more than {_MAX_DECODED:,} pixels in one request. Send fewer at a time.")
        images.append(image)
    return images


def _decode(text: str, name: str) -> bytes:
    """Return the bytes of a base64 text or a `data:` address; white space is ignored."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError(f"{name}: a data: address without ';base64,'")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: not base64 ({error}). Send an image file as base64 text.") from error
