"""Build a network: the one that an experiment states, or a saved one by its class and arguments; count its parameters.

Each network has `arguments`, the JSON values from which `build` makes it again.
"""

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import FashionNet
from trackdl.networks.heart import HeartNets
from trackdl.networks.layers import LayerNet
from trackdl.networks.pretrained import TorchvisionNet, torchvision_net
from trackdl.spec.network import ConvNetwork, DigitNetwork, LayerNetwork, MlpNetwork, TorchvisionNetwork

# With an even filter size, `same` pads one pixel more at one side, as torch does it; that is no news to warn of.
warnings.filterwarnings("ignore", "Using padding='same' with even kernel", UserWarning)

ImageNet = DigitNet | FashionNet | LayerNet | TorchvisionNet


def _digit(network: DigitNetwork, channels: int, side: int, classes: int) -> DigitNet:
    network.shapes(channels, side, classes)
    return DigitNet(classes)


def _conv(network: ConvNetwork, channels: int, side: int, classes: int) -> FashionNet:
    return FashionNet(network, classes, side, channels)


def _mlp(network: MlpNetwork, channels: int, side: int, classes: int) -> LayerNet:
    return LayerNet(network.as_layers(), channels, side, classes)


# By an experiment's `network.family`.
_FAMILIES: dict[str, Callable[..., ImageNet]] = {
    "digit": _digit,
    "conv": _conv,
    "mlp": _mlp,
    "layers": LayerNet,
    "torchvision": torchvision_net,
}


def make(
    network: DigitNetwork | ConvNetwork | MlpNetwork | LayerNetwork | TorchvisionNetwork,
    channels: int,
    side: int,
    classes: int,
) -> ImageNet:
    """Build the network that an experiment states.

    Args:
        network: The experiment's section.
        channels: The images': 1 for grey, 3 for colour.
        side: The images' side, pixels.
        classes: The number of classes.

    Raises:
        ValueError: It is no network for such images; names layer, shape and reason.
    """
    return _FAMILIES[network.family](network, channels, side, classes)


def _fashion_net(classes: int = 10, side: int = 28, channels: int = 1, **model: Any) -> FashionNet:
    return FashionNet(ConvNetwork(**model), classes, side, channels)


def _layer_net(channels: int, side: int, classes: int, **network: Any) -> LayerNet:
    return LayerNet(LayerNetwork.model_validate(network), channels, side, classes)


_CLASSES: dict[str, Callable[..., nn.Module]] = {
    "DigitNet": DigitNet,
    "FashionNet": _fashion_net,
    "HeartNets": HeartNets,
    "LayerNet": _layer_net,
    "TorchvisionNet": TorchvisionNet,
}


def build(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a network by the name of its class.

    Raises:
        KeyError: There is no network of this name.
        TypeError: The network does not take these arguments.
        ValueError: An argument is out of its range.
    """
    return _CLASSES[name](**arguments)


def arguments_of(model: nn.Module) -> dict[str, Any]:
    """Return the arguments from which `build` makes a network again."""
    arguments: Any = model.arguments
    return dict(arguments)


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Return the number of parameters of a model, optionally only of its trainable ones."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
