"""The fits of the grid, in its workers: a fold of a configuration, a test with a new seed, or a timed training.

A worker process keeps the data set, normalised, from one fit to the next. Knows nothing of tracking.
"""

import platform
import time
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.model_selection import StratifiedKFold

from trackdl.data.catalogue import FASHION
from trackdl.data.images import load_images, normalise, validation_split
from trackdl.networks.build import count_parameters
from trackdl.networks.fashion import FashionNet
from trackdl.spec import Training
from trackdl.spec.fashion import FashionData, FashionModel
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.trainer import Examples, Trainer

HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class FoldTask:
    """One fit: `fold` of `folds` is the one held out."""

    model: FashionModel
    training: Training
    data: FashionData
    folds: int
    fold: int


@dataclass(frozen=True)
class FoldResult:
    """The result of one fit; it is stored as JSON.

    Attributes:
        history: A value per epoch of each metric in `HISTORY`; accuracies are fractions.
        parameters: The number of the network's parameters.
        fit_seconds: Wall time of the training steps.
        cpu_seconds: Processor time of the training steps; other work on the machine lengthens it less than wall time.
        seconds: Wall time of the whole task, which includes preparing the data and evaluating each epoch.
        seed: The fit's own seed.
        precision: The type that the layers computed in.
        host: The machine's name.
    """

    history: dict[str, list[float]]
    parameters: int
    fit_seconds: float
    cpu_seconds: float
    seconds: float
    seed: int
    precision: str
    host: str

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return asdict(self)


def fit_fold(task: FoldTask) -> FoldResult:
    """Train a configuration on all folds but one, and evaluate it on that one after every epoch.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    began = time.perf_counter()
    # Each fold has its own seed, the same for every configuration, so only the parameters differ between them.
    settings = task.training.model_copy(update={"seed": task.training.seed + task.fold})
    dtype = resolve_precision(settings.precision, resolve_device(settings.device))
    learn, held = _folds(task.data, task.folds, dtype)[task.fold]
    trainer = Trainer(lambda: FashionNet(task.model), settings, F.cross_entropy)
    history: dict[str, list[float]] = {name: [] for name in HISTORY}
    cpu = 0.0
    for result in trainer.fit(learn, settings.epochs):
        cpu += result.cpu_seconds
        judged = trainer.evaluate(held)
        values = (result.train_loss, result.train_accuracy, judged.loss, judged.accuracy)
        for name, value in zip(HISTORY, values, strict=True):
            history[name].append(round(value, 6))
    return FoldResult(
        history=history,
        parameters=count_parameters(trainer.model),
        fit_seconds=trainer.seconds,
        cpu_seconds=cpu,
        seconds=time.perf_counter() - began,
        seed=settings.seed,
        precision=str(dtype).removeprefix("torch."),
        host=platform.node(),
    )


@dataclass(frozen=True)
class FreshTask:
    """A configuration to train on the images of all folds, from a seed that the grid has not used, and to test once."""

    model: FashionModel
    training: Training
    data: FashionData


def fit_fresh(task: FreshTask) -> float:
    """Return the accuracy on the test images, as a fraction.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    settings = task.training
    dtype = resolve_precision(settings.precision, resolve_device(settings.device))
    images = load_images("fashion")
    kept, _ = validation_split(len(images.train_labels), task.data.validation, task.data.split_seed)
    learn = Examples(normalise(images.train_images[kept], *FASHION.mean_std, dtype), images.train_labels[kept])
    trainer = Trainer(lambda: FashionNet(task.model), settings, F.cross_entropy)
    for _ in trainer.fit(learn, settings.epochs):
        pass
    return trainer.evaluate(Examples(normalise(images.test_images, *FASHION.mean_std), images.test_labels)).accuracy


@dataclass(frozen=True)
class TimeTask:
    """A configuration whose training is timed over this many `batches` of the first fold's training images."""

    model: FashionModel
    training: Training
    data: FashionData
    folds: int
    batches: int


def time_batch(task: TimeTask) -> float:
    """Return the processor time of a training step, in milliseconds; as many steps before it warm up.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    settings = task.training
    dtype = resolve_precision(settings.precision, resolve_device(settings.device))
    learn, _ = _folds(task.data, task.folds, dtype)[0]
    pictures = min(task.batches * settings.batch_size, len(learn))
    trainer = Trainer(lambda: FashionNet(task.model), settings, F.cross_entropy)
    *_, result = trainer.fit(Examples(learn.inputs[:pictures], learn.targets[:pictures]), 2)
    return 1000 * result.cpu_seconds / len(result.sizes)


@cache
def _folds(data: FashionData, folds: int, dtype: torch.dtype) -> list[tuple[Examples, Examples]]:
    """Return (training, held out) examples of each fold: the training's as `dtype`, the held-out's as float32.

    The folds are those of `GridSearchCV(cv=3)`: stratified, in the images' order.
    """
    images = load_images("fashion")
    kept, _ = validation_split(len(images.train_labels), data.validation, data.split_seed)
    pixels, labels = images.train_images[kept], images.train_labels[kept]
    made = []
    for learn, held in StratifiedKFold(folds).split(torch.zeros(len(labels)), labels):
        made.append(
            (
                Examples(normalise(pixels[learn], *FASHION.mean_std, dtype), labels[learn]),
                Examples(normalise(pixels[held], *FASHION.mean_std), labels[held]),
            )
        )
    return made
