"""Checks of the tracking store: its schema, stuck runs, broken aliases, stale champions, orphaned artifacts."""

import re
import socket
import time
from pathlib import Path

from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from sqlalchemy import NullPool, create_engine, inspect
from sqlalchemy.exc import SQLAlchemyError

from trackdl.errors import first_line
from trackdl.system import databases, processes
from trackdl.system.findings import Finding, first_few
from trackdl.tracking.registry.files import broken, find
from trackdl.tracking.registry.versions import every_model, registered
from trackdl.tracking.store import (
    client,
    every,
    every_experiment,
    every_run,
    gc_command,
    spool_folder,
    translate_errors,
)

DAY = 24 * 3600
PAGE = 1000
RUN_ID = re.compile(r"[0-9a-f]{32}")
PROMOTE = "trackdl promote MODEL VERSION --why WORDS"


def schema(uri: str) -> Finding:
    """Compare the database's schema with this MLflow's; nothing is upgraded."""
    shown = databases.redact(uri)
    databases.check_address(uri, "mlflow")
    if uri.startswith(("http://", "https://")):
        client()
        return Finding("store", "ok", f"{shown} answers; its server takes care of the schema")
    file = databases.sqlite_file(uri)
    if file and not file.exists():
        return Finding("store", "ok", f"there is no {file} yet; the first run creates it")
    try:
        engine = create_engine(uri, poolclass=NullPool)
        if not inspect(engine).get_table_names():
            return Finding("store", "ok", f"{shown} is empty; the first run fills it")
        found = utils._get_schema_version(engine)  # type: ignore[no-untyped-call]
    except (SQLAlchemyError, MlflowException, ImportError) as error:
        remedy = "if it is not a database of MLflow's, or is damaged, replace it by a copy"
        return Finding("store", "fault", f"{shown}: {first_line(error)}", remedy)
    if found is None:
        remedy = "MLFLOW_TRACKING_URI names another; without it, a new one is made"
        return Finding("store", "fault", f"{shown} is no store of MLflow's", remedy)
    wanted = utils._get_latest_schema_revision()  # type: ignore[no-untyped-call]
    if found != wanted:
        remedy = f"copy it, then `mlflow db upgrade {shown}`; if MLflow here is the older one, install the lock's"
        return Finding("store", "fault", f"{shown}: schema {found}, but this MLflow needs {wanted}", remedy)
    return Finding("store", "ok", f"{shown}: schema {found}")


def stuck() -> Finding:
    """Look for runs that are RUNNING although no process runs them."""
    gone, old = [], []
    found = every_run("attributes.status = 'RUNNING'")
    for item in found:
        tags, name = item.data.tags, f"{item.info.run_id[:8]} ({item.data.tags.get('trackdl.task', 'no task')})"
        if tags.get("trackdl.host") == socket.gethostname() and not processes.alive(tags.get("trackdl.process", "")):
            gone.append(name)
        elif time.time() - item.info.start_time / 1000 > DAY and tags.get("trackdl.host") != socket.gethostname():
            old.append(name)
    if gone:
        remedy = "the next command of the same task marks it KILLED; `--resume` continues it"
        return Finding("stuck runs", "fault", f"RUNNING, but their process is gone: {first_few(gone)}", remedy)
    if old:
        remedy = "if nothing runs them there, end them in the MLflow UI"
        return Finding("stuck runs", "warn", f"RUNNING for more than a day on other machines: {first_few(old)}", remedy)
    return Finding("stuck runs", "ok", f"{len(found)} running, none stuck")


def unsent() -> Finding:
    """Look for records that a tracking store could not take while it was away; each store has a folder of its own."""
    folder = spool_folder().parent
    counts = [len(list(run.glob("[0-9]*"))) for run in folder.glob("*/*") if run.is_dir()]
    if not any(counts):
        return Finding("unsent", "ok", "nothing waits for a tracking store")
    words = f"{sum(counts)} records of {sum(map(bool, counts))} runs wait in {folder}"
    remedy = "once their store answers, the next command of any task sends them, e.g. `trackdl data`"
    return Finding("unsent", "warn", words, remedy)


def aliases() -> Finding:
    """Check that each alias leads to a version whose run and files exist."""
    wrong, count = [], 0
    with translate_errors("the model registry"):
        models = registered()
    for model in models:
        for alias, version in model.aliases.items():
            count += 1
            if reason := broken(find(f"models:/{model.name}/{version}")):
                wrong.append(f"{model.name}@{alias} (version {version}): {reason}")
    if wrong:
        remedy = (
            f"run the model's task again: a new version becomes champion; or `{PROMOTE}`. Any other alias can be "
            "deleted on the model's page in `trackdl ui`"
        )
        return Finding("aliases", "fault", first_few(wrong), remedy)
    return Finding("aliases", "ok", f"{count} aliases, each leads to a model")


def stale() -> Finding:
    """Look for champions that were trained from a model which is no longer champion itself."""
    found = [
        f"{model.name} version {version.version}: {version.stale}"
        for model in every_model()
        for version in model.versions
        if "champion" in version.aliases and version.stale
    ]
    if found:
        remedy = (
            "run the model's task again, which starts from the present champion; if the new version only becomes "
            f"challenger, `{PROMOTE}`"
        )
        return Finding("stale champions", "warn", first_few(found), remedy)
    return Finding("stale champions", "ok", "none was trained from a model that is no longer champion")


def orphans(folder: Path) -> Finding:
    """Look for folders of artifacts that belong to no run and no logged model."""
    known = {run.info.run_id for run in every_run(view=ViewType.ALL)} | _known_models()
    runs = [place for place in sorted(folder.glob("*/*")) if RUN_ID.fullmatch(place.name)]
    places = [*runs, *sorted(folder.glob("*/models/m-*"))]
    if found := [str(place.relative_to(folder)) for place in places if place.name not in known]:
        remedy = (
            f"run `{gc_command()}` first, which removes what deleted runs and models leave; what is listed here after "
            f"that can be deleted from {folder}"
        )
        return Finding("orphan artifacts", "warn", f"no run owns {first_few(found)}", remedy)
    return Finding("orphan artifacts", "ok", f"every folder of {folder} belongs to a run or a model")


def _known_models() -> set[str]:
    """Return the ids of all logged models, those of deleted experiments included."""
    with translate_errors("searching logged models"):
        experiments = every_experiment(ViewType.ALL)
        found = every(lambda token: client().search_logged_models(experiments, max_results=PAGE, page_token=token))
        return {item.model_id for item in found}
