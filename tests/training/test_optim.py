import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.optim import lr_scheduler

from trackdl.networks.digit import DigitNet
from trackdl.spec import Optimizer, Training
from trackdl.spec.base import StepSchedule
from trackdl.training.optim import loss_of, make_optimizer, rate, smoothed


@given(st.floats(0, 1))
def test_rates_stay_between_nothing_and_the_whole(progress: float) -> None:
    assert rate("constant", progress, 7) == 1
    for schedule in ("one_cycle", "cosine"):
        assert 0 <= rate(schedule, progress, 7) <= 1


def test_a_cosine_falls_and_one_cycle_rises_first() -> None:
    steps = [i / 40 for i in range(41)]
    cosine, cycle = [rate("cosine", s, 7) for s in steps], [rate("one_cycle", s, 7) for s in steps]
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1
    assert cosine[20] == pytest.approx(0.5)
    top = cycle.index(1)
    assert steps[top] == 0.25
    assert cycle[: top + 1] == sorted(cycle[: top + 1])
    assert cycle[top:] == sorted(cycle[top:], reverse=True)
    assert cycle[0] == pytest.approx(1 / 25)
    assert cosine[-1] == cycle[-1] == 0


@pytest.mark.parametrize(
    ("schedule", "plain"),
    [
        (StepSchedule(every=1, factor=0.7), partial(lr_scheduler.StepLR, step_size=1, gamma=0.7)),
        (StepSchedule(every=3, factor=0.5), partial(lr_scheduler.StepLR, step_size=3, gamma=0.5)),
        (StepSchedule(at=[2, 5], factor=0.1), partial(lr_scheduler.MultiStepLR, milestones=[2, 5], gamma=0.1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("batches", [1, 7, 469])
def test_steps_are_torchs(schedule: StepSchedule, plain: Callable[..., Any], batches: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = plain(optimizer)
    for epoch in range(9):
        for batch in range(batches):
            ours = rate(schedule, (epoch + batch / batches) / 9, 9)
            assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("keys", [{}, {"every": 2, "at": [3]}, {"every": 0}, {"at": [0]}])
def test_a_schedule_of_steps_says_when(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"give every|greater than or equal to 1"):
        StepSchedule(factor=0.5, **keys)


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


LIST = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("keys", "plain"),
    [
        ({"name": "sgd"}, partial(torch.optim.SGD, lr=0.01)),
        (
            {"name": "sgd", "momentum": 0.9, "dampening": 0.3, "l2": 0.1},
            partial(torch.optim.SGD, lr=0.01, momentum=0.9, dampening=0.3, weight_decay=0.1),
        ),
        (
            {"name": "sgd", "momentum": 0.9, "nesterov": True},
            partial(torch.optim.SGD, lr=0.01, momentum=0.9, nesterov=True),
        ),
        ({"name": "adam"}, partial(torch.optim.Adam, lr=0.01)),
        (
            {"name": "adam", "betas": [0.8, 0.95], "eps": 1e-3, "amsgrad": True, "l2": 0.1},
            partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.95), eps=1e-3, amsgrad=True, weight_decay=0.1),
        ),
        ({"name": "adamw"}, partial(torch.optim.AdamW, lr=0.01, weight_decay=0)),
        ({"name": "adamw", "betas": [0.0, 0.9]}, partial(torch.optim.AdamW, lr=0.01, betas=(0.0, 0.9), weight_decay=0)),
        ({"name": "rmsprop"}, partial(torch.optim.RMSprop, lr=0.01)),
        (
            {"name": "rmsprop", "momentum": 0.5, "alpha": 0.9, "eps": 1e-4, "l2": 0.1},
            partial(torch.optim.RMSprop, lr=0.01, momentum=0.5, alpha=0.9, eps=1e-4, weight_decay=0.1),
        ),
        ({"name": "rmsprop", "alpha": 0.0}, partial(torch.optim.RMSprop, lr=0.01, alpha=0.0)),
        ({"name": "adadelta"}, partial(torch.optim.Adadelta, lr=0.01)),
        (
            {"name": "adadelta", "rho": 0.5, "l2": 0.1},
            partial(torch.optim.Adadelta, lr=0.01, rho=0.5, weight_decay=0.1),
        ),
        ({"name": "adagrad", "eps": 1e-4}, partial(torch.optim.Adagrad, lr=0.01, eps=1e-4)),
    ],
    ids=str,
)
def test_each_optimiser_is_the_plain_one(keys: dict[str, Any], plain: Callable[..., torch.optim.Optimizer]) -> None:
    """Ten steps on the same batches end in the same weights, biases and norms included."""
    stated = Optimizer(lr=0.01, **keys)
    ends = []
    for make in (lambda network: plain(network.parameters()), lambda network: make_optimizer(network, stated)):
        network = copy.deepcopy(LIST)
        optimizer = make(network)
        random = torch.Generator().manual_seed(1)
        for _ in range(10):
            x, y = torch.randn(6, 1, 4, 4, generator=random), torch.randint(3, (6,), generator=random)
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
        ends.append([p.detach() for p in network.parameters()])
    for theirs, ours in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "adam", "momentum": 0.9}, "momentum is a setting of sgd and rmsprop; adam has none"),
        ({"name": "sgd", "betas": [0.9, 0.99]}, "betas is a setting of adam and adamw; sgd has none"),
        ({"name": "sgd", "alpha": 0.9}, "alpha is a setting of rmsprop; sgd has none"),
        ({"name": "adamw", "l2": 0.1}, "l2 is a setting of sgd, adam, rmsprop, adadelta and adagrad; adamw has none"),
        ({"name": "adam", "weight_decay": 0.1}, "adam has none; its L2 penalty is `l2`"),
        ({"name": "rmsprop", "nesterov": True}, "nesterov is a setting of sgd; rmsprop has none"),
        ({"name": "adam", "alpha": 0.0}, "alpha is a setting of rmsprop; adam has none"),
        ({"name": "sgd", "nesterov": True}, "nesterov needs sgd with a momentum"),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True, "dampening": 0.1}, "nesterov needs .* no dampening"),
        ({"name": "sgd", "weight_decay": 0.1, "l2": 0.1}, "weight_decay and l2 both shrink the weights: give one"),
        ({"name": "adam", "betas": [0.9]}, "betas"),
        ({"name": "adam", "betas": [0.9, 1.0]}, "betas.*\n.*less than 1"),
        ({"name": "adam", "eps": 0.0}, "eps"),
    ],
)
def test_settings_that_an_optimiser_has_not_are_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Optimizer(lr=0.1, **keys)


