"""Writes to runs: sent to the tracking store, or kept on disk, in order, until it answers again.

Every write to a run goes through `deliver`. A store that does not answer costs a training a few seconds once; after
that a thread checks for it. What is still kept when a process ends is sent by the next command of any task
(`send_waiting`). Nothing is stored twice: MLflow identifies a point by its name, step, value and time, which were set
when it was measured, and a file or tag that is sent again replaces itself.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import mlflow
import requests
import sqlalchemy
from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from trackdl.errors import TrackdlError, first_line
from trackdl.system import databases, outages, processes
from trackdl.tracking import system_metrics
from trackdl.tracking.spool import Record, discard, keep, read, run_folders, sweep, waiting
from trackdl.tracking.store import client, defer_interrupts, spool_folder, store_gone, translate_errors

log = logging.getLogger(__name__)

# Seconds and number: MLflow's own retries would hold up a training for four minutes.
QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
FINISHED = RunStatus.to_string(RunStatus.FINISHED)
SEND_SECONDS, SEND_BYTES = 20.0, 100_000  # a record's time, with a second more for so many bytes of its file
LOOK_EVERY = 2.0  # seconds
LOOK_SECONDS = 2.0  # timeout


@dataclass
class _Store:
    """Whether a store answers, as far as this process knows."""

    gone_since: float | None = None
    answers: threading.Event = field(default_factory=threading.Event)


_stores: dict[str, _Store] = {}


def _store() -> _Store:
    client()  # sets MLflow's tracking URI
    return _stores.setdefault(mlflow.get_tracking_uri(), _Store())


def deliver(run_id: str, record: Record) -> None:
    """Send a record after those of its run that wait, or keep it if the store does not answer.

    Raises:
        InputError, TrackdlError: The store refuses it, or it cannot be kept because the disk is full.
    """
    store = _store()
    if store.gone_since is not None and not store.answers.is_set():
        keep(run_id, record)
        return
    try:
        with processes.environment_variables(QUICK):
            if store.gone_since is not None or waiting(run_id):
                if not send_waiting():
                    keep(run_id, record)
                    return
                _mark_back(store)
            with defer_interrupts():
                _send(run_id, record)
    except Exception as error:
        if not store_gone(error):
            with translate_errors(f"run {run_id}"):
                raise
        keep(run_id, record)
        _mark_away(store, error)
    else:
        system_metrics.revive(run_id)


def _send(run_id: str, record: Record) -> None:
    size = record.file.stat().st_size if record.file else 0
    with outages.one_call(mlflow.get_tracking_uri(), SEND_SECONDS + size / SEND_BYTES):
        _send_now(run_id, record)


def _send_now(run_id: str, record: Record) -> None:
    content, to = record.content, client()
    if record.kind == "metrics":
        to.log_batch(run_id, metrics=[Metric(**item, run_id=run_id) for item in content["metrics"]])
    elif record.kind == "tags":
        tags = [RunTag(key, value) for key, value in content["tags"].items()]
        to.log_batch(run_id, params=[Param(*item) for item in content.get("params", {}).items()], tags=tags)
    elif record.kind == "file":
        to.log_artifact(run_id, str(record.file), content["folder"])
    elif record.kind == "input":
        entity = Dataset(**content["dataset"])
        to.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", content["context"])])])
    elif record.kind == "end":
        to.set_terminated(run_id, content["status"], content["time"])
    else:
        raise TrackdlError(f"run {run_id}: a record of the unknown kind {record.kind!r}")


def _mark_away(store: _Store, error: Exception) -> None:
    uri = mlflow.get_tracking_uri()
    if store.gone_since is None:
        store.gone_since = time.monotonic()
        log.warning(
            "%s does not answer (%s); what is measured is kept in %s and sent when it is back",
            databases.redact(uri),
            first_line(error)[:200],
            spool_folder(),
        )
    store.answers.clear()

    def look() -> None:
        time.sleep(LOOK_EVERY)
        while not _answers(uri):
            time.sleep(LOOK_EVERY)
        store.answers.set()

    threading.Thread(target=look, name="tracking store", daemon=True).start()


def _mark_back(store: _Store) -> None:
    if store.gone_since is not None:
        log.info("the tracking store answers again, after %.0f s", time.monotonic() - store.gone_since)
        store.gone_since = None


def _answers(uri: str) -> bool:
    try:
        if uri.startswith("http"):
            # Its /health answers even if its database is away.
            search = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
            return requests.get(search, timeout=LOOK_SECONDS).status_code < 500
        limit = {"timeout": LOOK_SECONDS} if databases.sqlite_file(uri) else {"connect_timeout": int(LOOK_SECONDS)}
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=limit)
        with engine.connect() as connection:
            # A SQLite file that another process has locked can still be read.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if databases.sqlite_file(uri) else "SELECT 1")
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError):
        return False
    return True


def send_waiting(patience: float = 0) -> bool:
    """Send all records that wait for this store, whichever process kept them, each run's in order.

    Another process that is sending them is waited for, `patience` seconds; return whether it has ended.

    Raises:
        MlflowException: The store does not answer.
    """
    if not run_folders():
        return True
    try:
        with FileLock(spool_folder() / ".lock", timeout=patience):
            for folder in run_folders():
                _send_run(folder)
    except Timeout:
        log.info("another process is sending what waits in %s", spool_folder())
        return False
    return True


def _send_run(folder: Path) -> None:
    """Send a run's records, including those that another process keeps meanwhile."""
    sent = 0
    while places := waiting(folder.name):
        try:
            with defer_interrupts():
                _send(folder.name, read(places[0]))
        except (MlflowException, requests.RequestException, outages.TooSlow) as error:
            if store_gone(error):
                raise
            log.error("the store refuses the record in %s: %s. Delete the folder to give it up", places[0], error)
            return
        discard(places[0])
        sent += 1
    sweep(folder)
    if sent:
        log.info("run %s: %d records that had been kept were sent", folder.name, sent)


