"""Checks of the requests to an image model: pixels, nested and of any numeric type, or image files as base64.

MLflow passes requests on as they came, because the signature is a tensor of objects, the only one that admits both
pixels of any type and texts. So invalid requests are refused here, with the same messages under every server.
"""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackdl.errors import InputError

MAX_IMAGES = 65_536  # in one request: the largest data set fits

_KINDS = {type(None): "null", dict: "an object", list: "lists of unequal length", bool: "true or false"}


def read_request(given: Any, size: int = 28, *, colour: bool = False) -> NDArray[np.float32] | list[bytes]:
    """Return the images of a request.

    Args:
        given: An array of numbers or objects; nested lists; base64 texts, or bytes of image files.
        size: The side of the pixels that the model takes.
        colour: Whether it takes colour.

    Returns:
        Pixels, float32 [n, size, size] or [n, size, size, 3], 0 to 255; or, for texts and bytes, image files' contents.

    Raises:
        InputError: The request is anything else, e.g. ragged, not finite or out of range; the message names the place.
    """
    shape = (size, size, 3) if colour else (size, size)
    forms = f"[n, {', '.join(map(str, shape))}] or {list(shape)}"
    try:
        return _read(given, shape, forms)
    except _UnexpectedError as error:
        raise InputError(f"{error}: expected pixels {forms} from 0 to 255, or base64 texts of image files") from error


class _UnexpectedError(Exception):
    """The request is of another form than any that is expected."""


def _read(given: Any, shape: tuple[int, ...], forms: str) -> NDArray[np.float32] | list[bytes]:
    array = _array(given)
    if array.size == 0:
        raise _UnexpectedError("no images were given")
    if array.dtype.kind in "OSU":
        flat = array.ravel().tolist()
        kinds = set(map(type, flat))
        if kinds <= {str, bytes}:
            return _files(array, flat)
        array = _numbers(array, kinds)
    if array.dtype.kind not in "iuf":
        raise _UnexpectedError(f"{_kind(array.dtype)} among the pixels")
    if array.shape != shape and array.shape[1:] != shape:
        raise InputError(f"pixels of shape {list(array.shape)}: expected {forms}")
    return _pixels(array.reshape(-1, *shape))


def _array(given: Any) -> NDArray[Any]:
    if isinstance(given, np.ndarray):
        return given
    try:
        return np.array(given, dtype=object)
    except ValueError as error:
        raise _UnexpectedError("lists of unequal length") from error


def _kind(dtype: np.dtype[Any]) -> str:
    return {"b": "true or false", "c": "complex numbers"}.get(dtype.kind, f"values of type {dtype}")


def _numbers(array: NDArray[Any], kinds: set[type]) -> NDArray[Any]:
    """Return an array of objects as numbers; texts are refused, even those that look like numbers."""
    wrong = [kind for kind in kinds if kind is bool or not issubclass(kind, int | float | np.integer | np.floating)]
    if wrong:
        words = sorted(_KINDS.get(kind, f"values of type {kind.__name__}") for kind in wrong)
        raise _UnexpectedError(f"{' and '.join(words)} among the pixels")
    try:
        return array.astype(np.float64)
    except OverflowError as error:
        raise InputError("pixels must be numbers from 0 (black) to 255 (white); one is far beyond") from error


def _pixels(pixels: NDArray[Any]) -> NDArray[np.float32]:
    _check_count(len(pixels))
    # NaN is found too, because no comparison with it is true.
    wrong = ~((pixels >= 0) & (pixels <= 255))
    if wrong.any():
        place = np.argwhere(wrong)[0]
        value = pixels[tuple(place)]
        names = zip(("image", "row", "column", "channel"), place + 1, strict=False)
        where = ", ".join(f"{name} {number}" for name, number in names)
        raise InputError(f"pixels must be numbers from 0 (black) to 255 (white); {where} is {value:g}")
    return pixels.astype(np.float32)


def _check_count(images: int) -> None:
    if images > MAX_IMAGES:
        raise InputError(f"{images:,} images at once; at most {MAX_IMAGES:,} are allowed. Send fewer at a time.")


def _files(array: NDArray[Any], flat: list[Any]) -> list[bytes]:
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise InputError(f"texts of shape {list(array.shape)}: expected one base64 text per image, [n]")
    _check_count(len(flat))
    return [_decode(item, f"image {number}") if isinstance(item, str) else item for number, item in enumerate(flat, 1)]


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
