"""Reading experiment files: strict YAML, some keys overridden, everything validated.

An error names the file, the key and what it may be. Imports neither torch nor mlflow nor optuna, so a wrong file is
reported at once.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from trackdl.errors import InputError, one_line
from trackdl.spec.base import Curve, TrainedSpec
from trackdl.spec.experiments import task_of

MAX_BYTES = 1_000_000


Spec = TypeVar("Spec", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Strict YAML: no duplicate keys, no anchors, and `1e-2` is a number."""

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
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is not a string", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _plain_number(construct: Callable[[yaml.SafeLoader, Any], Any]) -> Callable[[yaml.SafeLoader, Any], Any]:
    """Read YAML 1.1's base-60 numbers as strings: nobody means one, and a long one takes quadratic time."""
    return lambda loader, node: node.value if ":" in node.value else construct(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:int", _plain_number(yaml.SafeLoader.construct_yaml_int))


_Loader.add_constructor("tag:yaml.org,2002:float", _plain_number(yaml.SafeLoader.construct_yaml_float))


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: Path, kind: type[Spec], overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read one experiment file, override some keys, and validate the result.

    Args:
        path: The YAML file.
        kind: The class that it must be an experiment of.
        overrides: Values by dotted key, e.g. `{"training.epochs": 10}`.

    Raises:
        InputError: The file cannot be read, is not a YAML mapping, or has a wrong or unknown key; names file and key.
    """
    return parse(_read(path), str(path), kind, overrides)


def parse(text: str, name: str, kind: type[Spec], overrides: Mapping[str, Any] | None = None) -> Spec:
    """Do as `load`, with the text of a file; messages call it `name`."""
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
        made = kind.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_explain(name, kind, problem, given) for problem in error.errors())) from error
    if isinstance(made, TrainedSpec):
        _look_up(made, name)
    return made


def _look_up(experiment: TrainedSpec, name: str) -> None:
    """Check that the table of printed numbers has the rows that an experiment refers to."""
    for key, items in (("printed", experiment.printed), ("curves", experiment.curves)):
        for number, item in enumerate(items):
            try:
                _ = item.points(experiment.task) if isinstance(item, Curve) else item.numbers(experiment.task)
            except (InputError, ValueError) as error:
                raise InputError(f"{name}: key '{key}.{number}': {error}") from error


def value_of(text: str, name: str) -> Any:
    """Return the value of a YAML text, read by the rules of experiment files.

    Raises:
        InputError: It is not valid YAML; the message calls it `name`.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not valid YAML: {one_line(error, 300)}") from error


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
            raise InputError(f"{name}: key '{key}' cannot be set: '{section}' is not a section")
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
        if not key:  # a check of several keys: the input would be the whole file
            return f"{name}: {text}"
        text += f", but is {problem['input']!r:.80}"
    return f"{name}: key '{key}'{origin}: {text}"


def _known(model: Any, location: tuple[Any, ...]) -> str:
    """Return which keys are allowed in place of an unknown one, and which was probably meant."""
    for part in location[:-1]:
        # The index of a list and the keys of a table of sections are not fields.
        if part in model.model_fields:
            model = model.model_fields[part].annotation
            model = next((inner for inner in getattr(model, "__args__", ()) if hasattr(inner, "model_fields")), model)
    keys = list(model.model_fields)
    close = difflib.get_close_matches(str(location[-1]), keys, n=1)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}The keys here are {', '.join(keys)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
