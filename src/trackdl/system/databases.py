"""What both stores have in common, MLflow's and Optuna's: addresses, locks, and outages that are waited out.

A store is a SQLite file, a PostgreSQL database (`postgresql+psycopg://USER@HOST/DATABASE`) or, for MLflow alone, a
tracking server. Each has tables of its own and a table `alembic_version` that the other would take for its own.
"""

import hashlib
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy import Connection, NullPool, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, InterfaceError, OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential

from trackdl.errors import InputError, TrackdlError
from trackdl.system.processes import uninterrupted

__all__ = [
    "causes",
    "connect_args",
    "creating_alone",
    "database_gone",
    "disk_full",
    "exclusive_lock",
    "patient",
    "redact",
    "redact_url",
    "refuse_shared",
    "sqlite_file",
    "undisturbed",
]

log = logging.getLogger(__name__)

PATIENCE = 90.0  # seconds that a store which does not answer is waited for
PING_EVERY = 5.0  # seconds
DRIVER_HINT = "postgresql+psycopg://USER@HOST/DATABASE, with `pip install 'trackdl[postgres]'`, is an address"
OTHERS_TABLE = {"mlflow": "trials", "optuna": "experiments"}  # each store's own is among the other's neither

_FULL = ("disk is full", "No space left", "File too large", "disk I/O error", "readonly database", "unable to open")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite store, or None for another store."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def redact_url(url: str) -> str:
    """Return a store's address as it may be shown: without its password."""
    try:
        told = make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        told = re.sub(r"(://[^/@:]*:).*@", r"\1***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", told)


def redact(text: str, url: str) -> str:
    """Return a text, another program's, in which a store's address has no password."""
    return text.replace(url.rstrip("/"), redact_url(url).rstrip("/"))


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def database_gone(error: BaseException) -> bool:
    """Return whether a database was not there for a while: locked, restarted, cut off; a full disk is no such thing."""
    if disk_full(error):
        return False
    return any(isinstance(item, DisconnectionError | InterfaceError | OperationalError) for item in causes(error))


def disk_full(error: BaseException) -> bool:
    """Return whether a disk, or what a process may write, was full."""
    return any(words in str(item) for item in causes(error) for words in _FULL)


def patient(
    call: Callable[Parameters, Result], what: str, gone: Callable[[BaseException], bool] = database_gone
) -> Callable[Parameters, Result]:
    """Return `call`, tried again for up to `PATIENCE` seconds while its store is gone.

    Only for calls that may be made twice: the first may have been heard although its answer was lost.

    Args:
        call: Asks the store.
        what: The store, for what is said of the waiting.
        gone: Whether an error says that the store is gone.
    """

    def say(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning("%s does not answer; it is waited for, up to %.0f s", what, PATIENCE)

    @wraps(call)
    def asked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        tries = Retrying(
            # Ctrl-C that is heard while an error is on its way has that error as its context.
            retry=retry_if_exception(lambda error: isinstance(error, Exception) and gone(error)),
            wait=wait_exponential(0.2, max=5),
            stop=stop_after_delay(PATIENCE),
            before_sleep=say,
            reraise=True,
        )
        return tries(call, *args, **kwargs)

    return asked


def connect_args(url: str) -> dict[str, int]:
    """Return what a database's driver is told besides its address: a dead server is noticed, within a minute."""
    if not url.startswith("postgresql+psycopg:"):
        return {}
    alive = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
    return {"connect_timeout": 10, "tcp_user_timeout": 30_000, **alive}


def undisturbed(url: str) -> AbstractContextManager[None]:
    """Let no interruption fall into a call of a database.

    It would leave a transaction open, and a SQLite file locked against this very process, which has yet to write down
    that it was interrupted. A server has no such locks, and may take long to answer.
    """
    return nullcontext() if url.startswith("http") else uninterrupted()


@contextmanager
def creating_alone(url: str) -> Iterator[None]:
    """Let one process at a time open a store that may have to be created: several at once break it for good."""
    if file := sqlite_file(url):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            yield
    elif url.startswith("postgresql"):
        with _connection(url) as held:
            held.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _key("create")})
            yield
    else:
        yield


