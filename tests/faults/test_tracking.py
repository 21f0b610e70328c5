"""The tracking store goes away under a training: nothing is lost, nothing is twice, and the training hardly waits."""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests
from matplotlib.figure import Figure

from support import ROOT
from support import grid_runs as grids
from support.grid_fits import afresh, made_up, timed
from support.tracking_server import TrackingServer
from trackdl import spec
from trackdl.errors import InputError, TrackdlError
from trackdl.studies import store as studies
from trackdl.system import outages
from trackdl.tasks import grid
from trackdl.tracking import outbox, runs, spool, store
from trackdl.tracking.runs import Run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]  # a server takes its time on a busy machine

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)
LONGEST = 5.0  # seconds that an outage may add to a training


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(runs, "SEND_EVERY", 0.1)
    outbox._stores.clear()


@pytest.fixture(scope="module")
def only_server(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """One server for all: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    made = TrackingServer(folder)
    yield made
    made.kill()


@pytest.fixture
def server(only_server: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    if only_server.process is None:
        only_server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", only_server.uri)
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    store.client.cache_clear()
    yield only_server
    while mlflow.active_run():
        mlflow.end_run()
    store.client.cache_clear()


def epoch(run: Run, number: int, tmp_path: Path) -> float:
    """Log what an epoch logs; return the seconds that took."""
    path = tmp_path / f"epoch-{number:05d}.safetensors"
    path.write_bytes(b"weights" * number)
    began = time.monotonic()
    run.curve("batch_loss", [(100 * number + step, float(step)) for step in range(50)])
    run.metrics({"train_loss": 1 / number, "train_accuracy": float("nan")}, step=number)
    run.file(path, "checkpoints")
    run.tags({"reached": number})
    return time.monotonic() - began


def stands_once(run_id: str, epochs: int, uri: str, status: str) -> None:
    """Check, by plain MLflow, that all was told, once and in order."""
    plain = mlflow.MlflowClient(uri)
    points = plain.get_metric_history(run_id, "batch_loss")
    wanted = [100 * number + step for number in range(1, epochs + 1) for step in range(50)]
    assert sorted(point.step for point in points) == wanted
    losses = plain.get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in losses] == [(n, 1 / n) for n in range(1, epochs + 1)]
    assert len(plain.get_metric_history(run_id, "train_accuracy")) == epochs
    found = plain.get_run(run_id)
    assert found.data.tags["reached"] == str(epochs)
    assert found.info.status == status
    assert len(plain.list_artifacts(run_id, "checkpoints")) == epochs


@pytest.mark.fault("the tracking server killed in mid-fit, and back", recovery="by itself")
def test_the_server_is_killed_in_mid_fit_and_comes_back(server: TrackingServer, tmp_path: Path) -> None:
    with runs.start(EXPERIMENT) as run:
        epoch(run, 1, tmp_path)
        server.kill()
        assert sum(epoch(run, number, tmp_path) for number in range(2, 8)) < LONGEST
        assert spool.waiting(run.id)
        server.start()
        outbox._stores[server.uri].answers.wait()
        epoch(run, 8, tmp_path)
        assert run.info.info.status == "RUNNING"
        assert not spool.waiting(run.id)
        epoch(run, 9, tmp_path)
    stands_once(run.id, 9, server.uri, "FINISHED")


@pytest.mark.fault("the tracking server hangs, and goes on", recovery="by itself")
def test_the_server_hangs_and_goes_on(server: TrackingServer, tmp_path: Path) -> None:
    with runs.start(EXPERIMENT) as run:
        epoch(run, 1, tmp_path)
        server.signal(signal.SIGSTOP)
        assert sum(epoch(run, number, tmp_path) for number in range(2, 8)) < LONGEST
        server.signal(signal.SIGCONT)
        # What is asked waits for what was told.
        assert len(run.history("train_loss")) == 7
    stands_once(run.id, 7, server.uri, "FINISHED")


@pytest.mark.fault("the tracking server never comes back", recovery="the next command sends")
def test_the_server_never_comes_back_and_the_next_command_sends_what_waits(
    server: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.5)

    def training() -> None:
        with runs.start(EXPERIMENT) as run:
            begun.append(run)
            epoch(run, 1, tmp_path)
            server.kill()
            assert sum(epoch(run, number, tmp_path) for number in range(2, 6)) < LONGEST
            run.figure(Figure(), "pictures/empty.png")
            run.table({"a": 1}, "told.json")
            run.dataset(runs.describe_dataset("mnist-train", "ab" * 32, "http://example.org/"), "training")
            run.history("train_loss")

    begun: list[Run] = []
    with pytest.raises(TrackdlError, match=r"records of 1 runs .* wait in .*next command of any task sends them"):
        training()
    (run,) = begun
    outbox._stores.clear()  # as a new process has none
    server.start()
    runs.close_abandoned("mnist")
    assert not spool.waiting(run.id)
    stands_once(run.id, 5, server.uri, "FAILED")
    assert run.artifacts("pictures") == ["pictures/empty.png"]
    (found,) = run.info.inputs.dataset_inputs
    assert found.dataset.name == "mnist-train"


@pytest.mark.fault("a process killed between sending and noting it")
@pytest.mark.usefixtures("tracking")
def test_what_was_half_sent_arrives_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str) -> None:
    with runs.start(EXPERIMENT) as run:
        epoch(run, 1, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "_answers", lambda _: False)
            patch.setattr(outbox, "_send", gone)
            epoch(run, 2, tmp_path)
        # The records arrive, and the process is gone before it has removed them.
        for place in spool.waiting(run.id):
            outbox._send(run.id, spool.read(place))
        assert spool.waiting(run.id)
        outbox.send_waiting()
    stands_once(run.id, 2, tracking, "FINISHED")


@pytest.fixture
def own_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    monkeypatch.setenv("GRID_TEST", str(tmp_path))
    studies.storage.cache_clear()
    yield
    studies.storage.cache_clear()


@pytest.mark.fault("the tracking server killed in mid-grid, and back", recovery="waits, or by itself")
@pytest.mark.usefixtures("own_studies")
def test_the_server_is_killed_in_mid_grid_and_comes_back(server: TrackingServer, tmp_path: Path) -> None:
    back = threading.Timer(1.0, server.start)

    def killed(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(grids.here(function, next_task, 1)):
            if number == 3 and server.process and not back.ident:
                server.kill()
                back.start()
            yield pair

    grids.stands_once(grid.run(grids.experiment(), 1, None, made_up, afresh, timed, killed))
    back.join()
    assert set(grids.calls(tmp_path).values()) == {1}
    assert not spool.run_folders()


@pytest.mark.fault("the tracking server stays away from a grid", recovery="the next command")
@pytest.mark.usefixtures("own_studies")
def test_a_grid_whose_server_stays_away_says_what_waits_and_the_same_command_goes_on(
    server: TrackingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def killed(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(grids.here(function, next_task, 1)):
            if number == 2:
                server.kill()
                monkeypatch.setattr(outages, "PATIENCE", 0.5)
            yield pair

    protocol = grids.experiment(judge={"folds": 2})
    said = r"opening a trial's run: .*does not answer. \d+ records of .* wait in .* a study by the same command"
    with pytest.raises(TrackdlError, match=said):
        grid.run(protocol, 1, None, made_up, afresh, timed, killed)
    assert "records of" in caplog.messages[-1]
    assert spool.run_folders()
    monkeypatch.setattr(outages, "PATIENCE", 90.0)
    outbox._stores.clear()  # as a new process has none
    studies.storage.cache_clear()
    server.start()
    grids.stands_once(grid.run(protocol, 1, None, made_up, afresh, timed, grids.here), folds=2)
    assert set(grids.calls(tmp_path).values()) == {1}
    assert not spool.run_folders()


def gone(*_: object) -> None:
    raise requests.ConnectionError("nobody is there")


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", TrackingServer(tmp_path).uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store.client.cache_clear()
    with pytest.raises(TrackdlError, match=r"the tracking store http://127"):
        runs.close_abandoned("mnist")
    store.client.cache_clear()


def lock(file: Path, seconds: float, locked: threading.Event) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        locked.set()
        time.sleep(seconds)
        other.execute("ROLLBACK")


@pytest.mark.fault("the SQLite file locked for 30 s in mid-fit", recovery="waits")
@pytest.mark.usefixtures("tracking")
def test_the_sqlite_file_is_locked_for_30_seconds(tmp_path: Path) -> None:
    with runs.start(EXPERIMENT) as run:
        epoch(run, 1, tmp_path)
        locked = threading.Event()
        locker = threading.Thread(target=lock, args=(tmp_path / "mlflow.db", 30, locked))
        locker.start()
        locked.wait()
        for number in range(2, 6):
            epoch(run, number, tmp_path)
        assert len(run.history("train_loss")) == 5
        locker.join()
    stands_once(run.id, 5, f"sqlite:///{tmp_path / 'mlflow.db'}", "FINISHED")


@pytest.mark.fault("a run deleted while something waits for it")
@pytest.mark.usefixtures("tracking")
def test_a_run_that_was_deleted_meanwhile_is_told_and_its_rest_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with runs.start(EXPERIMENT) as run:
        epoch(run, 1, tmp_path)
        mlflow.MlflowClient().delete_run(run.id)
        with pytest.raises(InputError, match=f"run {run.id}.*deleted"):
            epoch(run, 2, tmp_path)
        mlflow.MlflowClient().restore_run(run.id)
    spool.keep(run.id, spool.Record("tags", {"tags": {"a": "b"}}))
    mlflow.MlflowClient().delete_run(run.id)
    with caplog.at_level("ERROR", "trackdl"):
        runs.close_abandoned("mnist")
    assert "the store refuses" in caplog.text
    assert spool.waiting(run.id)


def test_the_server_refuses_a_foreign_host(server: TrackingServer) -> None:
    for host, code in ((f"127.0.0.1:{server.port}", 200), ("evil.example", 403)):
        found = requests.get(
            f"{server.uri}/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host}, timeout=60
        )
        assert found.status_code == code, found.text
