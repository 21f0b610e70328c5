"""Where studies are kept: `TRACKDL_STORAGE` if it is set, else `optuna.db` next to the tracking store's file.

It is a store of its own: MLflow and Optuna cannot share one (`databases.refuse_shared`). If the tracking store is no
file, `optuna.db` is in the project's root.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import InputError, TrackdlError, first_line
from trackdl.system import databases, locks
from trackdl.system.outages import RetryingProxy, causes, database_gone, defer_interrupts, disk_full, retry_while_away
from trackdl.system.paths import project_root
from trackdl.tracking.store import address

Result = TypeVar("Result")

optuna.logging.set_verbosity(optuna.logging.WARNING)

_REMEDY = "Is it Optuna's, and undamaged? `trackdl doctor` looks at it; TRACKDL_STORAGE names another"

# How long SQLite itself waits for a locked file, during which Ctrl-C has no effect; then the call is retried.
BUSY_SECONDS = 1


def storage_url() -> str:
    """Return the address of the studies' store."""
    tracked = databases.sqlite_file(address())
    folder = tracked.parent.absolute() if tracked else project_root()
    return os.environ.get("TRACKDL_STORAGE") or databases.sqlite_url(folder / "optuna.db")


@cache
def storage() -> BaseStorage:
    """Return the studies' store, which is created first if there is none.

    Raises:
        InputError: Its address is malformed, the database is MLflow's, or it would go with a temporary folder.
        TrackdlError: It cannot be reached or opened.
    """
    url = storage_url()
    databases.check_address(url, "optuna")
    file, temporary = databases.sqlite_file(url), Path(tempfile.gettempdir()).resolve()
    chosen = os.environ.get("TRACKDL_STORAGE") or databases.sqlite_file(address())
    if not chosen and file and file.resolve().is_relative_to(temporary):
        raise InputError(
            f"studies would be kept in {file}, in a temporary folder (`mlflow run` makes one for a repository). Their "
            "runs are kept elsewhere: name a store by TRACKDL_STORAGE too, e.g. sqlite:////home/me/optuna.db"
        )
    name = f"the studies' store {databases.redact(url)}"
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": databases.connect_args(url)}
    if file:
        options = {"connect_args": {"timeout": BUSY_SECONDS}}

    def create() -> RDBStorage:
        with defer_interrupts(url):  # a half-made one has some of Optuna's tables, and is refused
            return RDBStorage(url, engine_kwargs=options)

    try:
        with locks.creation_lock(url):
            databases.refuse_shared(url, "optuna")
            opened = retry_while_away(create, name)
    except TrackdlError:
        raise
    except Exception as error:  # whatever a database that is none of Optuna's leads to
        reason = first_line(error).rstrip(".")
        raise TrackdlError(f"{name}: {reason}. {_REMEDY}") from error
    # Optuna puts the same cache before every RDBStorage; here the proxy stands between the two.
    return _CachedStorage(cast("RDBStorage", _Storage(opened, name, url)))


class _Storage(RetryingProxy):
    """An RDBStorage whose calls are retried while its database is away.

    Optuna's calls may be made twice: setting an attribute, parameter or value again changes nothing, and if a
    trial is created twice, the spare one stays WAITING or RUNNING, and is resumed.
    """

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set a trial's state and values; an earlier attempt that succeeded without an answer counts."""
        retried = False

        def attempt() -> bool:
            nonlocal retried
            again, retried = retried, True
            try:
                if self._client.set_trial_state_values(trial_id, state, values):
                    return True
            except UpdateFinishedTrialError:
                if not again:
                    raise
            if not again:
                return False
            found = self._client.get_trial(trial_id)
            return bool(found.state == state and found.values == (None if values is None else list(values)))

        return self._retry(attempt)

    def _retry(self, call: Callable[[], Result]) -> Result:
        try:
            return super()._retry(call)
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = first_line(list(causes(error))[-1])
            kept = "What it holds is kept; the same command continues"
            raise TrackdlError(
                f"{self._store}: {reason}. {kept if database_gone(error) or disk_full(error) else _REMEDY}"
            ) from error


def storage_folder() -> Path:
    """Return the folder for what belongs to studies but is in no database: locks, and unfinished trainings."""
    file = databases.sqlite_file(storage_url())
    return file.parent if file else project_root()


def artifact_store(*, create: bool = False) -> FileSystemArtifactStore | None:
    """Return the store of the images that Optuna's dashboard shows; None if there is none, unless `create`."""
    folder = storage_folder() / "studies" / "artifacts"
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder) if folder.is_dir() else None


def study_lock(study: str) -> AbstractContextManager[None]:
    """Let one process at a time, on any machine, work on a study; the lock ends with the process.

    Raises:
        InputError: Another process works on it.
    """
    return locks.exclusive_lock(storage_url(), study)
