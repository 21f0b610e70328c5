"""Reading experiment files: strict YAML, some keys overridden, everything validated.

An error names the file, the key and what it may be. Imports neither torch nor mlflow nor optuna, so a wrong file is
reported at once.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from trackdl.errors import InputError, one_line
from trackdl.spec.base import Curve, TrainedSpec
from trackdl.spec.cells import reported_cells
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.experiments import KINDS, PUBLISHED, STEPS, Experiment, task_of, to_yaml
from trackdl.spec.grid import GridSpec
from trackdl.spec.keys import meant, meant_key, sections_of, set_key
from trackdl.spec.recover import PREFIX, RecoverSpec
from trackdl.spec.report import ReportSpec
from trackdl.system.paths import read_bounded, report_root

MAX_BYTES = 500_000
MOST_DIGITS = 100  # of a number
MOST_DEPTH = 40  # sections and lists within each other
MOST_ERRORS = 12  # shown of one file

Spec = TypeVar("Spec", bound=BaseModel)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's is ten times as fast
    """Strict YAML: no duplicate keys, and `1e-2` is a number; `value_of` refuses anchors and deep nesting."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is not a string", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} occurs twice", problem_mark=key_node.start_mark)
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    """Read base-60 numbers of YAML 1.1 and endless ones as strings: nobody means them, and they take quadratic time."""
    if ":" in node.value or len(node.value) > MOST_DIGITS:
        return node.value
    return loader.construct_yaml_int(node) if node.tag.endswith(":int") else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def report() -> ReportSpec:
    """Return the report whose folder is in use, as its `report.yaml` says; without that file, named after the folder.

    Raises:
        InputError: The file is not valid.
    """
    return _report(report_root().absolute())


@cache
def _report(folder: Path) -> ReportSpec:
    path = folder / "report.yaml"
    if path.is_file():
        return load(path, ReportSpec)
    slug = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:40] or "report"
    return ReportSpec(task="report", name="main", title=folder.name, slug=slug)


def experiment_file(name: str) -> Path:
    """Return the path of one of the report's experiment files."""
    return report_root() / f"{name}.yaml"


