"""A network from a list of layers."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trackdl.networks.fashion import ACTIVATIONS
from trackdl.spec.network import NOT_MONOTONE, Layer, LayerNetwork


class LayerNet(nn.Module):
    """The network that an experiment's `network.layers` state.

    Max-pooling right after a monotone activation is done before it: the result is the same, for a quarter of the work.

    Args:
        network: The experiment file's section.
        channels: The images': 1 for grey, 3 for colour.
        side: The images' side, pixels.
        classes: The number of classes.

    Raises:
        ValueError: A layer cannot take what is left for it.
    """

    def __init__(self, network: LayerNetwork, channels: int, side: int, classes: int) -> None:
        super().__init__()
        steps = network.steps(channels, side, classes)
        # As numbers, so that a transfer to other classes changes the head alone.
        listed = [
            *(layer.listed() for layer in steps[:-1]),
            {**steps[-1].settings, "dense": "classes"},
        ]
        self.arguments: dict[str, Any] = {"layers": listed, "channels": channels, "side": side, "classes": classes}
        self.layers = _sequence(steps)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float [n, classes], of images, float [n, channels, side, side]."""
        logits: Tensor = self.layers(x)
        return logits


class Average(nn.Module):
    """Each channel's mean over the image."""

    def forward(self, x: Tensor) -> Tensor:
        """Return float [n, channels] of images, float [n, channels, height, width]."""
        return x.mean(dim=(2, 3))


class Residual(nn.Module):
    """Layers whose result is added to their inputs (He et al., 2016), which a shortcut fits where the shapes differ.

    Args:
        layers: The layers.
        shortcut: A 1×1 convolution, or a linear layer of numbers; None adds the inputs themselves.
    """

    def __init__(self, layers: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.layers, self.shortcut = layers, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        made: Tensor = self.layers(x)
        return made + (x if self.shortcut is None else self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Each channel times a share from 0 to 1 that two layers make of all channels' means (Hu et al., 2018).

    Args:
        channels: How many there are.
        reduction: They are reduced by this between the two layers.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        few = channels // reduction
        self.share = nn.Sequential(nn.Conv2d(channels, few, 1), nn.ReLU(), nn.Conv2d(few, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same shape, float [n, channels, height, width]."""
        shares: Tensor = self.share(x.mean(dim=(2, 3), keepdim=True))
        return x * shares


def gabor_bank(count: int, channels: int, size: int) -> Tensor:
    """Return Gabor filters (Gabor, 1946; in two dimensions Daugman, 1985), float32 [count, channels, size, size].

    A filter is a wave under a bell: exp(-(x² + y²) / 2σ²) · cos(2π (x cos θ + y sin θ) / λ + φ), where x and y are the
    pixel's distances from the centre and σ is λ/2; then its mean is subtracted, and it is scaled to a norm of 1. It is
    the same in every channel. Half of the filters are even (φ = 0) and half are odd (φ = -π/2). There is one
    wavelength λ, the filter's size, for each 16 filters, or up to four of them, down to a quarter of the size, but not
    below 2.5 pixels. The filters of one φ and λ have directions θ at equal distances.
    """
    along = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    waves = min(4, math.ceil(count / 16))
    lengths = [size * (max(2.5, size / 4) / size) ** (place / max(1, waves - 1)) for place in range(waves)]
    kinds = [(length, phase) for length in lengths for phase in (0.0, -math.pi / 2)]
    bank = []
    for place, (length, phase) in enumerate(kinds):
        directions = count // len(kinds) + (place < count % len(kinds))
        for angle in (math.pi * turn / directions for turn in range(directions)):
            wave = torch.cos(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / length + phase)
            one = torch.exp(-(x**2 + y**2) / (2 * (length / 2) ** 2)) * wave
            bank.append(one - one.mean())
    filters = torch.stack(bank)[:, None].expand(-1, channels, -1, -1)
    return functional.normalize(filters.flatten(1)).view_as(filters).float()


def _sequence(layers: Sequence[Layer]) -> nn.Sequential:
    return nn.Sequential(*map(_module, _pools_first(layers)))


def _pools_first(layers: Sequence[Layer]) -> list[Layer]:
    order = list(layers)
    for place in range(len(order) - 1):
        first, second = order[place : place + 2]
        if second.kind == "pool" and first.kind in ACTIVATIONS.keys() - NOT_MONOTONE:
            order[place : place + 2] = second, first
    return order


def _shortcut(layer: Layer) -> nn.Module | None:
    before, after = layer.before[0], layer.after[0]
    if not layer.shortcut:
        return None
    if len(layer.after) == 1:
        return nn.Linear(before, after, bias=False)
    return nn.Conv2d(before, after, 1, layer.shortcut, bias=False)


def _module(layer: Layer) -> nn.Module:
    keys, before = layer.settings, int(layer.before[0])
    padding = 0 if keys.get("padding", "none") == "none" else keys["padding"]
    if layer.kind == "conv":
        conv = nn.Conv2d(before, keys["conv"], keys["size"], keys["stride"], padding, bias=keys["bias"])
        if keys["fixed"] == "gabor":
            conv.weight.requires_grad_(False).copy_(gabor_bank(*conv.weight.shape[:3]))
        return conv
    if layer.kind == "pool":
        return nn.MaxPool2d(keys["pool"], keys["stride"], padding)
    if layer.kind == "average":
        return nn.AvgPool2d(keys["average"], keys["stride"], padding) if keys else Average()
    if layer.kind == "residual":
        return Residual(_sequence(layer.inner), _shortcut(layer))
    if layer.kind == "squeeze_excite":
        return SqueezeExcite(before, keys["squeeze_excite"])
    if layer.kind == "dropout":
        return nn.Dropout(keys["dropout"])
    if layer.kind == "dropout_maps":
        return nn.Dropout2d(keys["dropout_maps"])
    if layer.kind == "batch_norm":
        return nn.BatchNorm2d(before) if len(layer.before) == 2 else nn.BatchNorm1d(before)
    if layer.kind == "dense":
        return nn.Linear(before, keys["dense"], bias=keys["bias"])
    return nn.Flatten() if layer.kind == "flatten" else ACTIVATIONS[layer.kind]()
