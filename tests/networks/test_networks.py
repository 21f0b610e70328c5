from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from support.nets import fashion_net, model_of
from trackdl.networks.build import build, count_parameters
from trackdl.networks.digit import DigitNet
from trackdl.networks.fashion import ACTIVATIONS, NOT_MONOTONE, FashionNet
from trackdl.networks.head import freeze, replace_head
from trackdl.networks.layers import LayerNet
from trackdl.spec.network import Activation, Padding


def test_digitnet_is_the_reports_net() -> None:
    network = DigitNet()
    assert count_parameters(network) == 21_840
    printed = [line.strip() for line in str(network).splitlines()]
    # The report's own print of it, Task 3, before the head is replaced.
    assert printed[1:-1] == [
        "(conv1): Conv2d(1, 10, kernel_size=(5, 5), stride=(1, 1))",
        "(conv2): Conv2d(10, 20, kernel_size=(5, 5), stride=(1, 1))",
        "(conv2_drop): Dropout2d(p=0.5, inplace=False)",
        "(fc1): Linear(in_features=320, out_features=50, bias=True)",
        "(fc2): Linear(in_features=50, out_features=10, bias=True)",
    ]
    assert [tuple(p.shape) for p in network.state_dict().values()] == [
        (10, 1, 5, 5), (10,), (20, 10, 5, 5), (20,), (50, 320), (50,), (10, 50), (10,),
    ]  # fmt: skip


def test_digitnet_answers_log_probabilities() -> None:
    out = DigitNet().eval()(torch.randn(3, 1, 28, 28))
    assert torch.allclose(out.exp().sum(dim=1), torch.ones(3))


def test_digitnet_in_training_drops_and_in_evaluation_does_not() -> None:
    network, x = DigitNet(), torch.randn(4, 1, 28, 28)
    network.train()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_memory_format_changes_no_result() -> None:
    network, x = DigitNet().eval(), torch.randn(5, 1, 28, 28)
    expected = network(x)
    assert torch.allclose(network.to(memory_format=torch.channels_last)(x), expected, atol=1e-5)


def test_a_frozen_network_with_a_new_head_trains_the_head_alone() -> None:
    network = DigitNet()
    freeze(network)
    replace_head(network, 3)
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["fc2.weight", "fc2.bias"]
    assert count_parameters(network, trainable=True) == 50 * 3 + 3
    assert "(fc2): Linear(in_features=50, out_features=3, bias=True)" in str(network)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.keys() - NOT_MONOTONE))
