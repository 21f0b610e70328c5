"""What experiment files say of the search: an experiment of Task 2, and which of its keys are searched, how."""

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from trackdl.spec.base import Strict, Training
from trackdl.spec.fashion import FashionData, FashionSpec, Network

__all__ = ["Range", "SearchSpec", "StudySettings"]

Scalar = bool | int | float | str

# What all trials have in common, and why.
COMMON = {
    "training.epochs": "all trials are trained as long, or the pruner would compare unlike with unlike",
    "training.seed": "all trials have one seed; of several the luckiest would win",
}


class Range(Strict):
    """Numbers from `low` to `high`, both included; `log` searches their logarithm, `whole` takes integers only."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _runs_upwards(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("a range of whole numbers begins and ends with one")
        return self


class StudySettings(Strict):
    """How the study looks for better networks, and for how long.

    `objectives`: accuracy alone, or accuracy against training time, which is measured as processor seconds; of two
    objectives nothing is pruned. `pruner` halving (Li et al., 2020) looks at a trial after `min_epochs`, then each time
    it has been trained `reduction_factor` times as long, and goes on with the best of so many; hyperband (Li et al.,
    2018) does it by several such rules. The study ends after `trials`, or after `minutes`, whichever comes first.
    Networks of more than `max_multiply_adds` a picture are refused untrained: one would take the time of many.
    """

    objectives: Literal["accuracy", "accuracy and time"] = "accuracy"
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["halving", "hyperband", "none"] = "halving"
    min_epochs: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2, le=10)
    trials: int = Field(default=1000, ge=1, le=100_000)
    minutes: float | None = Field(default=None, gt=0, le=100_000)
    max_multiply_adds: int | None = Field(default=None, ge=1)


def _among(value: Scalar, choices: list[Scalar] | Range) -> bool:
    if isinstance(choices, list):
        return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and choices.low <= float(value) <= choices.high and (not choices.whole or float(value).is_integer())


class SearchSpec(Strict):
    """The search for a better Task 2 network.

    `data`, `model` and `training` are an experiment of `fashion`; each key of `space`, dotted, is one that trials set
    otherwise: to one of a list's values, or to a number of a range. `first` are trials to begin with, by their keys.
    `finalist` are keys that the best one is written down with, to be trained in full: more epochs, say; of them
    `model.mirrored` counts only for one that learns from mirrored pictures. The test pictures are not touched.
    """

    task: Literal["search"]
    data: FashionData
    model: Network
    training: Training
    space: dict[str, list[Scalar] | Range] = Field(min_length=1)
    first: list[dict[str, Scalar]] = Field(default_factory=list)
    finalist: dict[str, Scalar] = Field(default_factory=dict)
    study: StudySettings = StudySettings()

    @model_validator(mode="after")
    def _the_space_is_of_this_experiment(self) -> "SearchSpec":
        for key, values in self.space.items():
            if not key.startswith(("model.", "training.")):
                raise ValueError(f"space: {key}: searched keys are those of model and training, as model.filters")
            if key in COMMON:
                raise ValueError(f"space: {key}: {COMMON[key]}")
            for value in values if isinstance(values, list) else [values.low, values.high]:
                self._try(key, int(value) if isinstance(values, Range) and values.whole else value)
        for number, trial in enumerate(self.first, 1):
            if unknown := trial.keys() - self.space.keys():
                raise ValueError(f"first: trial {number} sets {', '.join(sorted(unknown))}, which is not searched")
            for key, value in trial.items():
                if not _among(value, self.space[key]):
                    raise ValueError(f"first: trial {number} sets {key} to {value}, which the space does not hold")
            self.experiment(trial)
        self.experiment(self.finalist)
        return self

    def refusal(self, values: dict[str, Scalar]) -> str | None:
        """Return why a trial is not to be trained, if it is not: nothing left to pool, say, or too large a network."""
        try:
            cost = self.experiment(values).model.multiply_adds
            self.in_full(values)
        except ValidationError as error:
            return f"impossible: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        limit = self.study.max_multiply_adds
        if limit is not None and cost > limit:
            return f"too large: {cost:,} multiply-adds a picture, the study allows {limit:,}"
        return None

    def in_full(self, values: dict[str, Scalar]) -> FashionSpec:
        """Return the experiment that a trial is written down as, to be trained in full: with the keys of `finalist`.

        Raises:
            ValidationError: The values do not go together.
        """
        full = self.experiment(values | self.finalist)
        if full.model.mirrored and not full.training.augmentation.flip:
            # It has not learnt from mirrored pictures: to ask it of them would spoil its answers.
            full = self.experiment(values | self.finalist | {"model.mirrored": False})
        return full

    def _try(self, key: str, value: Scalar) -> None:
        try:
            self.experiment({key: value})
        except ValidationError as error:
            # A value may be possible only beside others; a key or type that is wrong is so beside all.
            if any(problem["type"] != "value_error" for problem in error.errors()):
                raise ValueError(f"space: {key}: {value}: {error.errors()[0]['msg']}") from error

    def experiment(self, values: dict[str, Scalar]) -> FashionSpec:
        """Return the experiment of a trial: this one with some keys set otherwise.

        Raises:
            ValidationError: The values do not go together.
        """
        content: dict[str, Any] = {
            "task": "fashion",
            "data": self.data.model_dump(),
            "model": self.model.model_dump(),
            "training": self.training.model_dump(),
        }
        for key, value in values.items():
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section.setdefault(name, {})
            section[last] = value
        return FashionSpec.model_validate(content)

    @property
    def study_name(self) -> str:
        """The study's name: it follows from all that makes two trials comparable, and from the seed."""
        content = self.model_dump(mode="json")
        for key in ("trials", "minutes"):
            del content["study"][key]
        kind = "search" if self.study.objectives == "accuracy" else "search-time"
        return f"{kind}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"
