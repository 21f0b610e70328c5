"""Studies under fire: kills at random moments, full disks, memory that runs out, runs deleted, data gone, Ctrl-C."""

import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import mlflow
import optuna
import psutil
import pytest
import torch
import yaml

import test_task_grid as grids
from conftest import ROOT
from grid_fits import afresh, made_up, never, slow
from openers import four_at_once
from ray_fits import fetching
from test_task_grid import calls, experiment, here, kept_folds, stands_once, wait_until_gone
from trackdl import checkpoints
from trackdl.crossfit import FoldResult, FoldTask
from trackdl.errors import InputError, TrackdlError
from trackdl.studies import store as studies
from trackdl.tasks import grid
from trackdl.tracking import runs
from trackdl.tracking.store import client
from trackdl.workers import work_through

pytestmark = [pytest.mark.faults]

KILLS = 20
LARGER = grids.SPACE | {"filters": [1, 2, 3, 4, 5], "dense_nodes": [7, 8]}  # 40 cells


@pytest.fixture(autouse=True)
def _own_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    monkeypatch.setenv("GRID_TEST", str(tmp_path))
    studies.storage.cache_clear()


DRIVER = """
import json, sys
sys.path[:0] = sys.argv[2:]
import grid_fits
import test_task_grid as tests
from trackdl.tasks import grid
told = tests.experiment(grids={"report": json.loads(sys.argv[1])})
grid.run(told, 2, fit=grid_fits.slow, test=grid_fits.afresh)
"""


def start_driver() -> subprocess.Popen[bytes]:
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    command = [sys.executable, "-c", DRIVER, json.dumps(LARGER), *paths]
    return subprocess.Popen(command, start_new_session=True)


