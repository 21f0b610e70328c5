"""Locks in a store, or in files next to it: one process at a time creates the store, or works on a study.

A SQLite store has file locks; PostgreSQL has advisory locks, which hold for all machines.
"""

import hashlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError

from trackdl.errors import InputError
from trackdl.system.databases import connect_args, connection, redact, sqlite_file
from trackdl.system.outages import retry_while_away

log = logging.getLogger(__name__)

PING_EVERY = 5.0  # seconds


@contextmanager
def creation_lock(url: str) -> Iterator[None]:
    """Let one process at a time open a store that may have to be created: several at once break it for good."""
    if file := sqlite_file(url):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock"):
            yield
    elif url.startswith("postgresql"):
        with connection(url) as held:
            held.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _key("create")})
            yield
    else:
        yield


@contextmanager
def exclusive_lock(url: str, name: str) -> Iterator[None]:
    """Let one process at a time work on the study `name`.

    PostgreSQL's advisory lock ends with its connection, so a machine that crashes leaves no lock behind. A connection
    that is cut (the server was restarted) is opened again; if another process has taken the lock meanwhile, this one is
    interrupted.

    Raises:
        InputError: Another process works on the study, or the store is neither a SQLite file nor PostgreSQL.
    """
    busy = InputError(f"the study {name} is being worked on by another process; `trackdl ui` shows its progress")
    if file := sqlite_file(url):
        try:
            held = FileLock(file.parent / f".{name}.lock", timeout=0).acquire()
        except Timeout:
            raise busy from None
        with held:
            yield
        return
    if not url.startswith("postgresql"):
        raise InputError(
            f"{redact(url)}: studies are kept in sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        )
    keeper = _Keeper(url, name)
    if not keeper.take():
        raise busy
    thread = threading.Thread(target=keeper.keep, name="study lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        keeper.done.set()
        thread.join(2)  # it may wait for a database that is away; the end of the process frees the lock too


class _Keeper:
    """Holds an advisory lock, and takes it again after its connection was cut."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name
        self.done = threading.Event()
        self.connection: Connection | None = None

    def take(self) -> bool:
        """Connect and take the lock; return whether it was free."""
        engine = sqlalchemy.create_engine(
            self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=connect_args(self.url)
        )
        made = retry_while_away(engine.connect, redact(self.url))
        found = made.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(self.name)})
        if found.scalar():
            self.connection = made
            return True
        made.close()
        return False

    def keep(self) -> None:
        """Hold the lock until `done`."""
        while not self.done.wait(PING_EVERY):
            try:
                if self.connection is None:
                    if not self.take():
                        log.critical("another process has taken over the study %s; this one ends", self.name)
                        os.kill(os.getpid(), signal.SIGTERM)  # a background job may ignore SIGINT
                        return
                    log.info("the lock on the study %s is held again", self.name)
                self.connection.execute(sqlalchemy.text("SELECT 1"))  # type: ignore[union-attr]
            except (OperationalError, InterfaceError, DisconnectionError):
                self.connection = None
        if self.connection is not None:
            self.connection.close()


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"trackdl {name}".encode()).digest()[:8], "big", signed=True)
