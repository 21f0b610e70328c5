"""The networks, and what transfer does to one: freezing, and a new head.

Each network carries `arguments`, what its constructor was called with, so that a saved one can be built again.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trackdl.spec_fashion import SIDE, Padding, pools_after, sides

__all__ = [
    "ACTIVATIONS",
    "DigitNet",
    "FashionNet",
    "HeartNet",
    "HeartNets",
    "build",
    "count_parameters",
    "freeze",
    "replace_head",
]


class DigitNet(nn.Module):
    """The report's `Net` (Task 1): two 5×5 convolutions, two linear layers, 21,840 parameters for ten classes.

    The submodules bear the report's names, so its printed network and its saved weights fit. As in the report the
    pooling stands before the ReLU; ReLU is monotone, so the result is that of the usual order at a quarter of the work.

    Args:
        classes: How many classes `fc2` tells apart.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, classes)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the constructor needs to build this network again."""
        return {"classes": self.fc2.out_features}

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities, float [n, classes], of pictures, float [n, 1, 28, 28] normalised as MNIST."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        # NCHW order whatever the memory format, so that fc1's weights mean the same everywhere.
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


class FashionNet(nn.Module):
    """The report's Task 2 network: convolutions of one kind, each with pooling and activation, then two linear layers.

    The report's convolutions have no padding: the errors that its notebook prints name 400 inputs to the dense layer,
    16 maps of 5×5, which is what two unpadded 3×3 convolutions, each pooled by 2, leave of 28×28. `padding` is "same"
    by default because models that were registered before this was known were built so.

    The arguments from `batch_norm` on are not the report's; as they stand they leave its network as it is.

    Args:
        conv_layers: How many convolutions.
        filter_size: Their filters' side, pixels; odd where the padding is "same".
        filters: How many filters each has.
        dense_nodes: Nodes of the hidden linear layer; 0: there is none.
        dropout: The share of those nodes dropped while training; without them, of what the output layer is given.
        pool_size: The pooling's side and stride, pixels.
        activation: One of `ACTIVATIONS`.
        classes: How many classes it tells apart.
        side: The pictures' side, pixels.
        padding: "none", as the report has it; "same": each convolution keeps the picture's size.
        batch_norm: Normalise each convolution's result over the batch (Ioffe and Szegedy, 2015), behind the pooling.
        widths: "same": all convolutions have `filters`; "double": twice as many behind each pooling.
        convs_per_pool: How many convolutions stand before each pooling.
        pool_early: Pool after the first convolution too, whose pictures are the largest and cost the most.
        average: Give the linear layers each channel's mean over the picture, not all of its pixels.
        mirrored: In evaluation, answer the mean of the logits for a picture and for its mirror image.

    Raises:
        ValueError: The activation is unknown, or too little of the picture is left for one of the layers.
    """

    def __init__(
        self,
        conv_layers: int = 2,
        filter_size: int = 3,
        filters: int = 16,
        dense_nodes: int = 128,
        dropout: float = 0.1,
        pool_size: int = 2,
        activation: str = "relu",
        classes: int = 10,
        side: int = SIDE,
        *,
        padding: Padding = "same",
        batch_norm: bool = False,
        widths: str = "same",
        convs_per_pool: int = 1,
        pool_early: bool = False,
        average: bool = False,
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r}: must be one of {', '.join(ACTIVATIONS)}")
        left = sides(side, conv_layers, filter_size, pool_size, padding, convs_per_pool, pool_early=pool_early)[-1][1]
        self.arguments: dict[str, Any] = {
            "conv_layers": conv_layers,
            "filter_size": filter_size,
            "filters": filters,
            "dense_nodes": dense_nodes,
            "dropout": dropout,
            "pool_size": pool_size,
            "activation": activation,
            "classes": classes,
            "side": side,
            "padding": padding,
            "batch_norm": batch_norm,
            "widths": widths,
            "convs_per_pool": convs_per_pool,
            "pool_early": pool_early,
            "average": average,
            "mirrored": mirrored,
        }
        self.pooled = [pools_after(layer, convs_per_pool, pool_early=pool_early) for layer in range(1, conv_layers + 1)]
        factor = {"same": 1, "double": 2}[widths]
        channels = [1, *(filters * factor ** sum(self.pooled[:layer]) for layer in range(conv_layers))]
        self.convs = nn.ModuleList(
            nn.Conv2d(
                channels[i],
                channels[i + 1],
                filter_size,
                padding="same" if padding == "same" else 0,
                bias=not batch_norm,
            )
            for i in range(conv_layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels[1:]) if batch_norm else None
        self.pool = nn.MaxPool2d(pool_size)
        self.activation = ACTIVATIONS[activation]()
        self.pools_first = activation not in NOT_MONOTONE
        self.average, self.mirrored = average, mirrored
        features = channels[-1] * (1 if average else left * left)
        self.dense = nn.Linear(features, dense_nodes) if dense_nodes else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dense_nodes or features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float [n, classes], of pictures, float [n, 1, side, side]."""
        if self.mirrored and not self.training:
            return (self._logits(x) + self._logits(x.flip(3))) / 2
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        for index, (conv, pooled) in enumerate(zip(self.convs, self.pooled, strict=True)):
            x = conv(x)
            # For a monotone activation, pooling first gives the same and leaves a quarter to compute.
            if pooled and self.pools_first:
                x = self.pool(x)
            x = self.activation(self.norms[index](x) if self.norms else x)
            if pooled and not self.pools_first:
                x = self.pool(x)
        x = x.mean(dim=(2, 3)) if self.average else x.flatten(1)
        x = self.dropout(self.activation(self.dense(x)) if self.dense else x)
        logits: Tensor = self.output(x)
        return logits


