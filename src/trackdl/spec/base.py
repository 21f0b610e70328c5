"""Sections that several kinds of experiment file share."""

import csv
import re
from functools import cache, cached_property
from typing import Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from trackdl.errors import InputError
from trackdl.system.paths import project_root

Schedule = Literal["constant", "one_cycle", "cosine"]
Unit = Literal["fraction", "nats", "squared error", "rank", "count"]
Comparable = Literal["same protocol", "protocol unknown in part", "not measured in the report"]

# Every number that the report's notebooks print: task, notebook cell, epoch, what, of, value. For a count, `of` is the
# total; for a batch's loss, it is how many of the epoch's examples the network had seen before that batch.
PRINTED = "experiments/report_printed.csv"


def like(pattern: str, what: str) -> AfterValidator:
    """Return a validator that matches a string against `pattern`; its message describes the pattern as `what`."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {what}")
        return text

    return AfterValidator(check)


def added(default: Any, **constraints: Any) -> Any:
    """Return the field of a key that was added to its section after the first experiments had run.

    At its default the key is left out of resolved files, parameters and digests, so older experiments keep theirs.
    """
    return Field(default, exclude_if=lambda value: value == default, **constraints)


class Strict(BaseModel):
    """A section of an experiment file: unknown keys, wrong types, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Optimizer(Strict):
    """The optimiser and its settings; everything else is torch's default.

    `weight_decay` shrinks every weight except biases and those of batch norm: for SGD as part of the gradient, for
    AdamW decoupled from it. `nesterov` makes SGD's momentum Nesterov's.
    """

    name: Literal["sgd", "adam", "adamw"]
    lr: float = Field(gt=0, le=100)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = added(0.0, ge=0, le=10)
    nesterov: bool = added(False)

    @model_validator(mode="after")
    def _settings_fit_the_optimiser(self) -> "Optimizer":
        if self.name != "sgd" and self.momentum:
            raise ValueError(f"momentum is a setting of sgd; {self.name} has none")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs sgd with a momentum")
        if self.name == "adam" and self.weight_decay:
            raise ValueError("weight_decay is a setting of sgd and adamw; adam would scale it by the gradients")
        return self


class Augmentation(Strict):
    """Random changes to each training image, drawn again each time it is used; see `training.augmentation`."""

    flip: bool = False
    shift: int = Field(default=0, ge=0, le=8)
    cutout: int = Field(default=0, ge=0, le=20)


class Training(Strict):
    """How a network is trained.

    `shuffle` draws a new order of the examples each epoch; without it they keep the data set's order. `device: auto`
    prefers CUDA, then MPS, then the CPU; `precision: auto` is bfloat16 where the hardware supports it, else float32.
    The run records both choices. `schedule` changes the learning rate over the `epochs` (see `training.optim`).
    `label_smoothing` spreads this share of each training target evenly over all classes.
    """

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=1_000_000)
    optimizer: Optimizer
    seed: int = Field(ge=0, lt=2**63)
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    schedule: Schedule = added("constant")
    label_smoothing: float = added(0.0, ge=0, lt=1)
    augmentation: Augmentation = added(Augmentation())


def _unit_of(item: dict[str, Any]) -> Unit:
    return "fraction" if str(item.get("metric")).endswith("accuracy") else "nats"


class _Claim(Strict):
    """How far a printed number can be compared with ours.

    `unknown` names what the report omits from the protocol behind this number; if empty, the file's own `unknown`
    applies. `comparable` is needed only for a number that the report has not measured at all. If the number is not what
    the report says it is, `fault` says what it really is. Where the report shows several trainings of one kind,
    `series` names the training; empty means the main one, which the task prints next to its own.
    """

    comparable: Literal["not measured in the report"] | None = None
    unknown: str = ""
    fault: str = ""
    series: str = ""

    def protocol(self, of_all: str = "") -> tuple[Comparable, str]:
        """Return how far the number can be compared with ours, and what is unknown about its protocol, if anything.

        Args:
            of_all: What is unknown about the protocol of every number in the file.
        """
        if self.comparable:
            return self.comparable, ""
        unknown = self.unknown or of_all
        return ("protocol unknown in part" if unknown else "same protocol"), unknown


