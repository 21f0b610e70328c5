"""What the tracking store cannot take now: kept on disk, in order, and sent when it answers again.

Every write of a run goes through `deliver`. A store that does not answer costs a training a few seconds once; a thread
then looks after it. What is still kept when a process ends is sent by the next command of any task (`send_waiting`).
Nothing arrives twice: MLflow knows a point by its name, step, value and time, which were set when it was measured,
and a file or a tag that is sent again replaces itself.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import requests
import sqlalchemy
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from trackdl import databases
from trackdl.errors import TrackdlError
from trackdl.tracking.letters import Letter, discard, keep, read, run_folders, sweep, waiting
from trackdl.tracking.store import client, plainly, spool_folder, store_gone

__all__ = ["deliver", "end", "send_waiting", "settle"]

log = logging.getLogger(__name__)

QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # seconds; for a training's writes
LOOK_EVERY = 2.0  # seconds
LOOK_SECONDS = 2.0  # how long an answer is waited for


@dataclass
class _Store:
    """Whether a store answers, as far as this process knows."""

    gone_since: float | None = None
    answers: threading.Event = field(default_factory=threading.Event)


_stores: dict[str, _Store] = {}


def _store() -> _Store:
    client()  # tells MLflow which store it is
    return _stores.setdefault(mlflow.get_tracking_uri(), _Store())


def deliver(run_id: str, letter: Letter) -> None:
    """Send a letter, or keep it where the store does not answer.

    Raises:
        InputError, TrackdlError: The store refuses it; or it cannot be kept: the disk is full.
    """
    store = _store()
    if store.gone_since is not None and not store.answers.is_set():
        keep(run_id, letter)
        return
    try:
        if store.gone_since is not None or waiting(run_id):
            send_waiting()
            _came_back(store)
        with _quickly(), databases.undisturbed(mlflow.get_tracking_uri()):
            _post(run_id, letter)
    except Exception as error:
        if not store_gone(error):
            with plainly(f"run {run_id}"):
                raise
        keep(run_id, letter)
        _went_away(store, error)


@contextmanager
def _quickly() -> Iterator[None]:
    """Let MLflow give up soon within the block: its own retries take four minutes, in the midst of a training."""
    before = {name: os.environ.get(name) for name in QUICK}
    os.environ.update(QUICK)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _post(run_id: str, letter: Letter) -> None:
    content, to = letter.content, client()
    if letter.kind == "metrics":
        to.log_batch(run_id, metrics=[Metric(**item, run_id=run_id) for item in content["metrics"]])
    elif letter.kind == "tags":
        tags = [RunTag(key, value) for key, value in content["tags"].items()]
        to.log_batch(run_id, params=[Param(*item) for item in content.get("params", {}).items()], tags=tags)
    elif letter.kind == "file":
        to.log_artifact(run_id, str(letter.file), content["folder"])
    elif letter.kind == "input":
        entity = Dataset(**content["dataset"])
        to.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", content["context"])])])
    elif letter.kind == "end":
        to.set_terminated(run_id, content["status"], content["time"])
    else:
        raise TrackdlError(f"run {run_id}: a letter of the unknown kind {letter.kind!r}")


def _went_away(store: _Store, error: Exception) -> None:
    uri = mlflow.get_tracking_uri()
    if store.gone_since is None:
        store.gone_since = time.monotonic()
        reason = str(error).strip().splitlines()[0][:200]
        log.warning(
            "%s does not answer (%s); what is measured is kept in %s and sent when it is back",
            databases.shown(uri),
            reason,
            spool_folder(),
        )
    store.answers.clear()

    def look() -> None:
        time.sleep(LOOK_EVERY)
        while not _answers(uri):
            time.sleep(LOOK_EVERY)
        store.answers.set()

    threading.Thread(target=look, name="tracking store", daemon=True).start()


def _came_back(store: _Store) -> None:
    if store.gone_since is not None:
        log.info("the tracking store answers again, after %.0f s", time.monotonic() - store.gone_since)
        store.gone_since = None


def _answers(uri: str) -> bool:
    try:
        if uri.startswith("http"):
            return requests.get(f"{uri.rstrip('/')}/health", timeout=LOOK_SECONDS).status_code < 500
        limit = {"timeout": LOOK_SECONDS} if databases.sqlite_file(uri) else {"connect_timeout": int(LOOK_SECONDS)}
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=limit)
        with engine.connect() as connection:
            # A SQLite file that another process has locked can be read all the same.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if databases.sqlite_file(uri) else "SELECT 1")
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError):
        return False
    return True


def send_waiting() -> None:
    """Send all letters that wait for this store, of whatever process, each run's in order.

    Raises:
        MlflowException: The store does not answer.
    """
    root = spool_folder()
    if not root.is_dir():
        return
    with FileLock(root / ".lock"):
        for folder in run_folders():
            _send_of(folder)


def _send_of(folder: Path) -> None:
    """Send a run's letters, those too that another process keeps meanwhile."""
    sent = 0
    while places := waiting(folder.name):
        try:
            with databases.undisturbed(mlflow.get_tracking_uri()):
                _post(folder.name, read(places[0]))
        except (MlflowException, requests.RequestException) as error:
            if store_gone(error):
                raise
            log.error("%s holds what the store refuses: %s. Delete it to give that up", places[0], error)
            return
        discard(places[0])
        sent += 1
    sweep(folder)
    if sent:
        log.info("run %s: %d things that had been kept were sent", folder.name, sent)


def end(run_id: str, status: str) -> None:
    """End the run that is open in MLflow, or keep for later that it has ended."""
    now = int(time.time() * 1000)
    store = _store()
    try:
        if waiting(run_id) and (store.gone_since is None or store.answers.is_set()):
            send_waiting()
        with _quickly(), databases.undisturbed(mlflow.get_tracking_uri()):
            mlflow.end_run(status)
    except Exception as error:
        if not store_gone(error):
            with plainly(f"run {run_id}"):
                raise
        keep(run_id, Letter("end", {"status": status, "time": now}))
        _went_away(store, error)


def settle(run_id: str) -> None:
    """Make sure that the store has everything told of a run, before it is asked about it; wait for it if need be.

    Raises:
        TrackdlError: It does not answer; what waits is said, and how it is sent.
    """
    store = _store()
    if store.gone_since is not None:
        try:
            databases.patient(_send_back, "the tracking store", store_gone)(store)
        except Exception as error:
            if not store_gone(error):
                raise
            kept = waiting(run_id)
            size = sum(path.stat().st_size for place in kept for path in place.rglob("*") if path.is_file())
            raise TrackdlError(
                f"the tracking store {databases.shown(mlflow.get_tracking_uri())} has not answered for "
                f"{time.monotonic() - store.gone_since:.0f} s. {len(kept)} things told of run {run_id} "
                f"({size / 1e6:.1f} MB) wait in {spool_folder() / run_id}; the next trackdl command sends them once "
                f"the store answers. A training then ends by --resume {run_id}, a study by the same command"
            ) from error


def _send_back(store: _Store) -> None:
    with _quickly():
        MlflowClient.search_experiments(client(), max_results=1)
    send_waiting()
    _came_back(store)
