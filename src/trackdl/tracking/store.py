"""Where runs and models are kept, and how MLflow's errors reach the user.

The store is `MLFLOW_TRACKING_URI` where that is set (`mlflow run` sets it), else `mlflow.db` and `mlruns/` in the
project's root, so that `mlflow ui` started there shows what was tracked.
"""

import gc
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import TypeVar

import mlflow
import requests
import sqlalchemy
from mlflow.entities import ViewType
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

from trackdl.errors import InputError, TrackdlError
from trackdl.system import databases
from trackdl.system.paths import project_root

__all__ = ["client", "every", "every_experiment", "home_experiment", "spool_folder", "store_gone", "translate_errors"]

T = TypeVar("T")

EXPERIMENT = "trackdl"

_UNAVAILABLE = ErrorCode.Name(TEMPORARILY_UNAVAILABLE)
# What a server or a proxy before it answers when the server, or its database, is not there.
_AWAY = {502, 503, 504}
_WRONG_INPUT = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}


@cache
def client() -> MlflowClient:
    """Return a client of the store, which is created first when there is none.

    Raises:
        InputError: The address is none, or its driver is not installed.
        TrackdlError: The store cannot be reached or opened.
    """
    for noisy in (
        "alembic",
        "mlflow.store.db.utils",
        "mlflow.system_metrics",
        "mlflow.pyfunc",
        "urllib3.connectionpool",  # its retries, one by one
    ):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # what it says at ERROR are tracebacks of what is raised
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / 'mlflow.db'}"
    # Child processes, and code that MLflow loads with a model, see the same store.
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    # MLflow's own patience, seven tries of up to 120 s, would hold up a Ctrl-C.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    what = f"the tracking store {databases.redact_url(uri)}"
    try:
        with translate_errors(what), databases.creating_alone(uri):
            databases.refuse_shared(uri, "mlflow")
            _refuse_older(uri)
            made = _PatientClient(uri)
            MlflowClient.search_experiments(made, max_results=1)  # a wrong address is said at once
    except (ImportError, ValueError) as error:  # no driver; a port that is no number
        raise InputError(f"{what}: {error}. {databases.DRIVER_HINT}") from error
    # MLflow's imports leave so many objects that one full garbage collection takes 0.4 s, in the midst of a fit.
    gc.freeze()
    return made


class _PatientClient(MlflowClient):
    """A client whose questions wait while the store is gone; what it is told goes through `outbox`."""


def _patient(name: str) -> None:
    call = getattr(MlflowClient, name)

    @wraps(call)
    def whole(self: _PatientClient, *args: object, **kwargs: object) -> object:
        with databases.undisturbed(self.tracking_uri):
            return call(self, *args, **kwargs)

    patient = databases.patient(whole, "the tracking store", lambda error: store_gone(error))
    setattr(_PatientClient, name, patient)


for _name in (
    "create_experiment",
    "create_model_version",
    "create_registered_model",
    "create_run",
    "download_artifacts",
    "get_experiment_by_name",
    "get_metric_history",
    "get_model_version",
    "get_model_version_by_alias",
    "get_run",
    "list_artifacts",
    "search_experiments",
    "search_runs",
    "set_registered_model_alias",
    "update_run",
):
    _patient(_name)


def store_gone(error: BaseException) -> bool:
    """Return whether an error says that the store was not there, and not that it refused."""
    if databases.database_gone(error):
        return True
    for item in databases.causes(error):
        if isinstance(item, requests.HTTPError) and item.response is not None:
            return item.response.status_code in _AWAY
        if isinstance(item, requests.RequestException):
            return True
        if isinstance(item, MlflowException) and item.error_code == _UNAVAILABLE:
            return not databases.disk_full(error)
    return False


def _refuse_older(uri: str) -> None:
    """Refuse a database of an older MLflow, which would migrate it unasked where it lacks a table.

    Raises:
        TrackdlError: It is older; what to run is said.
    """
    file = databases.sqlite_file(uri)
    if uri.startswith("http") or (file and not file.exists()):
        return
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("experiments"):
            return
    found = _get_schema_version(engine)  # type: ignore[no-untyped-call]
    needed = _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    if found != needed:
        shown = databases.redact_url(uri)
        raise TrackdlError(
            f"{shown} was made by another version of MLflow (its schema is {found}, this one's {needed}) and is left "
            f"as it is. Keep a copy, then run: mlflow db upgrade {shown}; or use the MLflow that made it"
        )


def spool_folder() -> Path:
    """Return where what this store could not take is kept: below `reports/unsent/`, a folder for each store."""
    store = hashlib.sha256(mlflow.get_tracking_uri().encode()).hexdigest()[:12]
    return project_root() / "reports" / "unsent" / store


def home_experiment() -> str:
    """Return the id of the experiment that new runs go to: the caller's (`mlflow run` names one), else `trackdl`."""
    if named := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return named
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with translate_errors(f"experiment {name!r}"):
        found = client().get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(client().create_experiment(name, artifact_location=_artifact_place()))


def _artifact_place() -> str | None:
    """Return where a new experiment's artifacts go: a server knows a place itself, a database does not."""
    uri = mlflow.get_tracking_uri()
    if uri.startswith("http"):
        return None
    # Left alone, MLflow takes the working folder, wherever that is.
    file = databases.sqlite_file(uri)
    folder = file.parent if file else project_root()
    return (folder.resolve() / "mlruns").as_uri()


def every_experiment(view: int = ViewType.ACTIVE_ONLY) -> list[str]:
    """Return the ids of all experiments: runs are found by their tags, wherever `mlflow run` put them.

    Args:
        view: MLflow's `ViewType`: deleted ones only where it takes them in.
    """
    found = every(lambda token: client().search_experiments(view, page_token=token))
    return [experiment.experiment_id for experiment in found]


def every(search: Callable[[str | None], PagedList[T]]) -> list[T]:
    """Return all that a search finds: MLflow answers page by page.

    Args:
        search: Asks for the page of a token; None is the first page's.
    """
    found: list[T] = []
    token = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turn MLflow's errors within the block into trackdl's, which say what they concern.

    Args:
        what: What is asked for, e.g. "run 3f2a".

    Raises:
        InputError: It does not exist, or its name is none.
        TrackdlError: The store failed.
    """
    try:
        yield
    except MlflowException as error:
        if databases.disk_full(error):
            where = databases.redact_url(mlflow.get_tracking_uri())
            raise TrackdlError(f"{what}: the disk of {where} is full. Make room; the same command goes on") from error
        text = _with_address(f"{what}: {str(error.message).strip()}")
        if error.error_code in _WRONG_INPUT:
            raise InputError(text) from error
        raise TrackdlError(text) from error
    except requests.RequestException as error:
        raise TrackdlError(_with_address(f"{what}: {error}")) from error
    except OSError as error:
        todo = "Make room; the same command goes on" if databases.disk_full(error) else "Can it be written there?"
        raise TrackdlError(f"{what}: {error}. {todo}") from error
    except SQLAlchemyError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrackdlError(f"{what}: the database fails: {reason}. Is it one of MLflow's, and whole?") from error


def _with_address(text: str) -> str:
    """Return a text with the store's address, which nowhere in it has its password."""
    uri = mlflow.get_tracking_uri()
    return f"{databases.redact(text, uri)} (tracking store: {databases.redact_url(uri)})"
