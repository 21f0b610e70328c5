"""The schema of experiment files: one YAML file describes one complete run. Imports nothing heavy."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field

from trackdl.spec.base import Named, Strict, TrainedSpec, added, like
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.grid import GridSpec
from trackdl.spec.ledger import LedgerSpec
from trackdl.spec.recover import RecoverSpec
from trackdl.spec.report import ReportSpec
from trackdl.spec.search import SearchSpec
from trackdl.spec.table import TableSpec

# Keys that record what the report says; they do not affect a run.
PUBLISHED = {"reported", "reported_table", "printed", "curves", "unknown", "hypotheses"}

Preprocessing = Literal["report", "mnist"]


class GreekData(Strict):
    """The images of a transfer. Every image is also predicted by a network that was not trained on it.

    Attributes:
        dataset: The project's report's 27 letters.
        preprocessing: Makes an image like those that the source was trained on: `report` and `mnist` make digits of
            letters; by default it is the source's own.
        rename: New names of classes.
        folder: A folder of class folders to train on.
        test_folder: The same, with images that are only tested on at the end.
        folds: Predict held-out images by this many stratified folds; by default, up to 100 images are held out one by
            one. With more there are ten folds, or fewer if the smallest class has fewer images, but at least two.
    """

    dataset: Literal["greek"] | None = added(None)
    preprocessing: Preprocessing | None = added(None)
    rename: dict[str, Annotated[str, Field(min_length=1)]] = added({})
    folder: str | None = None
    test_folder: str | None = None
    folds: int | None = Field(None, ge=2)


class TransferSpec(TrainedSpec):
    """A registered image network learns other images: its head, the last linear layer, is replaced and trained.

    Attributes:
        source: The registered network to start from.
        of: The name of the experiment that trains and registers the network `source`. It is run first if the registry
            has no champion of it yet.
        data: The images.
        frozen: What keeps the source's weights: the "body", which is all but the head, the "convolutions" or "nothing".
        dropout_maps: The share of whole channels that the network drops while training, if not the source's.
    """

    task: Literal["transfer"]
    source: Annotated[str, like(r"models:/[^/@]+(@[^/@]+|/[^/@]+)", "models:/NAME@ALIAS or models:/NAME/VERSION")]
    of: str = added("")
    data: GreekData
    frozen: Literal["body", "convolutions", "nothing"] = added("body")
    dropout_maps: float | None = added(None, ge=0, lt=1)


class DataSpec(Named):
    """Fetching and checking data sets.

    Attributes:
        datasets: Which ones; by default all but KMNIST and EMNIST.
    """

    task: Literal["data"]
    datasets: list[str] | None = Field(None, min_length=1)


Experiment = (
    ClassifySpec | TransferSpec | TableSpec | GridSpec | RecoverSpec | SearchSpec | DataSpec | LedgerSpec | ReportSpec
)


def task_of(kind: type[BaseModel]) -> str:
    """Return the kind of task whose experiments a class describes."""
    return str(get_args(kind.model_fields["task"].annotation)[0])


# The kinds of task, each with the class of its experiment files, in the ledger's order.
KINDS: dict[str, type[Experiment]] = {task_of(kind): kind for kind in get_args(Experiment)}
# Kinds that can be a step of `main`: their modules have `run(experiment)`, and `show`, which returns a line.
STEPS = [task for task in KINDS if task not in ("data", "report")]


def to_yaml(experiment: Experiment) -> str:
    """Return the experiment as the text of a file; `load` reads it back to an equal experiment."""
    content = {"task": experiment.task, "name": experiment.name, **experiment.model_dump(exclude_none=True)}
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return f"# Resolved by trackdl: the whole of one run; `trackdl run THIS` runs it again.\n{body}"


def digest(experiment: BaseModel) -> str:
    """Return the SHA-256 (hex) of everything that affects the run: all keys except those that quote the report."""
    content = experiment.model_dump(mode="json", exclude={*PUBLISHED, "name", "title", "margin"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def flatten(experiment: BaseModel) -> dict[str, Any]:
    """Return the settings by dotted key, as a run logs them as parameters; keys that MLflow refuses are not dotted."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict) and all(re.fullmatch(r"[\w -]+", name) for name in value):
            return {k: v for name, inner in value.items() for k, v in walk(f"{prefix}{name}.", inner).items()}
        return {prefix[:-1]: value}

    return walk("", experiment.model_dump(exclude={*PUBLISHED, "task", "name", "title"}, exclude_none=True))
