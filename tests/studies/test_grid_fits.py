"""The grid's fits: folds that hold each picture out once, alike for all configurations; tests on the test pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support import ROOT
from support.nets import model_of
from trackdl import spec
from trackdl.data.images import FASHION_MEAN_STD, load_images, normalise, validation_split
from trackdl.networks.fashion import FashionNet
from trackdl.spec import GridSpec
from trackdl.spec.fashion import FashionModel
from trackdl.studies.grid import fits as crossfit
from trackdl.studies.grid.fits import HISTORY, FoldTask, FreshTask, fit_fold, fit_fresh
from trackdl.training.trainer import Evaluation, Examples, Trainer

GIVEN = {"training.epochs": 2, "training.batch_size": 32, "training.optimizer.lr": 0.002, "training.seed": 4}
SMALL = model_of(filters=4, dense_nodes=16)
OTHER = model_of(filters=2, dense_nodes=16, activation="tanh", dropout=0.3)


@pytest.fixture(autouse=True)
def _read_anew(tiny_fashion: Path) -> Iterator[None]:  # noqa: ARG001
    crossfit._folds.cache_clear()
    yield
    crossfit._folds.cache_clear()


def experiment() -> GridSpec:
    return spec.load(ROOT / "experiments" / "grid.yaml", GridSpec, GIVEN)


def kept() -> tuple[Tensor, Tensor]:
    """Return the pictures that the grid may use, normalised, and their labels."""
    images, data = load_images("fashion"), experiment().data
    learn, _ = validation_split(len(images.train_labels), data.validation, data.split_seed)
    return normalise(images.train_images[learn], *FASHION_MEAN_STD), images.train_labels[learn]


def places(examples: Examples) -> list[int]:
    """Return which of the kept pictures the examples are, and check that each has its own label."""
    pixels, labels = kept()
    known = {picture.numpy().tobytes(): place for place, picture in enumerate(pixels)}
    assert len(known) == len(pixels)
    found = [known[picture.numpy().tobytes()] for picture in examples.inputs]
    assert examples.targets.tolist() == labels[found].tolist()
    return found


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_each_fold_holds_out_its_own_pictures_of_every_class_alike(folds: int) -> None:
    made = crossfit._folds(experiment().data, folds, torch.float32)
    everything = set(range(480))
    assert len(made) == folds
    for learn, held in made:
        learnt, out = places(learn), places(held)
        assert len(learnt) + len(out) == 480  # none twice
        assert set(learnt).isdisjoint(out)
        assert set(learnt) | set(out) == everything
    assert sorted(place for _, held in made for place in places(held)) == sorted(everything)
    counts = torch.stack([torch.bincount(held.targets, minlength=10) for _, held in made])
    assert (counts.amax(0) - counts.amin(0)).max() <= 1
    assert counts.sum(0).tolist() == torch.bincount(kept()[1], minlength=10).tolist()


def test_all_configurations_have_the_same_folds_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[int], list[int], int]] = []

    class Watched(Trainer):
        def fit(self, train: Examples, epochs: int) -> Iterator[Any]:
            self.learnt = places(train)
            return super().fit(train, epochs)

        def evaluate(self, examples: Examples, batch_size: int = 100) -> Evaluation:
            seen.append((self.learnt, places(examples), self.settings.seed))
            return super().evaluate(examples, batch_size)

    monkeypatch.setattr(crossfit, "Trainer", Watched)
    told = experiment()
    training = told.training.model_copy(update={"epochs": 1, "precision": "float32"})
    for model in (SMALL, OTHER):
        for fold in range(3):
            crossfit._folds.cache_clear()  # as in another process
            fit_fold(FoldTask(model, training, told.data, 3, fold))
    assert seen[:3] == seen[3:]
    assert [seed for *_, seed in seen[:3]] == [4, 5, 6]
    assert sorted(place for _, held, _ in seen[:3] for place in held) == list(range(480))
    assert all(set(learnt).isdisjoint(held) for learnt, held, _ in seen)


def trained(model: FashionModel, training: spec.Training, learn: Examples) -> Iterator[tuple[Trainer, Any]]:
    trainer = Trainer(lambda: FashionNet(model), training, F.cross_entropy)
    for result in trainer.fit(learn, training.epochs):
        yield trainer, result


@pytest.mark.parametrize("model", [SMALL, OTHER])
def test_a_fold_is_learnt_from_the_others_and_judged_by_itself(model: FashionModel) -> None:
    told = experiment()
    found = fit_fold(FoldTask(model, told.training, told.data, 3, 1))
    (pixels, labels), (_, out) = kept(), crossfit._folds(told.data, 3, torch.float32)[1]
    held = torch.zeros(480, dtype=torch.bool)
    held[places(out)] = True
    settings = told.training.model_copy(update={"seed": told.training.seed + 1})
    by_hand: dict[str, list[float]] = {name: [] for name in HISTORY}
    for trainer, result in trained(model, settings, Examples(pixels[~held], labels[~held])):
        judged = trainer.evaluate(Examples(pixels[held], labels[held]))
        values = (result.train_loss, result.train_accuracy, judged.loss, judged.accuracy)
        for name, value in zip(HISTORY, values, strict=True):
            by_hand[name].append(value)
    assert found.seed == settings.seed
    for name in HISTORY:
        assert found.history[name] == pytest.approx(by_hand[name], abs=1e-6)


def test_a_fresh_training_learns_from_all_folds_and_is_judged_on_the_test_pictures() -> None:
    told, images = experiment(), load_images("fashion")
    test = Examples(normalise(images.test_images, *FASHION_MEAN_STD), images.test_labels)
    learn = Examples(*kept())
    for seed in (1004, 1005):
        training = told.training.model_copy(update={"seed": seed})
        *_, (trainer, _) = trained(SMALL, training, learn)
        by_hand = trainer.evaluate(test)
        _, back = validation_split(len(images.train_labels), told.data.validation, told.data.split_seed)
        pixels = normalise(images.train_images[back], *FASHION_MEAN_STD)
        assert by_hand.accuracy != trainer.evaluate(Examples(pixels, images.train_labels[back])).accuracy
        assert fit_fresh(FreshTask(SMALL, training, told.data)) == by_hand.accuracy
