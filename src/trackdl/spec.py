"""The experiment files' schema: one YAML file describes one run, whole.

A file is read, overridden key by key, and validated as a whole before anything is loaded. What is wrong is told with
the file, the key and what it may be. Imports neither torch nor mlflow nor optuna, so a wrong file is answered at once.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from trackdl.errors import InputError
from trackdl.spec_base import Augmentation, Optimizer, Printed, Reported, Strict, TrainedSpec, Training, like
from trackdl.spec_fashion import FashionSpec
from trackdl.spec_grid import GridSpec
from trackdl.spec_heart import HeartSpec
from trackdl.spec_ledger import LedgerSpec
from trackdl.spec_search import SearchSpec

__all__ = [
    "KINDS",
    "STEPS",
    "TRAINED",
    "Augmentation",
    "DataSpec",
    "Experiment",
    "FashionSpec",
    "GridSpec",
    "HeartSpec",
    "LedgerSpec",
    "MainSpec",
    "MnistSpec",
    "Optimizer",
    "Printed",
    "Reported",
    "SearchSpec",
    "Step",
    "TrainedSpec",
    "Training",
    "TransferSpec",
    "digest",
    "load",
    "to_yaml",
]

MAX_BYTES = 1_000_000

# What the report says decides nothing of a run.
PUBLISHED = {"reported", "printed", "curves", "unknown", "hypotheses"}

Preprocessing = Literal["report", "mnist"]
DatasetName = Literal["mnist", "fashion", "heart", "greek", "report-weights"]


class MnistData(Strict):
    """Task 1's data."""

    dataset: Literal["mnist"]


class MnistSpec(TrainedSpec):
    """Task 1: the MNIST network.

    `reload_after`: after this epoch the training is thrown away and taken up again from its checkpoint, as the report
    did after its third.
    """

    task: Literal["mnist"]
    data: MnistData
    reload_after: int | None = Field(None, ge=1)


