"""A registered model of pictures in use: a picture in, a label and its probabilities out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from trackdl.data.pictures import to_digits
from trackdl.errors import InputError
from trackdl.serving.cards import PictureCard

__all__ = ["SIDE", "ServedPictures"]

SIDE = 28


class ServedPictures:
    """A registered model of pictures in use.

    Args:
        model: The network, in evaluation mode.
        card: What its folder says of it.
    """

    def __init__(self, model: nn.Module, card: PictureCard) -> None:
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
