"""Checks the studies' store: whether it can be reached, and whether this Optuna can use it."""

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import first_line
from trackdl.studies.store import storage_url
from trackdl.system import databases
from trackdl.system.findings import Finding


def schema() -> Finding:
    """Compare the schema of the studies' store with this Optuna's; nothing is created or upgraded.

    Raises:
        InputError: Its address is malformed, or the database is MLflow's.
        TrackdlError: It cannot be reached.
    """
    url = storage_url()
    file, shown = databases.sqlite_file(url), databases.redact(url)
    if file and not file.exists():
        return Finding("studies", "ok", f"there is no {file} yet; the first study creates it")
    try:
        databases.check_address(url, "optuna")
        databases.refuse_shared(url, "optuna")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        if not sqlalchemy.inspect(engine).has_table("studies"):
            return Finding("studies", "ok", f"{shown} is empty; the first study fills it")
        # Opened without Optuna's own check, whose message does not name the address.
        store = RDBStorage(
            url, {"poolclass": sqlalchemy.NullPool}, skip_compatibility_check=True, skip_table_creation=True
        )
        found, wanted = store.get_current_version(), store.get_head_version()
        store.remove_session()
    except (SQLAlchemyError, ImportError) as error:
        remedy = "if it is not a database of Optuna's, or is damaged, replace it by a copy"
        return Finding("studies", "fault", f"{shown}: {first_line(error)}", remedy)
    if found != wanted:
        words = f"{shown}: schema {found}, but Optuna {optuna.__version__} needs {wanted}"
        remedy = (
            f"copy it, then `optuna storage upgrade --storage {shown}`; "
            "if Optuna here is the older one, install the lock's"
        )
        return Finding("studies", "fault", words, remedy)
    return Finding("studies", "ok", f"{shown}: schema {found}")
