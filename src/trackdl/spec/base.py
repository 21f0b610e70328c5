"""Sections that several kinds of experiment file share."""

import csv
import re
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from trackdl.errors import InputError
from trackdl.system.paths import report_root

# Units of published numbers; seconds are shown and never judged. Older files call the unit of a loss nats.
Unit = Annotated[
    Literal["fraction", "loss", "squared error", "rank", "count", "f1", "seconds"],
    BeforeValidator(lambda unit: "loss" if unit == "nats" else unit),
]
Comparable = Literal["same protocol", "protocol unknown in part", "not measured in the report"]

# Every number that the report's notebooks print: task, notebook cell, epoch, what, of, value. For a count, `of` is the
# total; for a batch's loss, it is how many of the epoch's examples the network had seen before that batch.
PRINTED = "report_printed.csv"  # in the report's folder


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


class Named(Strict):
    """What every experiment file has.

    Attributes:
        task: The kind of task.
        name: What the experiment is called in commands, tags and the ledger; by default the file's name.
        title: What people read, e.g. "Task 1, MNIST"; by default the name.
    """

    task: str
    name: Annotated[str, like(r"[a-z0-9][a-z0-9_-]{0,63}", "lower-case letters, digits, _ and -, at most 64")] = Field(
        default_factory=lambda given: str(given.get("task", "experiment"))
    )
    title: str = added("")

    @property
    def label(self) -> str:
        """What people read."""
        return self.title or self.name


# The optimisers, each with the settings that it takes besides `lr`.
SETTINGS = {
    "sgd": {"momentum", "nesterov", "dampening", "weight_decay", "l2"},
    "adam": {"betas", "eps", "amsgrad", "l2"},
    "adamw": {"betas", "eps", "amsgrad", "weight_decay"},
    "rmsprop": {"momentum", "alpha", "eps", "l2"},
    "adadelta": {"rho", "eps", "l2"},
    "adagrad": {"eps", "l2"},
}


class Optimizer(Strict):
    """The optimiser and its settings; everything else is torch's default.

    Attributes:
        name: The optimiser.
        lr: The learning rate.
        momentum: Of SGD and RMSprop.
        nesterov: Whether SGD's momentum is Nesterov's.
        dampening: Of SGD's momentum.
        betas: Adam's and AdamW's decay rates of the two moments; torch's are 0.9 and 0.999.
        alpha: RMSprop's decay rate; torch's is 0.99.
        rho: Adadelta's decay rate; torch's is 0.9.
        eps: Added to the denominator; torch's is 1e-8, Adadelta's 1e-6, Adagrad's 1e-10.
        amsgrad: Whether Adam and AdamW keep the largest second moment.
        weight_decay: Shrinks every weight except biases and those of batch norm: for SGD as part of the gradient, for
            AdamW decoupled from it.
        l2: The L2 penalty that torch's optimisers except AdamW call weight_decay: `l2` times each parameter, biases
            included, is added to its gradient.
    """

    name: Literal["sgd", "adam", "adamw", "rmsprop", "adadelta", "adagrad"]
    lr: float = Field(gt=0, le=100)
    momentum: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = added(0.0, ge=0, le=10)
    nesterov: bool = added(False)
    dampening: float = added(0.0, ge=0, le=1)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = added(None, min_length=2, max_length=2)
    alpha: float | None = added(None, ge=0, lt=1)
    rho: float | None = added(None, ge=0, lt=1)
    eps: float | None = added(None, gt=0, le=1)
    amsgrad: bool = added(False)
    l2: float = added(0.0, ge=0, le=10)

    @model_validator(mode="after")
    def _settings_fit_the_optimiser(self) -> "Optimizer":
        for key, value in self:
            usual = type(self).model_fields[key].default
            if key not in ("name", "lr", *SETTINGS[self.name]) and value != usual:
                *most, last = (name for name, settings in SETTINGS.items() if key in settings)
                others = " and ".join(filter(None, (", ".join(most), last)))
                hint = "; its L2 penalty is `l2`" if key == "weight_decay" else ""
                raise ValueError(f"{key} is a setting of {others}; {self.name} has none{hint}")
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov needs sgd with a momentum and no dampening")
        if self.weight_decay and self.l2:
            raise ValueError("weight_decay and l2 both shrink the weights: give one")
        return self


