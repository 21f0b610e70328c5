"""Where studies are kept: `TRACKDL_STORAGE` where that is set, else `optuna.db` in the project's root.

That is a file of its own: MLflow and Optuna cannot share one SQLite database.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import InputError, TrackdlError
from trackdl.paths import project_root

__all__ = ["alone", "storage", "storage_folder", "storage_url"]

optuna.logging.set_verbosity(optuna.logging.WARNING)

BUSY_SECONDS = 120  # how long a locked SQLite file is waited for


def storage_url() -> str:
    """Return the address of the studies' store."""
    return os.environ.get("TRACKDL_STORAGE") or f"sqlite:///{project_root() / 'optuna.db'}"


@cache
def storage() -> RDBStorage:
    """Return the studies' store, which is created first when there is none.

    Raises:
        TrackdlError: It cannot be reached or opened.
    """
    url = storage_url()
    try:
        if not url.startswith("sqlite:///"):
            return RDBStorage(url)
        # Several processes that create a fresh SQLite store at once break it for good.
        with FileLock(f"{url.removeprefix('sqlite:///')}.lock"):
            return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}})
    except (SQLAlchemyError, RuntimeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrackdlError(f"the studies' store {url}: {reason}. TRACKDL_STORAGE names another one") from error


def storage_folder() -> Path:
    """Return the folder for what belongs to studies and is no database row: locks, and trainings half-way."""
    url = storage_url()
    return Path(url.removeprefix("sqlite:///")).parent if url.startswith("sqlite:///") else project_root()


@contextmanager
def alone(study: str) -> Iterator[None]:
    """Let one process at a time work on a study; its lock goes when it ends, however it ends.

    Raises:
        InputError: Another process works on it.
    """
    lock = FileLock(storage_folder() / f".{study}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"the study {study} is being worked on by another process; `--status` shows how far") from None
    try:
        yield
    finally:
        lock.release()
