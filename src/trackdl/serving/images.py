"""A registered image model in use: images in, labels and probabilities out."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from trackdl.data.preprocessing.digits import SIDE, mnist_ink, split_digits, to_digit
from trackdl.data.preprocessing.garments import to_garment
from trackdl.data.preprocessing.image_files import decoding_cost, read_image
from trackdl.data.preprocessing.squares import square_pixels
from trackdl.errors import InputError
from trackdl.serving.cards import ImageCard
from trackdl.serving.requests import read_request

# Seconds of a core: to find the ink of an image of at least so many pixels, to redraw a sign, and for anything else.
_FINDING, _FOUND_IN, _REDRAWING, _SCALING = 0.13, 360_000, 0.02, 0.0002
# Images of a batch, and numbers in the network's inputs for them: larger batches are no faster and take more memory.
_BATCH, _MOST_NUMBERS = 512, 4_000_000


def as_pixels(images: Tensor) -> NDArray[Any]:
    """Return images, [n, channels, h, w] or [n, h, w], as requests have them: [n, h, w], in colour [n, h, w, 3]."""
    channels_last = images.permute(0, 2, 3, 1) if images.ndim == 4 else images.unsqueeze(3)
    return channels_last.numpy() if channels_last.shape[3] == 3 else channels_last[..., 0].numpy()


class CostlyError(InputError):
    """The image files of a request cost more than one may; they have not been decoded."""

    def __init__(self, cost: float, files: int) -> None:
        self.cost = cost
        advice = "Send fewer at a time" if files > 1 else "Scale it down"
        super().__init__(
            f"{files:,} image files that take about {cost:.1f} s to read; a request may take 1 s. {advice}."
        )


def _is_as_mnist(content: bytes) -> bool:
    """Return whether a small image file is taken as it is."""
    try:
        return mnist_ink(read_image(content)) is not None
    except InputError:
        return True


@dataclass(frozen=True)
class ServedImages:
    """A registered image model in use: the network, in evaluation mode, and the card of its folder.

    `most` is what the image files of one request may cost, as `cost` estimates it.
    """

    model: nn.Module
    card: ImageCard
    most: float = math.inf

    @property
    def mode(self) -> Literal["L", "RGB"]:
        """The mode of the images that the network takes."""
        return "RGB" if self.card.colour else "L"

    @cached_property
    def _head(self) -> threading.local:
        """What the last linear layer returned last, as `logits`; each thread, which answers a request, has its own."""
        kept = threading.local()

        def keep(_layer: nn.Module, _inputs: Any, outputs: Tensor) -> None:
            kept.logits = outputs

        [layer for layer in self.model.modules() if isinstance(layer, nn.Linear)][-1].register_forward_hook(keep)
        return kept

    def records(self, model_input: Any) -> list[dict[str, Any]]:
        """Return a label and the probabilities by class for each image of a request.

        Raises:
            InputError: As `read_request` and `to_inputs`; `CostlyError` if the image files cost more than `most`.
        """
        given = read_request(model_input, self.card.size, colour=self.card.colour)
        if isinstance(given, list):
            if self.most < math.inf and (cost := sum(map(self.cost, given))) > self.most:
                raise CostlyError(cost, len(given))
            return self.classify(self.to_inputs(given))
        pixels = torch.from_numpy(given)
        return self.classify((pixels.permute(0, 3, 1, 2) if self.card.colour else pixels.unsqueeze(1)) / 255)

    def cost(self, content: bytes) -> float:
        """Return about how many seconds one core takes to read an image file and to make it the network's input."""
        pixels, cost = decoding_cost(content)
        if self.card.preprocessing != "mnist" or (pixels == SIDE**2 and _is_as_mnist(content)):
            return cost + _SCALING
        return cost + _REDRAWING + _FINDING * min(1.0, pixels / _FOUND_IN)

    def to_input(self, image: Image.Image) -> Tensor:
        """Return the network's input for an image (mode L or RGB): float32 [channels, size, size], not yet normalised.

        Its values are in 0..1.

        Raises:
            InputError: The image is blank, or the model was trained without a preprocessing for images.
        """
        preprocessing = self.card.preprocessing
        if preprocessing is None:
            size = f"{self.card.size}×{self.card.size}"
            raise InputError(f"this model takes {size} pixels only: it was trained without a preprocessing for images")
        image = image if image.mode == self.mode else image.convert(self.mode)
        if preprocessing == "fashion":
            return torch.from_numpy(to_garment(image)).unsqueeze(0)
        if preprocessing == "report" or preprocessing == "mnist":
            return to_digit(image, preprocessing).unsqueeze(0)
        return torch.from_numpy(square_pixels(image, self.card.size, dark=preprocessing == "square-dark"))

    def to_inputs(self, files: Sequence[bytes]) -> Tensor:
        """Return `to_input` of several image files' contents: float32 [n, channels, size, size].

        Raises:
            InputError: As `read_image` and `to_input`; the message counts the images from 1.
        """
        inputs = []
        for number, content in enumerate(files, 1):
            name = f"image {number}"
            image = read_image(content, name, colour=self.card.colour)
            try:
                inputs.append(self.to_input(image))
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
        return torch.stack(inputs)

    def split(self, image: Image.Image) -> Tensor:
        """Return the network's inputs for all signs on an image, line by line from left to right: as `to_inputs`.

        Raises:
            InputError: The image is blank, or the model's preprocessing finds no signs.
        """
        if self.card.preprocessing != "mnist":
            raise InputError(
                f"this model does not look for signs (its preprocessing is {self.card.preprocessing}, not mnist): "
                "cut the image, and leave --split out"
            )
        return split_digits(image).unsqueeze(1)

    @torch.inference_mode()
    def energies(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return a network's outputs for normalised inputs, and each input's energy, [n].

        The energy is the logarithm of the sum of the exponentials of the logits (Liu et al., "Energy-based
        Out-of-distribution Detection", 2020, with the opposite sign): the lower, the less the input is like what the
        network has learnt.
        """
        if not getattr(self.model, "log_probabilities", False):
            outputs: Tensor = self.model(batch)
            return outputs, torch.logsumexp(outputs.float(), dim=1)
        head = self._head
        outputs = self.model(batch)
        return outputs, torch.logsumexp(head.logits.float(), dim=1)

    @torch.inference_mode()
    def classify(self, inputs: Tensor) -> list[dict[str, Any]]:
        """Return a label and the probabilities by class for each input, as `to_inputs` returns them.

        If the card has a `least_energy`, each answer also says whether the input is `unfamiliar`.
        """
        size = max(1, min(_BATCH, _MOST_NUMBERS // (self.card.channels * self.card.size**2)))
        batches = torch.split(self.card.normalise(inputs.contiguous()), size)
        outputs, energies = (torch.cat(parts) for parts in zip(*map(self.energies, batches), strict=True))
        probabilities = torch.softmax(outputs, dim=1).double().numpy()
        classes = self.card.classes
        best = np.argmax(probabilities, axis=1).tolist()
        answers: list[dict[str, Any]] = [
            {"label": classes[index], "probabilities": dict(zip(classes, row, strict=True))}
            for index, row in zip(best, probabilities.tolist(), strict=True)
        ]
        if (least := self.card.least_energy) is not None:
            for answer, energy in zip(answers, energies.tolist(), strict=True):
                answer["unfamiliar"] = energy < least
        return answers
