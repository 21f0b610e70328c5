"""The sides that `fit.py` compares: one function is one fit of one of the report's networks.

A side's clock excludes imports. It includes reading the data for trackdl and the plain loop; skorch and
Lightning are given ready tensors.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision import datasets, transforms

from trackdl import spec
from trackdl.data.catalogue import CATALOGUE
from trackdl.data.download.datasets import fetch
from trackdl.data.images import load_images, normalise
from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import FashionNet
from trackdl.networks.layers import LayerNet
from trackdl.spec import ImageData, Training
from trackdl.spec.network import ConvNetwork, LayerNetwork
from trackdl.system.paths import project_root
from trackdl.training.devices import resolve_precision
from trackdl.training.image_splits import split_images, trainer_for
from trackdl.training.trainer import Examples, Loss, Trainer


@dataclass(frozen=True)
class Job:
    """One fit: which side does which work, for how many epochs, from which seed, on how many images (None: all)."""

    side: str
    work: Literal["mnist", "fashion"]
    epochs: int
    seed: int
    limit: int | None = None


class PlainNet(nn.Module):
    """The report's `Net`, as its text describes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities [n, 10] of images [n, 1, 28, 28]."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 320)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


def plain_fashion_net(conv_layers: int = 2, filter_size: int = 3, filters: int = 16) -> nn.Module:
    """Return the report's Task 2 network in the usual order: convolution, activation, pooling; its first by default.

    It has 128 dense nodes, dropout 0.1, pooling by 2 and ReLU.
    """
    layers: list[nn.Module] = []
    for before in (1, *[filters] * (conv_layers - 1)):
        layers += [nn.Conv2d(before, filters, filter_size, padding="same"), nn.ReLU(), nn.MaxPool2d(2)]
    left = 28 // 2**conv_layers
    dense = (nn.Flatten(), nn.Linear(filters * left**2, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))
    return nn.Sequential(*layers, *dense)


def first_fashion_net() -> FashionNet:
    """Return trackdl's network of the same layers as `plain_fashion_net()`."""
    return FashionNet(
        ConvNetwork(
            conv_layers=2,
            filter_size=3,
            filters=16,
            dense_nodes=128,
            dropout=0.1,
            pool_size=2,
            activation="relu",
        )
    )


def layers(*listed: str | dict[str, object]) -> Callable[[], nn.Module]:
    """Return what makes the network of a list of layers, as an experiment file states it."""
    network = LayerNetwork.model_validate({"layers": list(listed)})
    return lambda: LayerNet(network, 1, 28, 10)


digit_layers = layers(
    *({"conv": 10, "size": 5}, {"pool": 2}, "relu"),
    *({"conv": 20, "size": 5}, {"dropout_maps": 0.5}, {"pool": 2}, "relu"),
    *("flatten", {"dense": 50}, "relu", {"dropout": 0.5}, {"dense": "classes"}),
)
fashion_layers = layers(
    *({"conv": 16, "size": 3, "padding": "same"}, "relu", {"pool": 2}),
    *({"conv": 16, "size": 3, "padding": "same"}, "relu", {"pool": 2}),
    *("flatten", {"dense": 128}, "relu", {"dropout": 0.1}, {"dense": "classes"}),
)


@dataclass(frozen=True)
class Work:
    """What is fitted: the data, trackdl's network, as a family and as layers, the plain one, loss and settings."""

    dataset: type[datasets.MNIST]
    mean_std: tuple[float, ...]
    network: Callable[[], nn.Module]
    layers: Callable[[], nn.Module]
    plain: Callable[[], nn.Module]
    loss: Loss
    batch_size: int
    optimizer: spec.Optimizer


WORKS = {
    "mnist": Work(
        *(datasets.MNIST, CATALOGUE["mnist"].mean_std, DigitNet, digit_layers, PlainNet, F.nll_loss, 64),
        spec.Optimizer(name="sgd", lr=0.01, momentum=0.5),
    ),
    "fashion": Work(
        *(datasets.FashionMNIST, CATALOGUE["fashion"].mean_std, first_fashion_net, fashion_layers),
        *(plain_fashion_net, F.cross_entropy, 100),
        spec.Optimizer(name="adam", lr=0.001, momentum=0.0),
    ),
}


def plain_optimizer(model: nn.Module, work: Work) -> torch.optim.Optimizer:
    """Return the work's optimiser as written by hand."""
    if work.optimizer.name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=work.optimizer.lr, momentum=work.optimizer.momentum)
    return torch.optim.Adam(model.parameters(), lr=work.optimizer.lr)


