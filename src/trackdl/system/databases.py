"""What MLflow's store and Optuna's have in common: addresses, and that they cannot share a database.

A store is a SQLite file, a PostgreSQL database (`postgresql+psycopg://USER@HOST/DATABASE`) or, for MLflow alone, a
tracking server.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, NullPool, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError

from trackdl.errors import InputError, TrackdlError, first_line
from trackdl.system.findings import first_few

DRIVER_HINT = 'postgresql+psycopg://USER@HOST/DATABASE, with `pip install "psycopg[binary]"`, is an address'
# By store: its variable, a table that only the other store has, one that only this store has, and what the other holds.
_OTHERS = {
    "mlflow": ("MLFLOW_TRACKING_URI", "trials", "experiments", "Optuna's studies"),
    "optuna": ("TRACKDL_STORAGE", "experiments", "trials", "MLflow's runs"),
}
_BOTH = {"alembic_version", "version_info"}  # one of them is there as soon as a store is being made


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite store, or None for another store."""
    # As SQLAlchemy reads it: %20 in an address is a space, and a `?` begins its options.
    return Path(make_url(url).database or "") if url.startswith("sqlite:///") else None


def sqlite_url(file: Path) -> str:
    """Return the address of a SQLite store, whatever signs the file's path has."""
    # Only what SQLAlchemy would read otherwise is quoted: MLflow makes an empty folder of the name that is quoted.
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def check_address(url: str, store: str) -> None:
    """Check that an address has the form of one of a store, "mlflow" or "optuna".

    Raises:
        InputError: It has not; the message says what an address looks like.
    """
    variable, server = _OTHERS[store][0], "http://HOST:5000, " if store == "mlflow" else ""
    parts = re.match(r"(\w[\w+.-]*:)//(.*)", url)
    if server and parts and parts[1] in ("http:", "https:") and parts[2].strip("/"):
        return
    try:
        made = make_url(url)
        made.get_dialect()
        if not url.startswith("sqlite:") or made.database not in (None, "", ":memory:"):
            return
        reason = "is kept in memory, and ends with the command"
    except (ArgumentError, ValueError) as error:
        reason = f"is malformed ({error})" if parts and isinstance(error, ValueError) else "is no store's address"
    like = f"sqlite:////FOLDER/NAME.db, {server}or postgresql+psycopg://USER@HOST/DATABASE"
    raise InputError(f"{variable}: {redact(url)} {reason}. An address is {like}; unset, the store is a file")


def redact(text: str, url: str | None = None) -> str:
    """Return a text without the password of the store's address `url` in it; by default the text is the address."""
    if url is not None:
        return text.replace(url.rstrip("/"), redact(url).rstrip("/"))
    try:
        shown = make_url(text).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):  # a port that is not a number is a ValueError
        shown = re.sub(r"(://[^/@:]*:).*@", r"\1***@", text)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", shown)


def connect_args(url: str) -> dict[str, int]:
    """Return the driver's arguments that let it notice a dead PostgreSQL server within a minute."""
    if not url.startswith("postgresql+psycopg:"):
        return {}
    alive = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
    return {"connect_timeout": 10, "tcp_user_timeout": 30_000, **alive}


@contextmanager
def connection(url: str) -> Iterator[Connection]:
    """Connect to a database for the block.

    Raises:
        InputError: The address is malformed, or its driver is not installed.
        TrackdlError: The database cannot be reached.
    """
    try:
        engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=connect_args(url))
    except (ArgumentError, ImportError, ValueError) as error:
        raise InputError(f"{redact(url)}: {error}. {DRIVER_HINT}") from error
    try:
        made = engine.connect()
    except (OperationalError, InterfaceError) as error:
        raise TrackdlError(f"{redact(url)} cannot be reached: {first_line(error)}") from error
    with made:
        yield made


def refuse_shared(url: str, store: str) -> None:
    """Refuse a database that the other store lives in, or a file that is neither's.

    Both keep their schema's version in a table `alembic_version`, so the second would take the first's for its own.

    Args:
        url: The database's.
        store: The store that is to be opened: "mlflow" or "optuna".

    Raises:
        InputError: Tables of the other store, or of something else, are there.
    """
    file = sqlite_file(url)
    if (file and not file.exists()) or not url.startswith(("sqlite:///", "postgresql")):
        return
    with connection(url) as connected:
        tables = set(sqlalchemy.inspect(connected).get_table_names())
    variable, others, own, content = _OTHERS[store]
    if file and tables and not tables & {own, others, *_BOTH}:
        raise InputError(
            f"{redact(url)} is the database of something else: it holds {first_few(sorted(tables))}, and is left as it "
            f"is. {variable} names another"
        )
    if others in tables and own not in tables:
        raise InputError(
            f"{redact(url)} holds {content}: the two cannot share one database. Give MLFLOW_TRACKING_URI and "
            "TRACKDL_STORAGE a database each, or in PostgreSQL a schema each (?options=-csearch_path%3DNAME)"
        )
