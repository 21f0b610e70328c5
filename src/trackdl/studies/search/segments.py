"""Training in segments: after a number of epochs the complete state is returned, and any worker can continue from it.

So a study can judge a trial between two epochs, and a lost worker costs only the epoch that it was training. Knows
nothing of tracking.
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from trackdl.data.images import ImageSet
from trackdl.errors import InputError
from trackdl.spec import ClassifySpec
from trackdl.spec.images import ImageData
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.image_splits import split_images, trainer_for
from trackdl.training.trainer import Examples


@dataclass(frozen=True)
class SegmentTask:
    """Train `experiment` from `state`, a checkpoint's bytes (none: from the beginning), to the end of epoch `until`."""

    experiment: ClassifySpec
    state: bytes | None
    until: int


@dataclass(frozen=True)
class Epoch:
    """One epoch's result; accuracies are fractions, `cpu_seconds` the processor time of its training steps."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    cpu_seconds: float


@dataclass(frozen=True)
class SegmentResult:
    """The result of a segment: its epochs, and the state to continue from."""

    epochs: list[Epoch]
    state: bytes


def train_segment(task: SegmentTask) -> SegmentResult:
    """Train one segment, and evaluate the network on the validation images after every epoch.

    Raises:
        Diverged: The loss became NaN or infinite.
        TrackdlError: The data are not available, or the state is not a checkpoint of this network.
    """
    settings = task.experiment.training
    dtype = resolve_precision(settings.precision, resolve_device(settings.device))
    images, learn, validation = _pictures(task.experiment.data, dtype)
    trainer = trainer_for(task.experiment, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        if task.state is not None:
            path.write_bytes(task.state)
            trainer.load(path)
        epochs = []
        for result in trainer.fit(learn, task.until):
            judged = trainer.evaluate(validation)
            values = (result.train_loss, result.train_accuracy, judged.loss, judged.accuracy, result.cpu_seconds)
            epochs.append(Epoch(result.epoch, *(round(value, 6) for value in values)))
        trainer.save(path)
        return SegmentResult(epochs, path.read_bytes())


@cache
def _pictures(data: ImageData, dtype: torch.dtype) -> tuple[ImageSet, Examples, Examples]:
    """Return what is known of the images, the training images, as `dtype`, and the validation split, as float32."""
    splits = split_images(data, dtype)
    if splits.validation is None:
        raise InputError("key 'data.validation': a search needs a validation split")
    return splits.images.emptied(), splits.learn, splits.validation
