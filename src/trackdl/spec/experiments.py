"""The schema of experiment files: one YAML file describes one complete run. Imports nothing heavy."""

import hashlib
import json
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, field_validator

from trackdl.spec.base import Strict, TrainedSpec, added, like
from trackdl.spec.fashion import FashionSpec
from trackdl.spec.grid import GridSpec
from trackdl.spec.heart import HeartSpec
from trackdl.spec.ledger import LedgerSpec
from trackdl.spec.search import SearchSpec

# Keys that record what the report says; they do not affect a run.
PUBLISHED = {"reported", "printed", "curves", "unknown", "hypotheses"}

Preprocessing = Literal["report", "mnist"]


class MnistData(Strict):
    """Task 1's data."""

    dataset: Literal["mnist"]


class MnistSpec(TrainedSpec):
    """Task 1: the MNIST network.

    `reload_after`: after this epoch the training is discarded and resumed from its checkpoint, as the report did after
    its third epoch.
    """

    task: Literal["mnist"]
    data: MnistData
    reload_after: int | None = Field(None, ge=1)


class GreekData(Strict):
    """Task 3's data.

    `folder` is a folder of class folders to train on; without it the report's 27 letters are used. `test_folder` holds
    letters that are only tested on at the end. Every letter is also predicted by a network that was not trained on it:
    by leave-one-out, or by this many stratified `folds`, for when there are many letters.
    """

    dataset: Literal["greek"]
    preprocessing: Preprocessing
    folder: str | None = None
    test_folder: str | None = None
    folds: int | None = Field(None, ge=2)


class TransferSpec(TrainedSpec):
    """Task 3: the MNIST network from the registry learns Greek letters."""

    task: Literal["transfer"]
    source: Annotated[str, like(r"models:/[^/@]+(@[^/@]+|/[^/@]+)", "models:/NAME@ALIAS or models:/NAME/VERSION")]
    data: GreekData


class DataSpec(Strict):
    """Fetching and checking data sets, by their names in `data.download.datasets`; by default all of them."""

    task: Literal["data"]
    datasets: list[str] | None = Field(None, min_length=1)


class Step(Strict):
    """One step of `main`: a task's own experiment file, with some keys overridden by `set`.

    An `optional` step is skipped, with a message, if its data are not available.
    """

    task: str
    set: dict[str, Any] = Field(default_factory=dict)
    optional: bool = added(False)

    @field_validator("task")
    @classmethod
    def _is_one(cls, task: str) -> str:
        if task not in STEPS:
            raise ValueError(f"must be one of {', '.join(STEPS)}")
        return task


class MainSpec(Strict):
    """The whole report, step by step."""

    task: Literal["main"]
    steps: list[Step] = Field(min_length=1)


Experiment = (
    MnistSpec | FashionSpec | TransferSpec | HeartSpec | GridSpec | SearchSpec | DataSpec | LedgerSpec | MainSpec
)


def task_of(kind: type[BaseModel]) -> str:
    """Return the task whose experiments a class describes."""
    return str(get_args(kind.model_fields["task"].annotation)[0])


# All tasks, each with the class of its experiment file, in the ledger's order.
KINDS: dict[str, type[Experiment]] = {task_of(kind): kind for kind in get_args(Experiment)}
# Tasks that train the report's networks; the report's numbers belong to them.
TRAINED: dict[str, type[TrainedSpec]] = {task: kind for task, kind in KINDS.items() if issubclass(kind, TrainedSpec)}
# Tasks that `main` can run: their modules have `run(experiment)`, and `show`, which returns the result as one line.
STEPS = [task for task in KINDS if task not in ("data", "grid", "main")]


def to_yaml(experiment: Experiment) -> str:
    """Return the experiment as the text of a file; `load` reads it back to an equal experiment."""
    content = {"task": experiment.task, **experiment.model_dump(exclude_none=True)}
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return (
        f"# Resolved by trackdl: the whole of one run; `trackdl {experiment.task} --file THIS` runs it again.\n{body}"
    )


def digest(experiment: BaseModel) -> str:
    """Return the SHA-256 (hex) of everything that affects the run: all keys except those that quote the report."""
    content = experiment.model_dump(mode="json", exclude={*PUBLISHED, "margin"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def flatten(experiment: BaseModel) -> dict[str, Any]:
    """Return the settings by dotted key, as a run logs them as parameters."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for name, inner in value.items() for k, v in walk(f"{prefix}{name}.", inner).items()}
        return {prefix[:-1]: value}

    return walk("", experiment.model_dump(exclude={*PUBLISHED, "task"}, exclude_none=True))
