"""What experiment files say of Task 2: the network's seven dimensions, and the report's two trainings."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from trackdl.spec.base import Strict, TrainedSpec

__all__ = [
    "SIDE",
    "Activation",
    "Dimensions",
    "FashionData",
    "FashionModel",
    "FashionSpec",
    "Padding",
    "Widths",
    "multiply_adds",
    "pools_after",
    "sides",
]

SIDE = 28  # of the data sets' pictures, pixels
CLASSES = 10

Activation = Literal["relu", "sigmoid", "tanh", "elu", "selu", "leaky_relu", "softplus", "gelu", "silu"]
Widths = Literal["same", "double"]
Padding = Literal["none", "same"]


def pools_after(layer: int, convs_per_pool: int = 1, *, pool_early: bool = False) -> bool:
    """Return whether pooling follows convolution `layer`, counted from 1.

    Every `convs_per_pool`-th is pooled; with `pool_early` the first is, and the count begins behind it.
    """
    if pool_early:
        return layer == 1 or (layer - 1) % convs_per_pool == 0
    return layer % convs_per_pool == 0


def sides(
    side: int,
    conv_layers: int,
    filter_size: int,
    pool_size: int,
    padding: Padding,
    convs_per_pool: int = 1,
    *,
    pool_early: bool = False,
) -> list[tuple[int, int]]:
    """Return the sides, in pixels, of what each layer makes of images of `side`: before pooling, and behind it.

    Arguments as `FashionModel`'s.

    Raises:
        ValueError: Too little is left for one of the layers; names the layer and the shape.
    """
    found = []
    for layer in range(1, conv_layers + 1):
        if padding == "none" and side < filter_size:
            raise ValueError(
                f"layer {layer} of {conv_layers}: {side}×{side} pixels are left, "
                f"a filter without padding takes {filter_size}×{filter_size}"
            )
        convolved = side if padding == "same" else side - filter_size + 1
        side = convolved
        if pools_after(layer, convs_per_pool, pool_early=pool_early):
            if side < pool_size:
                raise ValueError(
                    f"layer {layer} of {conv_layers}: {side}×{side} pixels are left, pooling takes {pool_size}"
                )
            side //= pool_size
        found.append((convolved, side))
    return found


def multiply_adds(model: "FashionModel") -> int:
    """Return how many multiply-adds the network's convolutions and linear layers spend on one picture."""
    channels, filters, total, side = 1, model.filters, 0, SIDE
    for layer, (convolved, side) in enumerate(model.sides, 1):  # noqa: B007 - the last layer's side is used below
        total += convolved**2 * model.filter_size**2 * channels * filters
        channels = filters
        if pools_after(layer, model.convs_per_pool, pool_early=model.pool_early):
            filters *= 2 if model.widths == "double" else 1
    features = channels * (1 if model.average else side**2)
    return total + (features + CLASSES) * model.dense_nodes if model.dense_nodes else total + features * CLASSES


class Dimensions(Strict):
    """The report's seven dimensions of Task 2's network, and its padding; `networks.FashionNet` says what each is."""

    later: ClassVar[frozenset[str]] = frozenset({"padding"})

    conv_layers: int = Field(ge=1, le=4)
    filter_size: Literal[3, 5, 7]
    filters: int = Field(ge=1, le=1024)
    dense_nodes: int = Field(ge=1, le=16_384)
    dropout: float = Field(ge=0, lt=1)
    pool_size: Literal[2, 3]
    activation: Activation
    padding: Padding = "same"


class FashionModel(Dimensions):
    """Task 2's network, for pictures of 28×28: the report's dimensions, wider, and what they do without.

    `networks.FashionNet` says what each key is.
    """

    later: ClassVar[frozenset[str]] = frozenset(
        {"padding", "batch_norm", "widths", "convs_per_pool", "pool_early", "average", "mirrored"}
    )

    conv_layers: int = Field(ge=1, le=8)
    dense_nodes: int = Field(ge=0, le=16_384)
    batch_norm: bool = False
    widths: Widths = "same"
    convs_per_pool: Literal[1, 2] = 1
    pool_early: bool = False
    average: bool = False
    mirrored: bool = False

    @model_validator(mode="after")
    def _something_is_left_for_every_layer(self) -> "FashionModel":
        _ = self.sides
        return self

    @property
    def sides(self) -> list[tuple[int, int]]:
        """The sides, in pixels, of each layer's result, before pooling and behind it."""
        return sides(
            SIDE,
            self.conv_layers,
            self.filter_size,
            self.pool_size,
            self.padding,
            self.convs_per_pool,
            pool_early=self.pool_early,
        )


class FashionData(Strict):
    """Task 2's data: `validation` of the training images, drawn by `split_seed`, are kept back to choose by."""

    dataset: Literal["fashion"]
    validation: float = Field(0.2, gt=0, lt=1)
    split_seed: int = Field(1, ge=0, lt=2**63)


class FashionSpec(TrainedSpec):
    """Task 2: the report's first training and its training of the "best" configuration, in one.

    `seeds`: so many trainings, seeded from `training.seed` and split from `data.split_seed` upwards, since each
    training by the report's protocol draws its own split. `test_after`: after this epoch the network is tested as the
    report tested its first one; what it says decides nothing. `found_by` is the study that has found this experiment,
    if one has: its runs are then that search's finalist.
    """

    later: ClassVar[frozenset[str]] = frozenset({"found_by"})

    task: Literal["fashion"]
    data: FashionData
    model: FashionModel
    seeds: int = Field(1, ge=1, le=1000)
    test_after: int | None = Field(None, ge=1)
    found_by: str = ""
