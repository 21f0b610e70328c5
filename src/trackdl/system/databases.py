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

DRIVER_HINT = "postgresql+psycopg://USER@HOST/DATABASE, with `pip install 'trackdl[postgres]'`, is an address"
# By store: a table that only the other store has, one that only this store has, and what the other store holds.
_OTHERS = {
    "mlflow": ("trials", "experiments", "Optuna's studies"),
    "optuna": ("experiments", "trials", "MLflow's runs"),
}


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite store, or None for another store."""
    # As SQLAlchemy reads it: %20 in an address is a space, and a `?` begins its options.
    return Path(make_url(url).database or "") if url.startswith("sqlite:///") else None


def sqlite_url(file: Path) -> str:
    """Return the address of a SQLite store, whatever signs the file's path has."""
    # Only what SQLAlchemy would read otherwise is quoted: MLflow makes an empty folder of the name that is quoted.
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


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
    """Refuse a database that the other store lives in.

    Both keep their schema's version in a table `alembic_version`, so the second would take the first's for its own.

    Args:
        url: The database's.
        store: The store that is to be opened: "mlflow" or "optuna".

    Raises:
        InputError: The other store's tables are there.
    """
    file = sqlite_file(url)
    if (file and not file.exists()) or not url.startswith(("sqlite:///", "postgresql")):
        return
    with connection(url) as connected:
        tables = set(sqlalchemy.inspect(connected).get_table_names())
    others, own, content = _OTHERS[store]
    if others in tables and own not in tables:
        raise InputError(
            f"{redact(url)} holds {content}: the two cannot share one database. Give MLFLOW_TRACKING_URI and "
            "TRACKDL_STORAGE a database each, or in PostgreSQL a schema each (?options=-csearch_path%3DNAME)"
        )
