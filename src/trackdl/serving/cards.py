"""The folder of a served model: its card, `model.json`, and its weights, `weights.safetensors`."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trackdl.data.catalogue import Preprocessing as OfDataSet
from trackdl.data.tables.inputs import Preparation
from trackdl.errors import TrackdlError, one_line
from trackdl.networks import build as models
from trackdl.spec import Preprocessing
from trackdl.spec.table import Column
from trackdl.system.findings import first_few
from trackdl.system.paths import whole_file

_Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _BaseCard(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    network: str
    arguments: dict[str, Any]
    classes: list[str]
    weights_sha256: str = ""


class ImageCard(_BaseCard):
    """The card of an image model.

    `preprocessing` turns an image into a square of `size` pixels: `fashion` by `data.preprocessing.garments`, `square`
    by `data.preprocessing.squares`, `square-dark` so that its background is dark, the others by
    `data.preprocessing.digits`. None means that the model takes only such pixels. An input whose energy
    (`ServedImages.energies`) is below `least_energy` is unfamiliar; None means that this is not looked at. Models that
    were registered before there were other sizes and colours, and this rule, do not have these keys.
    """

    mean: FiniteFloat | tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: _Spread | tuple[_Spread, _Spread, _Spread]
    preprocessing: Preprocessing | OfDataSet | None
    size: int = Field(default=28, ge=1, le=1024)
    colour: bool = False
    least_energy: float | None = Field(default=None, allow_inf_nan=False)

    @property
    def channels(self) -> int:
        """The channels of the network's input."""
        return 3 if self.colour else 1

    def normalise(self, inputs: Tensor) -> Tensor:
        """Return inputs in 0..1, float32 [n, channels, size, size], normalised for the network."""
        mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (self.mean, self.std))
        return (inputs - mean) / std


class TableCard(_BaseCard):
    """The card of a model of a table; `preparation` turns rows of `columns` into the network's inputs."""

    preparation: Preparation
    columns: list[Column]
    target: str


Card = ImageCard | TableCard
AnyCard = TypeVar("AnyCard", ImageCard, TableCard)
_CARDS: dict[bool, type[Card]] = {True: TableCard, False: ImageCard}


def write_model(folder: Path, model: nn.Module, card: AnyCard) -> AnyCard:
    """Write a model's folder; return the card with the weights' digest."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights = save(state)
    full = card.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    with whole_file(folder / "weights.safetensors") as part:
        part.write_bytes(weights)
    with whole_file(folder / "model.json") as part:
        part.write_text(json.dumps(full.model_dump(), indent=1), encoding="utf-8")
    return full


def read_model(folder: Path) -> tuple[nn.Module, Card]:
    """Return a folder's network with its weights, in evaluation mode, and its card.

    Raises:
        TrackdlError: A file is missing or damaged, the weights do not match the card's digest or are not finite, or the
            network does not match its card.
    """
    try:
        content = (folder / "model.json").read_bytes()
        given = json.loads(content)
        card = _CARDS[isinstance(given, dict) and "preparation" in given].model_validate_json(content)
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise TrackdlError(f"{folder}: weights.safetensors does not match the digest in model.json")
        model = models.build(card.network, card.arguments).eval()
        model.load_state_dict(load(weights))
        _check(model, card)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors(include_url=False)]
        raise TrackdlError(f"{folder}: not a model of trackdl: its card, {first_few(wrong, '; ')}") from error
    except (OSError, ValueError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise TrackdlError(f"{folder}: not a model of trackdl: {one_line(error, 300)}") from error
    return model, card


@torch.inference_mode()
def _check(model: nn.Module, card: Card) -> None:
    """Check that a network's weights are numbers, and that it and its card belong together.

    Raises:
        ValueError: They do not.
    """
    wrong = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if wrong:
        raise ValueError(f"the weights hold values that are not finite: {first_few(wrong)}")
    if twice := [name for name, times in Counter(card.classes).items() if times > 1]:
        raise ValueError(f"the card names classes more than once: {first_few(twice)}")
    if isinstance(card, TableCard):
        inputs = torch.zeros(1, card.preparation.width)
    else:
        inputs = torch.zeros(1, card.channels, card.size, card.size)
    outputs = model(inputs)
    if not outputs.isfinite().all():
        raise ValueError("the weights are so large that the network's outputs are not finite")
    classes = 2 if outputs.ndim == 1 else outputs.shape[1]
    if classes != len(card.classes):
        raise ValueError(f"the card names {len(card.classes)} classes, but the network tells {classes} apart")
