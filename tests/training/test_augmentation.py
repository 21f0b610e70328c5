import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trackdl.spec.base import Augmentation
from trackdl.training.augmentation import augment
from trackdl.training.trainer import seeded

BACKGROUND = -1.0


def pictures(count: int = 64) -> Tensor:
    """Return pictures whose pixels all differ, so that where each went can be told."""
    return torch.arange(count * 12 * 12, dtype=torch.float32).view(count, 1, 12, 12)


def changed(batch: Tensor, seed: int = 1, **keys: object) -> Tensor:
    with seeded(seed):
        return augment(batch, Augmentation.model_validate(keys), BACKGROUND)


def moved(picture: Tensor, down: int, right: int) -> Tensor:
    """Return one picture, [height, width], moved pixel by pixel."""
    height, width = picture.shape
    out = torch.full_like(picture, BACKGROUND)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                out[row, column] = picture[row - down, column - right]
    return out


def test_nothing_asked_for_draws_and_changes_nothing() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    batch = pictures()
    assert augment(batch, Augmentation(), BACKGROUND) is batch
    assert torch.equal(torch.rand(2), expected)


def test_about_half_are_mirrored_and_the_others_stay() -> None:
    batch = pictures(200)
    out = changed(batch, flip=True)
    stayed = (out == batch).all(dim=(1, 2, 3))
    mirrored = (out == batch.flip(3)).all(dim=(1, 2, 3))
    assert (stayed ^ mirrored).all()
    assert 70 < stayed.sum() < 130


@given(shift=st.integers(1, 4), flip=st.booleans(), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_each_picture_is_shifted_by_up_to_the_pixels_asked_for(shift: int, flip: bool, seed: int) -> None:
    batch = pictures(8)
    moves = [(down, right) for down in range(-shift, shift + 1) for right in range(-shift, shift + 1)]
    for before, after in zip(batch[:, 0], changed(batch, seed, shift=shift, flip=flip)[:, 0], strict=True):
        origins = [before, before.flip(1)] if flip else [before]
        assert sum(torch.equal(after, moved(origin, *move)) for origin in origins for move in moves) == 1


def test_every_shift_comes_up() -> None:
    out = changed(pictures(600), shift=1)[:, 0]
    found = {
        (down, right)
        for before, after in zip(pictures(600)[:, 0], out, strict=True)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if torch.equal(after, moved(before, down, right))
    }
    assert len(found) == 9


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_covers_one_square_and_nothing_else(side: int) -> None:
    batch = pictures(200)
    covered = changed(batch, cutout=side) == BACKGROUND
    areas = set()
    for mask in covered[:, 0]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert 0 < rows.sum() <= side
        assert 0 < columns.sum() <= side
        areas.add(int(mask.sum()))
    assert max(areas) == side * side
    assert torch.equal(torch.where(covered, batch, changed(batch, cutout=side)), batch)


def test_one_seed_gives_one_batch_in_either_precision() -> None:
    keys = {"flip": True, "shift": 2, "cutout": 4}
    batch = (pictures(16) % 256).bfloat16()  # bfloat16 holds these exactly
    one = changed(batch, **keys)
    assert one.dtype == torch.bfloat16
    assert one.shape == batch.shape
    assert torch.equal(one, changed(batch, **keys))
    assert torch.equal(one.float(), changed(batch.float(), **keys))
    assert not torch.equal(one, changed(batch, seed=2, **keys))


def test_the_channels_of_an_image_change_together() -> None:
    grey = pictures(16)
    keys = {"flip": True, "shift": 3, "cutout": 5}
    out = changed(grey.expand(-1, 3, -1, -1) + torch.tensor([0.0, 0.25, 0.5]).view(3, 1, 1), **keys)
    for channel, more in enumerate((0.0, 0.25, 0.5)):
        expected = changed(grey, **keys)
        assert torch.equal(
            out[:, channel], torch.where(expected[:, 0] == BACKGROUND, BACKGROUND, expected[:, 0] + more)
        )
