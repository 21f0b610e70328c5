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


def bars(count: int, rows: slice = slice(5, 7)) -> Tensor:
    """Return pictures of one bright bar across."""
    out = torch.full((count, 1, 12, 12), BACKGROUND)
    out[:, :, rows, 2:10] = 1
    return out


def test_a_turn_of_a_quarter_is_as_torch_turns_it() -> None:
    """Of turns by up to 90 degrees some are nearly whole: they equal the exact turn, and the others lie between."""
    batch = bars(400)
    out = changed(batch, rotate=90.0)
    turned = [torch.rot90(batch[0], way, (1, 2)) for way in (1, -1)]
    assert min((each - turned[0]).abs().max() for each in out) < 0.3
    assert min((each - turned[1]).abs().max() for each in out) < 0.3
    assert min((each - batch[0]).abs().max() for each in out) < 0.1
    ink = (out - BACKGROUND).sum((1, 2, 3)) / (batch - BACKGROUND).sum((1, 2, 3))
    assert (ink - 1).abs().max() < 0.1


@given(scale=st.floats(0.05, 0.4), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_the_area_of_ink_is_scaled_within_the_bounds(scale: float, seed: int) -> None:
    batch = bars(64, slice(4, 8))
    batch = torch.nn.functional.interpolate(batch, (48, 48))  # with room around, and many pixels of ink
    batch = torch.nn.functional.pad(batch, (24, 24, 24, 24), value=BACKGROUND)
    ink = (changed(batch, seed, scale=scale) - BACKGROUND).sum((1, 2, 3)) / (batch - BACKGROUND).sum((1, 2, 3))
    assert ink.min() > (1 - scale) ** 2 * 0.95
    assert ink.max() < (1 + scale) ** 2 * 1.05
    assert ink.max() - ink.min() > scale


def test_elastic_displaces_by_the_pixels_asked_for() -> None:
    """A slope of one per pixel shows the displacement in its values."""
    side = 28
    slope = torch.arange(side, dtype=torch.float32).expand(300, 1, side, side)
    with seeded(1):
        out = augment(slope, Augmentation(elastic=1.5), 0.0)
    moved = (out - slope)[:, 0, 6:-6, 6:-6]
    assert 1.35 < moved.std() < 1.65
    assert abs(moved.mean()) < 0.2
    beside = (moved[:, :, 1:] - moved[:, :, :-1]).std()
    assert beside < moved.std() / 3


def test_strokes_become_a_pixel_thicker_or_thinner_or_stay() -> None:
    out = changed(bars(600), stroke=0.5)
    found = {}
    for each in out[:, 0]:
        rows, columns = (each == 1).any(1), (each == 1).any(0)
        assert torch.equal(each == 1, rows[:, None] & columns[None, :])
        assert ((each == 1) | (each == BACKGROUND)).all()
        size = int(rows.sum()), int(columns.sum())
        found[size] = found.get(size, 0) + 1
    assert set(found) == {(1, 7), (2, 8), (3, 9)}
    assert 250 < found[2, 8] < 350
    assert 110 < found[1, 7] < 190


@pytest.mark.parametrize("keys", [{"rotate": 30.0}, {"scale": 0.3}, {"elastic": 2.0}, {"stroke": 1.0}], ids=str)
def test_what_is_uncovered_is_background(keys: dict[str, float]) -> None:
    empty = torch.full((16, 3, 12, 12), BACKGROUND)
    assert torch.equal(changed(empty, **keys), empty)
    out = changed(bars(64), **keys)
    assert out.min() >= BACKGROUND - 1e-5
    assert out.max() <= 1 + 1e-5
    assert not torch.equal(out, bars(64))


def test_keys_of_the_first_version_draw_the_same_beside_the_later_ones_at_rest() -> None:
    batch = pictures(16)
    first = {"flip": True, "shift": 2, "cutout": 4}
    later = {"rotate": 0.0, "scale": 0.0, "stroke": 0.0, "elastic": 0.0}
    assert torch.equal(changed(batch, **first), changed(batch, **first, **later))


def test_one_seed_warps_alike_in_either_precision() -> None:
    keys = {"rotate": 15.0, "scale": 0.1, "elastic": 1.0, "stroke": 0.5}
    batch = bars(16)
    out = changed(batch.bfloat16(), **keys)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, changed(batch, **keys).bfloat16())
    three = changed(batch.expand(-1, 3, -1, -1), **keys)
    assert torch.equal(three, changed(batch, **keys).expand(-1, 3, -1, -1))


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
