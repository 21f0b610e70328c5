"""Where studies are kept: `TRACKDL_STORAGE` where that is set, else `optuna.db` in the project's root.

That is a store of its own: MLflow and Optuna cannot share one (`databases.refuse_shared`).
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import TrackdlError
from trackdl.system import databases
from trackdl.system.paths import project_root

__all__ = ["storage", "storage_folder", "storage_url", "study_lock"]

Result = TypeVar("Result")

optuna.logging.set_verbosity(optuna.logging.WARNING)

# How long SQLite itself waits for a locked file, deaf to Ctrl-C; `databases.patient` asks again.
BUSY_SECONDS = 1


def storage_url() -> str:
    """Return the address of the studies' store."""
    return os.environ.get("TRACKDL_STORAGE") or f"sqlite:///{project_root() / 'optuna.db'}"


@cache
def storage() -> RDBStorage:
    """Return the studies' store, which is created first when there is none.

    Raises:
        InputError: Its address is none, or it is MLflow's.
        TrackdlError: It cannot be reached or opened.
    """
    url = storage_url()
    options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": databases.connect_args(url)}
    if databases.sqlite_file(url):
        options = {"connect_args": {"timeout": BUSY_SECONDS}}
    opened = databases.patient(_PatientStorage, f"the studies' store {databases.redact_url(url)}")
    try:
        with databases.creating_alone(url):
            databases.refuse_shared(url, "optuna")
            return opened(url, engine_kwargs=options)
    except (SQLAlchemyError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrackdlError(
            f"the studies' store {databases.redact_url(url)}: {reason}. TRACKDL_STORAGE names another one"
        ) from error


class _PatientStorage(RDBStorage):
    """A store whose outages are waited out."""

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set a trial's state and values; done once, whether or not the first answer was lost."""
        tries = 0

        def attempt() -> bool:
            nonlocal tries
            tries += 1
            try:
                with databases.undisturbed(self.url):
                    told = super(_PatientStorage, self).set_trial_state_values(trial_id, state, values)
                if told:
                    return True
            except UpdateFinishedTrialError:
                if tries == 1:
                    raise
            if tries == 1:
                return False
            found = self.get_trial(trial_id)
            return found.state == state and found.values == (list(values) if values is not None else None)

        return self.wait_for(attempt)

    def wait_for(self, call: Callable[[], Result]) -> Result:
        """Ask the store, wait while it is gone, and say plainly why it fails for good."""
        where = f"the studies' store {databases.redact_url(self.url)}"
        try:
            return databases.patient(call, where)()
        except (SQLAlchemyError, StorageInternalError) as error:
            reason = str(list(databases.causes(error))[-1]).strip().splitlines()[0]
            raise TrackdlError(f"{where}: {reason}. What it holds stays; the same command goes on") from error


def _patient(name: str) -> None:
    call = getattr(RDBStorage, name)

    @wraps(call)
    def asked(self: _PatientStorage, *args: object, **kwargs: object) -> object:
        def whole() -> object:
            with databases.undisturbed(self.url):
                return call(self, *args, **kwargs)

        return self.wait_for(whole)

    setattr(_PatientStorage, name, asked)


# All that Optuna asks of a store may be asked twice: attributes, parameters and values are set to what they are, and a
# trial that is made twice stays WAITING or RUNNING, and is taken up again. Optuna puts a cache before the store, which
# asks by some private names (tests/studies/test_store.py holds this list to them).
PATIENT = (
    "_create_new_trial",
    "_get_trials",
    "_set_trial_param",
    "create_new_study",
    "get_study_directions",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_system_attrs",
    "get_study_user_attrs",
    "get_trial",
    "get_trial_id_from_study_id_trial_number",
    "set_study_system_attr",
    "set_study_user_attr",
    "set_trial_intermediate_value",
    "set_trial_system_attr",
    "set_trial_user_attr",
)
for _name in PATIENT:
    _patient(_name)


def storage_folder() -> Path:
    """Return the folder for what belongs to studies and is no database row: locks, and trainings half-way."""
    file = databases.sqlite_file(storage_url())
    return file.parent if file else project_root()


def study_lock(study: str) -> AbstractContextManager[None]:
    """Let one process at a time, on whichever machine, work on a study; its lock goes when it ends, however it ends.

    Raises:
        InputError: Another process works on it.
    """
    return databases.exclusive_lock(storage_url(), study)
