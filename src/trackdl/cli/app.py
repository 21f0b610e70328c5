"""The command line: one thin command per task, whose options set single keys of its experiment file.

Nothing heavy is imported before a command's arguments are parsed, so help and wrong arguments are answered at once.
"""

import errno
import importlib.metadata
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from trackdl import spec
from trackdl.cli import ledger, models, options
from trackdl.errors import InputError, TrackdlError
from trackdl.system import console, interruptions, processes

# `mlflow run -P batch_size=5` becomes `--batch_size 5`: both spellings are the same option.
_SETTINGS = {"token_normalize_func": lambda token: token.replace("_", "-"), "help_option_names": ["-h", "--help"]}

_TASKS = "Run"  # the help's heading of the commands that get data and train

app = typer.Typer(
    help="Turn a published deep-learning report into a workflow that you can run, check, compare, search and serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_SETTINGS,
)


def _print_version(asked: bool) -> None:
    if asked:
        console.say(f"trackdl {importlib.metadata.version('trackdl')}")
        raise typer.Exit


@app.callback()
def _settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="TRACKDL_REPORT", help="The report's folder; by default, experiments/."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - it is answered before
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if report:
        if not report.is_dir():
            raise InputError(f"--report {report}: there is no such folder; `trackdl new {report}` makes one")
        os.environ["TRACKDL_REPORT"] = str(report.absolute())  # for worker processes too
    console.setup(debug=debug)
    processes.keep_memory()
    processes.quiet_libraries()


@app.command(rich_help_panel=_TASKS)
def data(file: options.File = None) -> None:
    """Get the report's data sets, each checked against its SHA-256."""
    experiment = options.read(file, spec.DataSpec, {})
    from trackdl.tasks import data as task

    task.run(experiment)


@app.command(rich_help_panel=_TASKS)
@options.with_training()
def mnist(
    file: options.File = None, resume: options.Resume = None, seeds: options.Seeds = None, *, settings: dict[str, Any]
) -> None:
    """Task 1: train the MNIST network as the report did, and register it as mnist-cnn."""
    _classify("mnist", file, resume, options.chosen({"seeds": seeds}) | settings)


@app.command(rich_help_panel=_TASKS)
@options.with_training()
def fashion(
    file: options.File = None, resume: options.Resume = None, seeds: options.Seeds = None, *, settings: dict[str, Any]
) -> None:
    """Task 2: train a Fashion-MNIST network, keep its best validation epoch, and register it as fashion-cnn."""
    _classify("fashion", file, resume, options.chosen({"seeds": seeds}) | settings)


def _classify(name: str, file: str | None, resume: str | None, settings: dict[str, Any]) -> None:
    experiment = options.read(options.resumable(resume, file, settings), spec.ClassifySpec, settings, name)
    _start(experiment, resume=resume)


# What the worker processes of a grid, a search and a recovery import, their figures' process included.
_OF_WORKERS = (
    "trackdl.plots.grid",
    "trackdl.plots.search",
    "trackdl.studies.grid.fits",
    "trackdl.studies.search.segments",
    "trackdl.workers.figures",
)


def _start(experiment: spec.Experiment, **how: Any) -> None:
    if isinstance(experiment, spec.GridSpec | spec.SearchSpec | spec.RecoverSpec):
        from trackdl.workers.process import fork_workers

        fork_workers(_OF_WORKERS)  # which imports them while this process imports the task
    from trackdl.tasks import _start as tasks
    from trackdl.workers.pool import work_through

    if how.get("engine", work_through) is work_through:  # a cluster's machines have devices of their own
        tasks.check_device(experiment)
    options.start(experiment, **how)


def _spread(experiment: spec.Experiment, engine: str, workers: int | None, gpus_per_worker: float, **how: Any) -> None:
    from trackdl.workers import engines

    chosen, count = engines.choose(engine, workers, gpus_per_worker)
    _start(experiment, workers=count, engine=chosen, **how)