class GreekData(Strict):
    """Task 3's data.

    `folder` names a folder of class folders to learn from, else the report's 27 letters are used; `test_folder` one of
    letters that are only looked at in the end. `folds`: every letter is judged by a network that has not seen it, by
    leave-one-out, or by so many stratified folds where there are too many letters for that.
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
    """Getting the data, checked."""

    task: Literal["data"]
    datasets: list[DatasetName] = Field(min_length=1)


class Step(Strict):
    """One step of `main`: a task's own experiment file, with single keys set otherwise.

    An `optional` step is passed over, with a word, where its data cannot be had.
    """

    later: ClassVar[frozenset[str]] = frozenset({"optional"})

    task: str
    set: dict[str, Any] = Field(default_factory=dict)
    optional: bool = False

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
Spec = TypeVar("Spec", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: no duplicate keys, no anchors, and `1e-2` is a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML types it not
            raise yaml.MarkedYAMLError(problem="an alias (*name); write the value out", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is no text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _plain_number(construct: Callable[[yaml.SafeLoader, Any], Any]) -> Callable[[yaml.SafeLoader, Any], Any]:
    """Leave YAML 1.1's numbers to the base of 60 texts: nobody means one, and a long one takes quadratic time."""
    return lambda loader, node: node.value if ":" in node.value else construct(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:int", _plain_number(yaml.SafeLoader.construct_yaml_int))
_Loader.add_constructor("tag:yaml.org,2002:float", _plain_number(yaml.SafeLoader.construct_yaml_float))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: Path, kind: type[Spec], overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read one experiment file, set single keys otherwise, and validate the whole.

    Args:
        path: The YAML file.
        kind: Which task's experiment it must be.
        overrides: Dotted keys with their values, e.g. `{"training.epochs": 10}`.

    Raises:
        InputError: The file cannot be read, is no YAML mapping, or has a wrong or unknown key; names file and key.
    """
    return parse(_read(path), str(path), kind, overrides)


def parse(text: str, name: str, kind: type[Spec], overrides: Mapping[str, Any] | None = None) -> Spec:
    """Do as `load` does with a text that was read already; `name` stands for the file in messages."""
    content = value_of(text, name)
    task = task_of(kind)
    if not isinstance(content, dict):
        raise InputError(f"{name}: expected keys such as 'task: {task}', found {type(content).__name__}")
    if content.get("task") != task:
        raise InputError(f"{name}: key 'task': must be '{task}', but is {content.get('task')!r:.80}")
    given = dict(overrides or {})
    for key, value in given.items():
        _set(content, key, value, name)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_explain(name, kind, problem, given) for problem in error.errors())) from error


def value_of(text: str, name: str) -> Any:
    """Return what a YAML text stands for, read by the rules of experiment files.

    Raises:
        InputError: It is no valid YAML; `name` stands for it in the message.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not valid YAML: {_one_line(error)}") from error


def task_of(kind: type[BaseModel]) -> str:
    """Return the name of the task that an experiment class describes."""
    return str(get_args(kind.model_fields["task"].annotation)[0])


# All tasks, each with the class of its experiment file, in the order in which the ledger tells of them.
KINDS: dict[str, type[Experiment]] = {task_of(kind): kind for kind in get_args(Experiment)}
# Those that train the report's networks, and so have its numbers.
TRAINED: dict[str, type[TrainedSpec]] = {task: kind for task, kind in KINDS.items() if issubclass(kind, TrainedSpec)}
# Those that `main` can run: their module has `run(experiment)`, and `show`, which returns the result in a line.
STEPS = [task for task in KINDS if task not in ("data", "grid", "main")]


def to_yaml(experiment: Experiment) -> str:
    """Return the experiment as a file that `load` reads to the same experiment."""
    content = {"task": experiment.task, **experiment.model_dump(exclude_none=True)}
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return (
        f"# Resolved by trackdl: the whole of one run; `trackdl {experiment.task} --file THIS` runs it again.\n{body}"
    )


def digest(experiment: BaseModel) -> str:
    """Return the SHA-256 (hex) of what decides the run's outcome: all keys but what the report says."""
    content = experiment.model_dump(mode="json", exclude={*PUBLISHED, "margin"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def flatten(experiment: Experiment) -> dict[str, Any]:
    """Return the settings as dotted keys, as they stand among a run's parameters."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for name, inner in value.items() for k, v in walk(f"{prefix}{name}.", inner).items()}
        return {prefix[:-1]: value}

    return walk("", experiment.model_dump(exclude={*PUBLISHED, "task"}, exclude_none=True))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes; an experiment file is a page of YAML")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); is this an experiment file?") from error


def _set(content: dict[str, Any], key: str, value: Any, name: str) -> None:
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise InputError(f"{name}: key '{key}' cannot be set: '{section}' is no section")
    content[last] = value


def _explain(name: str, kind: type[BaseModel], problem: Any, given: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    origin = " (set on the command line)" if key in given else ""
    if problem["type"] == "extra_forbidden":
        text = f"unknown key; {_known(kind, problem['loc'])}"
    elif problem["type"] == "missing":
        text = "missing"
    elif problem["type"] == "model_type":
        text = f"must be a section of keys, but is {problem['input']!r:.80}"
    else:
        text = _lower(problem["msg"].removeprefix("Value error, "))
        if not key:  # of all keys together: what they are is the whole file
            return f"{name}: {text}"
        text += f", but is {problem['input']!r:.80}"
    return f"{name}: key '{key}'{origin}: {text}"


def _known(model: Any, location: tuple[Any, ...]) -> str:
    """Say which keys stand beside an unknown one, and which it may have meant."""
    for part in location[:-1]:
        # A list's index and the keys of a table of sections are no fields.
        if part in model.model_fields:
            model = model.model_fields[part].annotation
            model = next((inner for inner in getattr(model, "__args__", ()) if hasattr(inner, "model_fields")), model)
    keys = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), keys, n=1)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}The keys here are {', '.join(keys)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
