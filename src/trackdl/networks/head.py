"""Prepare a network for transfer: freeze weights and replace the head, the last linear layer."""

from typing import Literal

import torch
from torch import nn

Frozen = Literal["body", "convolutions", "nothing"]


def freeze(model: nn.Module, frozen: Frozen = "body") -> None:
    """Freeze weights: they get no gradient, and optimisers leave them out.

    Args:
        model: The network.
        frozen: "body": all layers but the head, which is then replaced; "convolutions": the convolutions alone, with
            the batch norms between them; or "nothing".
    """
    for layer in model.modules():
        if frozen == "body" or (frozen == "convolutions" and isinstance(layer, nn.Conv2d | nn.BatchNorm2d)):
            layer.requires_grad_(False)


def replace_head(model: nn.Module, classes: int) -> None:
    """Replace the last linear layer by a new, trainable one with `classes` outputs; torch's seed determines it."""
    name, head = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    fresh = nn.Linear(head.in_features, classes, bias=head.bias is not None).to(
        device=head.weight.device, dtype=torch.float32
    )
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, fresh)
    if isinstance(model.arguments, dict):
        model.arguments["classes"] = classes


def set_dropout_of_maps(model: nn.Module, share: float) -> None:
    """Set the share of whole channels that the network's Dropout2d layers drop."""
    for layer in model.modules():
        if isinstance(layer, nn.Dropout2d):
            layer.p = share
