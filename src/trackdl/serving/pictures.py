"""A registered model of pictures in use: a picture in, a label and its probabilities out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from trackdl.data.preprocessing.digits import SIDE, to_digits
from trackdl.data.preprocessing.garments import to_garment
from trackdl.errors import InputError
from trackdl.serving.cards import PictureCard
from trackdl.serving.requests import read_request

__all__ = ["SIDE", "ServedPictures"]

_AT_ONCE = 512  # pictures in one pass of the network: more bring no speed, only memory


class ServedPictures:
    """A registered model of pictures in use.

    Args:
        model: The network, in evaluation mode.
        card: What its folder says of it.
    """

    def __init__(self, model: nn.Module, card: PictureCard) -> None:
        self.model, self.card = model, card

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return `records` as a frame with the columns label and probabilities."""
        return pd.DataFrame(self.records(model_input))

    def records(self, model_input: Any) -> list[dict[str, Any]]:
        """Return a label and probabilities by class for each of what `read_request` takes.

        Raises:
            InputError: As `read_request` and `shown`.
        """
        asked = read_request(model_input)
        return self.look(asked) if isinstance(asked, list) else self.answer(torch.from_numpy(asked).unsqueeze(1) / 255)

    def look(self, pictures: Sequence[Image.Image]) -> list[dict[str, Any]]:
        """Tell what stands on pictures (mode L, dark ink or light), preprocessed as in the model's training."""
        return self.answer(self.shown(pictures))

    def shown(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return what the network is shown of pictures (mode L): float32 [n, 1, 28, 28] in 0..1, not yet normalised.

        Raises:
            InputError: Nothing stands on a picture, or the model was trained without a preprocessing.
        """
        how = self.card.preprocessing
        if how is None:
            raise InputError("this model takes 28×28 pixels only: it was trained without a preprocessing for pictures")
        if how != "fashion":
            return to_digits(pictures, how)
        garments = torch.empty(len(pictures), 1, SIDE, SIDE)
        for index, picture in enumerate(pictures):
            try:
                garments[index, 0] = torch.from_numpy(to_garment(picture))
            except InputError as error:
                raise InputError(f"image {index + 1}: {error}") from error
        return garments

    @torch.inference_mode()
    def answer(self, digits: Tensor) -> list[dict[str, Any]]:
        """Return labels and probabilities of what `shown` returns."""
        parts = (digits - self.card.mean) / self.card.std
        outputs = torch.cat([self.model(part) for part in torch.split(parts, _AT_ONCE)])
        probabilities = torch.softmax(outputs, dim=1).double().numpy()
        classes = self.card.classes
        best = np.argmax(probabilities, axis=1).tolist()
        return [
            {"label": classes[index], "probabilities": dict(zip(classes, row, strict=True))}
            for index, row in zip(best, probabilities.tolist(), strict=True)
        ]
