"""Lists of layers: they train as their families do, have the shapes that `spec` works out, and say what is wrong."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from support.nets import DIGIT_LAYERS, FASHION_LAYERS, FIRST, fashion_net, layer_net, listed, model_of
from support.pictures import blobs
from trackdl.networks.build import arguments_of, build, count_parameters, make
from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import ACTIVATIONS
from trackdl.networks.head import freeze
from trackdl.networks.layers import Residual, SqueezeExcite, gabor_bank
from trackdl.spec import Optimizer, Training
from trackdl.spec.network import NOT_MONOTONE, DigitNetwork, MlpNetwork
from trackdl.training.trainer import Examples, Trainer

END = ["flatten", {"dense": "classes"}]


@pytest.fixture(scope="module")
def examples() -> Examples:
    pictures, labels = blobs(200, 0)
    return Examples(torch.from_numpy(pictures)[:, None].float() / 128 - 1, torch.from_numpy(labels.astype(np.int64)))


def weights(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize(
    ("family", "layers", "loss", "optimizer"),
    [
        (DigitNet, DIGIT_LAYERS, F.nll_loss, Optimizer(name="sgd", lr=0.05, momentum=0.5)),
        (fashion_net, FASHION_LAYERS, F.cross_entropy, Optimizer(name="adam", lr=0.001)),
    ],
    ids=["digit", "conv"],
)
def test_a_list_trains_to_the_same_weights_as_its_family(
    examples: Examples, family: Any, layers: list[Any], loss: Any, optimizer: Optimizer, precision: str
) -> None:
    given = Training(epochs=3, batch_size=32, optimizer=optimizer, seed=1, device="cpu", precision=precision)
    first = Trainer(family, given, loss)
    second = Trainer(lambda: layer_net(*layers), given, F.cross_entropy)
    assert same(first.model, second.model)
    ours, theirs = list(first.fit(examples, 3)), list(second.fit(examples, 3))
    if family is DigitNet and first.dtype is not torch.float32:  # it rounds its log-probabilities too
        assert [one.train_loss for one in ours] == pytest.approx([one.train_loss for one in theirs], rel=0.02)
        return
    assert same(first.model, second.model)
    assert [one.train_loss for one in ours] == [one.train_loss for one in theirs]
    assert first.evaluate(examples).loss == second.evaluate(examples).loss


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"padding": "none", "filter_size": 4},
        {"padding": 2, "dense_nodes": 0},
        {"activation": "gelu", "batch_norm": True},
        {"activation": "tanh", "batch_norm": True, "average": True},
        {"conv_layers": 5, "convs_per_pool": 2, "pool_early": True, "widths": "double"},
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_conv_network_is_the_list_that_it_says(keys: dict[str, Any], channels: int) -> None:
    stated = model_of(**{"filters": 4, **keys})
    torch.manual_seed(0)
    family = make(stated, channels, 28, 7)
    torch.manual_seed(0)
    as_list = make(stated.as_layers(), channels, 28, 7)
    x = torch.randn(6, channels, 28, 28)
    assert sorted(p.shape for p in weights(family)) == sorted(p.shape for p in weights(as_list))
    for model in (family, as_list):
        model.train()
    torch.manual_seed(1)
    ours = family(x)
    torch.manual_seed(1)
    assert torch.allclose(ours, as_list(x), atol=1e-6)
    assert torch.allclose(family.eval()(x), as_list.eval()(x), atol=1e-6)


def test_the_families_as_lists() -> None:
    torch.manual_seed(0)
    digit = DigitNet(4)
    torch.manual_seed(0)
    assert same(digit, make(DigitNetwork(family="digit").as_layers(), 1, 28, 4))
    mlp = make(MlpNetwork(family="mlp", hidden=[6, 5], activation="tanh", dropout=0.2), 3, 4, 2)
    assert [type(layer) for layer in mlp.layers] == [
        nn.Flatten, nn.Linear, nn.Tanh, nn.Dropout, nn.Linear, nn.Tanh, nn.Dropout, nn.Linear,
    ]  # fmt: skip
    assert mlp(torch.zeros(2, 3, 4, 4)).shape == (2, 2)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("pool", [{"pool": 2}, {"pool": 3, "stride": 2, "padding": 1}])
def test_pooling_after_the_activation_gives_what_the_list_says(activation: str, pool: dict[str, int]) -> None:
    torch.manual_seed(0)
    net = layer_net({"conv": 3, "size": 3}, activation, pool, pool, *END).eval()
    order = [type(layer) for layer in net.layers[:4]]
    assert (order[1] is nn.MaxPool2d) == (activation not in NOT_MONOTONE)
    pooling = nn.MaxPool2d(pool["pool"], pool.get("stride"), pool.get("padding", 0))
    x = torch.randn(4, 1, 28, 28)
    usual = pooling(pooling(ACTIVATIONS[activation]()(net.layers[0](x)))).flatten(1)
    assert torch.allclose(net(x), net.layers[-1](usual), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "kind", "after"),
    [
        ({"conv": 4, "size": 3}, nn.Conv2d, (4, 6)),
        ({"conv": 4, "size": 3, "stride": 2, "padding": 1, "bias": False}, nn.Conv2d, (4, 4)),
        ({"conv": 4, "size": 5, "padding": "same"}, nn.Conv2d, (4, 8)),
        ({"pool": 3}, nn.MaxPool2d, (2, 2)),
        ({"pool": 3, "stride": 1, "padding": 1}, nn.MaxPool2d, (2, 8)),
        ({"pool": 2, "padding": "none"}, nn.MaxPool2d, (2, 4)),
        ({"average": 2}, nn.AvgPool2d, (2, 4)),
        ({"average": 3, "stride": 2, "padding": 1}, nn.AvgPool2d, (2, 4)),
        ("average", None, (2,)),
        ("flatten", nn.Flatten, (128,)),
        ({"squeeze_excite": 2}, SqueezeExcite, (2, 8)),
        ({"residual": [{"conv": 5, "size": 3, "stride": 2, "padding": 1}]}, Residual, (5, 4)),
        ("batch_norm", nn.BatchNorm2d, (2, 8)),
        ({"dropout": 0.5}, nn.Dropout, (2, 8)),
        ({"dropout_maps": 0.5}, nn.Dropout2d, (2, 8)),
        *[(name, ACTIVATIONS[name], (2, 8)) for name in ACTIVATIONS],
    ],
)
def test_each_layer_is_torchs_with_the_shape_that_is_said(
    layer: Any, kind: type | None, after: tuple[int, ...]
) -> None:
    end = END if len(after) == 2 else END[1:]
    assert listed(layer, *end).shapes(2, 8, 3)[0] == after
    made = layer_net(layer, *end, channels=2, side=8, classes=3).layers[0]
    assert kind is None or type(made) is kind
    assert tuple(made(torch.zeros(5, 2, 8, 8)).shape)[1:] == (after if len(after) == 1 else (*after, after[1]))


def test_a_residual_adds_its_inputs_and_squeeze_excite_scales_channels() -> None:
    torch.manual_seed(0)
    inner = [{"conv": "w", "size": 3, "padding": "same"}, "relu"]
    net = layer_net({"residual": inner}, {"residual": inner}, {"squeeze_excite": 3}, *END, side=8, w=6).eval()
    x = torch.randn(4, 1, 8, 8)
    first = net.layers[0].layers(x) + F.conv2d(x, net.layers[0].shortcut.weight)
    second = net.layers[1].layers(first) + first
    shares = net.layers[2](second) / second
    assert torch.allclose(shares, shares[:, :, :1, :1].expand_as(shares), atol=1e-5)
    assert 0 < shares.min() < shares.max() < 1
    assert torch.allclose(net(x), net.layers[4](net.layers[2](second).flatten(1)), atol=1e-6)
    numbers = layer_net("flatten", {"residual": [{"dense": "features/2"}, "relu"]}, {"dense": "classes"}, side=4)
    assert numbers(torch.zeros(2, 1, 4, 4)).shape == (2, 10)


def test_layers_of_numbers() -> None:
    net = layer_net("flatten", "batch_norm", {"dense": 5, "bias": False}, "relu", {"dense": "classes"}, side=4)
    assert isinstance(net.layers[1], nn.BatchNorm1d)
    assert net.layers[2].bias is None
    assert net(torch.zeros(3, 1, 4, 4)).shape == (3, 10)


@given(count=st.integers(1, 200), channels=st.integers(1, 4), size=st.integers(3, 40))
@settings(max_examples=60, deadline=None)
def test_gabor_filters_have_no_mean_and_a_norm_of_1_and_differ(count: int, channels: int, size: int) -> None:
    bank = gabor_bank(count, channels, size)
    assert bank.shape == (count, channels, size, size)
    assert torch.equal(bank, gabor_bank(count, channels, size))
    assert bank.mean(dim=(2, 3)).abs().max() < 1e-6
    assert torch.allclose(bank.flatten(1).norm(dim=1), torch.ones(count))
    assert torch.equal(bank, bank[:, :1].expand_as(bank))
    if size > 4 and count <= 32:  # small ones have too few pixels for many directions
        alike = bank.flatten(1) @ bank.flatten(1).T - torch.eye(count)
        assert alike.abs().max() < 0.99


def test_fixed_filters_stay_while_the_rest_is_trained(examples: Examples, tmp_path: Path) -> None:
    def network(fixed: str) -> nn.Module:
        return layer_net({"conv": 8, "size": 5, "fixed": fixed}, "relu", {"conv": 4, "size": 3}, *END)

    given = Training(epochs=2, batch_size=32, optimizer=Optimizer(name="adam", lr=0.01, l2=0.1), seed=1, device="cpu")
    learnt, fixed = (Trainer(lambda kind=kind: network(kind), given, F.cross_entropy) for kind in ("none", "gabor"))
    assert torch.equal(learnt.model.layers[2].weight, fixed.model.layers[2].weight)
    bank = gabor_bank(8, 1, 5)
    assert torch.equal(fixed.model.layers[0].weight, bank)
    assert count_parameters(learnt.model) == count_parameters(fixed.model)
    assert count_parameters(fixed.model, trainable=True) == count_parameters(learnt.model) - bank.numel()
    before = [tensor.clone() for tensor in weights(fixed.model)]
    list(fixed.fit(examples, 2))
    assert [torch.equal(a, b) for a, b in zip(before, weights(fixed.model), strict=True)] == [True] + [False] * 5
    fixed.save(tmp_path / "c.safetensors")
    again = Trainer(lambda: network("gabor"), given, F.cross_entropy)
    again.load(tmp_path / "c.safetensors")
    assert same(fixed.model, again.model)
    copy = build("LayerNet", arguments_of(fixed.model))
    freeze(copy, "nothing")
    assert [p.requires_grad for p in copy.parameters()] == [False] + [True] * 5


SIZES = st.integers(1, 6)
LAYERS = st.one_of(
    st.fixed_dictionaries(
        {"conv": st.integers(1, 5), "size": SIZES},
        optional={
            "stride": st.integers(1, 3),
            "padding": st.sampled_from(["none", "same", 0, 1, 3]),
            "bias": st.booleans(),
            "fixed": st.sampled_from(["none", "gabor"]),
        },
    ),
    st.fixed_dictionaries({"pool": SIZES}, optional={"stride": st.integers(1, 3), "padding": st.integers(0, 3)}),
    st.fixed_dictionaries({"average": SIZES}, optional={"stride": st.integers(1, 3), "padding": st.integers(0, 3)}),
    st.fixed_dictionaries({"dropout": st.floats(0, 0.9)}),
    st.fixed_dictionaries({"dropout_maps": st.floats(0, 0.9)}),
    st.fixed_dictionaries({"dense": st.integers(1, 20)}),
    st.fixed_dictionaries({"squeeze_excite": st.integers(1, 4)}),
    st.sampled_from(["batch_norm", "average", "flatten", *ACTIVATIONS]),
)
LISTS = st.lists(
    LAYERS | st.fixed_dictionaries({"repeat": st.integers(1, 3), "layers": st.lists(LAYERS, min_size=1, max_size=2)}),
    max_size=7,
) | st.lists(
    LAYERS
    | st.fixed_dictionaries({"residual": st.lists(LAYERS | st.just({"residual": ["relu"]}), min_size=1, max_size=3)}),
    max_size=5,
)


def counted(net: nn.Module, x: Tensor) -> tuple[list[tuple[int, ...]], int]:
    """Return the shapes that layers but activations make in torch, and the multiply-adds of one image."""
    shapes, total = [], 0

    def note(_: nn.Module, __: tuple[Tensor], after: Tensor) -> None:
        shapes.append(tuple(after.shape)[1:])

    def count(layer: nn.Module, before: tuple[Tensor], after: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += layer.in_channels * layer.kernel_size[0] ** 2 * after[0].numel()
        if isinstance(layer, nn.Linear):
            total += before[0].shape[1] * after.shape[1]

    for layer in net.layers:
        if type(layer) not in ACTIVATIONS.values():  # pooling may come before it
            layer.register_forward_hook(note)
    for layer in net.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        net.eval()(x)
    return shapes, total


@given(
    layers=LISTS,
    flat=st.sampled_from(["flatten", "average"]),
    channels=st.sampled_from([1, 3]),
    side=st.integers(1, 20),
)
@settings(max_examples=200, deadline=None)
def test_shapes_and_multiply_adds_are_torchs(layers: list[Any], flat: str, channels: int, side: int) -> None:
    """A list is a network with the shapes that are said, or torch could not run it either."""
    network = listed(*layers, flat, {"dense": "classes"})
    try:
        steps = network.steps(channels, side, 4)
    except ValueError as refused:
        refusal = str(refused)
    else:
        refusal = ""
    if refusal:
        assert re.match(r"layer \d+ \(.*\) gets \d+ (channels? of \d+×\d+ pixels|numbers): ", refusal)
        return
    assume(sum(np.prod(step.after) for step in steps) < 10**6)
    net = make(network, channels, side, 4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*padding='same' with even kernel.*")
        shapes, total = counted(net, torch.zeros(2, channels, side, side))
    said = [step.after for step in steps if step.kind not in ACTIVATIONS]
    assert shapes == [(*after, after[1]) if len(after) == 2 else after for after in said]
    assert network.multiply_adds(channels, side, 4) == total
    again = build("LayerNet", arguments_of(net))
    assert str(again) == str(net)
    again.load_state_dict(net.state_dict())


def by_torch(x: Tensor, size: int, padding: Any, pool: int) -> bool:
    """Return whether torch itself can pass images through two convolutions with pooling."""
    try:
        for channels in (3, 2):
            x = F.max_pool2d(F.conv2d(x, torch.zeros(2, channels, size, size), padding=padding), pool)
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("pool", [2, 3])
@given(size=st.integers(1, 9), padding=st.sampled_from(["none", "same", 0, 1, 5]), side=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_conv_family_of_any_filter_and_padding(pool: int, size: int, padding: Any, side: int) -> None:
    network = model_of(filters=2, dense_nodes=3, filter_size=size, padding=padding, pool_size=pool)
    x = torch.zeros(1, 3, side, side)
    try:
        sides = network.sides(side)
    except ValueError:
        assert not by_torch(x, size, 0 if padding == "none" else padding, pool)
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*padding='same' with even kernel.*")
        assert make(network, 3, side, 4)(x).shape == (1, 4)
    assert network.shapes(3, side, 4)[-4:] == [(3,), (3,), (3,), (4,)]
    assert network.features(3, side) == 2 * sides[-1] ** 2


def test_values_by_name() -> None:
    network = listed(
        {"conv": "filters", "size": "size"}, {"conv": "2*filters", "size": 3, "padding": "size / 2"},
        {"dropout": "drop"},
        {"repeat": "depth", "layers": [{"conv": "filters/2", "size": 1}, "relu"]},
        "flatten", {"dense": "features/6"}, {"dense": "3 * classes"}, {"dropout": "drop/2"}, {"dense": "classes"},
        filters=6, size=3, drop=0.5, depth=2,
    )  # fmt: skip
    steps = network.steps(1, 6, 4)
    assert [step.after for step in steps] == [
        (6, 4), (12, 4), (12, 4), (3, 4), (3, 4), (3, 4), (3, 4), (48,), (8,), (12,), (12,), (4,)
    ]  # fmt: skip
    assert [step.settings["dropout"] for step in steps if step.kind == "dropout"] == [0.5, 0.25]
    assert steps[1].settings["padding"] == 1
    assert listed({"conv": "width", "size": 3}, *END, width=8.0).shapes(1, 28)[0] == (8, 26)


@pytest.mark.parametrize(
    ("layers", "named", "words"),
    [
        (["flatten", "relu"], {}, r"layers: the last one must be \{dense: classes\}"),
        (["flatten", {"dense": 10}], {}, r"layers: the last one must be \{dense: classes\}"),
        ([{"conv": "width", "size": 3}, *END], {}, "layers: the name width is not defined; `with` and trackdl define"),
        ([{"dropout": "p"}, *END], {"q": 0.5}, "layers: the name p is not defined; .* define q, classes"),
        (END, {"width": 3}, "with: no layer uses width"),
        ([{"repeat": "n", "layers": ["relu"]}, *END], {"m": 3}, "the name n is not defined"),
        (END, {"classes": 3}, "with: classes is always known"),
        (END, {"Width": 3}, "with: a name is lower-case letters, digits and _, and not 'Width'"),
        (END, {"same": 3}, "with: a name is"),
        ([{"repeat": 10_000, "layers": ["relu"]}, *END], {}, "layers: more than 500 layers"),
        ([{"repeat": 99, "layers": [{"repeat": 99, "layers": ["relu"]}]}, *END], {}, "layers: more than 500 layers"),
        ([{"repeat": 9, "layers": [{"residual": ["relu"] * 99}]}, *END], {}, "layers: more than 500 layers"),
        ([{"residual": [{"conv": "width", "size": 3}]}, *END], {}, "the name width is not defined"),
        ([{"residual": 3}, *END], {}, "valid list"),
        (["relu"] * 10_000 + END, {}, "more than 500 layers"),
        ([{"repeat": "features", "layers": ["relu"]}, *END], {}, "repeat: the name features is not known here"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused(layers: list[Any], named: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        listed(*layers, **named)


@pytest.mark.parametrize(
    ("layers", "named", "words"),
    [
        ([{"pool": 2}] * 6 + END, {}, r"layer 5 \(pool: 2\) gets 1 channel of 1×1 pixels: nothing is left"),
        ([{"conv": 3, "size": 30}, *END], {}, r"layer 1 \(conv: 3, size: 30\) gets 1 channel of 28×28 pixels: n"),
        ([{"conv": 3, "size": 3}, {"dense": "classes"}], {}, r"layer 2 .* 3 channels of 26×26 pixels: it takes n"),
        ([{"dense": "features/6"}, *END], {}, r"layer 1 .*it takes numbers; put `flatten` or `average` before it"),
        (["flatten", {"conv": 3, "size": 3}, *END], {}, r"layer 2 .* gets 784 numbers: it takes an image"),
        (["average", {"pool": 2}, *END], {}, r"layer 2 \(pool: 2\) gets 1 numbers: it takes an image"),
        (["flatten", {"dropout_maps": 0.5}, *END], {}, "layer 2 .*it takes an image"),
        ([{"conv": 3, "size": 3, "padding": "same", "stride": 2}, *END], {}, "padding same needs .* the stride 1"),
        ([{"pool": 2, "padding": "same"}, *END], {}, "padding same needs a convolution"),
        ([{"pool": 2, "padding": 2}, *END], {}, "padding may be half of 2 pixels at most"),
        ([{"conv": "w", "size": 3}, *END], {"w": 4.5}, "conv: w is 4.5, and must be a whole number from 1 to 1,0"),
        ([{"conv": "w/9", "size": 3}, *END], {"w": 4}, "conv: w/9 is 0, and must be a whole number"),
        ([{"dropout": "2*p"}, *END], {"p": 0.5}, r"dropout: 2\*p is 1, and must be a number from 0 to less than 1"),
        ([{"conv": 3, "size": 3, "padding": "99*p"}, *END], {"p": 1}, "padding: .* is 99, and must be .* from 0 to 64"),
        ([{"conv": "features", "size": 3}, *END], {}, "conv: the name features is not known here"),
        ([{"squeeze_excite": 2}, *END], {}, r"layer 1 \(squeeze_excite: 2\) gets 1 channel of .* of at most 1$"),
        (["flatten", {"squeeze_excite": 2}, *END[1:]], {}, "layer 2 .*: it takes an image"),
        ([{"residual": ["relu", {"conv": 3, "size": 3}]}, *END], {}, r"1 \(residual with 2 .*make 3 .*26.* cannot be"),
        ([{"residual": ["flatten"]}, *END], {}, "make 784 numbers, which cannot be added to it; `flatten`"),
        ([{"residual": ["relu", {"pool": 30}]}, *END], {}, r"layer 1 \(res.*: layer 2 \(pool: 30.*: nothing is left"),
        ([{"conv": 3, "size": 2, "fixed": "gabor"}, *END], {}, "Gabor filters have a size of at least 3 pixels"),
        (["flatten", {"dense": 1_000_000}, *END], {}, "the layers have more than 500,000,000 weights"),
    ],
)  # fmt: skip
def test_what_is_no_network_names_layer_shape_and_reason(
    layers: list[Any], named: dict[str, float], words: str
) -> None:
    network = listed(*layers, **named)
    with pytest.raises(ValueError, match=words):
        network.shapes(1, 28)
    with pytest.raises(ValueError, match=words):
        make(network, 1, 28, 10)


def test_a_family_of_other_images_is_refused() -> None:
    for channels, side, words in ((3, 28, "in colour"), (1, 32, "32×32 and grey")):
        with pytest.raises(ValueError, match=f"family digit takes grey images of 28×28 pixels; these are .*{words}"):
            make(DigitNetwork(family="digit"), channels, side, 10)
    with pytest.raises(ValueError, match="more than 500,000,000 weights"):
        model_of(**{**FIRST, "filters": 1024, "filter_size": 32, "padding": "same"}).shapes(1, 28)


@pytest.mark.parametrize("word", ["same", "none", "gabor"])
@pytest.mark.parametrize("layer", [{"repeat": "", "layers": ["relu"]}, {"pool": ""}, {"dropout": ""}])
def test_a_key_s_word_is_no_number_elsewhere(layer: dict[str, Any], word: str) -> None:
    given = {key: word if value == "" else value for key, value in layer.items()}
    with pytest.raises(ValueError, match=f"must be a .*number.*{word}"):
        listed(given, *END)
