"""Dotted keys of experiments, e.g. `training.optimizer.lr`: set, looked up, named in short, and tried out."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ValidationError
from typing_extensions import TypeAliasType

Model = TypeVar("Model", bound=BaseModel)


def _one_value(value: Any) -> Any:
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError("must be one value: a number, a word, true or false; the places of a list are keys: hidden.0")


Scalar = Annotated[Any, AfterValidator(_one_value)]


def set_key(content: Any, key: str, value: Any) -> None:
    """Set a dotted key in nested sections; those that are missing are added. In a list, a part is a place: hidden.0.

    Raises:
        ValueError: A part of the key is there and is not a section, or is no place in a list.
    """
    first, _, rest = key.partition(".")
    place: Any = first
    if isinstance(content, list):
        if not first.isdecimal() or int(first) >= len(content):
            raise ValueError(f"'{first}' is not one of the list's places, 0 to {len(content) - 1}")
        place = int(first)
    if not rest:
        content[place] = value
        return
    inner = content.get(first) if isinstance(content, dict) else content[place]
    if inner is None:
        inner = content[place] = {}
    if not isinstance(inner, dict | list):
        raise ValueError(f"'{first}' is not a section")
    set_key(inner, rest, value)


def with_keys(experiment: Model, values: Mapping[str, Any]) -> Model:
    """Return an experiment in which some dotted keys are set otherwise.

    Examples:
        >>> from trackdl import spec
        >>> shorter = with_keys(spec.named("mnist"), {"training.epochs": 3, "training.optimizer.lr": 0.02})
        >>> shorter.training.epochs, shorter.training.optimizer.lr
        (3, 0.02)

    Raises:
        ValidationError: A key or value is wrong, or the values are not compatible.
        ValueError: A part of a key is not a section.
    """
    content = experiment.model_dump(by_alias=True)
    for key, value in values.items():
        set_key(content, key, value)
    return type(experiment).model_validate(content)


def value_of_key(experiment: BaseModel, key: str) -> Any:
    """Return the value of a dotted key, its default included.

    Raises:
        ValueError: There is no such key; says which there are.
    """
    found: Any = experiment
    passed: list[str] = []
    for part in key.split("."):
        known = found if isinstance(found, dict) else {}
        if isinstance(found, BaseModel):
            known = {field.alias or name: getattr(found, name) for name, field in type(found).model_fields.items()}
        if isinstance(found, list):
            known = {str(place): one for place, one in enumerate(found)}
        if part not in known:
            near = meant_key(".".join([*passed, part]), known, type(experiment))
            raise ValueError(f"{key}: unknown key; {near}The keys here are {', '.join(known) or 'none'}")
        found = known[part]
        passed.append(part)
    return found


def try_value(experiment: BaseModel, key: str, value: Any) -> None:
    """Check that an experiment has a key, and that a value is of its type and range.

    Whether the value is possible may depend on other keys, so a check of several keys may fail.

    Raises:
        ValueError: It does not, or is not; the message says what it may be.
    """
    value_of_key(experiment, key)
    try:
        with_keys(experiment, {key: value})
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] != "value_error":
                raise ValueError(f"{key}: {reason(error, problem)}, but is {value!r:.80}") from error


def reason(error: ValidationError, problem: Any = None) -> str:
    """Return what is wrong, in the words of a problem of pydantic's, by default the first."""
    # What ClassifySpec names in front is no part of the reason, as the grid's table has it.
    text = (problem or error.errors()[0])["msg"].removeprefix("Value error, ").removeprefix("key 'network': ")
    return text[:1].lower() + text[1:]


def meant(name: str, known: Iterable[str]) -> str:
    """Return which of the known names was probably meant, as a question; empty if none is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'? " if close else ""


def meant_key(key: str, known: Iterable[str], model: type[BaseModel]) -> str:
    """Do as `meant` for a dotted key of an experiment: `training.momentum` is `training.optimizer.momentum`.

    Args:
        key: The key, which there is not.
        known: The names that its last part may have.
        model: The experiment's class.
    """
    head, dot, last = key.rpartition(".")
    paths = sorted(set(_paths(model)) - {key}, key=lambda path: (not path.startswith(head + dot), len(path), path))
    by_last: dict[str, str] = {}  # the nearest path of each last part
    for path in paths:
        by_last.setdefault(path.rpartition(".")[2], path)
    same = by_last.get(last, "")
    if not (same and same.startswith(head + dot)) and (near := meant(last, known)):
        return near
    same = same or next((by_last[name] for name in difflib.get_close_matches(last, list(by_last), n=1)), "")
    return f"did you mean '{same}'? " if same else ""


def _paths(model: type[BaseModel]) -> Iterator[str]:
    """Yield the dotted keys that an experiment may have, without those in lists and tables."""
    for name, field in model.model_fields.items():
        yield field.alias or name
        if not re.search(r"\b(list|dict)\[", str(field.annotation)):
            for section in sections_of(field.annotation):
                yield from (f"{field.alias or name}.{path}" for path in _paths(section))


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a field's type names, e.g. every member of a union."""
    if isinstance(annotation, TypeAliasType):
        annotation = annotation.__value__
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for inner in get_args(annotation) for section in sections_of(inner)]


def short_names(keys: Sequence[str], taken: Iterable[str]) -> dict[str, str]:
    """Return each dotted key by its short name: its last part, with sections in front where two would be the same.

    Args:
        keys: All different.
        taken: Names that no key may have.
    """
    parts = [key.split(".") for key in keys]
    found = {}
    for key, own in zip(keys, parts, strict=True):
        for length in range(1, len(own) + 1):
            name = ".".join(own[-length:])
            if (
                name not in taken
                and not name.isdecimal()
                and sum(other[-length:] == own[-length:] for other in parts) == 1
            ):
                break
        found[name] = key
    return found


def among(value: Any, values: Iterable[Any]) -> bool:
    """Return whether a value is one of several; true is not 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)