def wait_for_calls(tmp_path: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    while sum(calls(tmp_path).values()) < count:
        assert driver.poll() is None
        time.sleep(0.02)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("tracking")
def test_kill_9_at_20_random_moments_loses_nothing(tmp_path: Path) -> None:
    moments = random.Random(7)
    told = experiment(grids={"report": LARGER})
    kinds = ["worker"] * 8 + ["driver"] * 6 + ["group"] * 6
    moments.shuffle(kinds)
    driver = start_driver()
    lost = 0
    for kind in kinds:
        wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + moments.randint(1, 3), driver)
        time.sleep(moments.uniform(0, 0.3))
        if kind == "worker":
            workers = [p for p in psutil.Process(driver.pid).children(recursive=True) if is_worker(p)]
            moments.choice(workers).kill()
            continue
        (os.killpg if kind == "group" else os.kill)(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        wait_until_gone(driver.pid)
        kept = {(json.dumps(cell, sort_keys=True), fold) for cell, fold in kept_of(told)}
        done = {(json.dumps(cell, sort_keys=True), fold) for cell, fold in map(json.loads, calls(tmp_path))}
        assert len(done - kept) <= 2  # at most the folds under way
        lost += len(done - kept)
        driver = start_driver()
    wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + 1, driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    stands_once(grid.run(told, 2, None, made_up, afresh, here), cells=40)
    again = sum(calls(tmp_path).values()) - 120
    assert again <= lost + 2 + kinds.count("worker")
    for path in (tmp_path / "mlflow.db", tmp_path / "optuna.db"):
        with closing(sqlite3.connect(path)) as plain:
            assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def kept_of(told: Any) -> list[tuple[dict[str, object], int]]:
    study = optuna.load_study(study_name=told.study("report"), storage=studies.storage_url())
    return [
        (trial.system_attrs["fixed_params"], int(key.split()[1]))
        for trial in study.trials
        for key in trial.user_attrs
        if key.startswith("fold ")
    ]


def is_worker(process: psutil.Process) -> bool:
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "popen_loky_posix" in line


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


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("name", ["mlflow.db", "optuna.db"])
def test_a_store_is_locked_for_30_seconds_in_mid_grid(name: str, tmp_path: Path) -> None:
    def held(function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(here(function, next_task, workers)):
            if number == 4:
                with locked(tmp_path / name, 30):
                    yield pair
            else:
                yield pair

    stands_once(grid.run(experiment(), 1, None, made_up, afresh, held))
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


def test_the_disk_is_full_while_a_checkpoint_is_written(small_disk: Path) -> None:
    first, second = small_disk / "1.safetensors", small_disk / "2.safetensors"
    tensors = {"model.w": torch.arange(100_000.0)}
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


@pytest.mark.parametrize("kind", ["row", "file"])
def test_the_disk_is_full_while_a_run_is_told_something(
    kind: str, small_disk: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trackdl.tracking import store

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


def spec_of_mnist() -> Any:
    from trackdl import spec

    return spec.load(ROOT / "experiments" / "mnist.yaml", spec.MnistSpec)


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

    with pytest.raises(TrackdlError, match="the same command goes on"):
        grid.run(experiment(), 1, None, made_up, afresh, filled)
    assert len(kept_folds()) >= 4
    (small_disk / "filler").unlink()
    studies.storage.cache_clear()
    stands_once(grid.run(experiment(), 1, None, made_up, afresh, here))
    assert sum(calls(tmp_path).values()) <= 12 + 2
    studies.storage.cache_clear()


def greedy(task: FoldTask) -> FoldResult:
    """Want more memory than this process may have, in one of the folds."""
    if (task.model["dropout"], task.model["activation"], task.fold) == (0.3, "relu", 1):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**26, resource.RLIM_INFINITY))
        with Path(os.environ["GRID_TEST"], "greedy").open("a") as file:
            file.write("x")
        torch.zeros(2**28)
    return made_up(task)


@pytest.mark.usefixtures("tracking")
def test_a_worker_out_of_memory_fails_its_own_trial_at_the_second_time(tmp_path: Path) -> None:
    with pytest.raises(TrackdlError, match="1 cells have failed"):
        grid.run(experiment(), 2, None, greedy, afresh)
    assert (tmp_path / "greedy").read_text() == "xx"
    (failed,) = runs.find("grid", "attributes.status = 'FAILED' and tags.`trackdl.trial` != ''")
    assert "out of memory" in failed.info.data.tags["trackdl.error"]
    stands_once(grid.run(experiment(), 1, None, made_up, afresh, here))


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("which", ["trial", "parent"])
def test_a_run_is_deleted_under_a_live_study(which: str, tmp_path: Path) -> None:
    def deleting(
        function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int
    ) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(here(function, next_task, workers)):
            if number == 4:
                (cell, _), _ = pair
                client().delete_run(cell.run.id if which == "trial" else runs.find("grid")[-1].id)
            yield pair

    try:
        result = grid.run(experiment(), 1, None, made_up, afresh, deleting)
    except InputError as error:
        assert "deleted" in str(error)  # noqa: PT017
        result = grid.run(experiment(), 1, None, made_up, afresh, here)
    stands_once(result)
    assert sum(calls(tmp_path).values()) <= 13


@pytest.mark.usefixtures("tracking")
def test_the_data_folder_is_emptied_during_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_DATA_DIR", str(tmp_path / "data"))

    def emptied(
        function: Callable[[Any], Any], next_task: Callable[[], Any], workers: int
    ) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(work_through(function, next_task, workers)):
            if number == 3 and isinstance(pair[1], FoldResult):
                shutil.rmtree(tmp_path / "data")
            yield pair

    stands_once(grid.run(experiment(), 2, None, fetching, afresh, emptied))
    assert len((tmp_path / "fetched").read_text().splitlines()) == 2


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


INTERRUPTED = """
import signal, sys
from functools import partial
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started deaf to it
sys.path[:0] = sys.argv[2:]
from trackdl import cli
def patched():
    import grid_fits
    from trackdl.tasks import grid
    grid.run = partial(grid.run, fit=grid_fits.slow, test=grid_fits.afresh)
if sys.argv[1] != "loading":
    patched()
sys.argv = ["trackdl", "grid", "--workers", "2", "--file", sys.argv[1] if sys.argv[1] != "loading" else "grid.yaml"]
print("ready", flush=True)
cli.main()
"""


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_at_any_moment_keeps_the_state_and_ends_with_130(number: signal.Signals, tmp_path: Path) -> None:
    moments = random.Random(int(number))
    told = experiment(grids={"report": LARGER})
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(told.model_dump(mode="json")))
    file = tmp_path / "grid.yaml"
    waits: list[float] = []
    # From the start of the command, and from its first fold.
    for folds, delay in [
        (0, moments.uniform(0, 2)),
        (0, 4),
        (1, moments.uniform(0, 0.3)),
        (4, moments.uniform(0, 0.3)),
    ]:
        command = [sys.executable, "-c", INTERRUPTED, str(file), str(ROOT / "src"), str(ROOT / "tests")]
        log = tmp_path / "log"
        with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
            while "ready" not in log.read_text():
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            if folds:
                wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + folds, process)
            time.sleep(delay)
            began = time.monotonic()
            process.send_signal(number)
            assert process.wait(60) == 130, log.read_text()
            waits.append(time.monotonic() - began)
        assert "Traceback" not in log.read_text()
        assert not runs.find("grid", "attributes.status = 'RUNNING'")
    assert {run.info.info.status for run in runs.find("grid")} <= {"KILLED", "FINISHED"}
    print("seconds until the end:", waits)  # noqa: T201 - shown by -rP; a busy machine is no fault
    stands_once(grid.run(told, 2, None, made_up, afresh, here), cells=40)


@pytest.mark.usefixtures("tracking")
def test_a_finished_grid_is_not_touched_by_what_failed_before(tmp_path: Path) -> None:
    stands_once(grid.run(experiment(), 2, None, slow, afresh))
    stands_once(grid.run(experiment(), 1, None, never, afresh, here))
    assert set(calls(tmp_path).values()) == {1}
