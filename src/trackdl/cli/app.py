"""The command line: one thin command a task; options set single keys of its experiment file. More in `cli_models`.

Nothing heavy is imported before a command's arguments have been understood: help and a wrong word are answered at once.
"""

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from trackdl import spec
from trackdl.cli import ledger as cli_ledger
from trackdl.cli import models as cli_models
from trackdl.cli import options
from trackdl.errors import TrackdlError
from trackdl.system import console, processes

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


@app.callback()
def _settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    console.setup(debug=debug)
    processes.quiet_libraries()


@app.command()
def data(file: options.File = None) -> None:
    """Get all data sets, each checked against its SHA-256."""
    experiment = options.read(file, spec.DataSpec, {})
    from trackdl.tasks import data as task

    task.run(experiment)


@app.command()
def mnist(
    file: options.File = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Go on from this run's last checkpoint.")] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    set_: options.Set = None,
) -> None:
    """Task 1: train the MNIST network as the report did, and register it as mnist-cnn."""
    given = options.training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = options.read(options.resumable(resume, file, given), spec.MnistSpec, given)
    from trackdl.tasks import mnist as task

    processes.freeze_imports()
    task.show(task.run(experiment, resume))


@app.command()
def fashion(
    file: options.File = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN_ID", help="Go on from this run's last checkpoint.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="How many trainings, counted from the seed; with intervals.")
    ] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    set_: options.Set = None,
) -> None:
    """Task 2: train a Fashion-MNIST network, keep its best validation epoch, and register it as fashion-cnn."""
    given = options.chosen({"seeds": seeds}) | options.training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = options.read(options.resumable(resume, file, given), spec.FashionSpec, given)
    from trackdl.tasks import fashion as task

    processes.freeze_imports()
    task.show(task.run(experiment, resume))


@app.command()
def grid(
    file: options.File = None,
    workers: options.Workers = None,
    engine: options.EngineName = "local",
    gpus_per_worker: options.Gpus = 0,
    status: Annotated[
        bool, typer.Option("--status", help="Only say how the cells stand; exit 1 unless every cell is done.")
    ] = False,
    export: Annotated[str | None, typer.Option(metavar="FOLDER", help="Write the finished table there.")] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    set_: options.Set = None,
) -> None:
    """Task 2's grid: each of the report's networks, each fold exactly once; goes on where it was stopped."""
    given = options.training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = options.read(file, spec.GridSpec, given)
    from trackdl.tasks import grid as task

    processes.freeze_imports()
    if status:
        raise typer.Exit(0 if task.show_status(experiment) else 1)
    from trackdl.workers import engines

    _check_device(engine, experiment.training.device)
    chosen, count = engines.choose(engine, workers, gpus_per_worker)
    task.show(task.run(experiment, count, Path(export) if export else None, engine=chosen))


