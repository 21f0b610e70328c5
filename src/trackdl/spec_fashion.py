"""What experiment files say of Task 2: the network's seven dimensions, and the report's two trainings."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from trackdl.spec_base import Strict, TrainedSpec

__all__ = [
    "SIDE",
    "Activation",
    "Dimensions",
    "FashionData",
    "FashionModel",
    "FashionSpec",
    "Widths",
    "multiply_adds",
    "pooled_side",
    "pools_after",
]

SIDE = 28  # of the data sets' pictures, pixels
CLASSES = 10

Activation = Literal["relu", "sigmoid", "tanh", "elu", "selu", "leaky_relu", "softplus", "gelu", "silu"]
Widths = Literal["same", "double"]


def pools_after(layer: int, convs_per_pool: int = 1, *, pool_early: bool = False) -> bool:
    """Return whether pooling follows convolution `layer`, counted from 1.

    Every `convs_per_pool`-th is pooled; with `pool_early` the first is, and the count begins behind it.
    """
    if pool_early:
        return layer == 1 or (layer - 1) % convs_per_pool == 0
    return layer % convs_per_pool == 0


def pooled_side(
    side: int, conv_layers: int, pool_size: int, convs_per_pool: int = 1, *, pool_early: bool = False
) -> int:
    """Return the side, in pixels, of what pooling leaves of pictures of `side`; arguments as `FashionModel`'s.

    Raises:
        ValueError: Nothing is left to pool after one of the layers.
    """
    for layer in range(1, conv_layers + 1):
        if not pools_after(layer, convs_per_pool, pool_early=pool_early):
            continue
        if side < pool_size:
            raise ValueError(
                f"layer {layer} of {conv_layers}: {side}×{side} pixels are left, pooling takes {pool_size}"
            )
        side //= pool_size
    return side


def multiply_adds(model: "FashionModel") -> int:
    """Return how many multiply-adds the network's convolutions and linear layers spend on one picture."""
    side, channels, filters, total = SIDE, 1, model.filters, 0
    for layer in range(1, model.conv_layers + 1):
        total += side**2 * model.filter_size**2 * channels * filters
        channels = filters
        if pools_after(layer, model.convs_per_pool, pool_early=model.pool_early):
            side //= model.pool_size
            filters *= 2 if model.widths == "double" else 1
    features = channels * (1 if model.average else side**2)
    return total + (features + CLASSES) * model.dense_nodes if model.dense_nodes else total + features * CLASSES


class Dimensions(Strict):
    """The report's seven dimensions of Task 2's network; `models.FashionNet` says what each is."""

    conv_layers: int = Field(ge=1, le=4)
    filter_size: Literal[3, 5, 7]
    filters: int = Field(ge=1, le=1024)
    dense_nodes: int = Field(ge=1, le=16_384)
    dropout: float = Field(ge=0, lt=1)
    pool_size: Literal[2, 3]
    activation: Activation


class FashionModel(Dimensions):
    """Task 2's network, for pictures of 28×28: the report's dimensions, wider, and what they do without.

    `models.FashionNet` says what each key is.
    """

    later: ClassVar[frozenset[str]] = frozenset(
        {"batch_norm", "widths", "convs_per_pool", "pool_early", "average", "mirrored"}
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
    def _something_is_left_to_pool(self) -> "FashionModel":
        pooled_side(SIDE, self.conv_layers, self.pool_size, self.convs_per_pool, pool_early=self.pool_early)
        return self


class FashionData(Strict):
    """Task 2's data: `validation` of the training pictures, drawn by `split_seed`, are kept back to choose by."""

    dataset: Literal["fashion"]
    validation: float = Field(0.2, gt=0, lt=1)
    split_seed: int = Field(1, ge=0, lt=2**63)


class FashionSpec(TrainedSpec):
    """Task 2: the report's first training and its training of the "best" configuration, in one.

    `seeds`: so many trainings, seeded from `training.seed` upwards. `test_after`: after this epoch the network is
    tested as the report tested its first one; what it says decides nothing. `found_by` is the study that has found this
    experiment, if one has: its runs are then that search's finalist.
    """

    later: ClassVar[frozenset[str]] = frozenset({"found_by"})

    task: Literal["fashion"]
    data: FashionData
    model: FashionModel
    seeds: int = Field(1, ge=1, le=1000)
    test_after: int | None = Field(None, ge=1)
    found_by: str = ""
