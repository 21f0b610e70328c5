"""The networks that an experiment file can state: a family, or a list of layers; their shapes, without torch."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    create_model,
    model_validator,
)

from trackdl.spec.base import Strict, added, like

Activation = Literal["relu", "sigmoid", "tanh", "elu", "selu", "leaky_relu", "softplus", "gelu", "silu"]
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
NOT_MONOTONE = {"gelu", "silu"}  # pooling before one of these gives another result
Padding = Literal["none", "same"] | Annotated[int, Field(ge=0, le=64)]
# Images have a shape of (channels, side), what is flattened has (features,).
Shape = tuple[int, int] | tuple[int]

MOST_LAYERS = 500
MOST_VALUES = 50_000_000  # of all layers' results for one image: 200 MB
MOST_WEIGHTS = 500_000_000  # 2 GB of float32: larger networks are a mistake in a key
LEAST_GABOR = 3  # pixels; of smaller ones nothing is left without their mean
_NAME = r"[a-z][a-z0-9_]*"
_TERM = re.compile(rf"(?:(?P<times>\d{{1,6}})\s*\*\s*)?(?P<name>{_NAME})(?:\s*/\s*(?P<over>[1-9]\d{{0,5}}))?")
_KNOWN = ("classes", "features")  # names that every list of layers may use
_WORDS_OF_KEYS = ("none", "same", "gabor")  # values that are no names


def after_window(side: int, size: int, stride: int = 1, padding: Padding = "none") -> int:
    """Return the side that a square window of `size` leaves of an image's `side`, pixels; less than 1: nothing."""
    if padding == "same":
        return side
    return (side + 2 * (0 if padding == "none" else int(padding)) - size) // stride + 1


