"""A network made by its name, as a saved one says it, and its size.

Each network carries `arguments`, the JSON values that `build` makes it from again.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import FashionNet
from trackdl.networks.heart import HeartNets
from trackdl.spec.fashion import SIDE, FashionModel

__all__ = ["build", "count_parameters"]


def _fashion_net(classes: int = 10, side: int = SIDE, **model: Any) -> FashionNet:
    return FashionNet(FashionModel(**model), classes, side)


_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "DigitNet": DigitNet,
    "FashionNet": _fashion_net,
    "HeartNets": HeartNets,
}


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a network by its class's name.

    Raises:
        KeyError: There is no network of this name.
        TypeError: The network takes other arguments.
        ValueError: They are not what they may be.
    """
    return _NETWORKS[name](**arguments)


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Return how many numbers the model has, or only those that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
