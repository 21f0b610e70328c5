"""Stand-ins for a fit of the grid, in a module of their own: a worker process loads it, and should be quick."""

import json
import os
import signal
import time
from pathlib import Path

from trackdl.errors import TrackdlError
from trackdl.spec.network import ConvNetwork
from trackdl.studies.grid.fits import FoldResult, FoldTask, FreshTask, TimeTask


def model(task: FoldTask | FreshTask | TimeTask) -> ConvNetwork:
    assert isinstance(task.experiment.network, ConvNetwork)
    return task.experiment.network


def made_up(task: FoldTask) -> FoldResult:
    """Stand for a fit: what it says follows from what it is asked, and each call leaves a line."""
    training = task.experiment.training
    with Path(os.environ["GRID_TEST"], "calls").open("a") as calls:
        calls.write(json.dumps([model(task).model_dump(exclude={"family"}), task.fold, training.epochs]) + "\n")
    value = model(task).dropout + (0.2 if model(task).activation == "relu" else 0.1) + task.fold / 100
    part = "test" if task.judge.by == "test" else "val"
    curve = [value / 2, *[value] * (training.epochs - 1)]
    history = dict.fromkeys(("train_loss", "train_accuracy", f"{part}_loss", f"{part}_accuracy"), curve)
    return FoldResult(history, 100, 1.0, 0.9, 1.1, training.seed + task.fold, "float32", "here")


def slow(task: FoldTask) -> FoldResult:
    time.sleep(0.15)
    return made_up(task)


def first_time(task: FoldTask) -> bool:
    """Say whether the dropout 0.3, relu, fold 1 is tried for the first time, and note it."""
    mark = Path(os.environ["GRID_TEST"], "mark")
    if (model(task).dropout, model(task).activation, task.fold) != (0.3, "relu", 1) or mark.exists():
        return False
    mark.touch()
    return True


def killed_once(task: FoldTask) -> FoldResult:
    if first_time(task):
        os.kill(os.getpid(), signal.SIGKILL)
    return made_up(task)


def killed_always(task: FoldTask) -> FoldResult:
    if (model(task).dropout, task.fold) == (0.3, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return made_up(task)


def fails_once(task: FoldTask) -> FoldResult:
    if first_time(task):
        raise TrackdlError("the loss is NaN")
    return made_up(task)


def never(task: FoldTask) -> FoldResult:
    raise AssertionError(f"{task} is trained again")


def afresh(task: FreshTask) -> float:
    """Stand for a test: what it says follows from the cell."""
    seed = task.experiment.training.seed
    with Path(os.environ["GRID_TEST"], "tested").open("a") as seeds:
        seeds.write(f"{seed}\n")
    return (0.6 if model(task).dropout == 0.3 else 0.5) + (seed - 1000) / 1000


def timed(task: TimeTask) -> float:
    """Stand for a timing: what it says follows from the cell."""
    with Path(os.environ["GRID_TEST"], "timed").open("a") as cells:
        cells.write(json.dumps(model(task).model_dump()) + "\n")
    return 20.0 if model(task).dropout == 0.3 else 10.0