class Augmentation(Strict):
    """Random changes to each training image, drawn again each time it is used.

    Attributes:
        flip: Mirror half of the images, left to right.
        shift: Move the image by up to this many pixels, across and down.
        cutout: Blank a square with a side of this many pixels.
        mixup: Mix each image and its target with another of the batch, in shares drawn from Beta(mixup, mixup)
            (Zhang et al., 2018); 0.2 is usual. The training accuracy then counts the target with the larger share.
        rotate: Turn the image by up to this many degrees, either way.
        scale: Enlarge or shrink the image by up to this share of its size.
        stroke: Thicken or thin all strokes by a pixel in this share of the images.
        elastic: Displace the image's parts like a rubber sheet, by this many pixels (the standard deviation).
    """

    flip: bool = False
    shift: int = Field(default=0, ge=0, le=8)
    cutout: int = Field(default=0, ge=0, le=20)
    mixup: float = added(0.0, ge=0, le=100)
    rotate: float = added(0.0, ge=0, le=180)
    scale: float = added(0.0, ge=0, lt=1)
    stroke: float = added(0.0, ge=0, le=1)
    elastic: float = added(0.0, ge=0, le=20)


class StepSchedule(Strict):
    """A learning rate that falls in steps: give `every` or `at`.

    Attributes:
        factor: The learning rate is multiplied by this at each step.
        every: A step after every so many epochs.
        at: A step after each of these epochs.
    """

    factor: float = Field(gt=0, le=1)
    every: int | None = Field(None, ge=1)
    at: list[Annotated[int, Field(ge=1)]] = []

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.every) == bool(self.at):
            raise ValueError("give every: EPOCHS, or at: [EPOCH, ...], and factor")
        return self


Schedule = Annotated[
    Annotated[Literal["constant", "one_cycle", "cosine"], Tag("a word")] | Annotated[StepSchedule, Tag("a section")],
    Discriminator(lambda given: "a section" if isinstance(given, dict | StepSchedule) else "a word"),
]


