"""What a registered network learnt from: compared with within bounds, and never fetched where that is not wanted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support import ROOT
from support.served import card, network
from trackdl import spec
from trackdl.apps import learnt
from trackdl.apps.learnt import Images
from trackdl.data.download.datasets import without_fetching
from trackdl.errors import DataMissing, InputError
from trackdl.serving import ServedImages
from trackdl.tracking import runs


@pytest.mark.parametrize(("bound", "value"), [("_MOST", 7), ("_MOST_NUMBERS", 7 * 784)])
def test_as_many_training_images_are_compared_as_the_bounds_allow(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    served = ServedImages(network(3), card(("a", "b", "c")))
    pixels = torch.randint(0, 256, (12, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels = torch.arange(12) % 3
    images = Images(pixels, labels, pixels, labels, unseen=True)
    every = learnt.compared(served, images)
    assert sorted(every.shown.flatten(1).tolist()) == sorted(pixels.flatten(1).tolist())
    monkeypatch.setattr(learnt, bound, value)
    some = learnt.compared(served, images)
    assert (len(some.features), len(some.shown), len(some.labels), some.total) == (7, 7, 7, 12)
    for image, label, features in zip(some.shown, some.labels, some.features, strict=True):
        (place,) = [place for place in range(12) if torch.equal(pixels[place], image[0])]
        assert labels[place] == label
        (expected, _), *_ = learnt.batches(served, pixels[place : place + 1])
        torch.testing.assert_close(features, expected[0])


@pytest.mark.usefixtures("tracking")
def test_letters_drawn_from_fonts_do_not_stand_for_those_that_it_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKDL_GREEK_DIR", raising=False)
    monkeypatch.setenv("TRACKDL_DATA_DIR", str(tmp_path / "empty"))
    served: Any = ServedImages(network(3), card(("alpha", "beta", "gamma")))
    with runs.start(spec.load(ROOT / "experiments" / "transfer.yaml", spec.TransferSpec)) as run:
        run.tags({"trackdl.data_digest": "of the report's"})
    with without_fetching(), pytest.raises(DataMissing, match="letters that it learnt from are not on this machine"):
        learnt.read(run.id, served, tested=False)


@pytest.mark.usefixtures("tracking")
def test_the_test_folder_of_a_transfer_is_read_only_where_it_is_needed(tmp_path: Path) -> None:
    for number, name in enumerate(("above", "below")):
        (tmp_path / "learnt" / name).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "learnt" / name / "1.png")
    keys = {
        "data.folder": str(tmp_path / "learnt"),
        "data.test_folder": str(tmp_path / "gone"),
        "data.rename": {"above": "top", "under": "below"},
    }
    with runs.start(spec.load(ROOT / "experiments" / "transfer.yaml", spec.TransferSpec, keys)) as run:
        pass
    served = ServedImages(network(2), card(("below", "top"), "report"))
    images: Any = learnt.read(run.id, served, tested=False)
    assert images.learnt_labels.tolist() == [0, 1]
    with pytest.raises(InputError, match="gone: there is no such folder"):
        learnt.read(run.id, served)
