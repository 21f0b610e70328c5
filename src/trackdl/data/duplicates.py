"""Images that occur twice: if one is learnt from and the other tested on, a network looks better than it is.

Two images are copies if they have the same pixels, or nearly: if their thumbnails (16×16, with the mean 0 and the
length 1) are at most `NEAR` apart. So are images saved as JPEG, scaled, or made lighter. Of MNIST's 10,000 test digits
none is so near to a training digit; of Fashion-MNIST's 13 are, all of them of the same class.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import interpolate

from trackdl.data.preprocessing.squares import to_square
from trackdl.system.findings import first_few

log = logging.getLogger(__name__)

NEAR = 0.05
_SIDE, _COARSE = 16, 4  # pixels of thumbnails, and of what is compared first
_LOOKED_AT = 16  # of the nearest images by coarse thumbnails
_FLAT = 2.0  # tones: an image that varies by less has no thumbnail
_AT_ONCE = 4096


@dataclass(frozen=True)
class Fingerprints:
    """What images are compared by.

    Attributes:
        digests: Of each image's pixels.
        thumbnails: Those of the images that are not equal to an earlier one, and have one, float32 [n, channels · 256].
        places: The places of these images, int64 [n].
    """

    digests: list[bytes]
    thumbnails: NDArray[np.float32]
    places: NDArray[np.int64]


def fingerprints(images: Tensor, *, near: bool = True) -> Fingerprints:
    """Return what images are compared by, without thumbnails unless `near`; the arguments are those of `copies`."""
    digests = _digests(images)
    originals = sorted(_first(digests).values()) if near else []
    return Fingerprints(digests, *_thumbnails(images, originals))


def squares(images: Iterable[Image.Image], side: int) -> Tensor:
    """Return images of one mode, at least one, as they are compared: uint8 [n, channels, side, side]."""
    pixels = np.stack([np.atleast_3d(np.asarray(to_square(image, side))) for image in images])
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2))


def copies(images: Tensor, known: Tensor | Fingerprints | None = None, *, near: bool = True) -> dict[int, int]:
    """Return which images are copies of which.

    Examples:
        >>> images = torch.randint(256, (3, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        >>> copies(torch.cat([images, images[:1]]))
        {3: 0}

    Args:
        images: uint8 `[n, side, side]`, or in colour `[n, 3, side, side]`.
        known: Images of the same form, or their fingerprints; without them, each image is compared with those before.
        near: Find images that are nearly the same, too.

    Returns:
        The place of the image that it is a copy of, by its own place; that one is no copy itself.
    """
    others = known if isinstance(known, Fingerprints) else fingerprints(images if known is None else known, near=near)
    first = _first(others.digests)
    found = {}
    for place, digest in enumerate(others.digests if known is None else _digests(images)):
        if (other := first.get(digest, -1)) >= 0 and (known is not None or other < place):
            found[place] = other
    if near and len(others.places):
        _add_near(found, images, others, itself=known is None)
    return dict(sorted(found.items()))


def tell(found: Mapping[int, int], names: Sequence[str], others: Sequence[str], what: str) -> list[str]:
    """Warn that copies are left out; return their names, each with the one that it is a copy of.

    Args:
        found: As `copies` returns it.
        names: The images' names.
        others: The names of the images that they are copies of.
        what: What is left out of what, in words.
    """
    words = [f"{names[place]} (as {others[other]})" for place, other in found.items()]
    if 0 < len(words) < len(names):  # if all are copies, the caller raises an error
        log.warning("%s of %s %s: %s", len(words), len(names), what, first_few(words))
    return words


def _digests(images: Tensor) -> list[bytes]:
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images.numpy()]


def _first(digests: Sequence[bytes]) -> dict[bytes, int]:
    """Return the first place of each digest."""
    return {digest: len(digests) - 1 - place for place, digest in enumerate(reversed(digests))}


def _add_near(found: dict[int, int], images: Tensor, others: Fingerprints, *, itself: bool) -> None:
    """Add images that are nearly one of `others`; with `itself`, only one of an earlier place."""
    fine, known = others.thumbnails, others.places
    own, asked = (fine, known) if itself else _thumbnails(images, [n for n in range(len(images)) if n not in found])
    if not len(asked):
        return
    # A projection brings no two thumbnails further apart, so none that is near is missed.
    count = min(_LOOKED_AT, len(known))
    _, nearest = cKDTree(_coarse(fine)).query(
        _coarse(own), k=list(range(1, count + 1)), distance_upper_bound=NEAR * 1.001
    )
    rows, ranks = np.nonzero(nearest < len(known))
    candidates = nearest[rows, ranks]
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        close = np.linalg.norm(own[rows[part]] - fine[candidates[part]], axis=1) <= NEAR
        for row, candidate in zip(rows[part][close].tolist(), candidates[part][close].tolist(), strict=True):
            place, other = int(asked[row]), int(known[candidate])
            if place not in found and (not itself or (other < place and other not in found)):
                found[place] = other


def _thumbnails(images: Tensor, places: list[int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the thumbnails of the images at some places, float32 [n, channels · 256], and the places that have one."""
    parts, varied = [torch.empty(0, _SIDE**2)], [torch.empty(0, dtype=torch.bool)]
    for part in torch.split(torch.tensor(places, dtype=torch.int64), _AT_ONCE) if places else ():
        pixels = images[part].reshape(len(part), -1, *images.shape[-2:]).float()
        varied.append(pixels.flatten(2).std(dim=2).amax(dim=1) >= _FLAT)
        flat = interpolate(pixels, (_SIDE, _SIDE), mode="area").flatten(1)[varied[-1]]
        flat -= flat.mean(dim=1, keepdim=True)
        parts.append(flat / flat.norm(dim=1, keepdim=True))
    kept = np.array(places, np.int64)[torch.cat(varied).numpy()]
    return torch.cat(parts[1:] or parts).numpy(), kept


def _coarse(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    step = _SIDE // _COARSE
    blocks = thumbnails.reshape(len(thumbnails), -1, _COARSE, step, _COARSE, step)
    made: NDArray[np.float32] = blocks.sum(axis=(1, 3, 5)).reshape(len(blocks), -1) / (blocks.shape[1] ** 0.5 * step)
    return made
