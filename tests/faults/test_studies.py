"""Studies under fire: stores locked, disks full, memory that runs out, runs deleted, data gone, the clock moved."""

import os
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import psutil
import pytest
import torch

from support import ROOT
from support import registered as models
from support.grid_fits import afresh, made_up, model, never, slow, timed
from support.grid_runs import calls, experiment, here, kept_folds, stands_once
from support.openers import four_at_once
from support.ray_fits import fetching
from trackdl.errors import InputError, TrackdlError
from trackdl.studies import store as studies
from trackdl.studies.grid.fits import FoldResult, FoldTask
from trackdl.tasks import grid
from trackdl.tracking import runs, store
from trackdl.tracking.registry import register as registry
from trackdl.tracking.store import client
from trackdl.training import checkpoints
from trackdl.workers.pool import work_through

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("own_studies")]


@pytest.mark.fault("four processes at once on absent stores", times=10)
@pytest.mark.timeout(900)
def test_four_processes_open_absent_stores_at_once_ten_times(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = four_at_once(f"sqlite:///{folder / 'mlflow.db'}", f"sqlite:///{folder / 'optuna.db'}")
        assert len(set(found)) == 1
        plain = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
        assert [item.name for item in plain.search_experiments()].count("trackdl") == 1
        optuna.get_all_study_names(f"sqlite:///{folder / 'optuna.db'}")


@contextmanager
def locked(file: Path, seconds: float) -> Iterator[None]:
    """Let another connection hold a SQLite file for a while."""
    taken = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            taken.set()
            time.sleep(seconds)
            other.execute("ROLLBACK")

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    yield
    holder.join()


@pytest.mark.fault("both SQLite stores locked for 30 s in mid-grid", recovery="waits")
@pytest.mark.usefixtures("tracking")
def test_both_stores_are_locked_for_30_seconds_in_mid_grid(tmp_path: Path) -> None:
    def held(function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(here(function, next_task, workers)):
            if number == 4:
                with locked(tmp_path / "mlflow.db", 30), locked(tmp_path / "optuna.db", 30):
                    yield pair
            else:
                yield pair

    stands_once(grid.run(experiment(), 1, None, made_up, afresh, timed, held))
    assert set(calls(tmp_path).values()) == {1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "trackdl-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip() if done else 'no mount'}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return filler


@pytest.mark.fault("disk full while a checkpoint is written", times=2, recovery="the next command")
def test_the_disk_is_full_while_a_checkpoint_is_written(small_disk: Path) -> None:
    first, second = small_disk / "1.safetensors", small_disk / "2.safetensors"
    tensors = {"network.w": torch.arange(100_000.0)}
    checkpoints.write(first, tensors, {"epoch": "1"})
    filler = fill(small_disk)
    with pytest.raises(TrackdlError, match="Is the disk full"):
        checkpoints.write(second, tensors, {"epoch": "2"})
    with pytest.raises(TrackdlError, match="Is the disk full"):
        checkpoints.write(first, tensors, {"epoch": "2"})
    assert checkpoints.read_meta(first) == {"epoch": "1"}
    assert sorted(path.name for path in small_disk.iterdir()) == ["1.safetensors", "filler"]
    filler.unlink()
    checkpoints.write(second, tensors, {"epoch": "2"})
    assert checkpoints.read_meta(second) == {"epoch": "2"}


@pytest.mark.fault("disk full while rows and files are told of a run", times=2, recovery="the next command")
@pytest.mark.parametrize("kind", ["row", "file"])
def test_the_disk_is_full_while_a_run_is_told_something(
    kind: str, small_disk: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, small_disk / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{small_disk / 'mlflow.db'}")
    store.client.cache_clear()
    told = spec_of_mnist()
    points = [(step, 1.0) for step in range(5000)]
    open_runs = []

    def training() -> None:
        with runs.start(told) as run:
            open_runs.append(run)
            run.curve("early", points[:10])
            run.send()
            open_runs.append(fill(small_disk))
            if kind == "row":
                run.curve("late", points)
                run.send()
            else:
                run.file(big, "models")

    big = small_disk.parent / "big"
    big.write_bytes(bytes(100_000))
    with pytest.raises(TrackdlError, match=r"is full|No space left"):
        training()
    filler, run = open_runs[1], runs.Run(open_runs[0].id)  # the first keeps what it could not send
    assert run.history("early") == points[:10]
    filler.unlink()
    while mlflow.active_run():
        mlflow.end_run()
    with runs.start(told, resume=run) as again:
        again.curve("late", points)
        again.file(big, "models")
    assert again.history("late") == points
    assert again.info.info.status == "FINISHED"
    store.client.cache_clear()


@pytest.mark.fault("disk full while a model is logged", times=2, recovery="the next command")
def test_the_disk_is_full_while_a_model_is_logged(
    small_disk: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, small_disk / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{small_disk / 'mlflow.db'}")
    store.client.cache_clear()
    net = models.network()
    first = models.add(0.90)
    filler = fill(small_disk)
    for room in (0, 200_000):  # for nothing; for the row, and not for the files
        os.truncate(filler, filler.stat().st_size - room)
        with (
            pytest.raises(TrackdlError, match=r"is full|No space left|disk full"),
            runs.start(models.EXPERIMENT) as run,
        ):
            registry.log_model(run, net, models.CARD, np.zeros((1, 28, 28)), 1)
        assert registry.fetch_model("models:/mnist-cnn@champion").version == first.version
    filler.unlink()
    while mlflow.active_run():
        mlflow.end_run()
    second = models.add(0.95)
    assert second.alias == "champion"
    assert registry.fetch_model("models:/mnist-cnn@champion").version == second.version
    store.client.cache_clear()


def spec_of_mnist() -> Any:
    from trackdl import spec

    return spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)


@pytest.mark.fault("disk full under the studies", lost="the folds under way", recovery="the next command")
@pytest.mark.usefixtures("tracking")
def test_the_disk_of_the_studies_is_full_and_the_same_command_goes_on(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{small_disk / 'optuna.db'}")

    def filled(function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(here(function, next_task, workers)):
            if number == 4:
                fill(small_disk)
            yield pair

    with pytest.raises(TrackdlError, match="the same command continues"):
        grid.run(experiment(), 1, None, made_up, afresh, timed, filled)
    assert len(kept_folds()) >= 4
    (small_disk / "filler").unlink()
    studies.storage.cache_clear()
    stands_once(grid.run(experiment(), 1, None, made_up, afresh, timed, here))
    assert sum(calls(tmp_path).values()) <= 12 + 2
    studies.storage.cache_clear()


def greedy(task: FoldTask) -> FoldResult:
    """FigureQuery more memory than this process may have, in one of the folds."""
    if (model(task).dropout, model(task).activation, task.fold) == (0.3, "relu", 1):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**26, resource.RLIM_INFINITY))
        with Path(os.environ["GRID_TEST"], "greedy").open("a") as file:
            file.write("x")
        torch.zeros(2**28)
    return made_up(task)


@pytest.mark.fault("a worker out of memory, twice", lost="its trial, until the next command")
@pytest.mark.usefixtures("tracking")
def test_a_worker_out_of_memory_fails_its_own_trial_at_the_second_time(tmp_path: Path) -> None:
    with pytest.raises(TrackdlError, match="1 cells have failed"):
        grid.run(experiment(), 2, None, greedy, afresh, timed)
    assert (tmp_path / "greedy").read_text() == "xx"
    (failed,) = runs.find("grid", "attributes.status = 'FAILED' and tags.`trackdl.trial` != ''")
    assert "out of memory" in failed.info.data.tags["trackdl.error"]
    stands_once(grid.run(experiment(), 1, None, made_up, afresh, timed, here))


@pytest.mark.fault(
    "a run deleted under a live study", times=2, lost="at most a fold under way", recovery="the next command"
)
@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("which", ["trial", "parent"])
def test_a_run_is_deleted_under_a_live_study(which: str, tmp_path: Path) -> None:
    def deleting(
        function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int
    ) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(here(function, next_task, workers)):
            if number == 4 and function is made_up:
                (cell, _), _ = pair
                client().delete_run(cell.run.id if which == "trial" else runs.find("grid")[-1].id)
            yield pair

    try:
        result = grid.run(experiment(), 1, None, made_up, afresh, timed, deleting)
    except InputError as error:
        assert "deleted" in str(error)  # noqa: PT017
        result = grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    stands_once(result)
    assert sum(calls(tmp_path).values()) <= 13


@pytest.mark.fault("the data folder emptied during a grid", recovery="fetched again")
@pytest.mark.usefixtures("tracking")
def test_the_data_folder_is_emptied_during_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_DATA_DIR", str(tmp_path / "data"))

    def emptied(
        function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int
    ) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(work_through(function, next_task, workers)):
            if number == 3 and isinstance(pair[1], FoldResult):
                (tmp_path / "data").rename(tmp_path / "emptied")  # at once: the other worker may be writing there
            yield pair

    stands_once(grid.run(experiment(), 2, None, fetching, afresh, timed, emptied))
    assert len((tmp_path / "fetched").read_text().splitlines()) == 2


@pytest.mark.fault("the clock moved back by two hours")
@pytest.mark.usefixtures("tracking")
def test_the_clock_is_moved_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    with runs.start(spec_of_mnist()) as run:
        run.metrics({"loss": 1.0}, step=1)
        monkeypatch.setattr(time, "time", lambda: real() - 7200)
        # What tells a live process from a dead one does not follow the clock.
        monkeypatch.setattr(psutil.Process, "create_time", lambda _: 0.0)
        run.metrics({"loss": 0.5}, step=2)
        assert runs.close_abandoned("mnist") == []
    assert run.history("loss") == [(1, 1.0), (2, 0.5)]
    assert run.info.info.status == "FINISHED"


@pytest.mark.usefixtures("tracking")
def test_a_finished_grid_is_not_touched_by_what_failed_before(tmp_path: Path) -> None:
    stands_once(grid.run(experiment(), 2, None, slow, afresh, timed))
    stands_once(grid.run(experiment(), 1, None, never, afresh, timed, here))
    assert set(calls(tmp_path).values()) == {1}
