"""The options of the commands that are tasks, the experiment that they and a file make together, and its start."""

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from trackdl import spec
from trackdl.errors import InputError
from trackdl.system import processes

File = Annotated[
    str | None, typer.Option(help="Experiment file, or runs:/RUN_ID/experiment.yaml; by default the report's own.")
]
Resume = Annotated[str | None, typer.Option(metavar="RUN_ID", help="Continue this run from its last checkpoint.")]
Seeds = Annotated[
    int | None, typer.Option(help="Number of trainings, with seeds counted from --seed; gives intervals.")
]
Workers = Annotated[int | None, typer.Option(help="Number of single-threaded processes; by default one per core.")]
EngineName = Annotated[str, typer.Option("--engine", help="local: this machine's processes; ray: a Ray cluster.")]
Gpus = Annotated[float, typer.Option("--gpus-per-worker", help="With --engine ray: a fraction of a GPU, or several.")]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key; repeatable.")]

# The options of every training, by the experiment's key that each sets.
_TRAINING: dict[str, Any] = {
    "training.epochs": Annotated[int | None, typer.Option("--epochs", help="Number of epochs.")],
    "training.batch_size": Annotated[int | None, typer.Option("--batch-size", help="Examples per batch.")],
    "training.optimizer.lr": Annotated[float | None, typer.Option("--lr", help="The optimiser's learning rate.")],
    "training.seed": Annotated[
        int | None, typer.Option("--seed", help="Decides the initial weights, the order of the data and dropout.")
    ],
    "training.device": Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda or mps.")],
    "training.precision": Annotated[str | None, typer.Option("--precision", help="auto, float32 or bfloat16.")],
}


def with_training(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that replaces a command's parameter `settings` by the options of a training and --set.

    The command gets what was given on the command line as one mapping, {experiment key: value}:

        @app.command()
        @with_training("training.precision")
        def heart(file: File = None, *, settings: dict[str, Any]) -> None: ...

    Args:
        without: Keys of the experiment for which the command has no option.
    """
    offered = {key.replace(".", "_"): (key, option) for key, option in _TRAINING.items() if key not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = dict(inspect.signature(command).parameters)
        del own["settings"]
        options = {name: option for name, (_, option) in offered.items()} | {"set_": _Set}

        @wraps(command)
        def run(set_: list[str] | None = None, **arguments: Any) -> None:
            given = {key: arguments.pop(name) for name, (key, _) in offered.items()}
            command(**arguments, settings=chosen(given) | _assignments(set_ or []))

        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in options.items()
        ]
        run.__signature__ = inspect.Signature([*own.values(), *added])  # type: ignore[attr-defined]
        return run

    return decorate


def _assignments(items: list[str]) -> dict[str, Any]:
    """Return the keys and values of `--set KEY=VALUE`."""
    keys = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InputError(f"--set {item}: expected KEY=VALUE, e.g. --set training.optimizer.momentum=0.9")
        keys[key] = spec.value_of(value, f"--set {item}")
    return keys


def absolute(path: str | None) -> str | None:
    """Return a path of the command line, which is relative to the working folder, as an experiment file may have it."""
    return path and str(Path(path).expanduser().absolute())


def chosen(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys whose option was given."""
    return {key: value for key, value in given.items() if value is not None}


def resumable(resume: str | None, file: str | None, settings: dict[str, Any]) -> str | None:
    """Return where to read the experiment from: the file, or the run to continue.

    Raises:
        InputError: --resume was given together with an option other than --epochs and --device.
    """
    if resume and (file or settings.keys() - {"training.epochs", "training.device"}):
        raise InputError("--resume continues the run's own experiment: only --epochs and --device can be given with it")
    return f"runs:/{resume}/experiment.yaml" if resume else file


def read(file: str | None, kind: type[spec.Spec], settings: dict[str, Any], name: str = "") -> spec.Spec:
    """Read an experiment from a file or a run, by default from the task's own file, and change single keys.

    Raises:
        InputError: There is no such file or run, or the experiment is not valid.
    """
    if file and file.startswith("runs:/"):
        from trackdl.tracking import runs

        with runs.download(file) as path:
            runs.check_report(file.split("/")[1])
            return spec.parse(path.read_text(encoding="utf-8"), file, kind, settings, name)
    if file and (Path(file).absolute().parent / "report.yaml").is_file():
        os.environ.setdefault("TRACKDL_REPORT", str(Path(file).absolute().parent))
    name = name or spec.task_of(kind)
    return spec.load(Path(file) if file else spec.experiment_file(name), kind, settings, name)


def read_any(file: str, settings: dict[str, Any]) -> spec.Experiment:
    """Do as `read`, for an experiment of any kind.

    Raises:
        InputError: As `read`.
    """
    if not file.startswith("runs:/"):
        return spec.load_any(Path(file), settings)
    from trackdl.tracking import runs

    with runs.download(file) as path:
        runs.check_report(file.split("/")[1])
        return spec.load_any(path, settings)


def in_report(name: str) -> str:
    """Return the name of one of the report's experiments, given by name or by file; a file's folder is the report's.

    Raises:
        InputError: It is of a run, or a file outside of the report's folder.
    """
    if name.startswith("runs:/"):
        raise InputError(
            f"{name}: must be an experiment of the report, whose file has the printed numbers; give its name"
        )
    path = Path(name)
    if path.suffix != ".yaml":
        return name
    folder = path.absolute().parent.resolve()
    report = Path(os.environ.setdefault("TRACKDL_REPORT", str(folder)))
    if report.resolve() != folder:
        raise InputError(f"{name}: not in the report's folder, {report}; leave out --report, or name a file in it")
    return path.stem


def start(experiment: spec.Experiment, **how: Any) -> None:
    """Start a task once all that it needs has been imported; until then, an interruption ends the process at once."""
    from trackdl.tasks import _start

    import_module(f"trackdl.tasks.{experiment.task}")
    processes.freeze_imports()
    _start.start(experiment, **how)
