"""The schema of the search's experiment file: an experiment, which of its keys are searched, and how."""

import hashlib
import json
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from trackdl.spec.base import Named, Strict
from trackdl.spec.classify import CLASSES, SIDE, ClassifySpec
from trackdl.spec.keys import Scalar, among, reason, try_value, with_keys
from trackdl.spec.network import ConvNetwork, TorchvisionNetwork

# Keys that must be the same in all trials, and why.
COMMON = {
    "training.epochs": "all trials have the same length, or the pruner would compare what cannot be compared",
    "training.seed": "all trials have the same seed, or the luckiest would win",
}


class Range(Strict):
    """Numbers from `low` to `high`.

    Attributes:
        low: The least number, included.
        high: The greatest number, included.
        log: Search on a logarithmic scale.
        whole: Whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @model_validator(mode="after")
    def _runs_upwards(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be less than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range must start above 0")
        if self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("a range of whole numbers must start and end with a whole number")
        return self


class StudySettings(Strict):
    """How the study looks for better networks, and for how long.

    The study ends after `trials` trials or `minutes` minutes, whichever comes first.

    Attributes:
        objectives: Accuracy alone, or accuracy and training time in processor seconds; with two nothing is pruned.
        sampler: How new trials are chosen.
        pruner: `halving` (Li et al., 2020) checks a trial after `min_epochs`, then whenever it has been trained
            `reduction_factor` times as long, and keeps the best one in `reduction_factor`; `hyperband` (Li et al.,
            2018) runs several such schedules.
        min_epochs: The first check.
        reduction_factor: One in this many trials passes each check.
        trials: The most trials.
        minutes: The most minutes.
        max_multiply_adds: Networks that need more per image are rejected untrained: one would take the time of many.
    """

    objectives: Literal["accuracy", "accuracy and time"] = "accuracy"
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["halving", "hyperband", "none"] = "halving"
    min_epochs: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=3, ge=2, le=10)
    trials: int = Field(default=1000, ge=1, le=100_000)
    minutes: float | None = Field(default=None, gt=0, le=100_000)
    max_multiply_adds: int | None = Field(default=None, ge=1)


def _in_space(value: Scalar, choices: list[Scalar] | Range) -> bool:
    if isinstance(choices, list):
        return among(value, choices)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and choices.low <= float(value) <= choices.high and (not choices.whole or float(value).is_integer())


class SearchSpec(Named):
    """The search for a better network than an experiment's.

    Trials are judged on the validation split; the test images are never used.

    Attributes:
        experiment: The experiment whose keys are searched. A file may give its name instead, as `of: NAME`, and beside
            it `set: {KEY: VALUE}`, keys of the experiment with the values that they have in the whole search.
        space: The dotted keys that are searched: each over a list of values, or over a range of numbers.
        first: Trials to start with, by these keys.
        finalist: Keys of the best trial's experiment for its full training: more epochs, for example.
            `network.mirrored` only applies to a network that was trained on mirrored images.
        study: How it is searched, and for how long.
    """

    task: Literal["search"]
    experiment: ClassifySpec
    space: dict[str, list[Scalar] | Range] = Field(min_length=1)
    first: list[dict[str, Scalar]] = Field(default_factory=list)
    finalist: dict[str, Scalar] = Field(default_factory=dict)
    study: StudySettings = StudySettings()

    @model_validator(mode="after")
    def _the_space_is_of_this_experiment(self) -> "SearchSpec":
        if not self.experiment.data.validation:
            raise ValueError("experiment: a search needs data.validation, the share of images that judges trials")
        for key, values in self.space.items():
            if not key.startswith(("network.", "training.")):
                raise ValueError(
                    f"space: {key}: only keys of network and training can be searched, e.g. network.filters"
                )
            if key in COMMON:
                raise ValueError(f"space: {key}: {COMMON[key]}")
            for value in values if isinstance(values, list) else [values.low, values.high]:
                try:
                    try_value(self.experiment, key, int(value) if isinstance(values, Range) and values.whole else value)
                except ValueError as error:
                    raise ValueError(f"space: {error}") from error
        for number, trial in enumerate(self.first, 1):
            if unknown := trial.keys() - self.space.keys():
                raise ValueError(f"first: trial {number} sets {', '.join(sorted(unknown))}; the space lacks it")
            for key, value in trial.items():
                if not _in_space(value, self.space[key]):
                    raise ValueError(f"first: trial {number} sets {key} to {value}, which is not in the space")
            self.of_trial(trial)
        self.of_trial(self.finalist)
        if self.study.max_multiply_adds is not None and isinstance(self.experiment.network, TorchvisionNetwork):
            raise ValueError("study.max_multiply_adds: those of torchvision's networks are not counted; leave it out")
        return self

    def refusal(self, values: dict[str, Scalar]) -> str | None:
        """Return why a trial must not be trained, e.g. an impossible or too large network; None if it may be."""
        try:
            trial, data = self.of_trial(values), self.experiment.data
            cost = trial.network.multiply_adds(data.channels, data.side or SIDE, data.class_count or CLASSES)
            self.in_full(values)
        except ValidationError as error:
            return f"impossible: {reason(error)}"
        limit = self.study.max_multiply_adds
        if limit is not None and cost > limit:
            return f"too large: {cost:,} multiply-adds per image, the study allows {limit:,}"
        return None

    def in_full(self, values: dict[str, Scalar]) -> ClassifySpec:
        """Return the experiment that trains a trial in full: with the keys of `finalist`.

        Raises:
            ValidationError: The values are not compatible.
        """
        full = self.of_trial(values | self.finalist)
        if isinstance(full.network, ConvNetwork) and full.network.mirrored and not full.training.augmentation.flip:
            # It was not trained on mirrored images, so averaging over them would make its predictions worse.
            full = self.of_trial(values | self.finalist | {"network.mirrored": False})
        return full

    def of_trial(self, values: dict[str, Scalar]) -> ClassifySpec:
        """Return the experiment of a trial: with these keys.

        Raises:
            ValidationError: The values are not compatible.
        """
        return with_keys(self.experiment, values)

    @property
    def study_name(self) -> str:
        """The study's name: a digest of the report, the seed and everything that makes two trials comparable."""
        from trackdl.spec.files import report  # which reads searches

        content = self.model_dump(mode="json") | {"report": report().slug}
        for key in ("trials", "minutes"):
            del content["study"][key]
        kind = "search" if self.study.objectives == "accuracy" else "search-time"
        return f"{kind}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"