class HeartNet(nn.Module):
    """The report's Task 4 network for any widths: linear layers with ReLU between, and one output.

    `layers` prints as the report prints its networks.

    Args:
        hidden: The hidden layers' widths; the report's are [10] and [15, 20, 30, 40].
        inputs: How many numbers a row has.
        dropout: The share of each hidden layer's nodes dropped while training.
        logits: Give the output as it is; else a sigmoid makes a probability of it, as in the report.
    """

    def __init__(self, hidden: list[int], inputs: int = 11, dropout: float = 0.0, *, logits: bool = False) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"hidden": hidden, "inputs": inputs, "dropout": dropout, "logits": logits}
        self.logits = logits
        layers: list[nn.Module] = []
        for before, width in zip([inputs, *hidden], hidden, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear([inputs, *hidden][-1], 1))
        self.layers = nn.Sequential(*layers) if logits else nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or probabilities, float [n, 1], of rows, float [n, inputs]."""
        outputs: Tensor = self.layers(x)
        return outputs


class HeartNets(nn.Module):
    """`HeartNet`s that are asked together: the probability is the mean of theirs.

    Args:
        members: How many; the other arguments are each member's.
    """

    def __init__(
        self, members: int, hidden: list[int], inputs: int = 11, dropout: float = 0.0, *, logits: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(HeartNet(hidden, inputs, dropout, logits=logits) for _ in range(members))
        self.logits = logits
        self.arguments: dict[str, Any] = {
            "members": members,
            "hidden": hidden,
            "inputs": inputs,
            "dropout": dropout,
            "logits": logits,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of heart disease, float [n], of rows, float [n, inputs]."""
        outputs = torch.cat([member(x) for member in self.members], dim=1)
        return (outputs.sigmoid() if self.logits else outputs).mean(dim=1)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
NOT_MONOTONE = {"gelu", "silu"}

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


def freeze(model: nn.Module) -> None:
    """Keep all weights as they are: none gets a gradient, and optimisers leave them out."""
    model.requires_grad_(False)


def replace_head(model: DigitNet, classes: int) -> None:
    """Put a fresh, trainable `fc2` of 50→`classes` in place (report, Task 3), initialised from torch's current seed."""
    fresh = nn.Linear(model.fc2.in_features, classes)
    model.fc2 = fresh.to(device=model.fc2.weight.device, dtype=torch.float32)
