"""The report's faults, reproduced on purpose to show their effects.

Two are Task 4's and explain its accuracy of 48 %. The third is Task 2's: all 288 fits of its grid search failed.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid, StratifiedKFold
from torch import Tensor, nn

BATCH = 32  # the batch size of the report's estimator
SIDE = 28


def broadcast_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error over all pairs of an output and a target of the batch.

    Targets [n] are broadcast against outputs [n, 1] to n × n pairs, which pulls each output to the batch's mean target.

    Args:
        outputs: float [n, 1].
        targets: float [n].
    """
    with warnings.catch_warnings():
        # torch warns of exactly this fault, as the report's notebook shows.
        warnings.filterwarnings("ignore", "Using a target size", UserWarning)
        return F.mse_loss(outputs, targets)


def argmax_over_one_column(outputs: Tensor) -> Tensor:
    """Return the argmax over a single output, int64 [n]: always 0."""
    return outputs.argmax(dim=1)


@dataclass(eq=False, repr=False)
class StaleLayers(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The faulty part of the report's `NetEstimator`: only the constructor builds its layers.

    scikit-learn's search clones an estimator and then calls `set_params`, which changes the parameters but not the
    layers, and the forward pass uses both. The defaults are those of the estimator that the report searched.

    Attributes:
        conv_layers: Number of convolutions.
        filter_size: Side of their filters, pixels.
        filters: Number of filters of each.
        dense_nodes: Width of the hidden linear layer, which no fit reached.
        dropout: Share of its nodes dropped.
        pool_size: Side and stride of the pooling, pixels.
        activation: Its name in `torch.nn.functional`.
    """

    conv_layers: int = 3
    filter_size: int = 3
    filters: int = 64
    dense_nodes: int = 64
    dropout: float = 0.1
    pool_size: int = 3
    activation: str = "relu"

    def __post_init__(self) -> None:
        channels = [1, *[self.filters] * self.conv_layers]
        self.convs = [nn.Conv2d(*pair, self.filter_size) for pair in pairwise(channels)]
        self.pool = nn.MaxPool2d(self.pool_size)

    def fit(self, images: Tensor) -> "StaleLayers":
        """Pass the first batch of images, float [n, 1, 28, 28], through the layers before the dense ones.

        Raises:
            RuntimeError: A layer does not fit its input.
        """
        batch = images[:BATCH]
        for layer in range(self.conv_layers):
            batch = self.pool(getattr(F, self.activation)(self.convs[layer](batch)))
        batch.view(-1, self.filters * 5 * 5)
        return self


def failed_fits(space: Mapping[str, Sequence[Any]], folds: int) -> dict[str, dict[str, int]]:
    """Repeat the report's grid search with its estimator on blank images, as `GridSearchCV` does.

    Args:
        space: The values of `StaleLayers`' arguments.
        folds: Number of folds in which every configuration is fitted.

    Returns:
        The number of failed fits by group of configurations and error message.
    """
    # Only shapes matter. With two batches of images the first batch is full, whichever fold is left out.
    images, labels = torch.zeros(2 * BATCH, 1, SIDE, SIDE), np.arange(2 * BATCH) % 2
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in ParameterGrid(dict(space)):
        layers, filters = cell["conv_layers"], cell["filters"]
        group = f"{layers} layers" if layers > 2 else f"{layers} layers of {filters} filters"
        for rows, _ in StratifiedKFold(folds).split(labels, labels):
            try:
                clone(StaleLayers()).set_params(**cell).fit(images[rows])
            except Exception as error:  # GridSearchCV catches all errors too
                found[group][str(error)] += 1
    return {group: dict(messages) for group, messages in found.items()}
