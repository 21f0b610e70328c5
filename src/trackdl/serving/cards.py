"""The folder of a served model: its card, `model.json`, and its weights, `weights.safetensors`."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trackdl.data.catalogue import Preprocessing as OfDataSet
from trackdl.data.tables.heart import FEATURES, HEART
from trackdl.data.tables.inputs import Preparation
from trackdl.errors import TrackdlError, one_line
from trackdl.networks import build as models
from trackdl.spec import Preprocessing
from trackdl.spec.table import Column
from trackdl.system.paths import whole_file


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
    `data.preprocessing.digits`. None means that the model takes only such pixels. Models that were registered before
    there were other sizes and colours have neither key.
    """

    mean: float | tuple[float, float, float]
    std: float | tuple[float, float, float]
    preprocessing: Preprocessing | OfDataSet | None
    size: int = Field(default=28, ge=1, le=1024)
    colour: bool = False

    @property
    def channels(self) -> int:
        """The channels of the network's input."""
        return 3 if self.colour else 1

    def normalise(self, inputs: Tensor) -> Tensor:
        """Return inputs in 0..1, float32 [n, channels, size, size], normalised for the network."""
        mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (self.mean, self.std))
        return (inputs - mean) / std


class TableCard(_BaseCard):
    """The card of a model of a table; `preparation` turns rows of `columns` into the network's inputs.

    Older cards are of the heart table and do not name its columns.
    """

    preparation: Preparation
    columns: list[Column] = Field(default_factory=lambda: FEATURES)
    target: str = str(HEART.target)


# pydantic tells the kinds apart by their required keys, since it forbids unknown ones.
Card = ImageCard | TableCard
AnyCard = TypeVar("AnyCard", ImageCard, TableCard)
_CARD: TypeAdapter[Card] = TypeAdapter(Card)


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
        TrackdlError: A file is missing or damaged, or the weights do not match the card's digest.
    """
    try:
        card = _CARD.validate_json((folder / "model.json").read_bytes())
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise TrackdlError(f"{folder}: weights.safetensors does not match the digest in model.json")
        model = models.build(card.network, card.arguments)
        model.load_state_dict(load(weights))
    except (OSError, ValueError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise TrackdlError(f"{folder}: not a model of trackdl: {one_line(error, 300)}") from error
    return model.eval(), card
