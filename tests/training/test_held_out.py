from functools import partial
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from support.pictures import blobs
from trackdl.networks.digit import DigitNet
from trackdl.spec import Optimizer, Training
from trackdl.training.held_out import folds_for, hold_out_each, splits
from trackdl.training.trainer import Examples

SETTINGS = Training(
    epochs=2, batch_size=5, optimizer=Optimizer(name="sgd", lr=0.05, momentum=0.5), seed=1, precision="float32"
)


@pytest.fixture(scope="module")
def examples() -> Examples:
    pictures, labels = blobs(12, 0)
    targets = torch.from_numpy((labels % 3).astype(np.int64))
    return Examples(torch.from_numpy(pictures)[:, None].float() / 128 - 1, targets)


@pytest.mark.parametrize("folds", [None, 3])
def test_every_example_is_held_out_once(examples: Examples, folds: int | None) -> None:
    parts = splits(examples.targets, folds, 1)
    held = np.concatenate([held for _, held in parts])
    assert sorted(held) == list(range(12))
    for learn, held in parts:
        assert not set(learn) & set(held)
        assert len(learn) + len(held) == 12
    assert len(parts) == (folds or 12)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=30), st.randoms())
@settings(deadline=None)
def test_folds_are_chosen_by_the_number_of_examples(counts: list[int], random: Random) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    random.shuffle(labels)
    folds = folds_for(torch.tensor(labels))
    if len(labels) <= 100:
        assert folds is None
    else:
        assert folds == min(10, max(2, min(counts)))
    if folds and min(counts) >= folds:
        for learn, _ in splits(torch.tensor(labels), folds, 1):
            assert {labels[place] for place in learn} == set(range(len(counts)))


@pytest.mark.slow
@pytest.mark.parallel
def test_an_answer_does_not_depend_on_what_is_held_out(examples: Examples) -> None:
    """Spoiling one example changes every network but the one that has not seen it."""
    parts = splits(examples.targets, None, 1)
    network = partial(DigitNet, 3)
    spoilt = Examples(examples.inputs, examples.targets.clone())
    spoilt.targets[0] = (spoilt.targets[0] + 1) % 3
    before = hold_out_each(network, SETTINGS, F.nll_loss, examples, parts)
    after = hold_out_each(network, SETTINGS, F.nll_loss, spoilt, parts)
    assert torch.equal(before.outputs[0], after.outputs[0])
    assert not torch.equal(before.outputs[1:], after.outputs[1:])
