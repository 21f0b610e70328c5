"""The sections that experiment files have in common."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Optimizer", "Reported", "Strict", "TrainedSpec", "Training"]


class Strict(BaseModel):
    """A section of an experiment file: unknown keys, wrong types, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Optimizer(Strict):
    """The optimiser and its settings; everything not named here is torch's default."""

    name: Literal["sgd", "adam"]
    lr: float = Field(gt=0, le=100)
    momentum: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> "Optimizer":
        if self.name == "adam" and self.momentum:
            raise ValueError("momentum belongs to sgd; adam has none")
        return self


class Training(Strict):
    """How a network is trained.

    `shuffle` draws the examples in a new order each epoch, else they come as they lie. `device` auto takes CUDA, then
    MPS, then the CPU; `precision` auto takes bfloat16 where the processor computes in it, else float32. Both choices
    are recorded with the run.
    """

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=1_000_000)
    optimizer: Optimizer
    seed: int = Field(ge=0, lt=2**63)
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Reported(Strict):
    """One number that the report prints, and where."""

    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    value: float
    quote: str = Field(min_length=1)


class TrainedSpec(Strict):
    """What every experiment that trains a network says."""

    training: Training
    reported: list[Reported] = []
