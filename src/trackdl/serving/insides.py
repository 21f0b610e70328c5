"""What happens inside a network for one image: its first convolution's maps, and which pixels decided."""

import threading
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from trackdl.serving.images import ServedImages

MOST_MAPS, _SIDE = 32, 64  # shown; larger maps are averaged down
_STEPS, _VALUES = 16, 200_000  # a batch of at most so many steps and, if the image is large, values


@dataclass(frozen=True)
class Step:
    """A layer in use: its name in the network, and what a batch is before and after it."""

    name: str
    layer: nn.Module
    inputs: Tensor
    outputs: Tensor

    @property
    def title(self) -> str:
        """The layer's name and kind."""
        return f"{self.name}: {type(self.layer).__name__}"

    @property
    def parameters(self) -> int:
        """The number of the layer's parameters."""
        return sum(parameter.numel() for parameter in self.layer.parameters())


@dataclass(frozen=True)
class Insides:
    """What a network makes of one image.

    Attributes:
        maps: The first convolution's outputs, float32 [maps, height, width], at most `MOST_MAPS`; None without one.
        channels: How many maps there are.
        shares: For each pixel of the input, [height, width], how much it speaks for the label against the runner-up,
            or, below 0, the other way round.
        runner_up: The runner-up, a class.
    """

    maps: Tensor | None
    channels: int
    shares: Tensor
    runner_up: str


def look_inside(served: ServedImages, pixels: Tensor) -> Insides:
    """Return what a network makes of one image, as `ServedImages.to_input` returns it.

    The shares are integrated gradients (Sundararajan et al., "Axiomatic Attribution for Deep Networks", 2017) of the
    difference between the two highest outputs, from a blank image of the typical tone to this one, over few steps.
    """
    blank = pixels.flatten(1).median(dim=1).values.view(-1, 1, 1).expand_as(pixels)
    steps = max(1, min(_STEPS, _VALUES // pixels.numel()))
    along = (torch.arange(steps) + 0.5).view(-1, 1, 1, 1) / steps
    with torch.inference_mode():
        layers, (output,) = trace(served.model, served.card.normalise(pixels.unsqueeze(0)))
    maps = next((step.outputs[0] for step in layers if isinstance(step.layer, nn.Conv2d)), None)
    best, second = output.topk(2).indices.tolist()
    with torch.enable_grad():
        inputs = (blank + along * (pixels - blank)).requires_grad_()
        outputs = served.model(served.card.normalise(inputs))
        (gradients,) = torch.autograd.grad((outputs[:, best] - outputs[:, second]).sum(), inputs)
    shares = ((pixels - blank) * gradients.mean(dim=0)).sum(dim=0)
    channels = 0 if maps is None else len(maps)
    shown = None if maps is None else reduced(maps[:MOST_MAPS])
    return Insides(shown, channels, reduced(shares.unsqueeze(0))[0], served.card.classes[second])


def trace(model: nn.Module, inputs: Tensor) -> tuple[list[Step], Tensor]:
    """Return a network's layers in the order in which it uses them for a batch, and its outputs.

    A network that uses its layers twice, because it averages over an image and its mirror image, is traced once.
    """
    steps: list[Step] = []
    here = threading.get_ident()  # other threads use the model meanwhile

    def keep(name: str, layer: nn.Module, given: tuple[Tensor, ...], outputs: Tensor) -> None:
        if threading.get_ident() == here:
            steps.append(Step(name, layer, given[0], outputs))

    layers = [(name, layer) for name, layer in model.named_modules() if not any(layer.children())]
    hooks = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers]
    try:
        outputs: Tensor = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    learnt = [step.name if step.parameters else "" for step in steps]
    again = [place for place, name in enumerate(learnt) if name and name in learnt[:place]]
    return steps[: again[0] if again else None], outputs


def features(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a network's head, its last linear layer, takes for a batch, [n, width], and the outputs."""
    found: list[Tensor] = []
    here = threading.get_ident()  # other threads use the model meanwhile

    def keep(_layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        if threading.get_ident() == here:
            found.append(given[0])

    head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    with head.register_forward_pre_hook(keep), torch.inference_mode():
        outputs: Tensor = model(inputs)
    return found[0], outputs


def reduced(maps: Tensor) -> Tensor:
    """Return maps or images, [..., height, width], averaged down to what a page shows."""
    height, width = maps.shape[-2:]
    if max(height, width) <= _SIDE:
        return maps
    return functional.adaptive_avg_pool2d(maps, (min(height, _SIDE), min(width, _SIDE)))
