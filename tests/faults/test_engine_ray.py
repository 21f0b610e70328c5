"""`--engine ray` on a cluster of three nodes: the same work, and a node that is killed loses nothing."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support import grid_runs as grids
from support import search_runs as searches
from support.grid_fits import afresh, timed
from support.grid_runs import calls, experiment, stands_once
from support.ray_fits import data_folder, fetching, gone, slow_there
from support.search_fits import made_up as epochs
from trackdl.errors import InputError
from trackdl.studies import store as studies
from trackdl.tasks import grid, search
from trackdl.workers import engines
from trackdl.workers.pool import Failed, Lost

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install ray[default]")

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Any]:
    """Three nodes, one with a GPU by its own account, each with its data folder; the work's notes go to `place`."""
    from ray.cluster_utils import Cluster

    own = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"} | dict.fromkeys(
        ("GRID_TEST", "SEARCH_TEST"), str(place)
    )
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])  # the nodes' workers load the fits
    before = {name: os.environ.get(name) for name in own}
    os.environ |= own
    made = Cluster()
    for number in range(3):
        folder = place / f"node{number}"
        folder.mkdir()
        made.last = made.add_node(
            num_cpus=2 if number == 0 else 1,
            num_gpus=1 if number == 1 else 0,  # said to be there: what counts is who is given it
            object_store_memory=100 * 2**20,
            include_dashboard=False,
            env_vars={"TRACKDL_DATA_DIR": str(folder)},
        )
    made.connect()
    yield made
    ray.shutdown()
    made.shutdown()
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _own_studies(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    monkeypatch.setenv("GRID_TEST", str(place))
    monkeypatch.setenv("SEARCH_TEST", str(place))
    studies.storage.cache_clear()
    (place / "calls").unlink(missing_ok=True)


def test_what_becomes_of_tasks_is_told(cluster: Any) -> None:  # noqa: ARG001
    engine, workers = engines.choose("ray", None, 0)
    assert workers == 4
    tasks = iter(["well", "raises", "dies"])
    found = dict(engine(gone, lambda: (name, name) if (name := next(tasks, None)) else None, 3))
    assert found["well"] == "well"
    assert isinstance(found["raises"], Failed)
    assert "on purpose" in str(found["raises"].error)
    assert isinstance(found["dies"], Lost)


def test_a_part_of_a_gpu_is_given_where_there_is_one(cluster: Any, place: Path) -> None:  # noqa: ARG001
    engine, workers = engines.choose("ray", None, 0.5)
    assert workers == 2
    tasks = iter(range(4))
    found = dict(engine(data_folder, lambda: (n, n) if (n := next(tasks, None)) is not None else None, workers))
    assert found == dict.fromkeys(range(4), str(place / "node1"))
    with pytest.raises(InputError, match="has 1 GPUs"):
        engines.choose("ray", None, 2)


@pytest.mark.usefixtures("tracking")
def test_a_search_is_the_same_study_as_on_one_machine(
    cluster: Any,  # noqa: ARG001
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "project_root", lambda: place)
    engine, workers = engines.choose("ray", None, 0)
    searches.is_truthful(search.run(searches.experiment(), workers, epochs, engine))


@pytest.mark.usefixtures("tracking")
def test_data_are_fetched_once_a_node(cluster: Any, place: Path) -> None:  # noqa: ARG001
    engine, workers = engines.choose("ray", None, 0)
    stands_once(grid.run(experiment(), workers, None, fetching, afresh, timed, engine))
    fetched = (place / "fetched").read_text().splitlines()
    used = {json.loads(line)[2] for line in (place / "where").read_text().splitlines()}
    assert len(used) > 1
    assert sorted(fetched) == sorted(used)


@pytest.mark.fault("a Ray node killed in mid-trial", lost="the folds under way")
@pytest.mark.usefixtures("tracking")
def test_a_node_that_is_killed_in_mid_trial_loses_nothing(cluster: Any, place: Path) -> None:
    (place / "where").unlink(missing_ok=True)
    victim = cluster.last  # Ray keeps its nodes in a set, in no order

    def kill() -> None:
        while str(place / "node2") not in ((place / "where").read_text() if (place / "where").exists() else ""):
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    engine, workers = engines.choose("ray", None, 0)
    stands_once(grid.run(experiment(), workers, None, slow_there, afresh, timed, engine))
    killer.join()
    assert set(calls(place).values()) == {1}
    assert len(calls(place)) == 12
    begun = [json.loads(line)[:2] for line in (place / "where").read_text().splitlines()]
    assert len(begun) > 12  # what was under way on the node that is gone was begun again
    assert grids.kept_folds()
