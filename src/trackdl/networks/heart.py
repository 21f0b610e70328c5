"""Networks of a table's rows: linear layers."""

from typing import Any

import torch
from torch import Tensor, nn

from trackdl.networks.fashion import ACTIVATIONS


class HeartNet(nn.Module):
    """Linear layers of any widths with an activation in between; the project's report's Task 4 network by default.

    `layers` prints the way reports print their networks.

    Args:
        hidden: The hidden layers' widths.
        inputs: The number of features of a row.
        dropout: The share of each hidden layer's nodes dropped while training.
        logits: Return logits; otherwise a sigmoid turns a single output into a probability.
        activation: Its name in `ACTIVATIONS`.
        outputs: One, or one for each class, which are always logits.
    """

    def __init__(
        self,
        hidden: list[int],
        inputs: int = 11,
        dropout: float = 0.0,
        *,
        logits: bool = False,
        activation: str = "relu",
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.logits = logits or outputs > 1
        layers: list[nn.Module] = []
        for before, width in zip([inputs, *hidden], hidden, strict=False):
            layers += [nn.Linear(before, width), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear([inputs, *hidden][-1], outputs))
        self.layers = nn.Sequential(*layers) if self.logits else nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or probabilities, float [n, outputs], of rows, float [n, inputs]."""
        outputs: Tensor = self.layers(x)
        return outputs


class HeartNets(nn.Module):
    """An ensemble of `HeartNet`s: its probabilities are the means of its members'.

    Args:
        members: How many.
        network: The arguments of each `HeartNet`.
    """

    def __init__(self, members: int, hidden: list[int], inputs: int = 11, dropout: float = 0.0, **network: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(HeartNet(hidden, inputs, dropout, **network) for _ in range(members))
        self.logits, self.outputs = bool(network.get("logits")), int(network.get("outputs", 1))
        sizes = {"members": members, "hidden": hidden, "inputs": inputs, "dropout": dropout}
        self.arguments: dict[str, Any] = {**sizes, "logits": False, **network}

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of the second of two classes, float [n], or of each of more, float [n, classes]."""
        if self.outputs > 1:
            each = torch.stack([member(x).softmax(dim=1) for member in self.members]).mean(dim=0)
            return each if self.outputs > 2 else each[:, 1]
        outputs = torch.cat([member(x) for member in self.members], dim=1)
        return (outputs.sigmoid() if self.logits else outputs).mean(dim=1)
