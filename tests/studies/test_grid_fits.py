"""The grid's fits: folds that hold each picture out once, alike for all configurations; tests on the test pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support import ROOT
from trackdl import spec
from trackdl.data.catalogue import CATALOGUE
from trackdl.data.images import load_images, normalise, validation_split
from trackdl.errors import InputError
from trackdl.networks.build import make
from trackdl.spec import ClassifySpec, GridSpec
from trackdl.spec.grid import Judge
from trackdl.spec.images import ImageData
from trackdl.spec.keys import with_keys
from trackdl.studies.grid import fits as crossfit
from trackdl.studies.grid.fits import FoldTask, FreshTask, TimeTask, fit_fold, fit_fresh, time_batch
from trackdl.training import image_splits
from trackdl.training.trainer import Evaluation, Examples, Trainer

GIVEN = {"training.epochs": 2, "training.batch_size": 32, "training.optimizer.lr": 0.002, "training.seed": 4}
SMALL = {"network.filters": 4, "network.dense_nodes": 16, "network.padding": "same"}
OTHER = SMALL | {"network.filters": 2, "network.activation": "tanh", "network.dropout": 0.3}
HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
FOLDS, VALIDATION, TEST = (Judge.model_validate(by) for by in ({"folds": 3}, "validation", "test"))


@pytest.fixture(autouse=True)
def _read_anew(tiny_fashion: Path) -> Iterator[None]:  # noqa: ARG001
    crossfit._parts.cache_clear()
    yield
    crossfit._parts.cache_clear()


def experiment(keys: dict[str, Any] | None = None) -> ClassifySpec:
    """Return the grid's experiment with these keys."""
    return with_keys(spec.load(ROOT / "experiments" / "grid.yaml", GridSpec, GIVEN).experiment, keys or {})


def kept() -> tuple[Tensor, Tensor]:
    """Return the pictures that the grid may use, normalised, and their labels."""
    images, data = load_images(ImageData(dataset="fashion")), experiment().data
    learn, _ = validation_split(len(images.train_labels), data.validation, data.split_seed)
    return normalise(images.train_images[learn], *CATALOGUE["fashion"].mean_std), images.train_labels[learn]


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
    _, made = crossfit._parts(experiment().data, Judge(folds=folds), torch.float32)
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

    monkeypatch.setattr(image_splits, "Trainer", Watched)
    for keys in (SMALL, OTHER):
        told = experiment(keys | {"training.epochs": 1, "training.precision": "float32"})
        for fold in range(3):
            crossfit._parts.cache_clear()  # as in another process
            fit_fold(FoldTask(told, FOLDS, fold))
    assert seen[:3] == seen[3:]
    assert [seed for *_, seed in seen[:3]] == [4, 5, 6]
    assert sorted(place for _, held, _ in seen[:3] for place in held) == list(range(480))
    assert all(set(learnt).isdisjoint(held) for learnt, held, _ in seen)


def trained(told: ClassifySpec, learn: Examples) -> Iterator[tuple[Trainer, Any]]:
    trainer = Trainer(lambda: make(told.network, 1, 28, 10), told.training, F.cross_entropy)
    for result in trainer.fit(learn, told.training.epochs):
        yield trainer, result


def by_hand(told: ClassifySpec, learn: Examples, held: Examples) -> list[tuple[float, ...]]:
    """Return what each epoch's history should be."""
    found = []
    for trainer, result in trained(told, learn):
        judged = trainer.evaluate(held)
        found.append((result.train_loss, result.train_accuracy, judged.loss, judged.accuracy))
    return found


@pytest.mark.parametrize("keys", [SMALL, OTHER])
def test_a_fold_is_learnt_from_the_others_and_judged_by_itself(keys: dict[str, Any]) -> None:
    told = experiment(keys)
    found = fit_fold(FoldTask(told, FOLDS, 1))
    (pixels, labels), (_, parts) = kept(), crossfit._parts(told.data, FOLDS, torch.float32)
    held = torch.zeros(480, dtype=torch.bool)
    held[places(parts[1][1])] = True
    seeded = with_keys(told, {"training.seed": 5})
    expected = by_hand(seeded, Examples(pixels[~held], labels[~held]), Examples(pixels[held], labels[held]))
    assert found.seed == 5
    assert tuple(found.history) == HISTORY
    for place, name in enumerate(HISTORY):
        assert found.history[name] == pytest.approx([values[place] for values in expected], abs=1e-6)


def everything() -> tuple[Examples, Examples, Examples]:
    """Return the training images, the validation split, and the test images."""
    images, data = load_images(ImageData(dataset="fashion")), experiment().data
    _, back = validation_split(len(images.train_labels), data.validation or 0, data.split_seed)
    pixels, tested = (normalise(part, images.mean, images.std) for part in (images.train_images, images.test_images))
    whole = Examples(pixels, images.train_labels)
    return whole, whole.select(back), Examples(tested, images.test_labels)


@pytest.mark.parametrize("seed", [0, 2])
def test_by_the_validation_split_a_fit_learns_from_the_rest(seed: int) -> None:
    told = experiment(SMALL)
    found = fit_fold(FoldTask(told, VALIDATION, seed)).history
    expected = by_hand(with_keys(told, {"training.seed": 4 + seed}), Examples(*kept()), everything()[1])
    assert found["val_accuracy"] == pytest.approx([values[3] for values in expected], abs=1e-6)
    assert found["train_loss"] == pytest.approx([values[0] for values in expected], abs=1e-6)


def test_by_the_test_images_a_fit_learns_from_all_training_images() -> None:
    told, (learn, _, test) = experiment(SMALL), everything()
    found = fit_fold(FoldTask(told, TEST, 0)).history
    assert tuple(found) == ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    for place, name in enumerate(found):
        assert found[name] == pytest.approx([values[place] for values in by_hand(told, learn, test)], abs=1e-6)


@pytest.mark.parametrize("judge", [FOLDS, TEST])
def test_a_fresh_training_learns_from_all_that_the_grid_learns_from_and_is_tested(judge: Judge) -> None:
    whole, back, test = everything()
    for seed in (1004, 1005):
        told = experiment(SMALL | {"training.seed": seed, "training.optimizer.lr": 0.001})
        *_, (trainer, _) = trained(told, whole if judge == TEST else Examples(*kept()))
        assert trainer.evaluate(test).accuracy != trainer.evaluate(back).accuracy
        assert fit_fresh(FreshTask(told, judge)) == trainer.evaluate(test).accuracy


def test_other_data_have_their_own_classes_and_sizes() -> None:
    data = {"sklearn": "digits", "validation": 0.5, "per_class": 40}
    layers = ["flatten", {"dense": 12}, "relu", {"dense": "classes"}]
    content = experiment().model_dump() | {"data": data, "network": {"layers": layers}}
    told = ClassifySpec.model_validate(content)
    found = fit_fold(FoldTask(told, FOLDS, 0))
    assert found.parameters == 64 * 12 + 12 + 12 * 10 + 10
    assert time_batch(TimeTask(told, FOLDS, 2)) > 0


def test_a_class_with_fewer_images_than_folds_is_named() -> None:
    data = {"sklearn": "digits", "size": 28, "per_class": 3}
    told = ClassifySpec.model_validate(experiment().model_dump() | {"data": data})
    with pytest.raises(InputError, match="judge: 5 folds: a class has 3 images"):
        fit_fold(FoldTask(told, Judge(folds=5), 0))
