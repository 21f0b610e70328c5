"""The model as served: a picture in, a label and its probabilities out.

A model's folder holds `model.json` (which network, which classes, which preprocessing) and `weights.safetensors`.
MLflow loads it through `_load_pyfunc`, with this package's code beside it in the artifact: no pickle, no checkout.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trackdl import models
from trackdl.data.pictures import to_digits
from trackdl.errors import InputError, TrackdlError
from trackdl.paths import whole_file
from trackdl.spec import Preprocessing

__all__ = ["Card", "ServedModel", "read_model", "write_model"]

SIDE = 28


class Card(BaseModel):
    """What a model's folder says of its weights.

    `preprocessing` is how a picture becomes 28×28 pixels; None where the model takes nothing but such pixels.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    network: str
    arguments: dict[str, Any]
    classes: list[str]
    mean: float
    std: float
    preprocessing: Preprocessing | None
    weights_sha256: str = ""


def write_model(folder: Path, model: nn.Module, card: Card) -> Card:
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
        card = Card.model_validate_json((folder / "model.json").read_bytes())
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise TrackdlError(f"{folder}: weights.safetensors is not the file that model.json was written with")
        model = models.build(card.network, card.arguments)
        model.load_state_dict(load(weights))
    except (OSError, ValidationError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise TrackdlError(f"{folder}: no trackdl model: {' '.join(str(error).split())[:300]}") from error
    return model.eval(), card


class ServedModel:
    """A registered model in use.

    Args:
        model: The network, in evaluation mode.
        card: What its folder says of it.
    """

    def __init__(self, model: nn.Module, card: Card) -> None:
        self.model, self.card = model, card

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Answer MLflow: pixels [n, 28, 28] or [28, 28], 0 (paper) to 255 (ink), to a label and probabilities each."""
        pixels = np.asarray(model_input, dtype=np.float32)
        if pixels.shape[-2:] != (SIDE, SIDE) or pixels.ndim not in (2, 3):
            raise InputError(f"pixels of shape {list(pixels.shape)}: expected [n, {SIDE}, {SIDE}] or [{SIDE}, {SIDE}]")
        if not (np.isfinite(pixels).all() and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 255):
            raise InputError("pixels must be numbers from 0 (paper) to 255 (ink)")
        return self._answer(torch.from_numpy(pixels.reshape(-1, 1, SIDE, SIDE)) / 255)

    def look(self, pictures: Sequence[Image.Image]) -> pd.DataFrame:
        """Tell what stands on pictures (mode L, dark ink or light), preprocessed as in the model's training."""
        if self.card.preprocessing is None:
            raise InputError("this model takes 28×28 pixels only: it was trained without a preprocessing for pictures")
        return self._answer(to_digits(pictures, self.card.preprocessing))

    @torch.inference_mode()
    def _answer(self, digits: Tensor) -> pd.DataFrame:
        scaled = (digits - self.card.mean) / self.card.std
        probabilities = torch.softmax(self.model(scaled), dim=1).double()
        best = probabilities.argmax(dim=1).tolist()
        return pd.DataFrame(
            {
                "label": [self.card.classes[index] for index in best],
                "probabilities": [dict(zip(self.card.classes, row, strict=True)) for row in probabilities.tolist()],
            }
        )


def _load_pyfunc(path: str) -> ServedModel:
    """Load what MLflow's python_function flavour names."""
    return ServedModel(*read_model(Path(path)))
