"""The schema of Task 2's experiment file: the network's seven dimensions, and the report's two trainings."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from trackdl.spec.base import Strict, TrainedSpec, added

SIDE = 28  # of the data set's images, pixels
TRAINING_IMAGES, TEST_IMAGES = 60_000, 10_000
CLASSES = 10

Activation = Literal["relu", "sigmoid", "tanh", "elu", "selu", "leaky_relu", "softplus", "gelu", "silu"]
Widths = Literal["same", "double"]
Padding = Literal["none", "same"]


class FashionModel(Strict):
    """Task 2's network: the report's seven dimensions, its padding, and keys of ours that leave it as it is by default.

    Attributes:
        conv_layers: How many convolutions.
        filter_size: Their filters' side, pixels.
        filters: How many filters each has.
        dense_nodes: Nodes of the hidden linear layer; 0: there is none.
        dropout: The share of those nodes dropped while training; without them, of the output layer's inputs.
        pool_size: The pooling's side and stride, pixels.
        activation: One of `networks.fashion.ACTIVATIONS`.
        padding: "none", as the report has it; "same": each convolution keeps the image's size. "same" is the default
            because models that were registered before the report's padding was known were built so.
        batch_norm: Normalise each convolution's result over the batch (Ioffe and Szegedy, 2015), after the pooling.
        widths: "same": all convolutions have `filters`; "double": twice as many after each pooling.
        convs_per_pool: How many convolutions precede each pooling.
        pool_early: Pool after the first convolution too, whose images are the largest and cost the most.
        average: Give the linear layers each channel's mean over the image, not all of its pixels.
        mirrored: In evaluation, return the mean of the logits for an image and for its mirror image.
    """

    conv_layers: int = Field(ge=1, le=8)
    filter_size: Literal[3, 5, 7]
    filters: int = Field(ge=1, le=1024)
    dense_nodes: int = Field(ge=0, le=16_384)
    dropout: float = Field(ge=0, lt=1)
    pool_size: Literal[2, 3]
    activation: Activation
    padding: Padding = added("same")
    batch_norm: bool = added(False)
    widths: Widths = added("same")
    convs_per_pool: Literal[1, 2] = added(1)
    pool_early: bool = added(False)
    average: bool = added(False)
    mirrored: bool = added(False)

    @property
    def pooled(self) -> list[bool]:
        """For each convolution, whether pooling follows it; with `pool_early` the count begins after the first."""
        layers, offset = range(1, self.conv_layers + 1), int(self.pool_early)
        return [(self.pool_early and i == 1) or (i - offset) % self.convs_per_pool == 0 for i in layers]

    @property
    def channels(self) -> list[int]:
        """How many channels the images have: the input's, then each convolution's."""
        factor = 2 if self.widths == "double" else 1
        return [1, *(self.filters * factor ** sum(self.pooled[:layer]) for layer in range(self.conv_layers))]

    def sides(self, side: int = SIDE) -> list[tuple[int, int]]:
        """Return the sides, in pixels, of each layer's result for images of `side`: before pooling, and after it.

        Raises:
            ValueError: Too little is left for one of the layers; names the layer and the shape.
        """
        found = []
        for layer, pools in enumerate(self.pooled, 1):
            left = f"layer {layer} of {self.conv_layers}: {side}×{side} pixels are left, "
            if self.padding == "none":
                if side < self.filter_size:
                    raise ValueError(f"{left}a filter without padding takes {self.filter_size}×{self.filter_size}")
                side -= self.filter_size - 1
                left = f"layer {layer} of {self.conv_layers}: {side}×{side} pixels are left, "
            convolved = side
            if pools:
                if side < self.pool_size:
                    raise ValueError(f"{left}pooling takes {self.pool_size}")
                side //= self.pool_size
            found.append((convolved, side))
        return found

    @property
    def multiply_adds(self) -> int:
        """How many multiply-adds the convolutions and linear layers spend on one image."""
        channels, sides = self.channels, self.sides()
        convolutions = sum(
            convolved**2 * self.filter_size**2 * before * after
            for (convolved, _), before, after in zip(sides, channels, channels[1:], strict=False)
        )
        features = channels[-1] * (1 if self.average else sides[-1][1] ** 2)
        linear = (features + CLASSES) * self.dense_nodes if self.dense_nodes else features * CLASSES
        return convolutions + linear


def _something_is_left(model: FashionModel) -> FashionModel:
    model.sides()
    return model


# A network of the data set's images.
Network = Annotated[FashionModel, AfterValidator(_something_is_left)]


class FashionData(Strict):
    """Task 2's data: `validation` is the share of training images in the validation split, drawn by `split_seed`."""

    dataset: Literal["fashion"]
    validation: float = Field(0.2, gt=0, lt=1)
    split_seed: int = Field(1, ge=0, lt=2**63)


class FashionSpec(TrainedSpec):
    """Task 2: the report's first training and its training of the "best" configuration, in one.

    `seeds` is the number of trainings. Each has its own seed and its own split, counted up from `training.seed` and
    `data.split_seed`, since every training by the report's protocol draws its own split. After epoch `test_after` the
    network is tested, as the report tested its first one; the result does not affect the training. `found_by` is the
    search whose best trial this experiment is, if any.
    """

    task: Literal["fashion"]
    data: FashionData
    model: Network
    seeds: int = Field(1, ge=1, le=1000)
    test_after: int | None = Field(None, ge=1)
    found_by: str = added("")