@given(seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_pooling_before_the_activation_gives_the_usual_order(activation: str, seed: int) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    act = ACTIVATIONS[activation]()
    assert torch.allclose(act(F.max_pool2d(x, 2)), F.max_pool2d(act(x), 2))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("pool_size", [2, 3])
def test_fashionnet_is_convolution_activation_pooling_for_every_activation(activation: str, pool_size: int) -> None:
    torch.manual_seed(0)
    network = fashion_net(filters=4, dense_nodes=8, pool_size=pool_size, activation=activation).eval()
    act = ACTIVATIONS[activation]()
    x = pictures = 3 * torch.randn(5, 1, 28, 28)
    for conv in network.convs:
        x = F.max_pool2d(act(conv(x)), pool_size)
    assert torch.allclose(network(pictures), network.output(act(network.dense(x.flatten(1)))), atol=1e-5)


def test_the_specs_activations_are_the_networks() -> None:
    assert set(get_args(Activation)) == set(ACTIVATIONS) > NOT_MONOTONE


def test_the_reports_first_network_has_the_inputs_that_its_errors_name() -> None:
    first = fashion_net(padding="none")
    assert first.dense.in_features == 400
    assert count_parameters(first) == 55_098
    assert fashion_net(padding="none", filters=32).dense.in_features == 800


def by_torch(layers: int, pool: int, size: int, side: int, padding: str) -> bool:
    """Return whether torch itself can pass a picture of `side` through these layers."""
    x = torch.zeros(1, 1, side, side)
    try:
        for _ in range(layers):
            x = F.max_pool2d(
                F.conv2d(x, torch.zeros(1, 1, size, size), padding="same" if padding == "same" else 0), pool
            )
    except RuntimeError:
        return False
    return True


@given(
    layers=st.integers(1, 4),
    pool=st.sampled_from([2, 3]),
    size=st.sampled_from([3, 5, 7]),
    side=st.integers(1, 60),
    padding=st.sampled_from(["none", "same"]),
)
@settings(max_examples=80, deadline=None)
def test_shapes_follow_from_the_input_or_the_reason_is_told(
    layers: int, pool: int, size: int, side: int, padding: Padding
) -> None:
    arguments = {"conv_layers": layers, "pool_size": pool, "filter_size": size, "filters": 2, "dense_nodes": 3}
    arguments["padding"] = padding
    if not by_torch(layers, pool, size, side, padding):
        with pytest.raises(ValueError, match=r"layer . of .: \d+×\d+ pixels are left, (pooling|a filter .*) takes"):
            fashion_net(side, **arguments)
    else:
        assert fashion_net(side, **arguments)(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_convolutions_between_poolings_and_their_widths() -> None:
    network = fashion_net(
        conv_layers=5, filters=4, dense_nodes=0, batch_norm=True, widths="double", convs_per_pool=2, pool_early=True
    )
    assert network.pooled == [True, False, True, False, True]
    assert [conv.out_channels for conv in network.convs] == [4, 8, 8, 16, 16]
    assert all(conv.bias is None for conv in network.convs)
    assert network.output.in_features == 16 * 3 * 3
    assert fashion_net(conv_layers=4, filters=4, convs_per_pool=2).pooled == [False, True, False, True]
    assert [
        conv.out_channels for conv in fashion_net(conv_layers=4, filters=4, convs_per_pool=2, widths="double").convs
    ] == [
        4,
        4,
        8,
        8,
    ]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("average", [True, False])
def test_a_wider_network_is_what_its_arguments_say(activation: str, average: bool) -> None:
    torch.manual_seed(0)
    network = fashion_net(
        conv_layers=3,
        filters=4,
        dense_nodes=0,
        activation=activation,
        batch_norm=True,
        convs_per_pool=2,
        average=average,
    )
    with torch.no_grad():
        for _ in range(3):
            network(3 * torch.randn(8, 1, 28, 28))  # statistics that are not those of the beginning
    network.eval()
    act = ACTIVATIONS[activation]()
    pictures = torch.randn(5, 1, 28, 28)
    pool = nn.MaxPool2d(2)
    one, two, three = zip(network.convs, network.norms, strict=True)
    x = act(one[1](one[0](pictures)))
    x = pool(act(two[1](two[0](x)))) if activation in NOT_MONOTONE else act(two[1](pool(two[0](x))))
    x = act(three[1](three[0](x)))
    x = x.mean(dim=(2, 3)) if average else x.flatten(1)
    assert torch.allclose(network(pictures), network.output(x), atol=1e-5)


def test_mirrored_answers_the_mean_of_both_sides_in_evaluation_alone() -> None:
    torch.manual_seed(0)
    plain, x = fashion_net(filters=4, dense_nodes=8, dropout=0.0), torch.randn(6, 1, 28, 28)
    both = build("FashionNet", plain.arguments | {"mirrored": True})
    both.load_state_dict(plain.state_dict())
    assert torch.equal(both.train()(x), plain.train()(x))
    both.eval(), plain.eval()
    assert torch.allclose(both(x), (plain(x) + plain(x.flip(3))) / 2)
    assert torch.allclose(both(x), both(x.flip(3)), atol=1e-6)


def test_arguments_of_older_models_build_the_same_network() -> None:
    older = (
        "conv_layers",
        "filter_size",
        "filters",
        "dense_nodes",
        "dropout",
        "pool_size",
        "activation",
        "classes",
        "side",
    )
    network = fashion_net()
    again = build("FashionNet", {name: network.arguments[name] for name in older})
    assert list(again.state_dict()) == [
        f"{layer}.{part}" for layer in ("convs.0", "convs.1", "dense", "output") for part in ("weight", "bias")
    ]
    again.load_state_dict(network.state_dict())


def test_every_cell_of_the_reports_grid_can_be_built_and_rebuilt() -> None:
    for activation in ACTIVATIONS:
        for size in (3, 5):
            for layers in (2, 3):
                network = fashion_net(conv_layers=layers, filter_size=size, activation=activation)
                assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
                assert str(build("FashionNet", network.arguments)) == str(network)


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(ValueError, match="layer 4 of 4: 1×1 pixels are left, pooling takes 3"):
        fashion_net(conv_layers=4, pool_size=3)
    with pytest.raises(ValueError, match="activation"):
        fashion_net(activation="swish")


@pytest.mark.parametrize("activation", ["relu", "gelu"])  # pooled before and after it
@pytest.mark.parametrize("dense_nodes", [0, 8])
@pytest.mark.parametrize("after", ["dense", "convolutions"])
def test_dropout_stands_where_the_list_of_layers_has_it(after: str, dense_nodes: int, activation: str) -> None:
    model = model_of(filters=4, dense_nodes=dense_nodes, activation=activation, dropout=0.5, dropout_after=after)
    network, listed = FashionNet(model), LayerNet(model.as_layers(), 1, 28, 10)
    for own, other in zip(network.parameters(), listed.parameters(), strict=True):
        other.data = own.data.clone()
    x = torch.randn(6, 1, 28, 28)
    for training in (False, True):
        outputs = []
        for one in (network.train(training), listed.train(training)):
            torch.manual_seed(5)
            outputs.append(one(x))
        assert torch.allclose(*outputs, atol=1e-5)
    kinds = [layer.kind for layer in model.steps(1, 28, 10)]
    assert kinds.count("dropout") == (2 if after == "convolutions" else 1)
    assert kinds.index("dropout") < kinds.index("flatten") or after == "dense"


def test_dropout_follows_the_dense_layer_unless_it_is_told_otherwise() -> None:
    plain, said = model_of(), model_of(dropout_after="dense")
    assert plain == said
    assert "dropout_after" not in plain.model_dump()  # older experiments keep their digests
    x, outputs = torch.randn(4, 1, 28, 28), []
    for model in (plain, model_of(dropout_after="convolutions")):
        torch.manual_seed(3)
        outputs.append(FashionNet(model).train()(x))
    assert not torch.allclose(*outputs)