def end(run_id: str, status: str) -> None:
    """End a run that was opened here; if the store is away, its end is kept after its other records."""
    store, uri = _store(), mlflow.get_tracking_uri()
    record = Record("end", {"status": status, "time": int(time.time() * 1000)})
    if status == FINISHED and store.gone_since is not None and _answers(uri):
        store.answers.set()  # it is back since the thread last checked; an interrupted run does not wait for this check
    try:
        deliver(run_id, record)
    finally:
        with processes.environment_variables(QUICK):
            system_metrics.let_go(run_id, wait=store.gone_since is None)
    if mlflow.active_run() is None and any(waiting(folder.name) for folder in run_folders()):
        log.warning("%s: %s", databases.redact(uri), _what_waits())


def _what_waits() -> str:
    """Describe how much waits for the store, where, and how it is sent."""
    kept = [place for folder in run_folders() for place in waiting(folder.name)]
    size = sum(path.stat().st_size for place in kept for path in place.rglob("*") if path.is_file())
    return (
        f"{len(kept)} records of {len({place.parent for place in kept})} runs ({size / 1e6:.1f} MB) wait in "
        f"{spool_folder()}; the next command of any task sends them once the store answers (`trackdl data`, say)"
    )


@contextmanager
def wait_for_store(what: str, run_id: str | None = None) -> Iterator[None]:
    """Call the store in the block, after it has received all earlier writes to a run; wait for it if necessary.

    Errors begin with `what` the calls concern, e.g. "run 3f2a".

    Raises:
        InputError: It does not exist, or its name is invalid.
        TrackdlError: The store failed or does not answer; the message has what waits for it and how that is sent.
    """
    store, uri = _store(), mlflow.get_tracking_uri()
    try:
        if store.gone_since is not None or (run_id and waiting(run_id)):
            outages.retry_while_away(partial(_catch_up, store), "the tracking store", store_gone)
        yield
    except Exception as error:
        if not store_gone(error):
            with translate_errors(what):
                raise
        if store.gone_since is None or store.answers.is_set():
            _mark_away(store, error)
        raise TrackdlError(
            f"{what}: the tracking store {databases.redact(uri)} does not answer. {_what_waits()}. "
            f"A training then ends by --resume {run_id or 'RUN_ID'}, a study by the same command"
        ) from error


def _catch_up(store: _Store) -> None:
    """Send all that waits for a store that was away."""
    with processes.environment_variables(QUICK), outages.one_call(mlflow.get_tracking_uri()):
        MlflowClient().search_experiments(max_results=1)
    if not send_waiting(outages.PATIENCE):
        raise TrackdlError(f"another process has been sending for {outages.PATIENCE:.0f} s. {_what_waits()}")
    _mark_back(store)
