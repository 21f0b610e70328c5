"""Task 2's network: convolutions of one kind, pooling, and linear layers."""

from typing import Any

from torch import Tensor, nn

from trackdl.spec.fashion import SIDE, Padding, pools_after, sides

__all__ = ["ACTIVATIONS", "NOT_MONOTONE", "FashionNet"]


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
