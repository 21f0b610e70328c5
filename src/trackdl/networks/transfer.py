"""Prepare a network for transfer: freeze its weights and replace its head."""

import torch
from torch import nn

from trackdl.networks.digit import DigitNet


def freeze(model: nn.Module) -> None:
    """Freeze all weights: they get no gradient, and optimisers leave them out."""
    model.requires_grad_(False)


def replace_head(model: DigitNet, classes: int) -> None:
    """Replace `fc2` by a new, trainable layer from 50 to `classes` (report, Task 3); torch's seed determines it."""
    fresh = nn.Linear(model.fc2.in_features, classes)
    model.fc2 = fresh.to(device=model.fc2.weight.device, dtype=torch.float32)
