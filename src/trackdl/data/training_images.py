"""The images that a registered model was trained on, as a small file of its artifact: copies of them are known by it.

It holds a digest of each image's pixels, so the same image is known whatever file it is in. Of at most `_MOST` images
it also holds the thumbnails, by which images that are nearly the same are known (`data.duplicates`), and the names.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, Field, Json, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trackdl.data.duplicates import Fingerprints, copies, fingerprints, squares
from trackdl.errors import FileError, first_line

FILE = "training_images.safetensors"
_MOST = 20_000  # 512 bytes each, three times as many in colour


class _About(BaseModel):
    side: Annotated[int, Field(ge=1, le=1024)]  # as of a card
    names: Json[list[str]]


@dataclass(frozen=True)
class TrainingImages:
    """The images that a model was trained on.

    Attributes:
        side: The sides of the squares by which images are compared, pixels.
        names: The images' names; without them, images are called by number, from 1 and after the split.
        prints: What they are compared by.
    """

    side: int
    names: Sequence[str]
    prints: Fingerprints

    def square(self, image: Image.Image) -> Tensor:
        """Return an image, of the mode of the training images, as it is compared with them."""
        return squares([image], self.side)

    def copies(self, found: Sequence[Tensor]) -> list[str | None]:
        """Return the name of the training image that each `square` is a copy of, or None."""
        if not found:
            return []
        same = copies(torch.cat(list(found)), self.prints)
        return [self._name(same[place]) if place in same else None for place in range(len(found))]

    def _name(self, place: int) -> str:
        return self.names[place] if self.names else f"no. {place + 1:,}"


def to_file(images: Tensor, names: Sequence[str] = ()) -> bytes:
    """Return the content of the file.

    Args:
        images: As `duplicates.copies` takes them.
        names: Their names, if they have any.
    """
    few = len(images) <= _MOST
    prints = fingerprints(images, near=few)
    arrays = {
        "digests": torch.frombuffer(bytearray(b"".join(prints.digests)), dtype=torch.uint8).view(len(images), -1),
        "thumbnails": torch.from_numpy(prints.thumbnails).half(),
        "places": torch.from_numpy(prints.places),
    }
    return save(arrays, {"side": str(images.shape[-1]), "names": json.dumps(list(names) if few else [])})


def from_file(path: Path) -> TrainingImages:
    """Read the file.

    Raises:
        FileError: It is damaged, or not what `to_file` writes.
    """
    try:
        with safe_open(path, "np") as file:
            about = _About.model_validate(file.metadata())
            digests, thumbnails, places = (file.get_tensor(name) for name in ("digests", "thumbnails", "places"))
    except (SafetensorError, ValidationError) as error:
        raise FileError(f"cannot be read: {first_line(error)}") from error
    count = len(digests)
    right = (
        digests.shape == (count, 8),
        thumbnails.shape in ((len(places), 256), (len(places), 768)) and bool(np.isfinite(thumbnails).all()),
        places.ndim == 1 and places.dtype == np.int64 and bool(((places >= 0) & (places < count)).all()),
        len(about.names) in (0, count),
    )
    if not all(right):
        raise FileError("is not a record of training images, or a damaged one")
    prints = Fingerprints([row.tobytes() for row in digests], thumbnails.astype(np.float32), places)
    return TrainingImages(about.side, about.names, prints)
