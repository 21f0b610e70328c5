"""Copies of images are found among thousands, and nothing else is."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trackdl.data.duplicates import copies


def shapes(count: int, side: int = 28, channels: int = 1, seed: int = 0) -> Tensor:
    """Return smooth random images, no two of them alike."""
    small = np.random.default_rng(seed).integers(0, 256, (count, channels, 5, 5)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(small), (side, side), mode="bilinear")
    return large.round().to(torch.uint8)[:, 0] if channels == 1 else large.round().to(torch.uint8)


def saved(pixels: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file)))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_pixels_are_found(channels: int) -> None:
    known = shapes(50, channels=channels)
    images = torch.cat([shapes(5, channels=channels, seed=1), known[[7, 3]]])
    assert copies(images, known) == copies(images, known, near=False) == {5: 7, 6: 3}
    assert copies(torch.cat([known, images])) == {55: 7, 56: 3}
    assert copies(known) == {}


def test_images_that_are_nearly_the_same_are_found() -> None:
    known = shapes(500)
    changed = {
        "saved as JPEG": saved(known[4], 75),
        "scaled": torch.from_numpy(np.array(Image.fromarray(known[4].numpy()).resize((56, 56)).resize((28, 28)))),
        "lighter": (known[4].float() * 0.9 + 25).to(torch.uint8),
    }
    images = torch.stack([*changed.values(), known[4].flip(0)])
    assert copies(images, known) == {0: 4, 1: 4, 2: 4}
    assert copies(images, known, near=False) == {}
    assert copies(torch.cat([images[:1], known])) == {5: 0}


def test_a_copy_is_of_an_image_that_is_none() -> None:
    first = shapes(1)
    images = torch.cat([first, first, saved(first[0], 75)[None], first])
    assert copies(images) == {1: 0, 2: 0, 3: 0}


def test_images_without_anything_on_them_are_copies_only_if_they_are_equal() -> None:
    flat = torch.full((4, 28, 28), 255, dtype=torch.uint8)
    flat[2] = 254
    flat[3, 0, 0] = 250
    assert copies(flat) == {1: 0}
    assert copies(flat[:0]) == {}


def test_colours_tell_images_apart() -> None:
    shape = shapes(1)[0]
    blank = torch.zeros_like(shape)
    red, green = torch.stack([shape, blank, blank]), torch.stack([blank, shape, blank])
    assert copies(torch.stack([red, green])) == {}


def test_thousands_of_images_that_are_all_nearly_alike_are_found() -> None:
    images = shapes(1).repeat(20_000, 1, 1)
    images[:, 0, 0] = torch.arange(20_000).remainder(256).to(torch.uint8)
    images[:, 0, 1] = (torch.arange(20_000) // 256).to(torch.uint8)
    assert len(copies(images)) > 10_000
