"""Prepare a network for transfer: freeze its weights and replace its head."""

import torch
from torch import nn

from trackdl.networks.digit import DigitNet


def freeze(model: nn.Module) -> None:
    """Freeze all weights: they get no gradient, and optimisers leave them out."""
    model.requires_grad_(False)


def replace_head(model: DigitNet, classes: int) -> None:
    """Replace `fc2` by a new, trainable one of 50→`classes` (report, Task 3), initialised from torch's current seed."""
    fresh = nn.Linear(model.fc2.in_features, classes)
    model.fc2 = fresh.to(device=model.fc2.weight.device, dtype=torch.float32)
