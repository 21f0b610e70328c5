"""The optimiser, the training loss and the learning rate schedule of an experiment's training section."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trackdl.spec.base import SETTINGS, Optimizer, Schedule, StepSchedule, Training

Loss = Callable[[Tensor, Tensor], Tensor]

WARM_UP = 0.25  # the share of a one-cycle training during which the learning rate rises
FIRST = 0.04  # the first learning rate of a one-cycle training, relative to its highest; as torch's OneCycleLR


def rate(schedule: Schedule, progress: float, epochs: int) -> float:
    """Return the factor by which a step's learning rate differs from the settings' learning rate.

    A function rather than torch's schedulers: those have state that checkpoints would have to hold, and that would be
    wrong for a training that is resumed with more epochs.

    Args:
        schedule: "constant": always 1. "cosine": from 1 to 0 along half a cosine (Loshchilov and Hutter, 2017).
            "one_cycle": linearly from 1/25 to 1 over the first quarter, then as "cosine" (after Smith and Topin, 2018,
            but with constant momentum). A `StepSchedule` as torch's StepLR and MultiStepLR, stepped after each epoch.
        progress: The fraction of all steps already taken, 0 to 1.
        epochs: Of the whole training.
    """
    if isinstance(schedule, StepSchedule):
        done = math.floor(progress * epochs + 1e-9)  # whole epochs, of a fraction that is rounded
        times = done // schedule.every if schedule.every else sum(epoch <= done for epoch in schedule.at)
        return float(schedule.factor**times)
    if schedule == "constant":
        return 1.0
    if schedule == "one_cycle":
        if progress < WARM_UP:
            return FIRST + (1 - FIRST) * progress / WARM_UP
        progress = (progress - WARM_UP) / (1 - WARM_UP)
    return (1 + math.cos(math.pi * progress)) / 2


def smoothed(loss: Loss, share: float) -> Loss:
    """Return the loss with label smoothing: `share` of each target is spread over all classes (Szegedy et al., 2016).

    Cross-entropy leaves log-probabilities unchanged, so it serves for both classification losses.

    Raises:
        ValueError: `loss` is neither `F.cross_entropy` nor `F.nll_loss`.
    """
    if loss not in (F.cross_entropy, F.nll_loss):
        raise ValueError("label_smoothing: the loss must be F.cross_entropy or F.nll_loss")
    return lambda outputs, targets: F.cross_entropy(outputs, targets, label_smoothing=share)


_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adadelta": torch.optim.Adadelta,
    "adagrad": torch.optim.Adagrad,
}
_FUSED = {"sgd", "adam", "adamw"}  # torch has a faster step of these


def make_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Return an optimiser of the model's trainable weights."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if settings.weight_decay:
        # Biases and the weights of batch norm are vectors; they do not overfit, and decay does not apply to them.
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
    taken = SETTINGS[settings.name] - {"weight_decay", "l2"}
    given: dict[str, Any] = {key: value for key, value in settings if key in taken and value is not None}
    if settings.name in _FUSED:
        given["fused"] = True
    return _OPTIMIZERS[settings.name](groups, lr=settings.lr, weight_decay=settings.l2, **given)


def loss_of(settings: Training, model: nn.Module) -> Loss:
    """Return the mean loss that a classifier is trained by; some networks return log-probabilities, not logits."""
    if settings.loss == "squared_error":
        return squared_error
    return F.nll_loss if getattr(model, "log_probabilities", False) else F.cross_entropy


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over examples and classes of the squared difference of probability and target.

    Args:
        outputs: Logits or log-probabilities, float [n, classes].
        targets: The right classes, int64 [n].
    """
    return F.mse_loss(outputs.softmax(dim=1), F.one_hot(targets, outputs.shape[1]).to(outputs.dtype))
