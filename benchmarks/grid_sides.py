"""The sides that `grid.py` compares: each works through the sample's 8 cells with two processes.

- `report`: what `GridSearchCV(..., cv=3, n_jobs=-1)` does on two cores with the report's loop: a pool of two loky
  processes, which gives each fit one thread (joblib sets OMP_NUM_THREADS to the cores by the processes; nothing here
  sets threads, and the result reports how many torch has); torch in float32; torchvision's data set with `ToTensor` and
  `Normalize` for each image, a DataLoader of 100, Adam; then the held-out fold is scored, once. The data set is read
  once a process, outside of the clock.
- `skorch`: two processes of one thread, given ready tensors; the held-out fold is scored once.
- `trackdl`: `tasks.grid.run`, as the command calls it, in stores of its own. It judges the held-out fold after every
  epoch and keeps trials and runs. It trains all three folds of a cell, where the others train the first: a rate does
  not depend on that, and its trials are complete.

All learn from the same images of a fold, in batches of 100, by Adam's 0.001.
"""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sides import plain_fashion_net
from sklearn.model_selection import StratifiedKFold
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from trackdl.data.catalogue import CATALOGUE
from trackdl.data.download.datasets import fetch
from trackdl.data.images import load_images, normalise, validation_split
from trackdl.spec import GridSpec, ImageData
from trackdl.studies.grid.fits import FoldResult, FoldTask, fit_fold
from trackdl.training.trainer import Examples

WORKERS = 2
FOLDS = 3
BATCH = 100
RATE = 0.001
MEAN_STD = CATALOGUE["fashion"].mean_std
SPACE = {
    "activation": ["relu"],
    "filter_size": [3, 5],
    "dense_nodes": [128],
    "dropout": [0.1],
    "filters": [16, 32],
    "conv_layers": [2, 3],
    "pool_size": [2],
}
CELLS = [dict(zip(SPACE, values, strict=True)) for values in product(*SPACE.values())]
TIMES = "TRACKDL_BENCHMARK_TIMES"  # the folder that trackdl's workers note their times in


@dataclass(frozen=True)
class Job:
    """A side's task: epochs, the share of images that is left out, and the seed."""

    epochs: int
    validation: float
    seed: int


@dataclass(frozen=True)
class Fit:
    """One fit: its cell, images trained on, times by the machine's monotonic clock, its process and its threads.

    `trained` are the seconds of training steps alone, where the side knows them.
    """

    cell: dict[str, Any]
    images: int
    began: float
    ended: float
    process: int
    threads: int
    accuracy: float
    trained: float | None = None


def first_fold(job: Job) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices, among the training images, that the first fold trains on and that it holds out."""
    labels = load_images(ImageData(dataset="fashion")).train_labels
    kept = validation_split(len(labels), job.validation, 1)[0].numpy()
    learn, held = next(iter(StratifiedKFold(FOLDS).split(np.zeros(len(kept)), labels[kept].numpy())))
    return kept[learn], kept[held]


@cache
def _plain_data(job: Job) -> tuple[Subset[Any], Subset[Any]]:
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for file in fetch("fashion").iterdir():
            (raw / file.name).symlink_to(file.resolve())
        prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*([v] for v in MEAN_STD))])
        train = datasets.FashionMNIST(root, train=True, transform=prepare)  # it reads everything at once
    learn, held = first_fold(job)
    return Subset(train, learn.tolist()), Subset(train, held.tolist())


def fit_report(cell: dict[str, Any], job: Job) -> Fit:
    """Fit one cell by the report's loop, and score the held-out fold."""
    learn, held = _plain_data(job)
    torch.manual_seed(job.seed)
    began = time.monotonic()
    model = plain_net(cell)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    loader = DataLoader(learn, batch_size=BATCH, shuffle=True)
    for _ in range(job.epochs):
        model.train()
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in DataLoader(held, batch_size=BATCH))
    return _fit(cell, job.epochs * len(learn), began, right / len(held))


@cache
def _ready(job: Job) -> tuple[Examples, Examples]:
    images = load_images(ImageData(dataset="fashion"))
    learn, held = (torch.from_numpy(places) for places in first_fold(job))
    return (
        Examples(normalise(images.train_images[learn], *MEAN_STD), images.train_labels[learn]),
        Examples(normalise(images.train_images[held], *MEAN_STD), images.train_labels[held]),
    )