def named(name: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Return one of the report's experiments, with some keys overridden.

    Raises:
        InputError: As `load_any`.
    """
    return load_any(experiment_file(name), overrides)


def experiments() -> dict[str, Experiment]:
    """Return the report's experiments by name: first in the order of its steps, then by kind and name.

    Raises:
        InputError: A file of the folder is not valid, or its experiment is not called as it is.
    """
    found: dict[str, Experiment] = {}
    for path in sorted(report_root().glob("*.yaml")):
        if path.stem in ("report", "ledger"):
            continue
        made = load_any(path)
        if made.name != path.stem:
            raise InputError(f"{path}: key 'name': must be that of the file, '{path.stem}', but is '{made.name}'")
        if made.task in STEPS and made.task != "ledger":
            found[made.name] = made
    steps, kinds = [step.task for step in report().steps], list(KINDS)

    def place(name: str) -> tuple[int, int, str]:
        return steps.index(name) if name in steps else len(steps), kinds.index(found[name].task), name

    return {name: found[name] for name in sorted(found, key=place)}


def recovery_of(name: str, overrides: Mapping[str, Any] | None = None) -> RecoverSpec:
    """Return the recovery of what the report leaves out of an experiment, as a file `recover-NAME.yaml` may state it.

    Args:
        name: The experiment's name, or the recovery's: with `PREFIX` in front.
        overrides: Values by dotted key, as of `load`.

    Raises:
        InputError: There is no such experiment, or it names nothing unknown by key, or what a recovery cannot try.
    """
    if "/" in name:
        raise InputError(f"{name}: no experiment's name; give one of {report_root()}, or its file, NAME.yaml")
    own = experiment_file(name)
    if name.startswith(PREFIX) and (not own.is_file() or _task_in(own) == "recover"):
        name = name.removeprefix(PREFIX)
    file, stated = experiment_file(PREFIX + name), experiment_file(name)
    if file.is_file():
        if (task := _task_in(file)) != "recover":
            raise InputError(
                f"{file}: key 'task': this is the name of the recovery of '{name}', so it must be 'recover', but is "
                f"{task!r:.80}; rename this file"
            )
        made = load(file, RecoverSpec, overrides)
        if made.experiment.name != name:
            raise InputError(f"{file}: key 'of': must be '{name}', as the file is called, not '{made.experiment.name}'")
        return made
    known = sorted(path.stem for path in report_root().glob("*.yaml"))
    if name not in known:
        near = meant(name, known)
        raise InputError(f"{report_root()} has no experiment {name!r:.80}; {near}it has {', '.join(known)}")
    if (task := _task_in(stated)) != "classify":
        raise InputError(f"recover takes an experiment of the kind classify, and {name} is of the kind {task}")
    if not load(stated, ClassifySpec).candidates:
        raise InputError(
            f"{stated}: nothing to recover: its key 'unknown' must list what the report leaves out, by key, with the "
            "values that it may have, e.g. {network.padding: [none, same]}"
        )
    try:
        return parse(f"task: recover\nof: {name}\n", str(stated), RecoverSpec, overrides, PREFIX + name)
    except InputError as error:  # the candidates are not of a key `space`, but of the experiment's `unknown`
        said = str(error).replace(f"{stated}: key 'space", f"{stated}: key 'unknown")
        raise InputError(said.replace(f"{stated}: space: ", f"{stated}: key 'unknown': ")) from error


def _task_in(path: Path) -> Any:
    """Return the kind that an experiment file says it is of."""
    content = value_of(_text(path), str(path))
    return content.get("task") if isinstance(content, dict) else None


def recoveries() -> dict[str, RecoverSpec]:
    """Return the recoveries of all of the report's experiments that name something unknown by key, by their names.

    Left out are those whose `unknown` has what a recovery cannot try, such as a key of `data`: it is valid as words.

    Raises:
        InputError: A file of the folder is not valid.
    """
    found = {}
    for name, one in experiments().items():
        if isinstance(one, ClassifySpec) and one.candidates:
            try:
                made = recovery_of(name)
            except InputError:
                if experiment_file(PREFIX + name).is_file():
                    raise
            else:
                found[made.name] = made
    return found


def changed(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """Return an experiment with some keys overridden.

    Raises:
        InputError: As `load`.
    """
    if not overrides:
        return experiment
    return parse(to_yaml(experiment), f"{experiment.name}.yaml", type(experiment), overrides)


def load_any(path: Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Do as `load`, for the kind of experiment that the file says it is.

    Raises:
        InputError: As `load`, or there is no such kind.
    """
    text = _text(path)
    content = value_of(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys, the first of which is task: KIND; found {_found(content)}")
    task = content.get("task")
    if not isinstance(task, str) or task not in KINDS:
        raise InputError(f"{path}: key 'task': must be one of {', '.join(KINDS)}, but is {task!r:.80}")
    return parse(text, str(path), KINDS[task], overrides)


def logged(text: str, name: str) -> Experiment:
    """Return the experiment that a run logged, without what it quotes of its report: whose folder may not be in use.

    Raises:
        InputError: It is no valid experiment; the message calls it `name`.
    """
    content = value_of(text, name)
    kept = {key: value for key, value in content.items() if key not in PUBLISHED}
    return parse(yaml.safe_dump(kept), name, KINDS[kept["task"]])


def load(path: Path, kind: type[Spec], overrides: Mapping[str, Any] | None = None, name: str = "") -> Spec:
    """Read one experiment file, override some keys, and validate the result.

    Args:
        path: The YAML file.
        kind: The class that it must be an experiment of.
        overrides: Values by dotted key, e.g. `{"training.epochs": 10}`.
        name: The experiment's, where the file gives none; by default the file's name.

    Raises:
        InputError: The file cannot be read, is not a YAML mapping, or has a wrong or unknown key; names file and key.
    """
    return parse(_text(path), str(path), kind, overrides, name)


def parse(text: str, file: str, kind: type[Spec], overrides: Mapping[str, Any] | None = None, name: str = "") -> Spec:
    """Do as `load`, with the text of a file, which messages call `file`."""
    content = value_of(text, file)
    task = task_of(kind)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected keys such as 'task: {task}', found {_found(content)}")
    if task == "report":
        content = {"task": task, "name": "main", **content}
    if content.get("task") != task:
        raise InputError(f"{file}: key 'task': must be '{task}', but is {content.get('task')!r:.80}")
    content.setdefault("name", name or Path(file).stem)
    given = dict(overrides or {})
    if "experiment" in kind.model_fields:
        _embed(content, file, kind, given)
    if given and isinstance(content.get("unknown"), dict):
        # What the report may have done is said of the file's own experiment; with other keys it may be impossible.
        content["unknown"] = content["unknown"].get("words", "")
    for key, value in given.items():
        try:
            set_key(content, key, value)
        except ValueError as error:
            raise InputError(f"{file}: key '{key}' cannot be set: {error}") from error
    try:
        made = kind.model_validate(content)
    except ValidationError as error:
        raise InputError(_problems(file, kind, content, error, given)) from error
    if isinstance(made, TrainedSpec):
        _look_up(made, file)
    if isinstance(made, GridSpec):
        reported_cells(made)
    return made


def _found(content: Any) -> str:
    return "an empty file" if content is None else "a list" if isinstance(content, list) else f"{content!r:.40}"


def _embed(content: dict[str, Any], file: str, kind: type[BaseModel], given: dict[str, Any]) -> None:
    """Put in place of `of` the experiment that it names, with the keys of `set`; so a resolved file is whole.

    Args:
        content: The file's.
        file: Its name in messages.
        kind: Of the file.
        given: Overrides; keys that the kind does not have are of the experiment, and are taken out.
    """
    own = {key: given.pop(key) for key in list(given) if key.partition(".")[0] not in kind.model_fields}
    of, changes = content.pop("of", None), content.pop("set", None) or {}
    if not isinstance(changes, dict):
        raise InputError(f"{file}: key 'set': must be a section of keys, but is {changes!r:.80}")
    if of is None and "experiment" in content:
        given |= {f"experiment.{key}": value for key, value in {**changes, **own}.items()}
        return
    if not isinstance(of, str) or "experiment" in content:
        raise InputError(f"{file}: key 'of': must be the name of an experiment in {report_root()}, but is {of!r:.80}")
    try:
        named = load(experiment_file(of), ClassifySpec)
        if kind is RecoverSpec:
            content.setdefault("space", named.candidates)
        experiment = named.model_dump(exclude=PUBLISHED)
        for key, value in {**changes, **own}.items():
            set_key(experiment, key, value)
        content["experiment"] = ClassifySpec.model_validate(experiment).model_dump()
    except ValidationError as error:
        raise InputError(_problems(f"{file}: set", ClassifySpec, experiment, error, own)) from error
    except (InputError, ValueError) as error:
        raise InputError(f"{file}: {'of' if isinstance(error, InputError) else 'set'}: {error}") from error


def _look_up(experiment: TrainedSpec, name: str) -> None:
    """Check that the table of printed numbers has the rows that an experiment refers to."""
    for key, items in (("printed", experiment.printed), ("curves", experiment.curves)):
        for number, item in enumerate(items):
            try:
                _ = item.points(experiment.name) if isinstance(item, Curve) else item.numbers(experiment.name)
            except (InputError, ValueError) as error:
                raise InputError(f"{name}: key '{key}.{number}': {error}") from error


def value_of(text: str, name: str) -> Any:
    """Return the value of a YAML text, read by the rules of experiment files.

    Raises:
        InputError: It is not valid YAML; the message calls it `name`.
    """
    try:
        _check_events(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: not valid YAML: {one_line(error, 300)}") from error


def _check_events(text: str) -> None:
    """Refuse anchors, by which a short text can stand for a huge one, and nesting that no experiment file needs."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "an alias (*name) or anchor (&name); write the value out"
        elif depth > MOST_DEPTH:
            problem = f"more than {MOST_DEPTH} levels"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]


def _text(path: Path) -> str:
    """Return a file's text; a report's folder needs no `ledger.yaml` for a ledger of all of its numbers."""
    if path == experiment_file("ledger") and not path.exists():
        return "task: ledger\n"
    try:
        return read_bounded(path, MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); is this an experiment file?") from error


def _problems(name: str, kind: type[BaseModel], content: Any, error: ValidationError, given: Mapping[str, Any]) -> str:
    """Return what is wrong with a file: a line for each key, of which a union's members may each have complained."""
    found: dict[str, str] = {}
    for problem in error.errors():
        key = ".".join(_keys(content, problem["loc"], missing=problem["type"] == "missing"))
        if problem["type"] == "default_factory_not_called":  # it follows from another problem of the list
            continue
        words = _explain(name, kind, key, problem, given)
        place = key or problem["msg"]
        # The member that took the value's type and refuses its size says most.
        found[place] = words if problem["type"].startswith(("less", "greater")) else found.get(place, words)
    lines = list(found.values())
    return "\n".join([*lines[:MOST_ERRORS], *([f"and {len(lines) - MOST_ERRORS:,} more"] * (len(lines) > MOST_ERRORS))])


def _explain(name: str, kind: type[BaseModel], key: str, problem: Any, given: Mapping[str, Any]) -> str:
    missing, location = problem["type"] == "missing", problem["loc"]
    origin = " (set on the command line)" if key in given else ""
    shown = "" if isinstance(problem["input"], dict | list) else f", but is {problem['input']!r:.80}"
    if problem["type"] == "extra_forbidden":
        text = f"unknown key; {_known(kind, location, key)}"
    elif missing:
        text = "missing"
    elif problem["type"] == "model_type":
        text = f"must be a section of keys, but is {problem['input']!r:.80}"
    else:
        words = problem["msg"].removeprefix("Value error, ")
        text = words[:1].lower() + words[1:]
        if not key:  # a check of several keys: the input would be the whole file
            return f"{name}: {text}"
        text += shown
    return f"{name}: key '{key}'{origin}: {text}"


def _keys(content: Any, location: tuple[Any, ...], *, missing: bool) -> list[str]:
    """Return the keys of a place; pydantic's location also names the members of unions, which no file has."""
    keys = []
    for part in location:
        known = part in content if isinstance(content, dict) else isinstance(content, list) and isinstance(part, int)
        if known:
            content = content[part]
            keys.append(str(part))
    return [*keys, str(location[-1])] if missing else keys


def _known(model: type[BaseModel], location: tuple[Any, ...], key: str) -> str:
    """Return which keys are allowed in place of an unknown one, `key`, and which was probably meant."""
    sections = [model]
    for part in location[:-1]:
        names = {field.alias or name: field for one in sections for name, field in one.model_fields.items()}
        if part in names:
            sections = sections_of(names[part].annotation)
        # What is no field is the index of a list, a key of a table of sections, or the member of a union.
        elif chosen := [one for one in sections if part in _tags(one)]:
            sections = chosen
    keys = [field.alias or name for one in sections for name, field in one.model_fields.items()]
    return f"{meant_key(key, keys, model)}The keys here are {', '.join(dict.fromkeys(keys))}"


def _tags(section: type[BaseModel]) -> set[str]:
    """Return what pydantic may call a section as the member of a union: its class, or a tag of `spec.network`."""
    family, first = section.model_fields.get("family"), next(iter(section.model_fields), "")
    families = get_args(family.annotation) if family else (first,)
    return {section.__name__, f"{first} layer", *(f"{name} network" for name in families)}
