"""Stand-ins for a training of a recovery, in a module of their own: a worker process loads it, and should be quick."""

import json
import os
import time
from pathlib import Path

from trackdl.errors import Diverged
from trackdl.spec.network import MlpNetwork
from trackdl.studies.grid.fits import FoldResult, FoldTask


def made_up(task: FoldTask) -> FoldResult:
    """Stand for a training: what it says follows from its batch size and its seed, and each call leaves a line."""
    training, held = task.experiment.training, task.experiment.data.validation is not None
    with Path(os.environ["GRID_TEST"], "calls").open("a") as calls:
        calls.write(json.dumps([training.batch_size, training.shuffle, task.fold]) + "\n")
    value = 0.5 + (0.1 if training.batch_size == 20 else 0) + [0, 0.002, -0.002, 0.001, -0.001][task.fold % 5]
    names = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    names += ["val_loss", "val_accuracy", "val_loss_dropout", "val_accuracy_dropout"] if held else []
    history = {name: [value + epoch / 10 for epoch in range(training.epochs)] for name in names}
    return FoldResult(history, 100, 1.0, 0.9, 1.1, training.seed + task.fold, "float32", "here")


def diverges(task: FoldTask) -> FoldResult:
    """Stand for trainings of which those with a batch of 10 diverge."""
    assert isinstance(task.experiment.network, MlpNetwork)
    done = made_up(task)
    if task.experiment.training.batch_size == 10:
        raise Diverged("epoch 1, batch 1: the loss is nan")
    return done


def slow(task: FoldTask) -> FoldResult:
    time.sleep(0.15)
    return made_up(task)
