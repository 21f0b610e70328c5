"""The schema of the report's hypotheses: each one's quote, and what it predicts about the grid."""

from typing import Any, Literal

from pydantic import Field, model_validator

from trackdl.spec.base import Strict, added
from trackdl.spec.keys import Scalar


class Hypothesis(Strict):
    """One hypothesis of the report, made precise: the effect of a larger value of its dimension, all else equal.

    The report rarely predicts numbers, so `claim`, in our words, and the predictions are our reading of `quote`.
    `accuracy` is measured on held-out images; `differs` means that it depends on the value, in no given direction, and
    `{best: VALUE}` that this value beats the others, or, of numbers, its neighbours. `overfitting` is validation loss
    minus training loss at the last epoch; `time` is training time. The verdict is on `accuracy`; the findings on the
    other two are reported next to it. `dimension` is a key of the grid's space, or its short name.
    """

    dimension: str = Field(min_length=1)
    quote: str = Field(min_length=1)
    claim: str = Field(min_length=1)
    accuracy: Literal["higher", "lower", "differs", "none", "best"]
    best: Scalar = added(None)
    overfitting: Literal["more", "less", "not said"] = "not said"
    time: Literal["longer", "shorter", "not said"] = "not said"

    @model_validator(mode="before")
    @classmethod
    def _best_is_a_value(cls, content: Any) -> Any:
        if isinstance(content, dict) and isinstance(content.get("accuracy"), dict):
            if list(content["accuracy"]) != ["best"]:
                raise ValueError("accuracy must be higher, lower, differs, none, or {best: VALUE}")
            return content | {"accuracy": "best", **content["accuracy"]}
        return content

    @model_validator(mode="after")
    def _best_has_a_value(self) -> "Hypothesis":
        if (self.accuracy == "best") == (self.best is None):
            raise ValueError("accuracy: the best value is given as {best: VALUE}")
        return self
