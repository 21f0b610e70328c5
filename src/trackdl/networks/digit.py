"""The report's MNIST network (Task 1)."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class DigitNet(nn.Module):
    """The report's `Net` (Task 1): two 5×5 convolutions, two linear layers, 21,840 parameters for ten classes.

    The submodules have the report's names, so that its printed network and saved weights match. As in the report,
    pooling comes before ReLU; ReLU is monotone, so the result is the same as in the usual order, for a quarter of the
    work.

    Args:
        classes: The number of classes.
    """

    log_probabilities = True  # what `forward` returns; other networks return logits
    drops_without_layer = True  # `forward` drops hidden nodes by a function

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, classes)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that build this network again."""
        return {"classes": self.fc2.out_features}

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities, float [n, classes], of images, float [n, 1, 28, 28], normalised as MNIST."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        # Flattens in NCHW order in any memory format, so that fc1's weights mean the same everywhere.
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)
