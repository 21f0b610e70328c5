"""A study's trials as MLflow runs below the study's run: opened, written to, ended, and reopened.

The study's own store decides what is done; what is written here follows it, and is written once however often it was
interrupted.
"""

import logging
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any

import mlflow
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from trackdl.errors import TrackdlError
from trackdl.system import processes
from trackdl.tracking import outbox, pages, runs
from trackdl.tracking.pages import PARENT
from trackdl.tracking.runs import Run
from trackdl.tracking.spool import Record
from trackdl.tracking.store import client, translate_errors

log = logging.getLogger(__name__)

STUDY_ID = "trackdl.study_id"
_NO_SUCH_RUN = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


def study_runs(task: str, study: str) -> list[tuple[Run, str | None]]:
    """Return the report's runs of studies of a name, newest first, each with its study's id once it has one."""
    found = runs.find_own(task, f"tags.`trackdl.study` = '{study}'")
    return [(run, run.info.data.tags.get(STUDY_ID)) for run in found]


def open_trial(parent: Run, known: str | None, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> Run:
    """Return a trial's run, RUNNING, below the study's run `parent`.

    The run that the trial has, `known` by its id, is reopened, unless it was deleted; `name` is for a new one.
    """
    here = {"trackdl.host": socket.gethostname(), "trackdl.process": processes.tag(), PARENT: parent.id}
    texts = {key: str(value) for key, value in {**tags, **here}.items()}
    with outbox.wait_for_store("opening a trial's run", known or parent.id):
        if known and _exists(known):
            client().update_run(known, status=RunStatus.to_string(RunStatus.RUNNING))
            run = Run(known)
            run.tags(texts)
            return run
        made = client().create_run(parent.experiment_id, run_name=name, tags=texts)
    run = Run(made.info.run_id)
    run.logged = set()
    run.tags({}, params)
    return run


def adopt(parent: Run, run_ids: Iterable[str]) -> None:
    """Make `parent` the parent of trials' runs whose former parent was deleted."""
    for run_id in run_ids:
        with translate_errors(f"run {run_id}"):
            exists = _exists(run_id)
        if exists:
            Run(run_id).tags({PARENT: parent.id})


def _exists(run_id: str) -> bool:
    """Return whether a run exists and is not deleted; a store that does not answer raises."""
    try:
        return bool(client().get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != _NO_SUCH_RUN:
            raise
        return False


def log_once(run: Run, curves: Mapping[str, list[tuple[int, float]]]) -> None:
    """Log (step, value) points of those metrics that the run does not have yet."""
    if run.logged is None:
        run.logged = set(run.info.data.metrics)
    for name in pages.headlines_first(curves):
        if name not in run.logged:
            run.curve(name, curves[name])
    run.send()
    run.logged |= curves.keys()


def close_trial(run: Run, status: str) -> None:
    """End a trial's run: FINISHED, FAILED or KILLED."""
    run.send()
    outbox.deliver(run.id, Record("end", {"status": status, "time": int(time.time() * 1000)}))


def kill(opened: Iterable[Run]) -> None:
    """Mark runs KILLED; one that cannot be marked, e.g. because it was deleted, does not stop the others."""
    for run in opened:
        try:
            close_trial(run, "KILLED")
        except TrackdlError as error:
            log.warning("a trial's run could not be marked KILLED: %s", error)


def unfinished(task: str, parent: Run) -> dict[str, Run]:
    """Return the runs of a study's trials that have neither finished nor failed, by their tag `trackdl.trial`.

    A run is created before its id is kept with its trial; if the process was killed in between, it is found here.
    """
    where = f"tags.`{PARENT}` = '{parent.id}' and attributes.status != 'FINISHED' and attributes.status != 'FAILED'"
    return {run.info.data.tags.get("trackdl.trial", ""): run for run in reversed(runs.find(task, where))}


def page(experiment_id: str, run: Run) -> str:
    """Return the address of a run's page: on the tracking server, else on the pages of `trackdl ui`."""
    return pages.run_page(pages.base(mlflow.get_tracking_uri()), experiment_id, run.id)