@app.command(rich_help_panel=_TASKS)
@options.with_training()
def grid(
    file: options.File = None,
    workers: options.Workers = None,
    engine: options.EngineName = "local",
    gpus_per_worker: options.Gpus = 0,
    status: Annotated[
        bool, typer.Option("--status", help="Only show which combinations are done; exit 1 unless all are.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As --status, printed as JSON.")] = False,
    export: Annotated[str | None, typer.Option(metavar="FOLDER", help="Write the finished table there.")] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Train an experiment with every value of some of its keys, each fit once; a stopped grid continues."""
    experiment = options.read(file, spec.GridSpec, settings)
    if status or as_json:
        from trackdl.tasks import grid as task

        raise typer.Exit(0 if task.show_status(experiment, as_json=as_json) else 1)
    _spread(experiment, engine, workers, gpus_per_worker, export=Path(export) if export else None)


@app.command(rich_help_panel=_TASKS)
def recover(
    name: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="An image experiment of the report, by name or by file.")
    ],
    seeds: Annotated[int | None, typer.Option(min=3, help="How often each candidate is trained; 5 by default.")] = None,
    workers: options.Workers = None,
    engine: options.EngineName = "local",
    gpus_per_worker: options.Gpus = 0,
    export: Annotated[str | None, typer.Option(metavar="FOLDER", help="Write the trainings' table there.")] = None,
) -> None:
    """Find out what a report leaves out: train every candidate and judge each by the printed numbers.

    The candidates are the values of the keys that the experiment's file lists under `unknown`. Every combination is
    trained with every seed: three keys with two values each, and five seeds, are 40 trainings.
    """
    experiment = spec.recovery_of(options.in_report(name), options.chosen({"seeds": seeds}))
    _spread(experiment, engine, workers, gpus_per_worker, export=Path(export) if export else None)


@app.command(rich_help_panel=_TASKS)
@options.with_training("training.batch_size", "training.optimizer.lr")
def search(
    file: options.File = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Number of trials of the study; earlier ones and those rejected as too expensive count too."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Start nothing after so many minutes; epochs under way are finished.")
    ] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="Two objectives: accuracy and training time.")] = False,
    workers: options.Workers = None,
    engine: options.EngineName = "local",
    gpus_per_worker: options.Gpus = 0,
    *,
    settings: dict[str, Any],
) -> None:
    """Search for a better network than an experiment's and write the best to a file; a stopped search continues."""
    objectives = "accuracy and time" if pareto else None
    given = {"study.trials": trials, "study.minutes": minutes, "study.objectives": objectives}
    experiment = options.read(file, spec.SearchSpec, options.chosen(given) | settings)
    _spread(experiment, engine, workers, gpus_per_worker)


@app.command(rich_help_panel=_TASKS)
@options.with_training()
def transfer(
    file: options.File = None,
    source: Annotated[
        str | None,
        typer.Option(help="The network to start from: models:/NAME@ALIAS or /VERSION; @report is the report's."),
    ] = None,
    preprocessing: Annotated[str | None, typer.Option(help="report (the report's transform) or mnist.")] = None,
    greek_dir: Annotated[
        str | None, typer.Option(help="Folder of training letters, with a folder for each class.")
    ] = None,
    test_dir: Annotated[str | None, typer.Option(help="Such a folder of letters, used for testing only.")] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="Number of folds; by default, up to 100 images are held out one by one."),
    ] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Task 3: teach the registered MNIST network Greek letters, and register it as greek-cnn."""
    given = {
        "source": source,
        "data.preprocessing": preprocessing,
        "data.folder": options.absolute(greek_dir),
        "data.test_folder": options.absolute(test_dir),
        "data.folds": folds,
    }
    experiment = options.read(file, spec.TransferSpec, options.chosen(given) | settings)
    _start(experiment)


@app.command(rich_help_panel=_TASKS)
@options.with_training("training.precision")
def heart(
    file: options.File = None,
    csv: Annotated[Path | None, typer.Option(help="A table with the heart table's columns, to use instead.")] = None,
    test_csv: Annotated[
        Path | None, typer.Option(help="Such a table to test on; by default, a fifth of --csv is.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of trainings to test, with seeds counted from --seed.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Number of cross-validation folds.")] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Number of repetitions of the cross-validation, on other folds.")
    ] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Task 4: train networks on the heart table, or on one with its columns, and compare them with baselines."""
    files = {key: path and str(path.absolute()) for key, path in (("data.csv", csv), ("data.test_csv", test_csv))}
    given = {**files, "seeds": seeds, "folds": folds, "repeats": repeats}
    experiment = options.read(file, spec.TableSpec, options.chosen(given) | settings, "heart")
    _start(experiment)


