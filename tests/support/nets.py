"""Networks by keys of the experiment files: Task 2's, whose keys not named are as in the report's first, and lists."""

from typing import Any

from trackdl.networks.fashion import FashionNet
from trackdl.networks.layers import LayerNet
from trackdl.spec.network import ConvNetwork, LayerNetwork

FIRST = {
    "conv_layers": 2,
    "filter_size": 3,
    "filters": 16,
    "dense_nodes": 128,
    "dropout": 0.1,
    "pool_size": 2,
    "activation": "relu",
}
# The seed report's networks, each as a list of layers.
DIGIT_LAYERS = [
    {"conv": 10, "size": 5}, {"pool": 2}, "relu",
    {"conv": 20, "size": 5}, {"dropout_maps": 0.5}, {"pool": 2}, "relu",
    "flatten", {"dense": 50}, "relu", {"dropout": 0.5}, {"dense": "classes"},
]  # fmt: skip
FASHION_LAYERS = [
    {"conv": 16, "size": 3, "padding": "same"}, "relu", {"pool": 2},
    {"conv": 16, "size": 3, "padding": "same"}, "relu", {"pool": 2},
    "flatten", {"dense": 128}, "relu", {"dropout": 0.1}, {"dense": "classes"},
]  # fmt: skip


def model_of(**changes: Any) -> ConvNetwork:
    return ConvNetwork.model_validate(FIRST | changes)


def fashion_net(side: int = 28, **changes: Any) -> FashionNet:
    return FashionNet(model_of(**changes), side=side)


def listed(*layers: Any, **named: float) -> LayerNetwork:
    """Return a network of these layers, with values by their names."""
    return LayerNetwork.model_validate({"layers": list(layers), "with": named})


def layer_net(*layers: Any, channels: int = 1, side: int = 28, classes: int = 10, **named: float) -> LayerNet:
    return LayerNet(listed(*layers, **named), channels, side, classes)
