"""A network from a list of layers."""

from typing import Any

from torch import Tensor, nn

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
            *(dict(layer.settings) or layer.kind for layer in steps[:-1]),
            {**steps[-1].settings, "dense": "classes"},
        ]
        self.arguments: dict[str, Any] = {"layers": listed, "channels": channels, "side": side, "classes": classes}
        self.layers = nn.Sequential(*map(_module, _pools_first(steps)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float [n, classes], of images, float [n, channels, side, side]."""
        logits: Tensor = self.layers(x)
        return logits


class Average(nn.Module):
    """Each channel's mean over the image."""

    def forward(self, x: Tensor) -> Tensor:
        """Return float [n, channels] of images, float [n, channels, height, width]."""
        return x.mean(dim=(2, 3))


def _pools_first(layers: list[Layer]) -> list[Layer]:
    order = list(layers)
    for place in range(len(order) - 1):
        first, second = order[place : place + 2]
        if second.kind == "pool" and first.kind in ACTIVATIONS.keys() - NOT_MONOTONE:
            order[place : place + 2] = second, first
    return order


def _module(layer: Layer) -> nn.Module:
    keys, before = layer.settings, int(layer.before[0])
    padding = 0 if keys.get("padding", "none") == "none" else keys["padding"]
    if layer.kind == "conv":
        return nn.Conv2d(before, keys["conv"], keys["size"], keys["stride"], padding, bias=keys["bias"])
    if layer.kind == "pool":
        return nn.MaxPool2d(keys["pool"], keys["stride"], padding)
    if layer.kind == "average":
        return nn.AvgPool2d(keys["average"], keys["stride"], padding) if keys else Average()
    if layer.kind == "dropout":
        return nn.Dropout(keys["dropout"])
    if layer.kind == "dropout_maps":
        return nn.Dropout2d(keys["dropout_maps"])
    if layer.kind == "batch_norm":
        return nn.BatchNorm2d(before) if len(layer.before) == 2 else nn.BatchNorm1d(before)
    if layer.kind == "dense":
        return nn.Linear(before, keys["dense"], bias=keys["bias"])
    return nn.Flatten() if layer.kind == "flatten" else ACTIVATIONS[layer.kind]()
