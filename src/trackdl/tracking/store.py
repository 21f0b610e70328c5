"""Where runs and models are kept, and how MLflow's errors reach the user.

The store is `MLFLOW_TRACKING_URI` if it is set (`mlflow run` sets it), else `mlflow.db` and `mlruns/` in the project's
root, so `mlflow ui`, started there, shows what was tracked.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import mlflow
import requests
import sqlalchemy
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    ErrorCode,
)
from mlflow.store.db.utils import _get_latest_schema_revision, _get_schema_version
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import InputError, TrackdlError, first_line, one_line
from trackdl.system import databases, locks, outages
from trackdl.system.paths import project_root
from trackdl.tracking import moved, pages

T = TypeVar("T")
StoredRun = Run  # a run as MLflow has it, for modules that do not import mlflow

_ELSEWHERE = "MLFLOW_TRACKING_URI names another store"
_REMEDY = "Is it MLflow's, and undamaged? `trackdl doctor` looks at it; MLFLOW_TRACKING_URI names another"

EXPERIMENT = "trackdl"

_UNAVAILABLE = ErrorCode.Name(TEMPORARILY_UNAVAILABLE)
# The status codes by which a server, or a proxy before it, reports that the server or its database is away.
_AWAY = {502, 503, 504}
_WRONG_INPUT = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}
# A run's writes are never retried in place: `outbox` keeps them instead, so that a training continues.
_KEPT_BY_OUTBOX = frozenset({"log_artifact", "log_batch", "log_inputs", "set_terminated"})


def address() -> str:
    """Return the tracking store's address, without opening or creating it."""
    return os.environ.get("MLFLOW_TRACKING_URI") or databases.sqlite_url(project_root() / "mlflow.db")


def gc_command() -> str:
    """Return MLflow's command that removes the files of what was deleted from this store; it needs both addresses."""
    uri = databases.redact(address())
    return f"mlflow gc --backend-store-uri {uri} --tracking-uri {uri}"


@cache
def client() -> MlflowClient:
    """Return a client of the store, which is created first if there is none.

    All calls but a run's writes are retried while the store is away.

    Raises:
        InputError: The address is malformed, its driver is not installed, or the store was moved (`moved.find`).
        TrackdlError: The store cannot be reached or opened.
    """
    uri = address()
    # Child processes, and code that MLflow loads with a model, see the same store.
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own default, seven retries of up to 120 s each, would hold up a Ctrl-C.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # A server may ask to be left alone for an hour.
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
    # MLflow prints the address of each run that ends, with the store's password, and among the JSON of a command.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    what = f"the tracking store {databases.redact(uri)}"
    databases.check_address(uri, "mlflow")
    try:
        with translate_errors(what), locks.creation_lock(uri), defer_interrupts():
            databases.refuse_shared(uri, "mlflow")
            refuse_older(uri)
            moved.refuse(uri)
            plain = MlflowClient(uri)
            with outages.one_call(uri):
                plain.search_experiments(max_results=1)  # a wrong address fails at once
    except (ImportError, ValueError) as error:  # no driver; a port that is not a number
        raise InputError(f"{what}: {error}. {databases.DRIVER_HINT}") from error
    except TrackdlError:
        raise
    except Exception as error:  # whatever a server that is no MLflow leads to
        raise TrackdlError(f"{what}: {one_line(error).rstrip('.')}. {_REMEDY}") from error
    return cast(
        "MlflowClient", outages.RetryingProxy(plain, "the tracking store", uri, gone=store_gone, once=_KEPT_BY_OUTBOX)
    )


def defer_interrupts() -> AbstractContextManager[None]:
    """Defer Ctrl-C and signals to the end of the block, unless the store is a server (`outages.defer_interrupts`).

    What the block creates, such as a run or the store itself, is whole before an interruption is raised. A run that a
    server created meanwhile is marked KILLED by the next command (`runs.close_abandoned`).
    """
    return outages.defer_interrupts(mlflow.get_tracking_uri())


def store_gone(error: BaseException) -> bool:
    """Return whether an error means that the store was away, and not that it refused the call."""
    if outages.database_gone(error):
        return True
    for item in outages.causes(error):
        if isinstance(item, outages.TooSlow):
            return True
        if isinstance(item, requests.HTTPError) and item.response is not None:
            return item.response.status_code in _AWAY
        if isinstance(item, requests.RequestException):
            return True
        if isinstance(item, MlflowException) and item.error_code == _UNAVAILABLE:
            return not outages.disk_full(error)
    return False


