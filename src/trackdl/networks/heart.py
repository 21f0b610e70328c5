"""Task 4's networks: linear layers for rows of a table."""

from typing import Any

import torch
from torch import Tensor, nn


class HeartNet(nn.Module):
    """The report's Task 4 network for any widths: linear layers with ReLU in between, and one output.

    `layers` prints the way the report prints its networks.

    Args:
        hidden: The hidden layers' widths; the report's are [10] and [15, 20, 30, 40].
        inputs: The number of features of a row.
        dropout: The share of each hidden layer's nodes dropped while training.
        logits: Return logits; otherwise a sigmoid turns them into probabilities, as in the report.
    """

    def __init__(self, hidden: list[int], inputs: int = 11, dropout: float = 0.0, *, logits: bool = False) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"hidden": hidden, "inputs": inputs, "dropout": dropout, "logits": logits}
        self.logits = logits
        layers: list[nn.Module] = []
        for before, width in zip([inputs, *hidden], hidden, strict=False):
            layers += [nn.Linear(before, width), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear([inputs, *hidden][-1], 1))
        self.layers = nn.Sequential(*layers) if logits else nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or probabilities, float [n, 1], of rows, float [n, inputs]."""
        outputs: Tensor = self.layers(x)
        return outputs


class HeartNets(nn.Module):
    """An ensemble of `HeartNet`s: its probability is the mean of its members'.

    Args:
        members: How many; the other arguments apply to each member.
    """

    def __init__(
        self, members: int, hidden: list[int], inputs: int = 11, dropout: float = 0.0, *, logits: bool = False
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(HeartNet(hidden, inputs, dropout, logits=logits) for _ in range(members))
        self.logits = logits
        self.arguments: dict[str, Any] = {
            "members": members,
            "hidden": hidden,
            "inputs": inputs,
            "dropout": dropout,
            "logits": logits,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of heart disease, float [n], of rows, float [n, inputs]."""
        outputs = torch.cat([member(x) for member in self.members], dim=1)
        return (outputs.sigmoid() if self.logits else outputs).mean(dim=1)
