"""What an experiment file says of the report's hypotheses: each one's quote, and what it predicts of the grid."""

from typing import Literal

from pydantic import Field

from trackdl.spec.base import Strict

__all__ = ["DimensionName", "Hypothesis"]

DimensionName = Literal["conv_layers", "filter_size", "filters", "dense_nodes", "dropout", "pool_size", "activation"]


class Hypothesis(Strict):
    """One hypothesis of the report, made precise: what a larger value of its dimension does, all else equal.

    The report speaks of abilities and hardly of numbers, so `claim`, in our words, and the predictions are our reading
    of `quote`. `accuracy` is that on held-out pictures; `differs` says that it is not the same for all values, without
    a direction. `overfitting` is the gap of validation loss over training loss at the last epoch; `time` is that of
    training. The verdict is on `accuracy`; what was found of the other two is told beside it.
    """

    dimension: DimensionName
    quote: str = Field(min_length=1)
    claim: str = Field(min_length=1)
    accuracy: Literal["higher", "lower", "differs", "none"]
    overfitting: Literal["more", "less", "not said"] = "not said"
    time: Literal["longer", "shorter", "not said"] = "not said"
