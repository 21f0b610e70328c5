"""What transfer does to a network: its weights frozen, and a new head."""

import torch
from torch import nn

from trackdl.networks.digit import DigitNet

__all__ = ["freeze", "replace_head"]


def freeze(model: nn.Module) -> None:
    """Keep all weights as they are: none gets a gradient, and optimisers leave them out."""
    model.requires_grad_(False)


def replace_head(model: DigitNet, classes: int) -> None:
    """Put a fresh, trainable `fc2` of 50→`classes` in place (report, Task 3), initialised from torch's current seed."""
    fresh = nn.Linear(model.fc2.in_features, classes)
    model.fc2 = fresh.to(device=model.fc2.weight.device, dtype=torch.float32)
