"""Task 2's network: convolutions of one kind, pooling, and linear layers."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from trackdl.spec.network import NOT_MONOTONE, ConvNetwork


class FashionNet(nn.Module):
    """The report's Task 2 network: convolutions of one kind, each with pooling and activation, then two linear layers.

    The report's convolutions have no padding: the errors that its notebook prints name 400 inputs to the dense layer,
    16 maps of 5×5, which is what two unpadded 3×3 convolutions, each pooled by 2, leave of 28×28.

    Args:
        model: The experiment file's section; `ConvNetwork` documents each key.
        classes: The number of classes.
        side: The images' side, pixels.
        channels: Theirs: 1 for grey, 3 for colour.

    Raises:
        ValueError: Too little of the image is left for one of the layers.
    """

    def __init__(self, model: ConvNetwork, classes: int = 10, side: int = 28, channels: int = 1) -> None:
        super().__init__()
        features = model.features(channels, side)
        shape = {"classes": classes, "side": side, "channels": channels}
        self.arguments: dict[str, Any] = {**model.model_dump(), **shape}
        self.pooled, widths = model.pooled, model.widths_of(channels)
        padding = 0 if model.padding == "none" else model.padding
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, model.filter_size, padding=padding, bias=not model.batch_norm)
            for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:]) if model.batch_norm else None
        self.pool = nn.MaxPool2d(model.pool_size)
        self.activation = ACTIVATIONS[model.activation]()
        self.pools_first = model.activation not in NOT_MONOTONE
        self.average, self.mirrored = model.average, model.mirrored
        self.dense = nn.Linear(features, model.dense_nodes) if model.dense_nodes else None
        self.dropout = nn.Dropout(model.dropout)
        self.after_convs = model.dropout_after == "convolutions"
        self.output = nn.Linear(model.dense_nodes or features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float [n, classes], of images, float [n, channels, side, side]."""
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
            x = self.dropout(x) if self.after_convs else x
        x = x.mean(dim=(2, 3)) if self.average else x.flatten(1)
        x = self.activation(self.dense(x)) if self.dense else x
        logits: Tensor = self.output(x if self.after_convs else self.dropout(x))
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