@app.command()
def search(
    file: options.File = None,
    trials: Annotated[
        int | None, typer.Option(help="End after so many trials, earlier commands' and refused ones too.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="End after so many minutes.")] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="Two objectives: accuracy and training time.")] = False,
    workers: options.Workers = None,
    engine: options.EngineName = "local",
    gpus_per_worker: options.Gpus = 0,
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    set_: options.Set = None,
) -> None:
    """Look for a better Fashion-MNIST network; goes on where it was stopped, and writes down the best one."""
    chosen = options.chosen({"study.trials": trials, "study.minutes": minutes})
    if pareto:
        chosen["study.objectives"] = "accuracy and time"
    given = chosen | options.training(epochs, None, None, seed, device, precision, set_)
    experiment = options.read(file, spec.SearchSpec, given)
    from trackdl.tasks import search as task
    from trackdl.workers import engines

    processes.freeze_imports()
    _check_device(engine, experiment.training.device)
    spread, count = engines.choose(engine, workers, gpus_per_worker)
    task.show(task.run(experiment, count, engine=spread))


@app.command()
def transfer(
    file: options.File = None,
    source: Annotated[
        str | None, typer.Option(help="What to start from: models:/NAME@ALIAS or /VERSION; @report is the report's.")
    ] = None,
    preprocessing: Annotated[str | None, typer.Option(help="report (the report's transform) or mnist.")] = None,
    greek_dir: Annotated[str | None, typer.Option(help="Folder of class folders with letters to learn.")] = None,
    test_dir: Annotated[str | None, typer.Option(help="Such a folder of letters that are only tested.")] = None,
    folds: Annotated[int | None, typer.Option(help="Judge by so many folds instead of leave-one-out.")] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    set_: options.Set = None,
) -> None:
    """Task 3: teach the registered MNIST network Greek letters, and register it as greek-cnn."""
    given = {
        "source": source,
        "data.preprocessing": preprocessing,
        "data.folder": greek_dir,
        "data.test_folder": test_dir,
        "data.folds": folds,
    }
    chosen = options.chosen(given) | options.training(epochs, batch_size, lr, seed, device, precision, set_)
    experiment = options.read(file, spec.TransferSpec, chosen)
    from trackdl.tasks import transfer as task

    processes.freeze_imports()
    task.show(task.run(experiment))


@app.command()
def heart(
    file: options.File = None,
    csv: Annotated[str | None, typer.Option(help="A table of the heart table's columns, instead of its rows.")] = None,
    test_csv: Annotated[str | None, typer.Option(help="Such a table to test on; else a fifth of --csv is.")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many trainings are tested, counted from the seed.")] = None,
    folds: Annotated[int | None, typer.Option(help="Folds of the cross-validation.")] = None,
    repeats: Annotated[int | None, typer.Option(help="How often it is repeated on other folds.")] = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    seed: options.Seed = None,
    device: options.Device = None,
    set_: options.Set = None,
) -> None:
    """Task 4: the report's networks on heart disease by four protocols, beside baselines; registers heart-mlp."""
    given = {"data.csv": csv, "data.test_csv": test_csv, "seeds": seeds, "folds": folds, "repeats": repeats}
    chosen = options.chosen(given) | options.training(epochs, batch_size, lr, seed, device, None, set_)
    experiment = options.read(file, spec.HeartSpec, chosen)
    from trackdl.tasks import heart as task

    processes.freeze_imports()
    task.show(task.run(experiment))


@app.command("main")
def main_task(file: options.File = None) -> None:
    """The whole report: every step of experiments/main.yaml, then our numbers beside the report's."""
    experiment = options.read(file, spec.MainSpec, {})
    from trackdl.tasks import main as task

    processes.freeze_imports()
    task.run(experiment)


cli_models.add_to(app)


cli_ledger.add_to(app, options.read)


def _check_device(engine: str, name: str) -> None:
    """Refuse a device that is not here before every trial fails for it; a cluster's machines have their own."""
    if engine == "local":
        from trackdl.training.devices import resolve_device

        resolve_device(name)


def _terminated(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - the signature of a signal handler
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> None:
    """Run the command line; exit code 2 for wrong input, 1 for a failure, 130 when interrupted."""
    # No pickle in any model that trackdl loads, whoever else has made it, and whatever was set for others.
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    # What is trained here is nobody else's business.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's
            signal.signal(number, _terminated)
    words = sys.argv[1:]
    debug = "--debug" in words
    try:
        # It may stand after the command too.
        app(["--debug"] * debug + [word for word in words if word != "--debug"])
    except KeyboardInterrupt:
        typer.echo("trackdl: interrupted; what was finished is kept", err=True)
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        typer.echo(f"trackdl: {_told(error)}", err=True)
        raise SystemExit(error.exit_code if isinstance(error, TrackdlError) else 1) from None


def _told(error: Exception) -> str:
    """Return what a person is told of an error; one that nobody foresaw takes one line."""
    if isinstance(error, TrackdlError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error}. Nothing is half-written; make room, and the same command goes on"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"unexpected: {what:.500}; `trackdl --debug COMMAND` shows where"
