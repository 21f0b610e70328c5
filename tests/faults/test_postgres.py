"""Both stores in PostgreSQL, a real server: created by many at once, restarted in mid-study, one worker a study."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import optuna
import pytest
import sqlalchemy
from optuna.storages import _CachedStorage

from support import grid_runs as grids
from support import search_runs as searches
from support.grid_fits import afresh, made_up, never, slow, timed
from support.grid_runs import calls, experiment, here, stands_once
from support.openers import four_at_once
from support.postgres import Server
from support.search_fits import made_up as epochs
from trackdl.errors import InputError, TrackdlError
from trackdl.studies import store as studies
from trackdl.system import locks, outages
from trackdl.tasks import grid, search
from trackdl.tracking import outbox, runs, store
from trackdl.workers.pool import work_through

pytestmark = [pytest.mark.postgres, pytest.mark.faults, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def template(postgres: Server) -> str:
    """A database with MLflow's tables, which take seconds to make."""
    url = postgres.database()
    mlflow.MlflowClient(url).search_experiments()
    engine = mlflow.tracking._tracking_service.utils._get_store(url).engine
    engine.dispose()
    return url.rpartition("/")[2]


@pytest.fixture
def both(postgres: Server, template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.database(template))
    monkeypatch.setenv("TRACKDL_STORAGE", postgres.database())
    monkeypatch.setenv("GRID_TEST", str(tmp_path))
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    monkeypatch.setattr(outbox, "LOOK_EVERY", 0.2)
    outbox._stores.clear()
    store.client.cache_clear()
    studies.storage.cache_clear()
    yield postgres
    while mlflow.active_run():
        mlflow.end_run()
    store.client.cache_clear()
    studies.storage.cache_clear()


@pytest.mark.usefixtures("both")
def test_a_grid_stands_once_in_both() -> None:
    first = grid.run(experiment(), 2, None, made_up, afresh, timed, here)
    stands_once(first)
    again = grid.run(experiment(), 2, None, never, afresh, timed, here)
    assert again.run.id == first.run.id


@pytest.mark.fault("PostgreSQL restarted in mid-study", times=3, recovery="waits")
@pytest.mark.usefixtures("both")
def test_the_server_is_restarted_in_mid_study(both: Server, tmp_path: Path) -> None:
    def restarted(
        function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int
    ) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(work_through(function, next_task, workers)):
            if number in (2, 5, 8):
                both.stop()
                threading.Timer(1.0, both.start).start()
            yield pair

    stands_once(grid.run(experiment(), 2, None, slow, afresh, timed, restarted))
    assert set(calls(tmp_path).values()) == {1}
    assert not list(store.spool_folder().glob("*/*"))


