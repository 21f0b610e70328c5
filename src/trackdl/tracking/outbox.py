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
from filelock import FileLock, Timeout
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from trackdl.errors import TrackdlError
from trackdl.system import databases
from trackdl.tracking import system_metrics as monitors
from trackdl.tracking.spool import Letter, discard, keep, read, run_folders, sweep, waiting
from trackdl.tracking.store import client, spool_folder, store_gone, translate_errors

__all__ = ["asked", "deliver", "end", "send_waiting"]

log = logging.getLogger(__name__)

QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "3", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}  # seconds; for a training's writes
FINISHED = RunStatus.to_string(RunStatus.FINISHED)
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
        with _quickly():
            if not _send_before(store, run_id):
                keep(run_id, letter)
                return
            with databases.undisturbed(mlflow.get_tracking_uri()):
                _post(run_id, letter)
    except Exception as error:
        if not store_gone(error):
            with translate_errors(f"run {run_id}"):
                raise
        keep(run_id, letter)
        _went_away(store, error)
    else:
        monitors.revive(run_id)


def _send_before(store: _Store, run_id: str) -> bool:
    """Send what waits before a run's next letter; return whether that can be sent now."""
    if store.gone_since is not None or waiting(run_id):
        if not send_waiting():
            return False
        _came_back(store)
    return True


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
            databases.redact_url(uri),
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
            # Its /health says that it is there, even where its database is not.
            question = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
            return requests.get(question, timeout=LOOK_SECONDS).status_code < 500
        limit = {"timeout": LOOK_SECONDS} if databases.sqlite_file(uri) else {"connect_timeout": int(LOOK_SECONDS)}
        engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool, connect_args=limit)
        with engine.connect() as connection:
            # A SQLite file that another process has locked can be read all the same.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if databases.sqlite_file(uri) else "SELECT 1")
    except (requests.RequestException, sqlalchemy.exc.SQLAlchemyError):
        return False
    return True


def send_waiting(patience: float = 0) -> bool:
    """Send all letters that wait for this store, of whatever process, each run's in order.

    Args:
        patience: For how many seconds another process, which sends them already, is waited for.

    Returns:
        Whether it was done; False where another process is still at it.

    Raises:
        MlflowException: The store does not answer.
    """
    if not run_folders():
        return True
    try:
        with FileLock(spool_folder() / ".lock", timeout=patience):
            for folder in run_folders():
                _send_of(folder)
    except Timeout:
        log.info("another process is sending what waits in %s", spool_folder())
        return False
    return True


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
    """End a run that was opened here, or keep behind what waits for it that it has ended."""
    store, uri = _store(), mlflow.get_tracking_uri()
    letter = Letter("end", {"status": status, "time": int(time.time() * 1000)})
    if status == FINISHED and store.gone_since is not None and _answers(uri):
        store.answers.set()  # since the thread has looked last; whoever is interrupted does not wait for this
    try:
        deliver(run_id, letter)
    finally:
        with _quickly():
            monitors.let_go(run_id, wait=store.gone_since is None)
    if mlflow.active_run() is None and any(map(_waits, run_folders())):
        log.warning("%s: %s", databases.redact_url(uri), _what_waits())


def _waits(folder: Path) -> bool:
    return bool(waiting(folder.name))


def _what_waits() -> str:
    """Say how much waits for the store, where, and how it is sent."""
    kept = [place for folder in run_folders() for place in waiting(folder.name)]
    size = sum(path.stat().st_size for place in kept for path in place.rglob("*") if path.is_file())
    return (
        f"{len(kept)} things told of {len({place.parent for place in kept})} runs ({size / 1e6:.1f} MB) wait in "
        f"{spool_folder()}; the next command of any task sends them once the store answers (`trackdl data`, say)"
    )


@contextmanager
def asked(what: str, run_id: str | None = None) -> Iterator[None]:
    """Ask the store in the block; it has everything by then that was told of a run, and is waited for if need be.

    Args:
        what: What is asked for, e.g. "run 3f2a".
        run_id: The run that is asked about.

    Raises:
        InputError: What is asked for does not exist, or its name is none.
        TrackdlError: The store failed; or does not answer: what waits for it is said, and how it is sent.
    """
    store, uri = _store(), mlflow.get_tracking_uri()
    try:
        if store.gone_since is not None or (run_id and waiting(run_id)):
            databases.patient(_send_back, "the tracking store", store_gone)(store)
        yield
    except Exception as error:
        if not store_gone(error):
            with translate_errors(what):
                raise
        if store.gone_since is None or store.answers.is_set():
            _went_away(store, error)
        raise TrackdlError(
            f"{what}: the tracking store {databases.redact_url(uri)} does not answer. {_what_waits()}. "
            f"A training then ends by --resume {run_id or 'RUN_ID'}, a study by the same command"
        ) from error


def _send_back(store: _Store) -> None:
    with _quickly():
        MlflowClient.search_experiments(client(), max_results=1)
    if not send_waiting(databases.PATIENCE):
        raise TrackdlError(f"another process has been sending for {databases.PATIENCE:.0f} s. {_what_waits()}")
    _came_back(store)
