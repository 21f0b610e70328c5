"""Build a network by its name, and count its parameters.

Each network has `arguments`, the JSON values from which `build` makes it again.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import FashionNet
from trackdl.networks.heart import HeartNets
from trackdl.spec.fashion import SIDE, FashionModel


def _fashion_net(classes: int = 10, side: int = SIDE, **model: Any) -> FashionNet:
    return FashionNet(FashionModel(**model), classes, side)


_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "DigitNet": DigitNet,
    "FashionNet": _fashion_net,
    "HeartNets": HeartNets,
}


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a network by the name of its class.

    Raises:
        KeyError: There is no network of this name.
        TypeError: The network does not take these arguments.
        ValueError: An argument is out of its range.
    """
    return _NETWORKS[name](**arguments)


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters of a model, optionally only of its trainable ones."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