def refuse_shared(url: str, mine: str) -> None:
    """Refuse a database that the other store lives in.

    Both keep their version in a table `alembic_version`: the second to come would take the first's for its own.

    Args:
        url: The database's.
        mine: Whose store is to be there: "mlflow" or "optuna".

    Raises:
        InputError: The other's tables are there.
    """
    file = sqlite_file(url)
    if (file and not file.exists()) or not url.startswith(("sqlite:///", "postgresql")):
        return
    with _connection(url) as connection:
        tables = set(sqlalchemy.inspect(connection).get_table_names())
    if OTHERS_TABLE[mine] in tables and OTHERS_TABLE[{"mlflow": "optuna", "optuna": "mlflow"}[mine]] not in tables:
        other = "Optuna's studies" if mine == "mlflow" else "MLflow's runs"
        raise InputError(
            f"{redact_url(url)} holds {other}: the two cannot share one database. Give MLFLOW_TRACKING_URI and "
            "TRACKDL_STORAGE a database each, or in PostgreSQL a schema each (?options=-csearch_path%3DNAME)"
        )


@contextmanager
def exclusive_lock(url: str, name: str) -> Iterator[None]:
    """Let one process at a time work on what `name` calls: by a file beside a SQLite store, else by the database.

    PostgreSQL's advisory lock ends with its connection, so one of a machine that is gone does not stand in the way. A
    connection that is cut (the server was restarted) is made anew; where another process has taken the lock meanwhile,
    this one is interrupted.

    Raises:
        InputError: Another process works on it, or the store is no SQLite file and no PostgreSQL database.
    """
    busy = f"the study {name} is being worked on by another process; `trackdl ui` shows how far"
    if file := sqlite_file(url):
        lock = FileLock(file.parent / f".{name}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise InputError(busy) from None
        try:
            yield
        finally:
            lock.release()
        return
    if not url.startswith("postgresql"):
        raise InputError(
            f"{redact_url(url)}: studies are kept in sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        )
    keeper = _Keeper(url, name)
    if not keeper.take():
        raise InputError(busy)
    thread = threading.Thread(target=keeper.keep, name="study lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        keeper.done.set()
        thread.join(2)  # it may wait for a database that is away; the process's end frees the lock too


class _Keeper:
    """Holds an advisory lock, and takes it again when its connection was cut."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name, self.key = url, name, _key(name)
        self.done = threading.Event()
        self.connection: Connection | None = None

    def take(self) -> bool:
        arguments = connect_args(self.url)
        engine = sqlalchemy.create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments
        )
        self.connection = patient(engine.connect, redact_url(self.url))()
        found = self.connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": self.key})
        if found.scalar():
            return True
        self.connection.close()
        self.connection = None
        return False

    def keep(self) -> None:
        while not self.done.wait(PING_EVERY):
            try:
                if self.connection is None:
                    if not self.take():
                        log.critical("another process has taken up the study %s meanwhile; this one ends", self.name)
                        os.kill(os.getpid(), signal.SIGTERM)  # a background job may be deaf to SIGINT
                        return
                    log.info("the lock on the study %s is held again", self.name)
                self.connection.execute(sqlalchemy.text("SELECT 1"))  # type: ignore[union-attr]
            except (OperationalError, InterfaceError, DisconnectionError):
                self.connection = None
        if self.connection is not None:
            self.connection.close()


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"trackdl {name}".encode()).digest()[:8], "big", signed=True)


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    """Connect for a moment.

    Raises:
        InputError: The address is none, or its driver is not installed.
        TrackdlError: The database cannot be reached.
    """
    try:
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=connect_args(url))
    except (ArgumentError, ImportError, ValueError) as error:
        raise InputError(f"{redact_url(url)}: {error}. {DRIVER_HINT}") from error
    try:
        connection = engine.connect()
    except (OperationalError, InterfaceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrackdlError(f"{redact_url(url)} cannot be reached: {reason}") from error
    with connection:
        yield connection
