"""A registered image model in use: images in, labels and probabilities out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from trackdl.data.preprocessing.digits import SIDE, to_digit
from trackdl.data.preprocessing.garments import to_garment
from trackdl.errors import InputError
from trackdl.serving.cards import ImageCard
from trackdl.serving.requests import read_request

_BATCH = 512  # larger batches are no faster and take more memory


@dataclass(frozen=True)
class ServedImages:
    """A registered image model in use: the network, in evaluation mode, and the card of its folder."""

    model: nn.Module
    card: ImageCard

    def records(self, model_input: Any) -> list[dict[str, Any]]:
        """Return a label and the probabilities by class for each image of a request.

        Raises:
            InputError: As `read_request` and `to_inputs`.
        """
        given = read_request(model_input)
        if isinstance(given, list):
            return self.classify(self.to_inputs(given))
        return self.classify(torch.from_numpy(given).unsqueeze(1) / 255)

    def to_input(self, image: Image.Image) -> Tensor:
        """Return the network's input for an image (mode L): float32 [1, 28, 28] in 0..1, not yet normalised.

        Raises:
            InputError: The image is blank, or the model was trained without a preprocessing for images.
        """
        preprocessing = self.card.preprocessing
        if preprocessing is None:
            raise InputError("this model takes 28×28 pixels only: it was trained without a preprocessing for images")
        pixels = torch.from_numpy(to_garment(image)) if preprocessing == "fashion" else to_digit(image, preprocessing)
        return pixels.unsqueeze(0)

    def to_inputs(self, images: Sequence[Image.Image]) -> Tensor:
        """Return `to_input` of several images: float32 [n, 1, 28, 28].

        Raises:
            InputError: As `to_input`; the message counts the images from 1.
        """
        inputs = torch.empty(len(images), 1, SIDE, SIDE)
        for index, image in enumerate(images):
            try:
                inputs[index] = self.to_input(image)
            except InputError as error:
                raise InputError(f"image {index + 1}: {error}") from error
        return inputs

    @torch.inference_mode()
    def classify(self, inputs: Tensor) -> list[dict[str, Any]]:
        """Return a label and the probabilities by class for each input, as `to_inputs` returns them."""
        batches = torch.split((inputs - self.card.mean) / self.card.std, _BATCH)
        outputs = torch.cat([self.model(batch) for batch in batches])
        probabilities = torch.softmax(outputs, dim=1).double().numpy()
        classes = self.card.classes
        best = np.argmax(probabilities, axis=1).tolist()
        return [
            {"label": classes[index], "probabilities": dict(zip(classes, row, strict=True))}
            for index, row in zip(best, probabilities.tolist(), strict=True)
        ]
