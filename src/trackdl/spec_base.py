"""The sections that experiment files have in common."""

import re
from typing import Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

__all__ = [
    "Augmentation",
    "Comparable",
    "Optimizer",
    "Reported",
    "Schedule",
    "Strict",
    "TrainedSpec",
    "Training",
    "Unit",
    "like",
]

Schedule = Literal["constant", "one_cycle", "cosine"]
Unit = Literal["fraction", "nats", "squared error", "rank", "count"]
Comparable = Literal["same protocol", "protocol unknown in part", "not measured in the report"]


def like(pattern: str, what: str) -> AfterValidator:
    """Return a check of a text by a regular expression, whose message says in words what it must be."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {what}")
        return text

    return AfterValidator(check)


class Strict(BaseModel):
    """A section of an experiment file: unknown keys, wrong types, NaN and infinity are errors.

    `later` names the keys that a section got after its first experiments: at their defaults they are left out of
    resolved files, parameters and digests, so that an experiment that does without them stays the one it was.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _leave_out_what_is_later_and_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        unset = {key for key in self.later if getattr(self, key) == type(self).model_fields[key].get_default()}
        return {key: value for key, value in content.items() if key not in unset}


class Optimizer(Strict):
    """The optimiser and its settings; everything not named here is torch's default.

    `weight_decay` draws all weights but biases and batch norms' towards zero: SGD's as part of the gradient, AdamW's
    apart from it. `nesterov` is SGD's momentum, looking ahead.
    """

    later: ClassVar[frozenset[str]] = frozenset({"weight_decay", "nesterov"})

    name: Literal["sgd", "adam", "adamw"]
    lr: float = Field(gt=0, le=100)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    nesterov: bool = False

    @model_validator(mode="after")
    def _settings_fit_the_optimiser(self) -> "Optimizer":
        if self.name != "sgd" and self.momentum:
            raise ValueError(f"momentum belongs to sgd; {self.name} has none")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs sgd with a momentum")
        if self.name == "adam" and self.weight_decay:
            raise ValueError("weight_decay belongs to sgd and adamw; adam would scale it by the gradients")
        return self


class Augmentation(Strict):
    """How each training picture is changed, anew whenever it is seen; `augmentation.augment` says how."""

    flip: bool = False
    shift: int = Field(default=0, ge=0, le=8)
    cutout: int = Field(default=0, ge=0, le=20)


class Training(Strict):
    """How a network is trained.

    `shuffle` draws the examples in a new order each epoch, else they come as they lie. `device` auto takes CUDA, then
    MPS, then the CPU; `precision` auto takes bfloat16 where the processor computes in it, else float32. Both choices
    are recorded with the run. `schedule` moves the learning rate over the `epochs`: `recipes.rate` says how.
    `label_smoothing` gives this share of a training target to all classes alike.
    """

    later: ClassVar[frozenset[str]] = frozenset({"schedule", "label_smoothing", "augmentation"})

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=1_000_000)
    optimizer: Optimizer
    seed: int = Field(ge=0, lt=2**63)
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Schedule = "constant"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: Augmentation = Augmentation()


def _unit_of(item: dict[str, Any]) -> Unit:
    return "fraction" if str(item.get("metric")).endswith("accuracy") else "nats"


class Reported(Strict):
    """One number that the report prints, and where.

    `metric` is what we measured, whatever the report calls it. `comparable` says how far our measurement is the
    report's; where it is left out, the file's `unknown` decides. `fault` tells, where the number is not what the report
    says it is, what it is. `series` names the training where the report shows several of one kind; empty is the main
    one, the one that a task prints beside its own.
    """

    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    value: float
    quote: str = Field(min_length=1)
    unit: Unit = Field(default_factory=_unit_of)
    comparable: Comparable | None = None
    unknown: str = ""
    fault: str = ""
    series: str = ""

    @model_validator(mode="after")
    def _what_is_unknown_is_said(self) -> "Reported":
        if (self.comparable == "protocol unknown in part") != bool(self.unknown):
            raise ValueError("comparable 'protocol unknown in part' and the key unknown, which says what, go together")
        return self


class TrainedSpec(Strict):
    """What every experiment that trains a network says.

    `unknown` says what the report leaves out of the protocol, where that concerns all of its numbers.
    """

    task: str
    training: Training
    unknown: str = ""
    reported: list[Reported] = []

    def protocol_of(self, item: Reported) -> tuple[Comparable, str]:
        """Return how far a published number can be compared with ours, and what stands against it, if anything."""
        if item.comparable is not None:
            return item.comparable, item.unknown
        return ("protocol unknown in part", self.unknown) if self.unknown else ("same protocol", "")
