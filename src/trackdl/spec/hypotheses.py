"""The schema of the report's hypotheses: each one's quote, and what it predicts about the grid."""

from typing import Literal

from pydantic import Field

from trackdl.spec.base import Strict

DimensionName = Literal["conv_layers", "filter_size", "filters", "dense_nodes", "dropout", "pool_size", "activation"]


class Hypothesis(Strict):
    """One hypothesis of the report, made precise: the effect of a larger value of its dimension, all else equal.

    The report rarely predicts numbers, so `claim`, in our words, and the predictions are our reading of `quote`.
    `accuracy` is measured on held-out images; `differs` means that it depends on the value, in no given direction.
    `overfitting` is validation loss minus training loss at the last epoch; `time` is training time. The verdict is on
    `accuracy`; the findings on the other two are reported next to it.
    """

    dimension: DimensionName
    quote: str = Field(min_length=1)
    claim: str = Field(min_length=1)
    accuracy: Literal["higher", "lower", "differs", "none"]
    overfitting: Literal["more", "less", "not said"] = "not said"
    time: Literal["longer", "shorter", "not said"] = "not said"
