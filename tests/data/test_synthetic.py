import hashlib

import matplotlib
import numpy as np
import PIL
import pytest
import torch

from trackdl.data.greek.synthetic import SIDE, render_letters
from trackdl.data.preprocessing.digits import to_digit

PINNED = ("13.0.0", "3.11.2")  # Pillow and matplotlib, as in requirements.lock
DIGEST = "36f552f61e896ceb5c77c83cf451c290047b6ffd118ae7fe9eeabd3529fd92fc"


def digest(letters):
    return hashlib.sha256(b"".join(each.tobytes() for name in letters for each in letters[name])).hexdigest()


def test_the_same_images_every_time():
    assert digest(render_letters()) == digest(render_letters())


@pytest.mark.skipif((PIL.__version__, matplotlib.__version__) != PINNED, reason="pinned for the locked versions")
def test_the_same_images_on_every_machine():
    assert digest(render_letters()) == DIGEST


def test_images_are_like_the_report_s_in_form():
    letters = render_letters(11)
    assert list(letters) == ["alpha", "beta", "gamma"]
    for images in letters.values():
        assert len(images) == len({each.tobytes() for each in images}) == 11
        assert {(each.mode, each.size) for each in images} == {("L", (SIDE, SIDE))}


def test_papers_differ_and_ink_is_darker():
    tones = [np.asarray(each) for images in render_letters().values() for each in images]
    papers = [np.median(each) for each in tones]
    assert max(papers) - min(papers) > 60
    assert all(each.min() < 0.6 * paper for each, paper in zip(tones, papers, strict=True))


def test_classes_are_distinct():
    letters = render_letters()
    labels = np.repeat(np.arange(3), 9)
    digits = torch.stack([to_digit(each, "mnist").flatten() for images in letters.values() for each in images])
    distances = (digits[:, None] - digits[None]).norm(dim=2).numpy()
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).mean() >= 0.95