@pytest.mark.fault("PostgreSQL restarted under a search's questions", times=3, recovery="waits")
def test_the_server_is_restarted_while_it_is_being_asked(
    both: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two outcomes the driver asks tens of times: here the server goes in the midst of them."""
    monkeypatch.setenv("SEARCH_TEST", str(tmp_path))
    monkeypatch.setattr(search, "project_root", lambda: tmp_path)

    def going_away(call: Callable[..., Any]) -> Callable[..., Any]:
        asked = 0

        def away_at_the_fifth(*args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 5:
                both.stop()
                threading.Timer(1.0, both.start).start()
            return call(*args, **kwargs)

        return away_at_the_fifth

    for name in ("get_all_trials", "create_new_trial", "set_trial_param"):
        monkeypatch.setattr(_CachedStorage, name, going_away(getattr(_CachedStorage, name)))
    result = search.run(searches.experiment(), 1, epochs, searches.here)
    searches.is_truthful(result)
    assert len(searches.study_of(result).trials) == 12
    told = (tmp_path / "calls").read_text().splitlines()
    assert len(told) == len(set(told))  # no epoch twice


@pytest.mark.fault("PostgreSQL stays away", lost="a fold under way", recovery="the next command")
@pytest.mark.usefixtures("both")
def test_a_server_that_stays_away_is_said_and_the_same_command_goes_on(
    both: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(here(function, next_task, 1)):
            if number == 4:
                both.stop()
                monkeypatch.setattr(outages, "PATIENCE", 0.5)
            yield pair

    with pytest.raises(TrackdlError, match="the same command continues"):
        grid.run(experiment(), 1, None, made_up, afresh, timed, stopped)
    both.start()
    outbox._stores.clear()
    studies.storage.cache_clear()
    stands_once(grid.run(experiment(), 1, None, made_up, afresh, timed, here))
    assert sum(calls(tmp_path).values()) == 13  # one fold was not kept


@pytest.mark.usefixtures("both")
def test_one_process_works_on_a_study_wherever_its_machine(monkeypatch: pytest.MonkeyPatch, both: Server) -> None:
    monkeypatch.setattr(locks, "PING_EVERY", 0.1)
    url = studies.storage_url()
    with locks.exclusive_lock(url, "a study"):
        with pytest.raises(InputError, match="another process"), locks.exclusive_lock(url, "a study"):
            pass
        with locks.exclusive_lock(url, "another"):
            pass
        both.stop()
        both.start()
        taken = False
        while not taken:  # the lock went with the server, and is held again soon
            time.sleep(0.2)
            try:
                with locks.exclusive_lock(url, "a study"):
                    pass
            except InputError:
                taken = True
    with locks.exclusive_lock(url, "a study"):
        pass


@pytest.mark.fault("a driver cut off, its study taken up elsewhere")
@pytest.mark.usefixtures("both")
def test_whoever_lost_the_lock_to_another_process_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PING_EVERY", 0.5)
    url = studies.storage_url()
    first = locks._Keeper(url, "a study")
    second = locks._Keeper(url, "a study")
    assert first.take()
    assert first.connection is not None
    first.connection.close()
    first.connection = None  # cut
    assert second.take()

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, interrupt)  # as the command line does
    try:
        with pytest.raises(KeyboardInterrupt):
            first.keep()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_two_stores_do_not_share_a_database(
    postgres: Server, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = postgres.database(template)
    monkeypatch.setenv("TRACKDL_STORAGE", both)
    studies.storage.cache_clear()
    with pytest.raises(InputError, match="holds MLflow's runs"):
        studies.storage()
    studies_only = postgres.database()
    monkeypatch.setenv("TRACKDL_STORAGE", studies_only)
    studies.storage()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", studies_only)
    store.client.cache_clear()
    with pytest.raises(InputError, match="holds Optuna's studies"):
        store.client()
    studies.storage.cache_clear()
    store.client.cache_clear()


def test_two_schemas_of_one_database_do(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.database()
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for name in ("runs", "studies"):
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{url}?options=-csearch_path%3Druns")
    monkeypatch.setenv("TRACKDL_STORAGE", f"{url}?options=-csearch_path%3Dstudies")
    studies.storage.cache_clear()
    store.client.cache_clear()
    assert store.client().search_experiments()
    optuna.create_study(storage=studies.storage(), study_name="there")
    studies.storage.cache_clear()
    store.client.cache_clear()


@pytest.mark.fault("four processes at once on absent PostgreSQL stores", times=2)
def test_four_processes_open_absent_stores_at_once(postgres: Server) -> None:
    for _ in range(2):
        assert len(set(four_at_once(postgres.database(), postgres.database()))) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://trackdl:secret@127.0.0.1:1/none", "cannot be reached"),
        ("postgresql+psycopgg://trackdl:secret@127.0.0.1:1/none", r"postgresql\+psycopg://USER@HOST/DATABASE"),
    ],
)
def test_a_wrong_address_is_said_without_its_password(
    url: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    postgres: Server,  # noqa: ARG001
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "TRACKDL_STORAGE"):
        monkeypatch.setenv(name, url)
    studies.storage.cache_clear()
    store.client.cache_clear()
    for opened in (studies.storage, lambda: runs.find("mnist")):
        with pytest.raises(TrackdlError, match=words) as error:
            opened()
        assert "secret" not in str(error.value)
    assert grids  # the grid's fixtures are its own module's
