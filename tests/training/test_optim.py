import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trackdl.spec import Optimizer
from trackdl.training.optim import make_optimizer, rate, smoothed


@given(st.floats(0, 1))
def test_rates_stay_between_nothing_and_the_whole(progress: float) -> None:
    assert rate("constant", progress) == 1
    for schedule in ("one_cycle", "cosine"):
        assert 0 <= rate(schedule, progress) <= 1


def test_a_cosine_falls_and_one_cycle_rises_first() -> None:
    steps = [i / 40 for i in range(41)]
    cosine, cycle = [rate("cosine", s) for s in steps], [rate("one_cycle", s) for s in steps]
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1
    assert cosine[20] == pytest.approx(0.5)
    top = cycle.index(1)
    assert steps[top] == 0.25
    assert cycle[: top + 1] == sorted(cycle[: top + 1])
    assert cycle[top:] == sorted(cycle[top:], reverse=True)
    assert cycle[0] == pytest.approx(1 / 25)
    assert cosine[-1] == cycle[-1] == 0


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss], ids=["logits", "log-probabilities"])
def test_smoothed_labels_are_a_share_of_every_class(loss: object) -> None:
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).log_softmax(1)
    targets = torch.tensor([0, 1, 2, 3, 0])
    soft = 0.8 * F.one_hot(targets, 4) + 0.2 / 4
    assert torch.allclose(smoothed(loss, 0.2)(outputs, targets), -(soft * outputs).sum(1).mean())


def test_labels_of_no_classes_cannot_be_smoothed() -> None:
    with pytest.raises(ValueError, match="label_smoothing: the loss must be"):
        smoothed(F.mse_loss, 0.1)


@pytest.mark.parametrize(
    ("keys", "left"),
    # SGD's decay goes through the momentum: Nesterov's first step counts 1 + 0.9 of it.
    [({"name": "sgd", "momentum": 0.9, "nesterov": True}, 1 - 0.5 * 0.1 * 1.9), ({"name": "adamw"}, 1 - 0.5 * 0.1)],
    ids=["sgd", "adamw"],
)
def test_decay_leaves_biases_and_norms_alone(keys: dict[str, object], left: float) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    optimizer = make_optimizer(network, Optimizer(lr=0.5, weight_decay=0.1, **keys))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        shrunk = before[name] * left if parameter.ndim > 1 else before[name]
        assert torch.allclose(parameter, shrunk), name