@app.command("run", rich_help_panel=_TASKS)
@options.with_training()
def run_file(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An experiment file, or runs:/RUN_ID/experiment.yaml.")],
    resume: options.Resume = None,
    workers: options.Workers = None,
    seeds: options.Seeds = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Run any experiment file, or a whole report.yaml; the report is the file's folder unless --report names one."""
    if resume and file != (own := f"runs:/{resume}/experiment.yaml"):
        raise InputError(f"--resume {resume} continues that run's own experiment, not {file}: give {own} as FILE")
    if not file.startswith("runs:/"):
        os.environ.setdefault("TRACKDL_REPORT", str(Path(file).absolute().parent))
    settings, how = options.chosen({"seeds": seeds}) | settings, options.chosen({"resume": resume, "workers": workers})
    if Path(file).name == "report.yaml":
        if settings or how:
            raise InputError(f"{file}: a whole report takes no options; give them with one of its experiments")
        main_task(file)
        return
    _start(options.read_any(options.resumable(resume, None, settings) or file, settings), **how)


@app.command("main", rich_help_panel=_TASKS)
def main_task(file: options.File = None) -> None:
    """Run the whole report: every step of its report.yaml, then print our numbers next to the report's."""
    experiment = options.read(file, spec.ReportSpec, {})
    from trackdl.tasks import report as task

    processes.freeze_imports()
    task.run(experiment)


for _panel, _commands in (models.COMMANDS | ledger.COMMANDS).items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command line; exit code 2 for wrong input, 1 for a failure, 130 when interrupted."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        # No model that trackdl loads may contain a pickle, whoever made it and whatever the environment allows.
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # Threads of a fit that wait for each other sleep. If they spin, as they do by default, and other programs want
        # the cores too, a fit takes five to ten times as long; alone it takes as long as with spinning.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        processes.collect_rarely()
        console.hide_passwords()
        app(_global_first(arguments))
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != 130:  # Typer's answer to KeyboardInterrupt
            raise
        with suppress(OSError):  # Ctrl-C ends the reader of a pipe too
            typer.echo(interruptions.MESSAGE, err=True)
        raise SystemExit(130) from None
    except Exception as error:
        if debug:
            raise
        message, code = _shown(error)
        typer.echo(f"trackdl: {console.entry(message)}", err=True)
        raise SystemExit(code) from None


def _global_first(arguments: list[str]) -> list[str]:
    """Return the arguments with --debug and --report DIR before the command: `mlflow run -P` puts them after it."""
    first, rest, left = [], [], iter(arguments)
    for argument in left:
        if argument == "--debug" or argument.startswith("--report="):
            first.append(argument)
        elif argument == "--report":
            first += [argument, *([value] if (value := next(left, None)) is not None else [])]
        else:
            rest.append(argument)
    return first + rest


# What a wrong path causes, wherever it is used.
_OF_PATHS = (
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
)


def _shown(error: Exception) -> tuple[str, int]:
    """Return the message shown for an error and the exit code; an unexpected one takes a single line."""
    if isinstance(error, TrackdlError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error}. No file is half-written; make room, and run the same command again", 1
    if isinstance(error, OSError) and error.errno in _OF_PATHS and error.filename:
        return f"{error.filename!s:.200}: {error.strerror}", 2
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return f"unexpected: {line:.500}; `trackdl --debug COMMAND` shows where", 1
