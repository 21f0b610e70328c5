"""The report's folder: where its files are, by which command one is run, and the committed tables of its grids."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from trackdl.errors import TrackdlError
from trackdl.spec import Experiment, RecoverSpec
from trackdl.system.paths import in_report, is_own_report, project_root, report_root
from trackdl.system.processes import environment_variables

# A committed table is used in place of a run; this, and the grid's name, is its id.
COMMITTED = "committed-"
# What a grid's run keeps: the table, and how it was made. Committed, they are results/NAME.csv and results/NAME.json.
TABLE, ORIGIN = "grid.csv", "grid.json"
# In a bundle, the folder is a copy: commands show the path that it had where the ledger was made.
_STATED: ContextVar[str | None] = ContextVar("the folder's path as a ledger states it", default=None)


@contextmanager
def copied(copy: Path, stated: str) -> Iterator[None]:
    """Take, within the block, a copy of a report's folder for the folder that a ledger states (`shown_path`)."""
    token = _STATED.set(stated)
    try:
        with environment_variables({"TRACKDL_REPORT": str(copy.absolute())}):
            yield
    finally:
        _STATED.reset(token)


def is_default() -> bool:
    """Return whether the folder in use is the project's own, `experiments/`."""
    if (stated := _STATED.get()) is not None:
        return stated == "experiments"
    return is_own_report()


def shown_path() -> str:
    """Return the folder's path as commands show it: from the project's root, or its name if it is elsewhere."""
    if (stated := _STATED.get()) is not None:
        return stated
    root, folder = project_root().absolute(), report_root().absolute()
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.name


def shown_option() -> str:
    """Do as `paths.report_option`, with the path as a ledger shows it."""
    return "" if is_default() else f"--report {shlex.quote(shown_path())} "


def command_of(experiment: Experiment) -> str:
    """Return the command that runs an experiment."""
    folder, report = shlex.quote(shown_path()), shown_option()  # a bundle may state any
    file = f"{folder}/{experiment.name}.yaml"
    if isinstance(experiment, RecoverSpec):
        return f"trackdl {report}recover {experiment.experiment.name}"
    if experiment.task != "grid" or not committed_file(experiment.name, TABLE).is_file():
        return f"trackdl run {file}"
    return f"trackdl {report}grid --file {file} --export {folder}/results"


def committed_file(grid: str, artifact: str) -> Path:
    """Return where the committed copy of an artifact of a grid's run is."""
    return in_report(f"results/{grid}{Path(artifact).suffix}")


def origin_of(grid: str) -> dict[str, Any]:
    """Return how a grid's committed table was made; empty if that is not known.

    Raises:
        TrackdlError: The file cannot be read.
    """
    file = committed_file(grid, ORIGIN)
    try:
        origin: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise TrackdlError(f"results/{file.name} cannot be read: {error}") from error
    return origin


def read_committed(run: str, artifact: str) -> bytes:
    """Return the committed copy of an artifact; `run` is the table's id.

    Raises:
        TrackdlError: It cannot be read.
    """
    file = committed_file(run.removeprefix(COMMITTED), artifact)
    if artifact not in (TABLE, ORIGIN):
        raise TrackdlError(f"{artifact} is not a committed table")
    try:
        return file.read_bytes()
    except OSError as error:
        raise TrackdlError(f"results/{file.name} cannot be read: {error.strerror}") from error