class Reported(_Claim):
    """One number that the report prints, and where.

    `metric` is the metric of ours that it corresponds to, whatever the report calls it.
    """

    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    value: float
    quote: str = Field(min_length=1)
    unit: Unit = Field(default_factory=_unit_of)


class Printed(_Claim):
    """Numbers that one cell of the report's notebook prints: the rows of `PRINTED` with this `cell` and `what`.

    `metric` is the metric of ours that they correspond to. `epoch` applies to rows that name none.
    """

    cell: int = Field(ge=1)
    what: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    unit: Unit = Field(default_factory=_unit_of)

    def numbers(self, task: str) -> list[Reported]:
        """Return the numbers one by one, each quoting its cell.

        Raises:
            InputError: The table has no such rows.
        """
        how = {key: getattr(self, key) for key in ("metric", "unit", "comparable", "unknown", "fault", "series")}
        found = []
        for row in self.rows(task):
            value, words = _value(row)
            epoch = int(row["epoch"]) if row["epoch"] else self.epoch
            place = f"notebook cell {self.cell}" + (f", epoch {row['epoch']}" if row["epoch"] else "")
            found.append(Reported(epoch=epoch, value=value, quote=f"{place}: {words}", **how))
        return found

    def rows(self, task: str) -> list[dict[str, str]]:
        """Return the table's rows for this cell.

        Raises:
            InputError: There are none.
        """
        rows = [row for row in _table() if (row["task"], row["cell"], row["what"]) == (task, str(self.cell), self.what)]
        if not rows:
            raise InputError(f"{PRINTED}: no row of task {task}, cell {self.cell}, what {self.what}")
        return rows


class Curve(Printed):
    """A curve of batch losses that one cell prints; it is judged as a whole, not point by point."""

    def points(self, task: str) -> list[tuple[int, int, float]]:
        """Return its points: the epoch, how many of its examples were seen before the batch, and the loss.

        Raises:
            InputError: The table has no such rows.
        """
        return [(int(row["epoch"]), int(row["of"]), float(row["value"])) for row in self.rows(task)]


@cache
def _table() -> list[dict[str, str]]:
    path = project_root() / PRINTED
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: the report's printed numbers cannot be read: {error.strerror}") from error


def _value(row: dict[str, str]) -> tuple[float, str]:
    """Return a row's number in our unit, and as it was printed."""
    value, what = row["value"], row["what"].replace("_", " ")
    if row["what"] == "right":
        return float(value) / float(row["of"]), f"{value} of {row['of']} right"
    if row["what"].endswith("percent"):
        return float(value) / 100, f"{what.removesuffix('percent')}accuracy {value} %"
    return float(value), f"{what} {value}"


class TrainedSpec(Strict):
    """What every experiment that trains a network has.

    `unknown` names what the report omits from the protocol behind all of its numbers. `reported` are numbers from its
    text, or numbers that need an explanation; `printed` and `curves` come from its notebooks.
    """

    task: str
    training: Training
    unknown: str = ""
    reported: list[Reported] = []
    printed: list[Printed] = []
    curves: list[Curve] = []

    def nth(self, number: int) -> Self:
        """Return the experiment for another training: `number` is added to the file's seeds."""
        content = self.model_dump()
        for section, key in (("training", "seed"), ("data", "split_seed")):
            if key in content.get(section, {}):
                content[section][key] += number
        return self.model_validate(content)

    @cached_property
    def numbers(self) -> list[Reported]:
        """All numbers that the report prints for this task and that are judged one by one.

        Raises:
            InputError: `printed` names rows that the table does not have.
        """
        return [*(number for item in self.printed for number in item.numbers(self.task)), *self.reported]
