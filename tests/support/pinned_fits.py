"""What the report's trainings compute, as digests of their weights and last losses: run by test_pins.py, apart.

    python tests/support/pinned_fits.py

Each training is the experiment file's, in float32 and on one thread, on the first images of the real data sets and for
few epochs; Task 3 and Task 4 are whole.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from safetensors.torch import load

from trackdl import spec
from trackdl.data.catalogue import FASHION, MNIST
from trackdl.data.greek.letters import load_letters
from trackdl.data.heart.table import load_heart
from trackdl.data.images import load_images, normalise
from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import FashionNet
from trackdl.serving import ImageCard
from trackdl.spec import FashionSpec, GridSpec, HeartSpec, MnistSpec, SearchSpec, TransferSpec
from trackdl.studies.grid.fits import FoldTask, fit_fold
from trackdl.studies.search.segments import SegmentTask, train_segment
from trackdl.system.paths import project_root
from trackdl.tabular.protocols import NetworkCandidate
from trackdl.tasks import transfer
from trackdl.tracking.registry.register import FetchedModel
from trackdl.training.trainer import Examples, Trainer

SAMPLE = 2000  # images

Pin = tuple[str, float]


def read(name: str, kind: type[spec.Spec], **keys: object) -> spec.Spec:
    given = {"training.precision": "float32", "training.device": "cpu", **keys}
    return spec.load(project_root() / "experiments" / f"{name}.yaml", kind, given)


def digest(state: dict[str, torch.Tensor]) -> str:
    content = b"".join(name.encode() + tensor.contiguous().numpy().tobytes() for name, tensor in sorted(state.items()))
    return hashlib.sha256(content).hexdigest()


def trained(trainer: Trainer, examples: Examples, epochs: int) -> Pin:
    """Train, and return the digest of the weights and the last epoch's training loss."""
    last = list(trainer.fit(examples, epochs))[-1]
    return digest(trainer.model.state_dict()), last.train_loss


def sample(name: str, mean_std: tuple[float, float]) -> Examples:
    images = load_images(name)
    return Examples(normalise(images.train_images[:SAMPLE], *mean_std), images.train_labels[:SAMPLE])


def mnist(trainer: Trainer) -> Pin:
    return trained(trainer, sample("mnist", MNIST.mean_std), 2)


def fashion() -> Pin:
    experiment = read("fashion", FashionSpec)
    network = partial(FashionNet, experiment.model)
    trainer = Trainer(network, experiment.training, F.cross_entropy)
    return trained(trainer, sample("fashion", FASHION.mean_std), 2)


def letters(start: DigitNet, preprocessing: str) -> Pin:
    experiment = read("transfer", TransferSpec, **{"data.preprocessing": preprocessing})
    mean, std = MNIST.mean_std
    card = ImageCard(
        network="DigitNet", arguments=start.arguments, classes=[], mean=mean, std=std, preprocessing="mnist"
    )
    source = FetchedModel(start, card, "pinned", "1", "")
    found = load_letters()
    network = partial(transfer._network, source, len(found.classes), frozen=True)
    trainer = Trainer(network, experiment.training, F.nll_loss)
    return trained(trainer, transfer._examples(found, experiment), experiment.training.epochs)


def heart() -> Pin:
    experiment = read("heart", HeartSpec)
    table = load_heart()
    made, losses = {}, 0.0
    for name, protocol in experiment.protocols.items():
        candidate = NetworkCandidate(experiment.networks[0], protocol, experiment.training)
        outcome = candidate.fit_predict(table.train_rows, table.test_rows, experiment.training.seed)
        made |= {f"{name} {key}": torch.from_numpy(array) for key, array in outcome.fitted.state.items()}
        losses += outcome.fitted.learning_curves[0].epochs[-1].train_loss
    return digest(made), losses


def grid() -> Pin:
    """Return the digest of a cell's history: a fold hands over no weights."""
    experiment = read("grid", GridSpec, **{"training.epochs": 1, "data.validation": 0.9})
    cell = experiment.cells("report")[0]
    found = fit_fold(FoldTask(experiment.model(cell), experiment.training, experiment.data, experiment.folds, 0))
    return hashlib.sha256(json.dumps(found.history).encode()).hexdigest(), found.history["train_loss"][-1]


def search() -> Pin:
    experiment = read("search", SearchSpec, **{"training.epochs": 1, "data.validation": 0.95})
    made = train_segment(SegmentTask(experiment.experiment(experiment.first[0]), None, 1))
    state = {name: tensor for name, tensor in load(made.state).items() if name.startswith("model.")}
    return digest(state), made.epochs[-1].train_loss


def main() -> None:
    torch.set_num_threads(1)
    trainer = Trainer(DigitNet, read("mnist", MnistSpec).training, F.nll_loss)
    pins = {"mnist": mnist(trainer)}
    network = trainer.model
    assert isinstance(network, DigitNet)
    found: dict[str, Callable[[], Pin]] = {
        "fashion": fashion,
        "heart": heart,
        "grid": grid,
        "search": search,
    }
    if load_letters().origin == "report":
        found |= {f"transfer {how}": partial(letters, network, how) for how in ("report", "mnist")}
    json.dump(pins | {name: pinned() for name, pinned in found.items()}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
