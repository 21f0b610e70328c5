"""Ctrl-C at the worst moments, within a call of the store: no run is left as if it still ran."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from support import ROOT
from support import grid_runs as grids
from support import search_runs as searches
from support.grid_fits import afresh, timed
from support.grid_fits import made_up as folds
from support.search_fits import made_up as epochs
from trackdl import spec
from trackdl.tasks import classify, grid, search
from trackdl.tracking import runs, store

pytestmark = pytest.mark.usefixtures("tracking", "own_studies")

MNIST = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec, {"training.batch_size": 32})


def run_grid() -> object:
    return grid.run(grids.experiment(), 1, None, folds, afresh, timed, grids.here)


def run_search() -> object:
    return search.run(searches.experiment(), 1, epochs, searches.here)


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 2, 3], ids=["the study's run", "the first trial's", "the second's"])
@pytest.mark.parametrize(("task", "command"), [("grid", run_grid), ("search", run_search)])
def test_a_run_that_is_being_made_is_marked_killed(
    task: str,
    command: Callable[[], object],
    call: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The store has made the run when Ctrl-C comes, and whoever asked for it does not know it yet."""
    made = SqlAlchemyStore.create_run
    count = 0

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal count
        run = made(*args, **kwargs)
        count += 1
        if count == call:
            os.kill(os.getpid(), signal.SIGINT)
        return run

    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "create_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            command()
    if call == 1:  # nothing has been said yet about what is kept
        assert "the same command runs it again" in caplog.text
    states = [run.info.info.status for run in every_run(task)]
    assert len(states) >= call
    assert set(states) <= {"KILLED", "FINISHED"}
    assert "KILLED" in states
    command()
    assert {run.info.info.status for run in every_run(task)} <= {"KILLED", "FINISHED", "FAILED"}


@pytest.mark.slow
@pytest.mark.parametrize("call", ["create_logged_model", "finalize_logged_model", "create_model_version"])
def test_a_model_is_logged_and_registered_whole(
    call: str,
    tiny_mnist: Path,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C falls into the database's call; the model, or the version and its alias, are there before it is heard."""
    owner = next(kind for kind in (SqlAlchemyStore, RegistryStore) if hasattr(kind, call))
    asked = getattr(owner, call)

    def interrupted(*args: object, **kwargs: object) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return asked(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, call, interrupted)
        with pytest.raises(KeyboardInterrupt):
            classify.run(MNIST)
    assert {run.info.info.status for run in every_run("mnist")} == {"KILLED"}
    logged = runs.client().search_logged_models(store.every_experiment())
    assert [str(model.status) for model in logged] == ["READY"]
    versions = runs.client().search_model_versions("name = 'mnist-cnn'")
    if call == "create_model_version":
        (version,) = versions
        assert runs.client().get_model_version_by_alias("mnist-cnn", "champion").version == version.version
    else:
        assert versions == []
    assert classify.run(MNIST).run.info.info.status == "FINISHED"


def every_run(task: str) -> list[runs.Run]:
    """Return the task's runs, and those which were not given their task's name."""
    found = runs.client().search_runs(["0", *store.every_experiment()], "")
    assert {run.data.tags.get("trackdl.task", task) for run in found} == {task}
    return [runs.Run(run.info.run_id) for run in found]
