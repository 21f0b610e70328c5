"""The report's two faults of Task 4, repeated on purpose: they are what its 48 % is made of. Nothing else uses them."""

import warnings

import torch.nn.functional as F
from torch import Tensor

__all__ = ["argmax_over_one_column", "broadcast_mse"]


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