def refuse_older(uri: str) -> None:
    """Refuse a database of another MLflow, which this MLflow would migrate unasked if a table is missing."""
    file = databases.sqlite_file(uri)
    if uri.startswith("http") or (file and not file.exists()):
        return
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(connection)
        if not tables.has_table("experiments"):
            return
        empty = tables.has_table("runs") and not connection.scalar(sqlalchemy.text("SELECT count(*) FROM runs"))
    found = _get_schema_version(engine)  # type: ignore[no-untyped-call]
    needed = _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    if found != needed:
        shown = databases.redact(uri)
        if found is None and not empty:
            raise InputError(f"{shown} is no store of MLflow's, and stays as it is. MLFLOW_TRACKING_URI names another")
        part, remedy = "", ""
        if empty:
            part = ", or only in part"
            remedy = "It holds no run: if the command that made it was killed, delete it, and begin again. "
        raise TrackdlError(
            f"{shown} was made by another version of MLflow{part} (its schema is {found}, this one's {needed}) and is "
            f"left as it is. {remedy}Keep a copy, then run: mlflow db upgrade {shown}; or use the MLflow that made it"
        )


def spool_folder(uri: str | None = None) -> Path:
    """Return the folder, in `reports/unsent/`, for records that a store (by default, this one) could not take."""
    address = uri or mlflow.get_tracking_uri()
    file = databases.sqlite_file(address)
    one = databases.sqlite_url(file) if file else address  # a file has several addresses
    return project_root() / "reports" / "unsent" / hashlib.sha256(one.encode()).hexdigest()[:12]


def home_experiment() -> str:
    """Return the id of the experiment that new runs go to: the caller's (`mlflow run` names one), else `trackdl`.

    Raises:
        InputError: It was deleted, or there is none of the id that is named.
    """
    number, name = os.environ.get("MLFLOW_EXPERIMENT_ID"), os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with translate_errors(f"MLFLOW_EXPERIMENT_ID={number}" if number else f"experiment {name!r}"):
        found = client().get_experiment(number) if number else client().get_experiment_by_name(name)
        if found is None:
            return str(client().create_experiment(name, _artifact_place(), pages.EXPERIMENT))
        if found.lifecycle_stage != "active":
            raise InputError(
                f"the experiment {found.name!r} was deleted, with the runs in it. This restores it: "
                f"`MLFLOW_TRACKING_URI={databases.redact(address())} mlflow experiments restore --experiment-id "
                f"{found.experiment_id}`; or MLFLOW_EXPERIMENT_NAME names another"
            )
        for key, value in pages.EXPERIMENT.items():
            if key not in found.tags:  # e.g. `mlflow run` has made it
                client().set_experiment_tag(found.experiment_id, key, value)
        return str(found.experiment_id)


def _artifact_place() -> str | None:
    """Return where a new experiment's artifacts go; None for a server, which decides itself."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith("http"):
        return None
    # MLflow's default is the working folder, wherever that is.
    return (moved.artifact_folder(uri) or project_root().resolve() / "mlruns").as_uri()


def every_experiment(view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    """Return the ids of all experiments; `view`, MLflow's `ViewType`, decides whether deleted ones are included."""
    found = every(lambda token: client().search_experiments(view, page_token=token))
    return [experiment.experiment_id for experiment in found]


def every_run(where: str = "", view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """Return the runs that MLflow's filter `where` finds in all experiments, wherever `mlflow run` put them.

    The newest come first; `view` is as in `every_experiment`.
    """
    with translate_errors("searching runs"):
        experiments, order = every_experiment(view), ["attributes.start_time DESC"]
        return every(lambda token: client().search_runs(experiments, where, view, order_by=order, page_token=token))


def every(search: Callable[[str | None], PagedList[T]]) -> list[T]:
    """Return all results of a search whose argument is the token of a page, None for the first one."""
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found += page
    return found


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Translate MLflow's errors within the block into trackdl's, which begin with `what` they concern.

    Raises:
        InputError: It does not exist, or its name is invalid.
        TrackdlError: The store failed.
    """
    try:
        yield
    except MlflowException as error:
        if outages.disk_full(error):
            where = databases.redact(mlflow.get_tracking_uri())
            raise TrackdlError(f"{what}: the disk of {where} is full. Make room; the same command continues") from error
        text = f"{what}: {' '.join(str(error.message).split())[:500]}"
        if error.error_code in _WRONG_INPUT:
            raise InputError(_with_address(text)) from error
        raise TrackdlError(_with_address(f"{text.rstrip('.')}. {_REMEDY}")) from error
    except requests.RequestException as error:
        raise TrackdlError(_with_address(f"{what}: {error}. {_REMEDY}")) from error
    except OSError as error:
        full = outages.disk_full(error)
        todo = "Make room; the same command continues" if full else f"Is it there, readable and writable? {_ELSEWHERE}"
        raise TrackdlError(f"{what}: {error}. {todo}") from error
    except SQLAlchemyError as error:
        raise TrackdlError(_with_address(f"{what}: the database fails: {first_line(error)}. {_REMEDY}")) from error


def _with_address(text: str) -> str:
    """Return a text followed by the store's address, without its password anywhere."""
    uri = mlflow.get_tracking_uri()
    return f"{databases.redact(text, uri)} (tracking store: {databases.redact(uri)})"