@dataclass(frozen=True)
class Layer:
    """One layer of a network for images of a known shape.

    Attributes:
        kind: A key of the vocabulary, e.g. "conv", or an activation.
        settings: Its keys as numbers.
        before: The shape of its inputs.
        after: The shape of its results.
        inner: The layers whose result a `residual` adds to its inputs.
    """

    kind: str
    settings: Mapping[str, Any]
    before: Shape
    after: Shape
    inner: tuple["Layer", ...] = ()

    @property
    def shortcut(self) -> int:
        """The stride of the 1×1 convolution by which a `residual` fits its inputs to be added; 0: none is needed."""
        if self.kind != "residual" or self.before == self.after:
            return 0
        return 1 if len(self.after) == 1 else -(-self.before[-1] // self.after[-1])

    @property
    def weights(self) -> int:
        """How many weights it has, without biases and those of batch norm."""
        if self.kind == "squeeze_excite":
            return 2 * self.before[0] * (self.before[0] // int(self.settings["squeeze_excite"]))
        size = self.settings["size"] ** 2 if self.kind == "conv" else int(self.kind == "dense" or self.shortcut > 0)
        return int(self.before[0] * self.after[0] * size) + sum(layer.weights for layer in self.inner)

    @property
    def multiply_adds(self) -> int:
        """How many multiply-adds its convolutions and linear layers spend on one image."""
        inner, own = sum(layer.multiply_adds for layer in self.inner), self.weights
        own -= sum(layer.weights for layer in self.inner)
        everywhere = len(self.after) == 2 and self.kind != "squeeze_excite"
        return inner + own * (self.after[-1] ** 2 if everywhere else 1)

    @property
    def values(self) -> int:
        """How many numbers its results for one image are, with those of the layers in it."""
        own: int = math.prod((*self.after, *self.after[1:]))
        return own + sum(layer.values for layer in self.inner)

    def listed(self) -> Any:
        """Return the layer as a file would list it, with all values as numbers."""
        if self.kind == "residual":
            return {"residual": [layer.listed() for layer in self.inner]}
        return dict(self.settings) or self.kind


class _Network(Strict, ABC):
    """What every section `network` can tell of itself."""

    @abstractmethod
    def steps(self, channels: int, side: int, classes: int) -> list[Layer]:
        """Return the layers for images of `channels` and `side`, with all values as numbers.

        Raises:
            ValueError: A layer cannot take what is left for it; names layer, shape and reason.
        """

    def shapes(self, channels: int, side: int, classes: int = 10) -> list[Shape]:
        """Return the shapes of the layers' results, or raise as `steps`."""
        return [layer.after for layer in self.steps(channels, side, classes)]

    def multiply_adds(self, channels: int, side: int, classes: int) -> int:
        """Return how many multiply-adds the convolutions and linear layers spend on one image, or raise as `steps`."""
        return sum(layer.multiply_adds for layer in self.steps(channels, side, classes))


class _Family(_Network):
    """A network by the name of its family and a few settings."""

    def as_layers(self) -> "LayerNetwork":
        """Return the same network as a list of layers."""
        return LayerNetwork.model_validate({"layers": [*self._layers(), {"dense": "classes"}]})

    def steps(self, channels: int, side: int, classes: int) -> list[Layer]:
        """Do as for a list of layers; some families have their own words for what they cannot take."""
        self._check(channels, side)
        return self.as_layers().steps(channels, side, classes)

    @abstractmethod
    def _layers(self) -> list[Any]:
        """Return the layers before the last, as a file would list them."""

    def _check(self, channels: int, side: int) -> None:
        pass


class DigitNetwork(_Family):
    """The MNIST network of the project's report for 28×28 grey images: two 5×5 convolutions, two linear layers."""

    family: Literal["digit"]

    def _layers(self) -> list[Any]:
        first = [{"conv": 10, "size": 5}, {"pool": 2}, "relu"]
        second = [{"conv": 20, "size": 5}, {"dropout_maps": 0.5}, {"pool": 2}, "relu"]
        return [*first, *second, "flatten", {"dense": 50}, "relu", {"dropout": 0.5}]

    def _check(self, channels: int, side: int) -> None:
        if (channels, side) != (1, 28):
            colours = "grey" if channels == 1 else "in colour"
            raise ValueError(f"family digit takes grey images of 28×28 pixels; these are {side}×{side} and {colours}")


class ConvNetwork(_Family):
    """Convolutions of one kind, pooling, one or two linear layers: Task 2 of the project's report, and keys of ours.

    Attributes:
        conv_layers: How many convolutions.
        filter_size: Their filters' side, pixels.
        filters: How many filters each has.
        dense_nodes: Nodes of the hidden linear layer; 0: there is none.
        dropout: The share of those nodes dropped while training; without them, of the output layer's inputs.
        dropout_after: What dropout follows: "dense", the hidden linear layer, or each of the "convolutions", after its
            pooling.
        pool_size: The pooling's side and stride, pixels.
        activation: What follows each layer but the last.
        padding: "none"; "same": each convolution keeps the image's size; or pixels on each side. "same" is the default
            because models that were registered before that report's padding was known were built so.
        batch_norm: Normalise each convolution's result over the batch (Ioffe and Szegedy, 2015), after the pooling.
        widths: "same": all convolutions have `filters`; "double": twice as many after each pooling.
        convs_per_pool: How many convolutions precede each pooling.
        pool_early: Pool after the first convolution too, whose images are the largest and cost the most.
        average: Give the linear layers each channel's mean over the image, not all of its pixels.
        mirrored: In evaluation, return the mean of the logits for an image and for its mirror image.
    """

    family: Literal["conv"] = "conv"
    conv_layers: int = Field(ge=1, le=8)
    filter_size: int = Field(ge=1, le=64)
    filters: int = Field(ge=1, le=1024)
    dense_nodes: int = Field(ge=0, le=16_384)
    dropout: float = Field(ge=0, lt=1)
    pool_size: int = Field(ge=2, le=16)
    activation: Activation
    padding: Padding = added("same")
    dropout_after: Literal["dense", "convolutions"] = added("dense")
    batch_norm: bool = added(False)
    widths: Literal["same", "double"] = added("same")
    convs_per_pool: Literal[1, 2] = added(1)
    pool_early: bool = added(False)
    average: bool = added(False)
    mirrored: bool = added(False)

    @property
    def pooled(self) -> list[bool]:
        """For each convolution, whether pooling follows it; with `pool_early` the count begins after the first."""
        layers, offset = range(1, self.conv_layers + 1), int(self.pool_early)
        return [(self.pool_early and i == 1) or (i - offset) % self.convs_per_pool == 0 for i in layers]

    def widths_of(self, channels: int) -> list[int]:
        """Return how many channels the images have: the input's, then each convolution's."""
        factor = 2 if self.widths == "double" else 1
        return [channels, *(self.filters * factor ** sum(self.pooled[:layer]) for layer in range(self.conv_layers))]

    def sides(self, side: int) -> list[int]:
        """Return the side, in pixels, that each convolution leaves of images of `side`, pooling included.

        Raises:
            ValueError: Too little is left for one of the layers; names the layer and the shape.
        """
        found = []
        for layer, pools in enumerate(self.pooled, 1):
            place = f"layer {layer} of {self.conv_layers}: {{0}}×{{0}} pixels are left, "
            convolved = after_window(side, self.filter_size, padding=self.padding)
            if convolved < 1:
                words = "without padding" if self.padding == "none" else f"with padding {self.padding}"
                raise ValueError(f"{place.format(side)}a filter {words} takes {self.filter_size}×{self.filter_size}")
            if pools and convolved < self.pool_size:
                raise ValueError(f"{place.format(convolved)}pooling takes {self.pool_size}")
            side = convolved // self.pool_size if pools else convolved
            found.append(side)
        return found

    def features(self, channels: int, side: int) -> int:
        """Return how many numbers the first linear layer gets for images of `side`."""
        return self.widths_of(channels)[-1] * (1 if self.average else self.sides(side)[-1] ** 2)

    def _layers(self) -> list[Any]:
        found: list[Any] = []
        drop: Any = {"dropout": self.dropout}
        for width, pooled in zip(self.widths_of(1)[1:], self.pooled, strict=True):
            pool = [{"pool": self.pool_size}] if pooled else []
            first, last = ([], pool) if self.activation in NOT_MONOTONE else (pool, [])
            conv = {"conv": width, "size": self.filter_size, "padding": self.padding, "bias": not self.batch_norm}
            found += [conv, *first, *(["batch_norm"] if self.batch_norm else []), self.activation, *last]
            found += [drop] if self.dropout_after == "convolutions" else []
        dense: list[Any] = [{"dense": self.dense_nodes}, self.activation] if self.dense_nodes else []
        dense += [drop] if self.dropout_after == "dense" else []
        return [*found, "average" if self.average else "flatten", *dense]

    def _check(self, channels: int, side: int) -> None:  # noqa: ARG002
        self.sides(side)


class MlpNetwork(_Family):
    """Linear layers on an image's pixels, and an output.

    Attributes:
        hidden: The layers' widths.
        activation: Of each layer.
        dropout: After each layer.
    """

    family: Literal["mlp"]
    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(max_length=100)
    activation: Activation = "relu"
    dropout: float = Field(0.0, ge=0, lt=1)

    def _layers(self) -> list[Any]:
        drop = [{"dropout": self.dropout}] if self.dropout else []
        return ["flatten", *(layer for width in self.hidden for layer in [{"dense": width}, self.activation, *drop])]


_SHARES = ("dropout", "dropout_maps")


def _expected(key: str) -> str:
    number = {"padding": "whole number from 0 to 64", **dict.fromkeys(_SHARES, "number from 0 to less than 1")}
    return f"must be a {number.get(key, 'whole number from 1 to 1,000,000')}" + (", none, same" * (key == "padding"))


def _fits(key: str, value: Any) -> bool:
    """Return whether a number is one that a layer's key takes."""
    if key in _SHARES:
        return type(value) in (int, float) and 0 <= value < 1
    return type(value) is int and (0 <= value <= 64 if key == "padding" else 1 <= value <= 1_000_000)


def _value(value: Any, info: ValidationInfo) -> Any:
    """Check a layer's value: a number that fits, a term of a named value, or a word of padding."""
    key = str(info.field_name)
    words = get_args(get_args(Padding)[0]) if key == "padding" else ()
    text = isinstance(value, str) and (value in words or value not in _WORDS_OF_KEYS) and _TERM.fullmatch(value)
    if not (text if isinstance(value, str) else _fits(key, value)):
        raise ValueError(f"{_expected(key)}, or a named value: NAME, K*NAME or NAME/K")
    return value


def _layer(layer: Any) -> Any:
    """Check one layer of a list: a word, or a mapping whose section `_MAPPINGS` has."""
    if isinstance(layer, Strict) or (isinstance(layer, str) and layer in _WORDS):
        return layer
    if isinstance(layer, Mapping) and (kind := next((kind for kind in _MAPPINGS if kind in layer), None)):
        if unknown := [key for key in layer if key not in (kind, *_KEYS[kind])]:
            raise ValueError(f"{kind} has no key {unknown[0]!r:.40}; its keys are {', '.join((kind, *_KEYS[kind]))}")
        return _MAPPINGS[kind].model_validate(layer)
    if layer == "softmax":
        raise ValueError("is no layer of its own: the softmax is part of the loss; leave it out")
    example = "[relu]" if layer == "residual" else 2
    meant = f" without its value, e.g. {{{layer}: {example}}}" if isinstance(layer, str) and layer in _MAPPINGS else ""
    words, others = ", ".join(_WORDS), ", ".join(_MAPPINGS)
    raise ValueError(f"is no layer{meant}; layers are the words {words}, and with a value {others}")


def _not_too_many(layers: Any) -> Any:
    """Refuse a list of too many layers before each is looked at."""
    if isinstance(layers, list) and len(layers) > MOST_LAYERS:
        raise ValueError(f"more than {MOST_LAYERS} layers")
    return layers


_Value = Annotated[Any, BeforeValidator(_value)]
_Layer = Annotated[Any, BeforeValidator(_layer)]
_BIAS: Any = (bool, added(True))
_WINDOW: Any = {"stride": (_Value | None, added(None)), "padding": (_Value, added(0))}  # the stride is the size
_WORDS = ("flatten", "average", "batch_norm", *ACTIVATIONS)  # `average` alone is over the whole image
_CONV: dict[str, Any] = {
    **{"size": (_Value, ...), "stride": (_Value, added(1)), "padding": (_Value, added("none")), "bias": _BIAS},
    "fixed": (Literal["none", "gabor"], added("none")),  # filters that are not trained
}
_Layers = Annotated[list[_Layer], BeforeValidator(_not_too_many), Field(min_length=1)]
# The layers with a value, each with its further keys; `dropout_maps` drops whole channels, as torch's Dropout2d.
_KEYS: dict[str, dict[str, Any]] = {
    "conv": _CONV,
    "pool": _WINDOW,
    "average": _WINDOW,
    "dropout": {},
    "dropout_maps": {},
    "dense": {"bias": _BIAS},
    "squeeze_excite": {},
    "residual": {},
    "repeat": {"layers": (_Layers, ...)},
}
_MAPPINGS: dict[str, type[Strict]] = {
    kind: create_model(kind, __base__=Strict, **{kind: (_Layers if kind == "residual" else _Value, ...), **keys})
    for kind, keys in _KEYS.items()
}


def _kind(layer: Any) -> str:
    return layer if isinstance(layer, str) else next(iter(type(layer).model_fields))


class LayerNetwork(_Network):
    """A network as a list of layers from a closed vocabulary, which ends with `{dense: classes}`.

    Attributes:
        layers: In their order; each is a word, e.g. `relu`, or a mapping, e.g. `{conv: 10, size: 5}`.
        named: The file's key `with`: values that layers use by their names, so that a grid can vary them:
            `{conv: filters, size: 3}`, `{conv: 2*filters, size: 3}`, `{dense: features/6}`. `classes` and `features`,
            how many numbers a dense layer gets, are always known.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    layers: _Layers
    named: dict[str, Annotated[float | int, Field(ge=0, le=1_000_000)]] = added({}, alias="with")

    @property
    def family(self) -> str:
        """The name of networks of this kind."""
        return "layers"

    @model_validator(mode="after")
    def _names_are_defined_and_used(self) -> "LayerNetwork":
        for name in self.named:
            if name in _KNOWN:
                raise ValueError(f"with: {name} is always known")
            if not re.fullmatch(_NAME, name) or name in _WORDS_OF_KEYS:
                raise ValueError(f"with: a name is lower-case letters, digits and _, and not {name!r:.40}")
        used = dict.fromkeys(_names(self.layers))
        if unknown := [name for name in used if name not in (*self.named, *_KNOWN)]:
            names = ", ".join([*self.named, *_KNOWN])
            raise ValueError(f"layers: the name {unknown[0]} is not defined; `with` and trackdl define {names}")
        if unused := [name for name in self.named if name not in used]:
            raise ValueError(f"with: no layer uses {unused[0]}")
        last = self._flat(self.layers)[-1]
        if _kind(last) != "dense" or last.dense != "classes":
            raise ValueError("layers: the last one must be {dense: classes}, which gives a number for each class")
        return self

    def _flat(self, layers: list[Any]) -> list[Any]:
        """Return layers with repeats written out."""
        found: list[Any] = []
        for layer in layers:
            if _kind(layer) == "repeat":
                times = _number(layer.repeat, "repeat", self.named)
                found += self._flat(layer.layers) * min(times, MOST_LAYERS + 1)
            elif _kind(layer) == "residual":
                found.append(layer.model_copy(update={"residual": self._flat(layer.residual)}))
            else:
                found.append(layer)
            if _count(found) > MOST_LAYERS:
                raise ValueError(f"layers: more than {MOST_LAYERS} layers")
        return found

    def steps(self, channels: int, side: int, classes: int) -> list[Layer]:
        """Return the layers with all values as numbers; raises ValueError as it says of every network."""
        found = _steps(self._flat(self.layers), (channels, side), {**self.named, "classes": classes})
        if sum(layer.weights for layer in found) > MOST_WEIGHTS:
            raise ValueError(f"the layers have more than {MOST_WEIGHTS:,} weights")
        if sum(layer.values for layer in found) > MOST_VALUES:
            raise ValueError(f"the layers' results for one image are more than {MOST_VALUES:,} numbers")
        return found


def _count(layers: list[Any]) -> int:
    """Return how many layers there are, with those in residual ones."""
    return sum(1 + (_count(layer.residual) if _kind(layer) == "residual" else 0) for layer in layers)


def _steps(layers: list[Any], shape: Shape, named: Mapping[str, Any]) -> list[Layer]:
    """Return layers without repeats for images or numbers of `shape`; raises ValueError as `LayerNetwork.steps`."""
    found = []
    for number, layer in enumerate(layers, 1):
        kind = _kind(layer)
        settings: dict[str, Any] = {}
        inner: tuple[Layer, ...] = ()
        names = {**named} | ({"features": shape[0]} if len(shape) == 1 else {})
        try:
            if len(shape) == 2 and kind == "dense":
                raise ValueError("it takes numbers; put `flatten` or `average` before it")
            if kind == "residual":
                inner = tuple(_steps(layer.residual, shape, named))
                after = inner[-1].after
                _check_sum(shape, after)
            else:
                settings = {} if isinstance(layer, str) else {key: _number(value, key, names) for key, value in layer}
                after = _after(kind, settings, shape)
        except ValueError as error:
            raise ValueError(f"layer {number} ({_describe(layer)}) gets {_size(shape)}: {error}") from error
        found.append(Layer(kind, settings, shape, after, inner))
        shape = after
    return found


def _check_sum(before: Shape, after: Shape) -> None:
    """Raise ValueError if no 1×1 convolution makes a shape of another, so that both could be added."""
    made = f"its layers make {_size(after)}, which cannot be added to it"
    if len(before) != len(after):
        raise ValueError(f"{made}; `flatten` and `average` belong after the residual")
    if len(after) == 2 and -(-before[-1] // -(-before[-1] // after[-1])) != after[-1]:
        raise ValueError(f"{made}, nor to what a 1×1 convolution makes of it; give its layers a padding or a stride")


def _names(layers: list[Any]) -> Iterator[str]:
    """Yield the names in the layers' values."""
    for layer in layers:
        for key, value in layer if isinstance(layer, Strict) else ():
            if key in ("layers", "residual"):
                yield from _names(value)
            elif _is_term(value):
                yield _TERM.fullmatch(value)["name"]  # type: ignore[index]  # `_value` has matched it


def _is_term(value: Any) -> bool:
    return isinstance(value, str) and value not in _WORDS_OF_KEYS


def _number(value: Any, key: str, names: Mapping[str, Any]) -> Any:
    """Return a layer's value as a number, or as a word of padding."""
    match = _TERM.fullmatch(value) if _is_term(value) else None
    if match is None:
        return value
    if match["name"] not in names:
        raise ValueError(f"{key}: the name {match['name']} is not known here")
    number, over = names[match["name"]] * int(match["times"] or 1), int(match["over"] or 1)
    number = number / over if key in _SHARES else number // over if over > 1 else number
    number = int(number) if key not in _SHARES and float(number).is_integer() else number
    if not _fits(key, number):
        raise ValueError(f"{key}: {value} is {number:g}, and {_expected(key)}")
    return number


def _describe(layer: Any) -> str:
    if _kind(layer) == "residual":
        count = _count(layer.residual)
        return f"residual with {count} layer{'s' if count > 1 else ''}"
    return layer if isinstance(layer, str) else ", ".join(f"{k}: {v}" for k, v in layer.model_dump().items())


def _size(shape: Shape) -> str:
    if len(shape) == 1:
        return f"{shape[0]} numbers"
    return f"{shape[0]} channel{'s' if shape[0] > 1 else ''} of {shape[1]}×{shape[1]} pixels"


def _after(kind: str, settings: Mapping[str, Any], shape: Shape) -> Shape:
    """Return the shape that a layer makes of `shape`.

    Raises:
        ValueError: It cannot take that shape.
    """
    if kind in ("dense", "flatten") or len(shape) == 1:
        if kind in ("conv", "pool", "average", "dropout_maps", "squeeze_excite"):
            raise ValueError("it takes an image, which `flatten` or `average` has ended")
        if kind == "dense":
            return (settings["dense"],)
        return (shape[0] * shape[1] ** 2,) if len(shape) == 2 else shape
    channels, side = shape
    if kind == "average" and not settings:
        return (channels,)
    if kind == "squeeze_excite" and settings[kind] > channels:
        raise ValueError(f"it reduces the channels by a number of at most {channels}")
    if kind not in ("conv", "pool", "average"):
        return shape
    size = settings["size"] if kind == "conv" else settings[kind]
    if settings.get("fixed") == "gabor" and size < LEAST_GABOR:
        raise ValueError(f"Gabor filters have a size of at least {LEAST_GABOR} pixels")
    stride, padding = settings["stride"] or size, settings["padding"]
    if padding == "same" and (stride != 1 or kind != "conv"):
        raise ValueError("padding same needs a convolution with the stride 1")
    if kind != "conv" and padding != "none" and padding > size // 2:
        raise ValueError(f"padding may be half of {size} pixels at most")
    left = after_window(side, size, stride, padding)
    if left < 1:
        raise ValueError(f"nothing is left: it takes {size}×{size} pixels")
    return (settings["conv"] if kind == "conv" else channels, left)


_CONVERT = (
    'python -c "from safetensors.torch import save_file; from torch import load; '
    "save_file(load('{}', weights_only=True), '{}')\""
)


class TorchvisionNetwork(_Network):
    """A network of torchvision for classification, by its name, with a new head for the images' classes.

    It takes grey images as three equal channels.

    Attributes:
        torchvision: Its name, e.g. resnet18.
        weights: A safetensors file with the weights to start from, all but the head's; by default they are random.
        sha256: The file's SHA-256.
    """

    torchvision: Annotated[str, like(r"[a-z0-9_]{1,64}", "a network's name in torchvision, e.g. resnet18")]
    weights: str | None = added(None, min_length=1)
    sha256: Annotated[str, like(r"[0-9a-f]{64}", "64 digits from 0 to f, as sha256sum prints them")] | None = added(
        None
    )

    @property
    def family(self) -> str:
        """The name of networks of this kind."""
        return "torchvision"

    @model_validator(mode="after")
    def _weights_are_a_known_file(self) -> "TorchvisionNetwork":
        if self.weights and not self.weights.endswith(".safetensors"):
            made = f"{self.weights.rpartition('.')[0] or self.weights}.safetensors"
            raise ValueError(
                f"weights: {self.weights} is not a .safetensors file, and trackdl opens no other, which may run code. "
                f"Convert it: {_CONVERT.format(self.weights, made)}"
            )
        if bool(self.weights) != bool(self.sha256):
            raise ValueError("weights and sha256, which `sha256sum FILE` prints, belong together: give both or neither")
        return self

    def steps(self, channels: int, side: int, classes: int) -> list[Layer]:  # noqa: ARG002
        """Return no layers: torchvision alone knows them, and refuses images that are too small."""
        return []


def _family(network: Any) -> str | None:
    if not isinstance(network, Mapping):
        return getattr(network, "family", None)
    family = next((key for key in ("layers", "torchvision") if key in network), network.get("family"))
    return family if family in ("digit", "conv", "mlp", "layers", "torchvision") else None


Network = Annotated[
    Annotated[DigitNetwork, Tag("digit network")]
    | Annotated[ConvNetwork, Tag("conv network")]
    | Annotated[MlpNetwork, Tag("mlp network")]
    | Annotated[LayerNetwork, Tag("layers network")]
    | Annotated[TorchvisionNetwork, Tag("torchvision network")],
    Discriminator(
        lambda network: (family := _family(network)) and f"{family} network",
        custom_error_type="no_network",
        custom_error_message="needs `family: digit`, `conv` or `mlp`, or `layers`, a list of layers, or `torchvision`",
    ),
]
