"""Task 2's network: convolutions of one kind, pooling, and linear layers."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from trackdl.spec.fashion import SIDE, FashionModel


class FashionNet(nn.Module):
    """The report's Task 2 network: convolutions of one kind, each with pooling and activation, then two linear layers.

    The report's convolutions have no padding: the errors that its notebook prints name 400 inputs to the dense layer,
    16 maps of 5×5, which is what two unpadded 3×3 convolutions, each pooled by 2, leave of 28×28.

    Args:
        model: The experiment file's section; `FashionModel` documents each key.
        classes: The number of classes.
        side: The images' side, pixels.

    Raises:
        ValueError: Too little of the image is left for one of the layers.
    """

    def __init__(self, model: FashionModel, classes: int = 10, side: int = SIDE) -> None:
        super().__init__()
        left = model.sides(side)[-1][1]
        self.arguments: dict[str, Any] = {**model.model_dump(), "classes": classes, "side": side}
        self.pooled, channels = model.pooled, model.channels
        padding = "same" if model.padding == "same" else 0
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, model.filter_size, padding=padding, bias=not model.batch_norm)
            for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels[1:]) if model.batch_norm else None
        self.pool = nn.MaxPool2d(model.pool_size)
        self.activation = ACTIVATIONS[model.activation]()
        self.pools_first = model.activation not in NOT_MONOTONE
        self.average, self.mirrored = model.average, model.mirrored
        features = channels[-1] * (1 if model.average else left * left)
        self.dense = nn.Linear(features, model.dense_nodes) if model.dense_nodes else None
        self.dropout = nn.Dropout(model.dropout)
        self.output = nn.Linear(model.dense_nodes or features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float [n, classes], of images, float [n, 1, side, side]."""
        if self.mirrored and not self.training:
            return (self._logits(x) + self._logits(x.flip(3))) / 2
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        for index, (conv, pooled) in enumerate(zip(self.convs, self.pooled, strict=True)):
            x = conv(x)
            # With a monotone activation, pooling first gives the same result for a quarter of the work.
            if pooled and self.pools_first:
                x = self.pool(x)
            x = self.activation(self.norms[index](x) if self.norms else x)
            if pooled and not self.pools_first:
                x = self.pool(x)
        x = x.mean(dim=(2, 3)) if self.average else x.flatten(1)
        x = self.dropout(self.activation(self.dense(x)) if self.dense else x)
        logits: Tensor = self.output(x)
        return logits


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
