"""Networks of torchvision: with random weights, or with those of a file."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models import mobilenet_v3_small, resnet18

from trackdl.errors import InputError
from trackdl.networks import pretrained
from trackdl.networks.build import arguments_of, build, make
from trackdl.networks.head import freeze, replace_head
from trackdl.spec.network import TorchvisionNetwork


def stated(**keys: Any) -> TorchvisionNetwork:
    return TorchvisionNetwork.model_validate({"torchvision": "resnet18", **keys})


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Write a file of a thousand classes without batch norm's counts, as torchvision's older ones are."""
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    torch.manual_seed(5)
    state = {name: one for name, one in resnet18().state_dict().items() if "num_batches" not in name}
    save_file(state, tmp_path / "r.safetensors")
    save_file(mobilenet_v3_small(num_classes=2).state_dict(), tmp_path / "m.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    return state


def from_file(folder: Path, name: str, **keys: Any) -> TorchvisionNetwork:
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return stated(**{"weights": name, "sha256": digest, **keys})


def test_a_file_gives_all_weights_but_the_heads(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = make(from_file(tmp_path, "r.safetensors"), 1, 32, 4)
    own = net.body.state_dict()
    assert {name for name in weights if not torch.equal(own[name], weights[name])} == {"fc.weight", "fc.bias"}
    assert net.training
    grey = torch.rand(2, 1, 32, 32)
    assert net.eval()(grey).shape == (2, 4)
    assert torch.equal(net(grey), net.body(torch.cat([grey] * 3, dim=1)))
    other = build("TorchvisionNet", arguments_of(net))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(grey), net(grey))
    freeze(other)
    replace_head(other, 7)
    assert [name for name, one in other.named_parameters() if one.requires_grad] == ["body.fc.weight", "body.fc.bias"]
    assert build("TorchvisionNet", arguments_of(other))(grey).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("r.safetensors", {"sha256": "a" * 64}, "its SHA-256 is .*, and network.sha256 is aaaa.*: another file"),
        ("m.safetensors", {}, "not the weights of resnet18: missing, unknown or of another shape or type are .* more"),
        ("broken.safetensors", {}, "the weights cannot be read"),
    ],
)
@pytest.mark.usefixtures("weights")
def test_another_file_is_refused(tmp_path: Path, name: str, keys: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(from_file(tmp_path, name, **keys), 3, 32, 4)
    with pytest.raises(InputError, match=r"none\.safetensors: cannot be read: it is not there"):
        make(stated(weights="none.safetensors", sha256="a" * 64), 3, 32, 4)


@pytest.mark.parametrize("spoil", [lambda one: one * torch.nan, lambda one: one.to(torch.complex64)])
def test_weights_that_are_no_finite_numbers_are_refused(
    weights: dict[str, Tensor], tmp_path: Path, spoil: Callable[[Tensor], Tensor]
) -> None:
    save_file({**weights, "bn1.weight": spoil(weights["bn1.weight"])}, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match=r"odd\.safetensors: not all weights are finite numbers: bn1\.weight"):
        make(from_file(tmp_path, "odd.safetensors"), 3, 32, 4)


# One of each kind that is offered and small.
OFFERED = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "vit_b_32",
]


@pytest.mark.parametrize("name", OFFERED)
def test_what_is_offered_has_no_buffers_that_an_average_would_spoil(name: str) -> None:
    net = models.get_model(name, weights=None, num_classes=2)
    assert not name.startswith(pretrained._NOT_OFFERED)
    kept = {"running_mean", "running_var", "num_batches_tracked"}
    assert {buffer.rpartition(".")[2] for buffer, _ in net.named_buffers()} <= kept
    assert any(isinstance(layer, nn.Linear) for layer in net.modules())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"torchvision": "mnasnet1_0"}, "mnasnet1_0 is not offered"),
        ({"torchvision": "swin_t"}, "swin_t is not offered"),
        ({"torchvision": "resnet19"}, "resnet19 is not offered; did you mean 'resnet18'\\? there are alexnet"),
        ({"torchvision": "inception_v3"}, "inception_v3 is not offered"),
        ({"torchvision": "squeezenet1_1"}, "squeezenet1_1 is not offered"),
        ({"torchvision": "alexnet"}, "alexnet cannot take images of 32×32 pixels: .*"),
        ({"torchvision": "ResNet"}, "must be a network's name in torchvision, e.g. resnet18"),
        (
            {"weights": "net.pth", "sha256": "a" * 64},
            r"net.pth is not .*, which may run code. Convert it: python -c .*'net",
        ),
        ({"weights": "net.safetensors"}, "weights and sha256, .*, belong together"),
        ({"weights": "net.safetensors", "sha256": "A"}, "must be 64 digits from 0 to f"),
    ],
)
def test_what_is_no_network_is_refused(keys: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(stated(**keys), 1, 32, 4)