class Training(Strict):
    """How a network is trained.

    Attributes:
        epochs: How often the network sees every training example.
        batch_size: Examples per batch.
        optimizer: The optimiser and its learning rate.
        seed: Decides the initial weights, the order of the examples and dropout.
        shuffle: Draw a new order of the examples each epoch; without it they keep the data set's order.
        device: `auto` prefers CUDA, then MPS, then the CPU. The run records the choice.
        precision: `auto` is bfloat16 where the hardware supports it, else float32. The run records the choice.
        loss: `squared_error` is the mean over the classes of the squared difference of probability and target, which
            is 1 for the right class.
        schedule: How the learning rate changes over the epochs.
        label_smoothing: The share of each training target that is spread evenly over all classes.
        augmentation: Random changes to the training images.
        ema: The decay per step, e.g. 0.999, of a moving average of the weights and of batch norm's statistics. The
            average is what is evaluated and kept; training loss and accuracy are those of the weights themselves. It
            averages over about the last 1/(1 - ema) steps, so a training should have many times that number of steps.
    """

    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=1_000_000)
    optimizer: Optimizer
    seed: int = Field(ge=0, lt=2**63)
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    loss: Literal["cross_entropy", "squared_error"] = added("cross_entropy")
    schedule: Schedule = added("constant")
    label_smoothing: float = added(0.0, ge=0, lt=1)
    augmentation: Augmentation = added(Augmentation())
    ema: float | None = added(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _smoothing_is_of_cross_entropy(self) -> Self:
        if self.label_smoothing and self.loss != "cross_entropy":
            raise ValueError("label_smoothing needs the loss cross_entropy")
        return self

    def with_seed(self, seed: int) -> Self:
        """Return the section with another seed."""
        return self.model_copy(update={"seed": seed % 2**63})


def _unit_of(item: dict[str, Any]) -> Unit:
    return unit_of(str(item.get("metric")))


def unit_of(metric: str) -> Unit:
    """Return the unit that a metric has by its name."""
    before, bracket, _ = metric.partition("[")
    name = before.rpartition("/")[2] + bracket
    units: dict[str, Unit] = {
        "accuracy": "fraction",
        "_f1[": "f1",
        "_recall[": "fraction",
        "_precision[": "fraction",
        "_confusion[": "count",
        "auc": "fraction",
        "brier": "squared error",
        "f1": "f1",
        "seconds": "seconds",
        "rank": "rank",
        "fits": "count",
        "networks": "count",
        "parameters": "count",
    }
    return next((unit for part, unit in units.items() if part in name), "loss")


class _Claim(Strict):
    """How far a printed number can be compared with ours.

    Attributes:
        comparable: For a number that the report prints without measuring it; its verdict is `not comparable`.
        unknown: What the report omits from the protocol behind this number; if empty, the file's `unknown` applies.
        fault: What the number really is, if it is not what the report says.
        series: Which training, where the report shows several of one kind; empty means the main one, which the task
            prints next to its own.
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

    Attributes:
        metric: The metric of ours that it corresponds to, whatever the report calls it.
        epoch: The epoch after which it was measured; by default the last.
        value: The number. Accuracies are fractions: 0.982, not 98.2.
        quote: The report's words.
        unit: By default that of the metric.
    """

    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    value: float
    quote: str = Field(min_length=1)
    unit: Unit = Field(default_factory=_unit_of)

    @model_validator(mode="after")
    def _value_fits_the_unit(self) -> Self:
        if self.unit in ("fraction", "f1") and not 0 <= self.value <= 1:
            meant = f"; for {self.value:g} % write {self.value / 100:g}" if 1 < self.value <= 100 else ""
            raise ValueError(f"value: {self.value:g}: {self.metric} is a fraction, from 0 to 1{meant}")
        if self.unit in ("count", "seconds") and self.value < 0:
            raise ValueError(f"value: {self.value:g}: {self.metric} cannot be less than 0")
        return self


class Printed(_Claim):
    """Numbers that one cell of the report's notebook prints: report_printed.csv's rows with this `cell` and `what`.

    Attributes:
        cell: The notebook's cell.
        what: The value in the column `what` of report_printed.csv.
        metric: The metric of ours that the numbers correspond to.
        epoch: Applies to rows that name none.
        unit: By default that of the metric.
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
        rows = [
            row
            for row in _table(report_root() / PRINTED)
            if (row["task"], row["cell"], row["what"]) == (task, str(self.cell), self.what)
        ]
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
def _table(path: Path) -> list[dict[str, str]]:
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


DROPOUT = "dropout_while_validating"


class TrainedSpec(Named):
    """What every experiment that trains a network has.

    Attributes:
        training: How it is trained.
        register_as: The registered model's name; by default the report's slug and the experiment's name.
        unknown: What the report does not say of the protocol behind all of its numbers: a text, or keys of the file,
            each with the values that it may have, which `trackdl recover` tries. Beside such keys, `words` is a text
            for readers, and `dropout_while_validating` may be true or false, though it is not a key of the file.
        reported: Numbers from the report's text, or numbers that need an explanation.
        printed: Numbers from its notebooks.
        curves: Losses per batch from its notebooks, each curve judged as a whole.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    training: Training
    # A field called `register` would hide a method of pydantic's class.
    register_as: Annotated[
        str, like(r"[A-Za-z0-9][\w. -]{0,99}", "a registered model's name: letters, digits, _, ., - and spaces")
    ] = added("", alias="register")
    unknown: str | dict[str, Annotated[list[Any], Field(min_length=1)] | str] = ""
    reported: list[Reported] = []
    printed: list[Printed] = []
    curves: list[Curve] = []

    @model_validator(mode="after")
    def _what_is_unknown_can_be_so(self) -> Self:
        if isinstance(self.unknown, dict) and (lone := self.unknown.keys() - self.candidates.keys() - {"words"}):
            raise ValueError(f"unknown: {min(lone)}: must be a list of the values that it may have")
        if any(not isinstance(value, bool) for value in self.candidates.get(DROPOUT, [])):
            raise ValueError(f"unknown: {DROPOUT}: may be true or false")
        for key, value in ((key, value) for key, values in self.candidates.items() for value in values):
            if key == DROPOUT:
                continue
            content = self.model_dump(exclude={"unknown", "reported", "printed", "curves"})
            *sections, last = key.split(".")
            section = content
            for name in sections:
                section = section.setdefault(name, {})
                if not isinstance(section, dict):
                    raise ValueError(f"unknown: {key}: '{name}' is not a section")
            section[last] = value
            try:
                self.model_validate(content)
            except ValidationError as error:
                raise ValueError(f"unknown: {key}: {value}: {error.errors()[0]['msg']}") from error
        return self

    @property
    def candidates(self) -> dict[str, list[Any]]:
        """The keys that the report omits, each with the values that it may have."""
        given = self.unknown if isinstance(self.unknown, dict) else {}
        return {key: values for key, values in given.items() if isinstance(values, list)}

    @property
    def unknown_words(self) -> str:
        """What the report omits, in words."""
        if isinstance(self.unknown, str):
            return self.unknown
        words = self.unknown.get("words")
        return str(words or "; ".join(f"{key} ({' or '.join(map(str, own))})" for key, own in self.candidates.items()))

    def nth(self, number: int) -> Self:
        """Return the experiment for another training: `number` is added to its seed."""
        return self.model_copy(update={"training": self.training.with_seed(self.training.seed + number)})

    @cached_property
    def numbers(self) -> list[Reported]:
        """All numbers that the report prints for this task and that are judged one by one.

        Raises:
            InputError: `printed` names rows that the table does not have.
        """
        return [*(number for item in self.printed for number in item.numbers(self.name)), *self.reported]