def fit_skorch(cell: dict[str, Any], job: Job) -> Fit:
    """Fit one cell by skorch, given ready tensors, and score the held-out fold."""
    from skorch import NeuralNetClassifier

    torch.set_num_threads(1)
    learn, held = _ready(job)
    torch.manual_seed(job.seed)
    began = time.monotonic()
    net = NeuralNetClassifier(
        plain_net(cell),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=RATE,
        batch_size=BATCH,
        max_epochs=job.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    net.fit(learn.inputs, learn.targets)
    right = float((net.predict(held.inputs) == held.targets.numpy()).mean())
    return _fit(cell, job.epochs * len(learn), began, right)


def plain_net(cell: dict[str, Any]) -> nn.Module:
    """Return a cell's network in the usual order of layers."""
    return plain_fashion_net(cell["conv_layers"], cell["filter_size"], cell["filters"])


def _fit(cell: dict[str, Any], images: int, began: float, accuracy: float) -> Fit:
    return Fit(cell, images, began, time.monotonic(), os.getpid(), torch.get_num_threads(), accuracy)


def run_pool(side: str, job: Job) -> list[Fit]:
    """Work through the sample by joblib, as GridSearchCV does."""
    function = {"report": fit_report, "skorch": fit_skorch}[side]
    fits: list[Fit] = Parallel(n_jobs=WORKERS, backend="loky")(delayed(function)(cell, job) for cell in CELLS)
    return fits


def timed_fit(task: FoldTask) -> FoldResult:
    """Run `fit_fold`, and record when and where."""
    began = time.monotonic()
    result = fit_fold(task)
    ended = time.monotonic()
    name = "-".join(str(value) for value in [*(getattr(task.experiment.network, key) for key in CELLS[0]), task.fold])
    times = [began, ended, os.getpid(), torch.get_num_threads()]
    (Path(os.environ[TIMES]) / name).write_text(json.dumps(times), encoding="utf-8")
    return result


def run_trackdl(job: Job) -> list[Fit]:
    """Work through the sample as `trackdl grid` does, in stores of its own that are created before the clock starts."""
    from trackdl.studies.store import storage
    from trackdl.tasks import grid
    from trackdl.tracking import store

    with _own_stores() as folder:
        store.client().search_experiments()
        place = (folder / "artifacts").as_uri()
        os.environ["MLFLOW_EXPERIMENT_ID"] = store.client().create_experiment("benchmark", artifact_location=place)
        storage()
        table = grid.run(experiment(job), workers=WORKERS, fit=timed_fit).table
        fits = []
        for row in table.to_dict("records"):
            cell = {name: row[name] for name in CELLS[0]}
            name = "-".join(str(value) for value in [*cell.values(), row["fold"]])
            began, ended, process, threads = json.loads((folder / "times" / name).read_text(encoding="utf-8"))
            accuracy = row[f"val_accuracy_{job.epochs}"]
            images = job.epochs * images_of(job, row["fold"])
            fits.append(Fit(cell, images, began, ended, process, threads, accuracy, trained=row["fit_seconds"]))
    return fits


def experiment(job: Job) -> GridSpec:
    """Return the sample as an experiment of the task `grid`."""
    return GridSpec.model_validate(
        {
            "task": "grid",
            "experiment": {
                "task": "classify",
                "data": {"dataset": "fashion", "validation": job.validation, "split_seed": 1},
                "network": {"family": "conv", **CELLS[0]},
                "training": {
                    "epochs": job.epochs,
                    "batch_size": BATCH,
                    "optimizer": {"name": "adam", "lr": RATE},
                    "seed": job.seed,
                },
            },
            "judge": {"folds": FOLDS},
            "space": {f"network.{name}": values for name, values in SPACE.items()},
        }
    )


def images_of(job: Job, fold: int) -> int:
    """Return how many images a fold trains on."""
    labels = load_images(ImageData(dataset="fashion")).train_labels
    kept = validation_split(len(labels), job.validation, 1)[0]
    parts = list(StratifiedKFold(FOLDS).split(np.zeros(len(kept)), labels[kept].numpy()))
    return len(parts[fold][0])


@contextmanager
def _own_stores() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "times").mkdir()
        os.environ[TIMES] = str(folder / "times")
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["TRACKDL_STORAGE"] = f"sqlite:///{folder}/optuna.db"
        yield folder
