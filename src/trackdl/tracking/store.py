"""Where runs and models are kept, and how MLflow's errors reach the user.

The store is `MLFLOW_TRACKING_URI` where that is set (`mlflow run` sets it), else `mlflow.db` and `mlruns/` in the
project's root, so that `mlflow ui` started there shows what was tracked.
"""

import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.entities.paged_list import PagedList
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import InputError, TrackdlError
from trackdl.paths import project_root

__all__ = ["client", "every_experiment", "home_experiment", "plainly"]

EXPERIMENT = "trackdl"

_WRONG_INPUT = {ErrorCode.Name(INVALID_PARAMETER_VALUE), ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)}


@cache
def client() -> MlflowClient:
    """Return a client of the store, which is created first when there is none.

    Raises:
        TrackdlError: The store cannot be reached or opened.
    """
    for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.system_metrics", "mlflow.pyfunc"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / 'mlflow.db'}"
    # Child processes, and code that MLflow loads with a model, see the same store.
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    with plainly(f"the tracking store {uri}"), _creating_alone(uri):
        made = MlflowClient(uri)
        made.search_experiments(max_results=1)
    # MLflow's imports leave so many objects that one full garbage collection takes 0.4 s, in the midst of a fit.
    gc.freeze()
    return made


@contextmanager
def _creating_alone(uri: str) -> Iterator[None]:
    """Let one process at a time open a SQLite store: several that create it at once break it for good."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    with FileLock(f"{uri.removeprefix('sqlite:///')}.lock"):
        yield


def home_experiment() -> str:
    """Return the id of the experiment that new runs go to: the caller's (`mlflow run` names one), else `trackdl`."""
    if named := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return named
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with plainly(f"experiment {name!r}"):
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
    folder = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else project_root()
    return (folder.resolve() / "mlruns").as_uri()


def every_experiment() -> list[str]:
    """Return the ids of all experiments: runs are found by their tags, wherever `mlflow run` put them."""
    ids: list[str] = []
    token = None
    while True:
        page: PagedList[Experiment] = client().search_experiments(ViewType.ACTIVE_ONLY, page_token=token)
        ids += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            return ids


@contextmanager
def plainly(what: str) -> Iterator[None]:
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
        text = f"{what}: {str(error.message).strip()} (tracking store: {mlflow.get_tracking_uri()})"
        if error.error_code in _WRONG_INPUT:
            raise InputError(text) from error
        raise TrackdlError(text) from error
    except SQLAlchemyError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrackdlError(f"{what}: the database fails: {reason}. Is it one of MLflow's, and whole?") from error
