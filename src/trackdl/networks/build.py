"""A network made by its name, as a saved one says it, and its size.

Each network carries `arguments`, what its constructor was called with, so that a saved one can be built again.
"""

from typing import Any

from torch import nn

from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import FashionNet
from trackdl.networks.heart import HeartNets

__all__ = ["build", "count_parameters"]


_NETWORKS: dict[str, type[nn.Module]] = {"DigitNet": DigitNet, "FashionNet": FashionNet, "HeartNets": HeartNets}


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a network by its class's name.

    Raises:
        KeyError: There is no network of this name.
        TypeError: The network takes other arguments.
    """
    return _NETWORKS[name](**arguments)


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Return how many numbers the model has, or only those that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
