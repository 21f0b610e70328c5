"""A search's trial is a training of `fashion`, judged on the pictures that `fashion` keeps back, and on no others."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support import ROOT
from support.pictures import idx
from trackdl import spec
from trackdl.data.catalogue import CATALOGUE
from trackdl.data.download import datasets as sources
from trackdl.data.images import load_images, normalise, validation_split
from trackdl.networks.build import make
from trackdl.spec import ClassifySpec
from trackdl.spec.images import ImageData
from trackdl.studies.search import segments
from trackdl.studies.search.segments import Epoch, SegmentTask, train_segment
from trackdl.tasks import classify
from trackdl.training.trainer import Examples, Trainer

GIVEN = {
    "network.filters": 4,
    "network.dense_nodes": 16,
    "network.dropout": 0.3,  # draws random numbers in every step
    "training.batch_size": 32,
    "training.epochs": 4,
    "training.optimizer.lr": 0.002,  # too little to be right everywhere
    "training.schedule": "one_cycle",
    "training.seed": 5,
    "data.split_seed": 3,
}


@pytest.fixture(autouse=True)
def _read_anew(tiny_fashion: Path) -> Iterator[None]:  # noqa: ARG001
    segments._pictures.cache_clear()
    yield
    segments._pictures.cache_clear()


def experiment() -> ClassifySpec:
    return spec.load(ROOT / "experiments" / "fashion.yaml", ClassifySpec, GIVEN)


def in_two_segments() -> list[Epoch]:
    first = train_segment(SegmentTask(experiment(), None, 1))
    rest = train_segment(SegmentTask(experiment(), first.state, 4))
    assert [epoch.epoch for epoch in first.epochs + rest.epochs] == [1, 2, 3, 4]
    return first.epochs + rest.epochs


def learning_curves(epochs: list[Epoch]) -> dict[str, list[float]]:
    return {name: [getattr(epoch, name) for epoch in epochs] for name in classify.CURVES}


@pytest.mark.usefixtures("tracking")
def test_segments_are_the_training_of_fashion_epoch_for_epoch() -> None:
    run = classify.run(experiment()).run
    told = {name: [round(value, 6) for _, value in run.history(name)] for name in classify.CURVES}
    found = learning_curves(in_two_segments())
    assert found == told
    assert len(set(found["val_accuracy"])) > 1  # it says something: neither right everywhere nor at chance


def test_trials_are_judged_on_what_is_held_back_and_learn_from_the_rest() -> None:
    told, images = experiment(), load_images(ImageData(dataset="fashion"))
    learn, back = validation_split(len(images.train_labels), told.data.validation, told.data.split_seed)
    assert (len(learn), len(back)) == (480, 120)
    trainer = Trainer(lambda: make(told.network, 1, 28, 10), told.training, F.cross_entropy)
    pixels = normalise(images.train_images, *CATALOGUE["fashion"].mean_std)
    test = Examples(normalise(images.test_images, *CATALOGUE["fashion"].mean_std), images.test_labels)
    by_hand, tested = [], []
    for result in trainer.fit(Examples(pixels[learn], images.train_labels[learn]), 4):
        judged = trainer.evaluate(Examples(pixels[back], images.train_labels[back]))
        by_hand.append((result.train_loss, result.train_accuracy, judged.loss, judged.accuracy))
        tested.append(trainer.evaluate(test).loss)
    found = learning_curves(in_two_segments())
    for place, name in enumerate(classify.CURVES):
        assert found[name] == pytest.approx([values[place] for values in by_hand], abs=1e-6)
    # Judged on the test pictures, it would not be that.
    assert all(abs(ours - theirs) > 1e-4 for ours, theirs in zip(found["val_loss"], tested, strict=True))


def put_other_test_pictures(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(9)
    contents = {
        "t10k-images-idx3-ubyte": idx(random.integers(0, 256, (100, 28, 28))),
        "t10k-labels-idx1-ubyte": idx(random.integers(0, 10, 100)),
    }
    files = []
    for file in sources.DATASETS["fashion"].files:
        if content := contents.get(file.name):
            (data / "fashion" / file.name).write_bytes(content)
            files.append(sources.File(name=file.name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))
        else:
            files.append(file)
    monkeypatch.setitem(sources.DATASETS, "fashion", sources.Dataset(tuple(files), list, "nothing: these are a test's"))


def test_other_test_pictures_change_nothing(tiny_fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, old = in_two_segments(), load_images(ImageData(dataset="fashion"))
    put_other_test_pictures(tiny_fashion, monkeypatch)
    segments._pictures.cache_clear()
    new = load_images(ImageData(dataset="fashion"))
    assert torch.equal(new.train_images, old.train_images)
    assert not torch.equal(new.test_images, old.test_images)
    assert learning_curves(in_two_segments()) == learning_curves(before)
