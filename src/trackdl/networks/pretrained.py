"""Networks of torchvision, whose weights may come from a file."""

import hashlib
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from trackdl.errors import InputError, one_line
from trackdl.spec.keys import meant
from trackdl.spec.network import MOST_WEIGHTS, TorchvisionNetwork
from trackdl.system.findings import first_few
from trackdl.system.paths import in_report, read_bounded

# Not offered: networks of several outputs; without a linear layer as head; MNASNet, which reads no weights from a plain
# file; and those with tables of indices among their buffers, which a moving average of the weights would average too.
_NOT_OFFERED = ("googlenet", "inception", "squeezenet", "mnasnet", "swin", "maxvit")
_MOST_SIDE, _MOST_CLASSES = 1024, 100_000
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)  # the last one of counts


class TorchvisionNet(nn.Module):
    """A network of torchvision with a head for `classes`, for images of any side that it can take.

    Args:
        torchvision: Its name.
        channels: The images': 1 for grey, which it gets as three equal ones, or 3 for colour.
        side: The images' side, pixels.
        classes: The number of classes.

    Raises:
        ValueError: There is no such network, or it cannot take such images.
    """

    drops_without_layer = True  # some skip whole blocks while training

    def __init__(self, torchvision: str, channels: int, side: int, classes: int) -> None:
        super().__init__()
        from torchvision import models  # takes two seconds, which other networks do without

        names = [name for name in models.list_models(module=models) if not name.startswith(_NOT_OFFERED)]
        if torchvision not in names:
            some = f"there are {first_few(names)}"
            raise ValueError(f"torchvision: {torchvision} is not offered; {meant(torchvision, names)}{some}")
        if side > _MOST_SIDE or classes > _MOST_CLASSES:
            raise ValueError(f"torchvision: at most {_MOST_SIDE} pixels a side and {_MOST_CLASSES:,} classes")
        self.arguments: dict[str, Any] = {
            "torchvision": torchvision, "channels": channels, "side": side, "classes": classes,
        }  # fmt: skip
        self.body: nn.Module = models.get_model(torchvision, weights=None, num_classes=classes)
        for layer in self.body.modules():
            if hasattr(layer, "inplace"):
                layer.inplace = False  # what a layer made is still there when the next one has run, to be looked at
        try:
            with torch.inference_mode():
                self.eval()(torch.zeros(1, channels, side, side))
        except (RuntimeError, AssertionError, ValueError) as error:
            said = one_line(error, 200)
            raise ValueError(
                f"torchvision: {torchvision} cannot take images of {side}×{side} pixels: {said}"
            ) from error
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float [n, classes], of images, float [n, channels, side, side]."""
        logits: Tensor = self.body(x.expand(-1, 3, -1, -1))
        return logits


def torchvision_net(network: TorchvisionNetwork, channels: int, side: int, classes: int) -> TorchvisionNet:
    """Build the network that an experiment states, with the weights of its file but for the head.

    Raises:
        ValueError: As `TorchvisionNet`.
        InputError: The file cannot be read, is another one, or has the weights of another network.
    """
    net = TorchvisionNet(network.torchvision, channels, side, classes)
    if network.weights is None:
        return net
    path = in_report(network.weights)
    try:
        content = read_bounded(path, 4 * MOST_WEIGHTS + 2**20)
        found = hashlib.sha256(content).hexdigest()
        if found != network.sha256:
            raise InputError(f"{path}: its SHA-256 is {found}, and network.sha256 is {network.sha256}: another file?")
        given = load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: the weights cannot be read: {one_line(error, 200)}") from error
    head = [name for name, layer in net.body.named_modules() if isinstance(layer, nn.Linear)][-1]
    own = net.body.state_dict()
    kept = {name: tensor for name, tensor in own.items() if name.rpartition(".")[0] == head}
    # Files of torchvision's older weights lack batch norm's counts, which are not used.
    given = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")} | given
    if odd := [name for name, one in given.items() if one.dtype not in _DTYPES or not one.isfinite().all()]:
        raise InputError(f"{path}: not all weights are finite numbers: {first_few(odd)}")
    wrong = sorted((own.keys() ^ given.keys()) - kept.keys())
    wrong += sorted(
        name
        for name in own.keys() & given.keys() - kept.keys()
        if own[name].shape != given[name].shape or own[name].is_floating_point() != given[name].is_floating_point()
    )
    if wrong:
        raise InputError(
            f"{path}: not the weights of {network.torchvision}: missing, unknown or of another shape or type "
            f"are {first_few(wrong)}"
        )
    net.body.load_state_dict(given | kept)
    return net
