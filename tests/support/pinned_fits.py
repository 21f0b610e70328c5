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
from safetensors.torch import load

from trackdl import spec
from trackdl.data.greek.letters import load_letters
from trackdl.data.images import normalise
from trackdl.data.tables.table import load_table
from trackdl.networks.digit import DigitNet
from trackdl.serving import ImageCard
from trackdl.spec import ClassifySpec, GridSpec, SearchSpec, TableSpec, TransferSpec
from trackdl.studies.grid.fits import FoldTask, fit_fold
from trackdl.studies.search.segments import SegmentTask, train_segment
from trackdl.system.paths import project_root
from trackdl.tabular.protocols import NetworkCandidate
from trackdl.tasks import classify, transfer
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


def classified(name: str) -> tuple[Trainer, Pin]:
    experiment = read(name, ClassifySpec)
    splits = classify._load(experiment)
    images, trainer = splits.images, classify._trainer(experiment, splits)
    inputs = normalise(images.train_images[:SAMPLE], images.mean, images.std)
    return trainer, trained(trainer, Examples(inputs, images.train_labels[:SAMPLE]), 2)


def letters(start: DigitNet, preprocessing: str) -> Pin:
    experiment = read("transfer", TransferSpec, **{"data.preprocessing": preprocessing})
    card = ImageCard(
        network="DigitNet", arguments=start.arguments, classes=[], mean=0.1307, std=0.3081, preprocessing="mnist"
    )
    source = transfer.Source(FetchedModel(start, card, "pinned", "1", ""), card)
    found = load_letters(prepare=transfer._prepare(card, experiment))
    examples = Examples(card.normalise(found.inputs), found.labels)
    return trained(transfer._trainer(experiment, source, len(found.classes)), examples, experiment.training.epochs)


def heart() -> Pin:
    experiment = read("heart", TableSpec)
    table = load_table(experiment.data)
    made, losses = {}, 0.0
    for name, protocol in experiment.protocols.items():
        candidate = NetworkCandidate(experiment.networks[0], protocol, experiment.training, table.schema)
        outcome = candidate.fit_predict(table.train_rows, table.test_rows, experiment.training.seed)
        made |= {f"{name} {key}": torch.from_numpy(array) for key, array in outcome.fitted.state.items()}
        losses += outcome.fitted.learning_curves[0].epochs[-1].train_loss
    return digest(made), losses


def grid() -> Pin:
    """Return the digest of a cell's history: a fold hands over no weights."""
    experiment = read("grid", GridSpec, **{"training.epochs": 1, "data.validation": 0.9})
    cell = experiment.cells("report")[0]
    found = fit_fold(FoldTask(experiment.of_cell(cell), experiment.judge, 0))
    return hashlib.sha256(json.dumps(found.history).encode()).hexdigest(), found.history["train_loss"][-1]


def search() -> Pin:
    experiment = read("search", SearchSpec, **{"training.epochs": 1, "data.validation": 0.95})
    made = train_segment(SegmentTask(experiment.of_trial(experiment.first[0]), None, 1))
    state = {name: tensor for name, tensor in load(made.state).items() if name.startswith("model.")}
    return digest(state), made.epochs[-1].train_loss


def main() -> None:
    torch.set_num_threads(1)
    trainer, pin = classified("mnist")
    pins = {"mnist": pin}
    network = trainer.model
    assert isinstance(network, DigitNet)
    found: dict[str, Callable[[], Pin]] = {
        "fashion": lambda: classified("fashion")[1],
        "heart": heart,
        "grid": grid,
        "search": search,
    }
    if load_letters().origin == "report":
        found |= {f"transfer {how}": partial(letters, network, how) for how in ("report", "mnist")}
    json.dump(pins | {name: pinned() for name, pinned in found.items()}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