class Clock:
    """Adds up the seconds of named blocks."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the block's time to `name`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def fit_trackdl(job: Job, clock: Clock) -> nn.Module:
    """Read, verify, normalise and fit by trackdl, as its tasks do: a family, or on the side "layers" such a list."""
    work = WORKS[job.work]
    network = work.layers if job.side == "layers" else work.network
    loss = F.cross_entropy if job.side == "layers" else work.loss  # a list of layers returns logits
    with clock("fit"):
        images = load_images(ImageData(dataset=job.work))
        settings = Training(epochs=job.epochs, batch_size=work.batch_size, optimizer=work.optimizer, seed=job.seed)
        trainer = Trainer(network, settings, loss)
        pixels, labels = images.train_images[: job.limit], images.train_labels[: job.limit]
        for _ in trainer.fit(Examples(normalise(pixels, *work.mean_std, dtype=trainer.dtype), labels), job.epochs):
            pass
    return trainer.model


def fit_fast(job: Job, clock: Clock) -> nn.Module:
    """Read and fit by the recipe of experiments/mnist-fast.yaml."""
    keys = {"training.seed": job.seed, "training.epochs": job.epochs}
    with clock("fit"):
        experiment = spec.load(project_root() / "experiments" / "mnist-fast.yaml", spec.ClassifySpec, keys)
        precision = resolve_precision(experiment.training.precision, torch.device("cpu"))
        splits = split_images(experiment.data, precision)
        trainer, learn = trainer_for(experiment, splits.images), splits.learn
        train = Examples(learn.inputs[: job.limit], learn.targets[: job.limit])
        for _ in trainer.fit(train, experiment.training.epochs):
            pass
    return trainer.model


def fit_plain(job: Job, clock: Clock) -> nn.Module:
    """Fit by the loop that the report wrote: torchvision's data set, transforms for each image, a DataLoader."""
    work = WORKS[job.work]
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root) / work.dataset.__name__ / "raw"
        raw.mkdir(parents=True)
        for file in fetch(job.work).iterdir():
            (raw / file.name).symlink_to(file.resolve())
        torch.manual_seed(job.seed)
        with clock("fit"):
            prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*([v] for v in work.mean_std))])
            train = work.dataset(root, train=True, transform=prepare)
            chosen = Subset(train, range(job.limit)) if job.limit else train
            loader = DataLoader(chosen, batch_size=work.batch_size, shuffle=True)
            model = work.plain()
            optimizer = plain_optimizer(model, work)
            for _ in range(job.epochs):
                model.train()
                for inputs, targets in loader:
                    optimizer.zero_grad()
                    loss = work.loss(model(inputs), targets)
                    loss.backward()  # type: ignore[no-untyped-call]  # torch types it not
                    optimizer.step()
    return model


def fit_skorch(job: Job, clock: Clock) -> nn.Module:
    """Fit by skorch, given ready tensors."""
    from skorch import NeuralNetClassifier

    work, train = WORKS[job.work], ready(job)
    torch.manual_seed(job.seed)
    with clock("fit"):
        net = NeuralNetClassifier(
            work.plain,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=work.optimizer.lr,
            batch_size=work.batch_size,
            max_epochs=job.epochs,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        net.fit(train.inputs, train.targets)
    return net.module_


def fit_lightning(job: Job, clock: Clock) -> nn.Module:
    """Fit by Lightning, given ready tensors."""
    import lightning

    work, train = WORKS[job.work], ready(job)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = work.plain()

        def training_step(self, batch: list[Tensor], _index: int) -> Tensor:
            return work.loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return plain_optimizer(self, work)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # it says which hardware it found
    # It advises more loading processes; for tensors in memory each batch would only travel further.
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    # Lightning's own use of torch's pytree.
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
    torch.manual_seed(job.seed)
    with clock("fit"):
        loader = DataLoader(TensorDataset(train.inputs, train.targets), batch_size=work.batch_size, shuffle=True)
        module = Module()
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=job.epochs,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
        )
        trainer.fit(module, loader)
    return module.net


def ready(job: Job) -> Examples:
    """Return the training examples as float32 tensors."""
    images = load_images(ImageData(dataset=job.work))
    pixels, labels = images.train_images[: job.limit], images.train_labels[: job.limit]
    return Examples(normalise(pixels, *WORKS[job.work].mean_std), labels)
