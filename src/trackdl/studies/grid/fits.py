"""The fits of the grid, in its workers: of a fold, of one more training by the report, from a new seed, or timed.

A worker process keeps the data set, normalised, from one fit to the next. Knows nothing of tracking.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from trackdl.data.images import ImageSet, load_images, validation_split
from trackdl.errors import InputError
from trackdl.networks.build import count_parameters
from trackdl.spec import ClassifySpec
from trackdl.spec.grid import Judge
from trackdl.spec.images import ImageData
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.image_splits import Splits, image_examples, split_images, trainer_for
from trackdl.training.trainer import Evaluation, Examples, Trainer, evaluate_with_dropout


@dataclass(frozen=True)
class FoldTask:
    """One fit of a cell's experiment: number `fold` of the folds is the one held out, or of the seeds the one used."""

    experiment: ClassifySpec
    judge: Judge
    fold: int


@dataclass(frozen=True)
class FoldResult:
    """The result of one fit; it is stored as JSON.

    `history` has a value per epoch of each metric, of training and of what judges; accuracies are fractions.
    `fit_seconds` and `cpu_seconds` are wall and processor time of the training steps, `seconds` is the wall time of the
    whole task. `seed` is the fit's own.
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
    """Train a configuration, and evaluate it after every epoch on the images that judge it.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    began = time.perf_counter()
    # Each fit has its own seed, the same for every configuration, so only the parameters differ between them.
    training = task.experiment.training
    settings = training.with_seed(training.seed + task.fold)
    images, parts = _parts(task.experiment.data, task.judge, _dtype(task.experiment))
    learn, held = parts[task.fold % len(parts)]
    trainer = trainer_for(task.experiment.model_copy(update={"training": settings}), images)
    part = "test" if task.judge.by == "test" else "val"
    return _fitted(trainer, task.experiment, learn, lambda: _measures(part, trainer.evaluate(held)), began)


def fit_printed(task: FoldTask) -> FoldResult:
    """Train a configuration as one more training by the report may have been, and measure all that reports print.

    Number `task.fold` has a seed and a validation split of its own, as the trainings of `trackdl fashion --seeds 5`
    have. After every epoch the network is validated, without dropout and with it, and tested.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    began = time.perf_counter()
    experiment = task.experiment.nth(task.fold)
    splits = split_images(experiment.data, _dtype(experiment))
    trainer = trainer_for(experiment, splits.images)

    def measure() -> dict[str, float]:
        found = _measures("test", trainer.evaluate(splits.test))
        if splits.validation is None:
            return found
        plain = trainer.evaluate(splits.validation)
        noisy = evaluate_with_dropout(trainer, splits.validation) or plain
        dropped = {f"{name}_dropout": value for name, value in _measures("val", noisy).items()}
        return found | _measures("val", plain) | dropped

    return _fitted(trainer, experiment, splits.learn, measure, began)


def _measures(part: str, found: Evaluation) -> dict[str, float]:
    return {f"{part}_loss": found.loss, f"{part}_accuracy": found.accuracy}


def _fitted(
    trainer: Trainer, experiment: ClassifySpec, learn: Examples, measure: Callable[[], dict[str, float]], began: float
) -> FoldResult:
    """Train to the last epoch, measuring after each."""
    history: dict[str, list[float]] = {}
    cpu = 0.0
    for result in trainer.fit(learn, experiment.training.epochs):
        cpu += result.cpu_seconds
        measured = {"train_loss": result.train_loss, "train_accuracy": result.train_accuracy, **measure()}
        for name, value in measured.items():
            history.setdefault(name, []).append(round(value, 6))
    return FoldResult(
        history=history,
        parameters=count_parameters(trainer.model),
        fit_seconds=trainer.seconds,
        cpu_seconds=cpu,
        seconds=time.perf_counter() - began,
        seed=trainer.settings.seed,
        precision=str(_dtype(experiment)).removeprefix("torch."),
        host=platform.node(),
    )


def _dtype(experiment: ClassifySpec) -> torch.dtype:
    return resolve_precision(experiment.training.precision, resolve_device(experiment.training.device))


@dataclass(frozen=True)
class FreshTask:
    """A configuration to train from a seed that the grid has not used, and to test once."""

    experiment: ClassifySpec
    judge: Judge


def fit_fresh(task: FreshTask) -> float:
    """Train on all images that the grid learns from; return the accuracy on the test images, as a fraction.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    splits = _split(task.experiment.data, task.judge, _dtype(task.experiment))
    trainer = trainer_for(task.experiment, splits.images)
    for _ in trainer.fit(splits.learn, task.experiment.training.epochs):
        pass
    return trainer.evaluate(splits.test).accuracy


@dataclass(frozen=True)
class TimeTask:
    """A configuration whose training is timed over this many `batches` of the first fit's training images."""

    experiment: ClassifySpec
    judge: Judge
    batches: int


def time_batch(task: TimeTask) -> float:
    """Return the processor time of a training step, in milliseconds; as many steps before it warm up.

    Raises:
        TrackdlError: The data are not available, or the training failed.
    """
    images, ((learn, _), *_) = _parts(task.experiment.data, task.judge, _dtype(task.experiment))
    pictures = min(task.batches * task.experiment.training.batch_size, len(learn))
    *_, result = trainer_for(task.experiment, images).fit(learn.select(torch.arange(pictures)), 2)
    return 1000 * result.cpu_seconds / len(result.sizes)


def _split(data: ImageData, judge: Judge, dtype: torch.dtype) -> Splits:
    """Return an experiment's splits; what is judged on the test images learns from all training images."""
    return split_images(data.model_copy(update={"validation": None}) if judge.by == "test" else data, dtype)


@cache
def _parts(data: ImageData, judge: Judge, dtype: torch.dtype) -> tuple[ImageSet, list[tuple[Examples, Examples]]]:
    """Return what is known of the images, and (training, judging) examples of each fold, or of all seeds.

    Training examples are of `dtype`, judging ones float32. The folds are those of `GridSearchCV(cv=3)`: stratified, in
    the images' order.
    """
    if judge.by != "folds":
        splits = _split(data, judge, dtype)
        return splits.images.emptied(), [(splits.learn, splits.validation or splits.test)]
    images = load_images(data)
    pixels, labels = images.train_images, images.train_labels
    if data.validation is not None:
        kept, _ = validation_split(len(labels), data.validation, data.split_seed)
        pixels, labels = pixels[kept], labels[kept]
    fewest = int(torch.bincount(labels, minlength=len(images.classes)).min())
    if fewest < judge.folds:
        raise InputError(f"judge: {judge.folds} folds: a class has {fewest} images, too few for one in each fold")

    def examples(places: NDArray[np.int64], dtype: torch.dtype = torch.float32) -> Examples:
        return image_examples(images, pixels[places], labels[places], dtype)

    folds = StratifiedKFold(judge.folds).split(torch.zeros(len(labels)), labels)
    return images.emptied(), [(examples(learn, dtype), examples(held)) for learn, held in folds]
