"""The record of the images that a model was trained on: read back as it was written, or refused with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from trackdl.data import training_images
from trackdl.errors import FileError

Parts = tuple[dict[str, Any], dict[str, str]]


def written(path: Path) -> Parts:
    """Write a record of four images, and return its tensors and metadata."""
    pixels = torch.randint(0, 256, (4, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    path.write_bytes(training_images.to_file(pixels, list("abcd")))
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - not a mapping


def test_a_record_is_read_back(tmp_path: Path) -> None:
    written(tmp_path / "record")
    found = training_images.from_file(tmp_path / "record")
    assert (found.side, found.names) == (12, list("abcd"))
    assert len(found.prints.digests) == len(found.prints.places) == 4


DAMAGED: dict[str, Callable[[dict[str, Any], dict[str, str]], object]] = {
    "a tensor is missing": lambda tensors, _: tensors.pop("thumbnails"),
    "the width is another": lambda tensors, _: tensors.update(thumbnails=tensors["thumbnails"][:, :100].copy()),
    "a value is no number": lambda tensors, _: tensors["thumbnails"].fill(float("nan")),
    "a place is beyond the end": lambda tensors, _: tensors["places"].fill(9),
    "a name is missing": lambda _, about: about.update(names='["a"]'),
    "names are no JSON": lambda _, about: about.update(names="[a"),
    "the side would take all memory": lambda _, about: about.update(side="200000"),
    "the side is 0": lambda _, about: about.update(side="0"),
    "the side is missing": lambda _, about: about.pop("side"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_record_is_refused(damage: Callable[..., object], tmp_path: Path) -> None:
    tensors, about = written(tmp_path / "record")
    damage(tensors, about)
    save_file(tensors, tmp_path / "record", about)
    with pytest.raises(FileError):
        training_images.from_file(tmp_path / "record")


def test_what_is_no_record_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(b"not safetensors")
    with pytest.raises(FileError, match="cannot be read"):
        training_images.from_file(tmp_path / "record")