@pytest.mark.parametrize("made", [nn.Linear(3, 4), DigitNet(4)], ids=["logits", "log-probabilities"])
def test_squared_error_is_of_probabilities_and_targets(made: nn.Module) -> None:
    settings = Training(epochs=1, batch_size=2, optimizer=Optimizer(name="sgd", lr=0.1), seed=1, loss="squared_error")
    outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0, 1, 2, 3, 0])
    expected = ((outputs.softmax(1) - torch.eye(4)[targets]) ** 2).mean()
    loss = loss_of(settings, made)
    assert torch.allclose(loss(outputs, targets), expected)
    assert torch.allclose(loss(outputs.log_softmax(1), targets), expected)


def test_the_usual_loss_is_the_networks() -> None:
    settings = Training(epochs=1, batch_size=2, optimizer=Optimizer(name="sgd", lr=0.1), seed=1)
    outputs, targets = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    assert loss_of(settings, nn.Linear(3, 4))(outputs, targets) == F.cross_entropy(outputs, targets)
    said = outputs.log_softmax(1)
    assert loss_of(settings, DigitNet(4))(said, targets) == F.nll_loss(said, targets)


def test_squared_error_takes_no_smoothing() -> None:
    with pytest.raises(ValidationError, match="label_smoothing needs the loss cross_entropy"):
        Training(
            epochs=1,
            batch_size=2,
            optimizer=Optimizer(name="sgd", lr=0.1),
            seed=1,
            loss="squared_error",
            label_smoothing=0.1,
        )
