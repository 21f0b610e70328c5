"""The report's faults, repeated on purpose to show what they do; nothing else uses them.

Two are Task 4's, which its 48 % is made of. The third is Task 2's: why all 288 fits of its grid search failed.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid, StratifiedKFold
from torch import Tensor, nn

__all__ = ["StaleLayers", "argmax_over_one_column", "broadcast_mse", "failed_fits"]

BATCH = 32  # the report's estimator's
SIDE = 28


def broadcast_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of every output with every target of the batch, not with its own.

    A target of shape [n] is broadcast against an output of shape [n, 1] to n × n pairs, so each output is pulled to
    the batch's mean target.

    Args:
        outputs: float [n, 1].
        targets: float [n].
    """
    with warnings.catch_warnings():
        # torch warns of exactly this fault; the report's notebook shows the warning too.
        warnings.filterwarnings("ignore", "Using a target size", UserWarning)
        return F.mse_loss(outputs, targets)


def argmax_over_one_column(outputs: Tensor) -> Tensor:
    """Return the place of the largest of one output, int64 [n]: always 0, whatever the network says."""
    return outputs.argmax(dim=1)


class StaleLayers(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The report's `NetEstimator`, as far as its fault reaches: its layers are built once, by the constructor.

    scikit-learn's search clones an estimator and then calls `set_params`, which changes these numbers and leaves the
    layers as they were. The forward pass takes both: the layers that were built, and how many of them and for how many
    filters the numbers say. The defaults are those of the estimator that the report searched.

    Args:
        conv_layers: How many convolutions.
        filter_size: Their filters' side, pixels.
        filters: How many filters each has.
        dense_nodes: Nodes of the hidden linear layer; no fit came so far.
        dropout: The share of those nodes dropped; no fit came so far.
        pool_size: The pooling's side and stride, pixels.
        activation: Its name in `torch.nn.functional`.
    """

    def __init__(
        self,
        conv_layers: int = 3,
        filter_size: int = 3,
        filters: int = 64,
        dense_nodes: int = 64,
        dropout: float = 0.1,
        pool_size: int = 3,
        activation: str = "relu",
    ) -> None:
        self.conv_layers = conv_layers
        self.filter_size = filter_size
        self.filters = filters
        self.dense_nodes = dense_nodes
        self.dropout = dropout
        self.pool_size = pool_size
        self.activation = activation
        channels = [1, *[filters] * conv_layers]
        self.convs = [nn.Conv2d(channels[i], channels[i + 1], filter_size) for i in range(conv_layers)]
        self.pool = nn.MaxPool2d(pool_size)

    def fit(self, images: Tensor) -> "StaleLayers":
        """Take the first batch of images, float [n, 1, 28, 28], up to the dense layers, which fails or not.

        Raises:
            RuntimeError: A layer does not fit what it is given.
        """
        batch = images[:BATCH]
        for layer in range(self.conv_layers):
            batch = self.pool(getattr(F, self.activation)(self.convs[layer](batch)))
        batch.view(-1, self.filters * 5 * 5)
        return self


def failed_fits(space: Mapping[str, Sequence[Any]], folds: int) -> dict[str, dict[str, int]]:
    """Repeat the report's grid search with its estimator, as `GridSearchCV` goes about it, on made-up images.

    Args:
        space: The values of `StaleLayers`' arguments.
        folds: How many; every configuration is fitted in each.

    Returns:
        For each group of configurations how many of its fits ended with which error.
    """
    # Only shapes matter; twice a batch, so that a batch is full whatever fold is left out.
    images, labels = torch.zeros(2 * BATCH, 1, SIDE, SIDE), np.arange(2 * BATCH) % 2
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in ParameterGrid(dict(space)):
        layers, filters = cell["conv_layers"], cell["filters"]
        group = f"{layers} layers" if layers > 2 else f"{layers} layers of {filters} filters"
        for rows, _ in StratifiedKFold(folds).split(labels, labels):
            try:
                clone(StaleLayers()).set_params(**cell).fit(images[rows])
            except Exception as error:  # whatever it is, as GridSearchCV does
                found[group][str(error)] += 1
    return {group: dict(messages) for group, messages in found.items()}
