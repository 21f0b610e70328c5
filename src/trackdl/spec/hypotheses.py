"""The schema of the report's hypotheses: each one's quote, and what it predicts about the grid."""

from typing import Any, Literal

from pydantic import Field, model_validator

from trackdl.spec.base import Strict, added
from trackdl.spec.keys import Scalar


class Hypothesis(Strict):
    """One hypothesis of the report, made precise: the effect of a larger value of its dimension, all else equal.

    The report rarely predicts numbers, so the claim and the predictions are our reading of the quote. The verdict is on
    `accuracy`; the findings on `overfitting` and `time` are reported next to it.

    Attributes:
        dimension: A key of the grid's space, or its short name.
        quote: The report's words.
        claim: The same in ours.
        accuracy: On held-out images. `differs`: it depends on the value, in no given direction; `{best: VALUE}`: this
            value beats the others, or, of numbers, its neighbours.
        best: Is given as `accuracy: {best: VALUE}`.
        overfitting: Validation loss minus training loss at the last epoch.
        time: Training time.
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
