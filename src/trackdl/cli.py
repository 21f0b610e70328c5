"""The command line: one thin command a task; options set single keys of its experiment file. More in `cli_models`.

Nothing heavy is imported before a command's arguments have been understood: help and a wrong word are answered at once.
"""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import yaml

from trackdl import cli_ledger, cli_models, console, paths, spec
from trackdl.errors import InputError, TrackdlError

__all__ = ["main"]

# `mlflow run -P batch_size=5` becomes `--batch_size 5`: both spellings are the same option.
_SETTINGS = {"token_normalize_func": lambda token: token.replace("_", "-"), "help_option_names": ["-h", "--help"]}

app = typer.Typer(
    help="One published deep-learning report, made a workflow to run, compare, search, serve and doubt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)

File = Annotated[
    str | None, typer.Option(help="Experiment file, or runs:/RUN_ID/experiment.yaml; experiments/TASK.yaml by default.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs to train.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a step.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="The optimiser's learning rate.")]
Seed = Annotated[int | None, typer.Option(help="Decides first weights, order and dropout.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")]
Workers = Annotated[int | None, typer.Option(help="Processes, of one thread each; one for each core.")]
EngineName = Annotated[str, typer.Option("--engine", help="local: this machine's processes; ray: a Ray cluster.")]
Gpus = Annotated[float, typer.Option("--gpus-per-worker", help="With --engine ray: a part of a GPU, or several.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key; repeatable.")]


@app.callback()
def _settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    console.setup(debug=debug)


@app.command()
def data(file: File = None) -> None:
    """Get all data sets, each checked against its SHA-256."""
    experiment = _read(file, spec.DataSpec, {})
    from trackdl.tasks import data as task

    task.run(experiment)


@app.command()
def mnist(
    file: File = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Go on from this run's last checkpoint.")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    set_: Set = None,
) -> None:
    """Task 1: train the MNIST network as the report did, and register it as mnist-cnn."""
    given = _training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = _read(_resumable(resume, file, given), spec.MnistSpec, given)
    from trackdl.tasks import mnist as task

    task.show(task.run(experiment, resume))


@app.command()
def fashion(
    file: File = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Go on from this run's last checkpoint.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="How many trainings, counted from the seed; with intervals.")
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    set_: Set = None,
) -> None:
    """Task 2: train a Fashion-MNIST network, keep its best validation epoch, and register it as fashion-cnn."""
    given = _chosen({"seeds": seeds}) | _training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = _read(_resumable(resume, file, given), spec.FashionSpec, given)
    from trackdl.tasks import fashion as task

    task.show(task.run(experiment, resume))


@app.command()
def grid(
    file: File = None,
    workers: Workers = None,
    engine: EngineName = "local",
    gpus_per_worker: Gpus = 0,
    status: Annotated[
        bool, typer.Option("--status", help="Only say how the cells stand; exit 1 if any lacks.")
    ] = False,
    export: Annotated[str | None, typer.Option(metavar="FOLDER", help="Write the finished table there.")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    set_: Set = None,
) -> None:
    """Task 2's grid: every configuration of the report's, each fold exactly once; goes on where it was stopped."""
    given = _training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = _read(file, spec.GridSpec, given)
    from trackdl.tasks import grid as task

    if status:
        raise typer.Exit(0 if task.show_status(experiment) else 1)
    from trackdl import engines

    chosen, count = engines.choose(engine, workers, gpus_per_worker)
    task.show(task.run(experiment, count, Path(export) if export else None, engine=chosen))


@app.command()
def search(
    file: File = None,
    trials: Annotated[int | None, typer.Option(help="End after so many trials, those of earlier commands too.")] = None,
    minutes: Annotated[float | None, typer.Option(help="End after so many minutes.")] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="Two objectives: accuracy and training time.")] = False,
    workers: Workers = None,
    engine: EngineName = "local",
    gpus_per_worker: Gpus = 0,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    set_: Set = None,
) -> None:
    """Look for a better Fashion-MNIST network; goes on where it was stopped, and writes down the best one."""
    chosen = _chosen({"study.trials": trials, "study.minutes": minutes})
    if pareto:
        chosen["study.objectives"] = "accuracy and time"
    given = chosen | _training(epochs, None, None, seed, device, precision, set_)
    experiment = _read(file, spec.SearchSpec, given)
    from trackdl import engines
    from trackdl.tasks import search as task

    spread, count = engines.choose(engine, workers, gpus_per_worker)
    task.show(task.run(experiment, count, engine=spread))


@app.command()
def transfer(
    file: File = None,
    source: Annotated[
        str | None, typer.Option(help="The network to start from: models:/NAME@ALIAS or /VERSION.")
    ] = None,
    preprocessing: Annotated[str | None, typer.Option(help="report (the report's transform) or mnist.")] = None,
    greek_dir: Annotated[str | None, typer.Option(help="Folder of class folders with letters to learn.")] = None,
    test_dir: Annotated[str | None, typer.Option(help="Such a folder of letters that are only tested.")] = None,
    folds: Annotated[int | None, typer.Option(help="Judge by so many folds instead of leave-one-out.")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    set_: Set = None,
) -> None:
    """Task 3: teach the registered MNIST network Greek letters, and register it as greek-cnn."""
    given = {
        "source": source,
        "data.preprocessing": preprocessing,
        "data.folder": greek_dir,
        "data.test_folder": test_dir,
        "data.folds": folds,
    }
    chosen = _chosen(given) | _training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = _read(file, spec.TransferSpec, chosen)
    from trackdl.tasks import transfer as task

    task.show(task.run(experiment))


@app.command()
def heart(
    file: File = None,
    csv: Annotated[str | None, typer.Option(help="A table of the heart table's columns, instead of its rows.")] = None,
    test_csv: Annotated[str | None, typer.Option(help="Such a table to test on; else a fifth of --csv is.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many trainings are tested, counted from the seed.")] = None,
    folds: Annotated[int | None, typer.Option(help="Folds of the cross-validation.")] = None,
    repeats: Annotated[int | None, typer.Option(help="How often it is repeated on other folds.")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Seed = None,
    set_: Set = None,
) -> None:
    """Task 4: the report's networks on heart disease by four protocols, beside baselines; registers heart-mlp."""
    given = {"data.csv": csv, "data.test_csv": test_csv, "seeds": seeds, "folds": folds, "repeats": repeats}
    chosen = _chosen(given) | _training(epochs, batch_size, lr, seed, None, None, set_)
    experiment = _read(file, spec.HeartSpec, chosen)
    from trackdl.tasks import heart as task

    task.show(task.run(experiment))


@app.command("main")
def main_task(file: File = None) -> None:
    """The whole report: every step of experiments/main.yaml, then our numbers beside the report's."""
    experiment = _read(file, spec.MainSpec, {})
    from trackdl.tasks import main as task

    task.run(experiment)


cli_models.add_to(app)


def _resumable(resume: str | None, file: str | None, given: dict[str, Any]) -> str | None:
    """Return where the experiment is read from: the file, or the run that is gone on with."""
    if resume and (file or given.keys() - {"training.epochs"}):
        raise InputError("--resume goes on by the run's own experiment: beside it only --epochs can be given")
    return f"runs:/{resume}/experiment.yaml" if resume else file


def _training(
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    set_: list[str] | None,
) -> dict[str, Any]:
    """Return the keys that the training options set, and those of --set."""
    given: dict[str, Any] = {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.optimizer.lr": lr,
        "training.seed": seed,
        "training.device": device,
        "training.precision": precision,
    }
    chosen = _chosen(given)
    for item in set_ or []:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InputError(f"--set {item}: expected KEY=VALUE, e.g. --set training.optimizer.momentum=0.9")
        chosen[key] = _value(item, value)
    return chosen


def _chosen(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def _value(item: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {item}: the value is not valid YAML") from error


def _read(file: str | None, kind: type[spec.Spec], overrides: dict[str, Any]) -> spec.Spec:
    """Read an experiment file from a path, from a run, or the task's own."""
    if file and file.startswith("runs:/"):
        from trackdl.tracking import runs

        with runs.download(file) as path:
            return spec.parse(path.read_text(encoding="utf-8"), file, kind, overrides)
    own = paths.project_root() / "experiments" / f"{spec.task_of(kind)}.yaml"
    return spec.load(Path(file) if file else own, kind, overrides)


cli_ledger.add_to(app, _read)


def _terminated(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - the signature of a signal handler
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> None:
    """Run the command line; exit code 2 for wrong input, 1 for a failure, 130 when interrupted."""
    # No pickle in any model that trackdl loads, whoever else has made it.
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    # What is trained here is nobody else's business.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    try:
        app()
    except (TrackdlError, OSError) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if "--debug" in sys.argv or not (isinstance(error, TrackdlError) or full):
            raise
        what = f"{error}. Nothing is half-written; make room, and the same command goes on" if full else str(error)
        typer.echo(f"trackdl: {what}", err=True)
        raise SystemExit(getattr(error, "exit_code", 1)) from None
    except KeyboardInterrupt:
        typer.echo("trackdl: interrupted; what was finished is kept", err=True)
        raise SystemExit(130) from None
