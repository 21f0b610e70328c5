"""A served model's folder: its card, `model.json`, and its weights, `weights.safetensors`."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from trackdl.data.heart.inputs import Preparation
from trackdl.errors import TrackdlError
from trackdl.networks import build as models
from trackdl.spec import Preprocessing
from trackdl.system.paths import whole_file

__all__ = ["AnyCard", "Card", "PictureCard", "TableCard", "read_model", "write_model"]


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    network: str
    arguments: dict[str, Any]
    classes: list[str]
    weights_sha256: str = ""


class PictureCard(_Described):
    """What a folder says of a network that looks at pictures.

    `preprocessing` is how a picture becomes 28×28 pixels: `fashion` as in
    `data.preprocessing.garments`, the others as in `data.preprocessing.pictures`; None where the model takes nothing
    but such pixels.
    """

    mean: float
    std: float
    preprocessing: Preprocessing | Literal["fashion"] | None


class TableCard(_Described):
    """What a folder says of a network that judges rows of the heart table; `preparation` makes them its inputs."""

    preparation: Preparation


# No key tells the kinds apart: each has some that the other lacks, and none may be missing or unknown.
Card = PictureCard | TableCard
AnyCard = TypeVar("AnyCard", PictureCard, TableCard)
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
    """Build the network that a model's folder describes, with its weights, in evaluation mode.

    Raises:
        TrackdlError: A file is missing or broken, or the weights are not those that the card names.
    """
    try:
        card = _CARD.validate_json((folder / "model.json").read_bytes())
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise TrackdlError(f"{folder}: weights.safetensors is not the file that model.json was written with")
        model = models.build(card.network, card.arguments)
        model.load_state_dict(load(weights))
    except (OSError, ValueError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise TrackdlError(f"{folder}: no trackdl model: {' '.join(str(error).split())[:300]}") from error
    return model.eval(), card
