"""Networks of torchvision: with random weights, or with those of a file."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import mobilenet_v3_small, resnet18

from trackdl.errors import InputError
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
        ("m.safetensors", {}, "not the weights of resnet18: missing, unknown or of another shape are .* more"),
        ("broken.safetensors", {}, "the weights cannot be read"),
    ],
)
@pytest.mark.usefixtures("weights")
def test_another_file_is_refused(tmp_path: Path, name: str, keys: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(from_file(tmp_path, name, **keys), 3, 32, 4)
    with pytest.raises(InputError, match=r"none\.safetensors: the weights cannot be read: .*No such file"):
        make(stated(weights="none.safetensors", sha256="a" * 64), 3, 32, 4)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"torchvision": "resnet19"}, "resnet19 is not one of alexnet, .* wide_resnet50_2"),
        ({"torchvision": "inception_v3"}, "inception_v3 is not one of"),
        ({"torchvision": "squeezenet1_1"}, "the head of squeezenet1_1 is no linear layer"),
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
