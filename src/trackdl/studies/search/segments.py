"""Training in segments: after a number of epochs the complete state is returned, and any worker can continue from it.

So a study can judge a trial between two epochs, and a lost worker costs only the epoch that it was training. Knows
nothing of tracking.
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from trackdl.data.catalogue import FASHION
from trackdl.data.images import load_images, normalise, validation_split
from trackdl.networks.fashion import FashionNet
from trackdl.spec import FashionSpec
from trackdl.spec.fashion import FashionData
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.trainer import Examples, Trainer


@dataclass(frozen=True)
class SegmentTask:
    """Train `experiment` from `state`, a checkpoint's bytes (none: from the beginning), to the end of epoch `until`."""

    experiment: FashionSpec
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
    learn, validation = _pictures(task.experiment.data, dtype)
    trainer = Trainer(lambda: FashionNet(task.experiment.model), settings, F.cross_entropy)
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
def _pictures(data: FashionData, dtype: torch.dtype) -> tuple[Examples, Examples]:
    """Return the training images, as `dtype`, and the validation images, as float32, split as in `fashion`."""
    images = load_images("fashion")
    learn, back = validation_split(len(images.train_labels), data.validation, data.split_seed)
    return (
        Examples(normalise(images.train_images[learn], *FASHION.mean_std, dtype), images.train_labels[learn]),
        Examples(normalise(images.train_images[back], *FASHION.mean_std), images.train_labels[back]),
    )
