"""Kill -9 at random moments, and Ctrl-C wherever it comes: nothing is lost, and nothing is left as if it ran."""

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from joblib._parallel_backends import LokyBackend
from joblib.parallel import BACKENDS

from support import ROOT, search_fits
from support import grid_runs as grids
from support import search_runs as searches
from support.forked import start_driver, wait_until_gone, workers_of
from support.grid_fits import afresh, made_up, timed
from support.grid_runs import calls, experiment, here, stands_once
from support.ledger_files import DIGITS
from trackdl import spec
from trackdl.studies import store as studies
from trackdl.studies.study import kept
from trackdl.tasks import grid, search
from trackdl.tracking import runs

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("tracking", "own_studies")]

LARGER = grids.SPACE | {"network.filters": [1, 2, 3, 4, 5], "network.dense_nodes": [7, 8]}  # 40 cells
SMALLER = grids.SPACE | {"network.filters": [1, 2, 3]}  # 12 cells


def wait_for_calls(tmp_path: Path, count: int, alive: Callable[[], bool]) -> None:
    while sum(calls(tmp_path).values()) < count:
        assert alive(), (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        time.sleep(0.02)


def settings() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("MLFLOW_", "TRACKDL_", "GRID_", "SEARCH_", "OMP"))
    }


@pytest.fixture
def start() -> Iterator[Callable[[Any], BaseProcess]]:
    """Give what starts a driver; those that are left are ended."""
    started: list[BaseProcess] = []

    def begin(told: Any) -> BaseProcess:
        started.append(start_driver(told, settings()))
        return started[-1]

    yield begin
    for driver in started:
        if driver.is_alive() and driver.pid:
            os.killpg(driver.pid, signal.SIGKILL)


@pytest.mark.timeout(900)
def test_kill_9_at_20_random_moments_loses_nothing(
    tmp_path: Path, start: Callable[[Any], BaseProcess], record_property: Callable[..., None]
) -> None:
    moments = random.Random(7)
    told = experiment(space=LARGER)
    # A worker's death is the most frequent fault, and the cheapest to try: a driver brings two new workers along.
    kinds = ["worker"] * 12 + ["driver"] * 4 + ["group"] * 4
    moments.shuffle(kinds)
    driver = start(told)
    lost, back = 0, []
    missing: set[tuple[str, int]] = set()
    for kind in kinds:
        wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + moments.randint(1, 3), driver.is_alive)
        time.sleep(moments.uniform(0, 0.3))
        killed = time.monotonic()
        if kind == "worker":
            workers = workers_of(psutil.Process(driver.pid))
            moments.choice(workers).kill()
        else:
            (os.killpg if kind == "group" else os.kill)(driver.pid, signal.SIGKILL)
            driver.join()
            assert driver.exitcode == -signal.SIGKILL
            wait_until_gone(driver.pid)
            kept = {(json.dumps(cell, sort_keys=True), fold) for cell, fold in kept_of(told)}
            done = {(json.dumps(cell, sort_keys=True), fold) for cell, fold, _ in map(json.loads, calls(tmp_path))}
            # At most the folds under way; those of the kill before may not have had their turn yet.
            assert len(done - kept - missing) <= 2
            missing = done - kept
            lost += len(missing)
            driver = start(told)
        wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + 1, driver.is_alive)
        back.append(time.monotonic() - killed)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.join()
    stands_once(grid.run(told, 2, None, made_up, afresh, timed, here), cells=40)
    again = sum(calls(tmp_path).values()) - 120
    assert again <= lost + 2 + kinds.count("worker")
    for path in (tmp_path / "mlflow.db", tmp_path / "optuna.db"):
        with closing(sqlite3.connect(path)) as plain:
            assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    record_property(
        "fault", f"kill -9 of worker, driver, group | {len(kinds)} | {again} folds under way | {spread(back)}"
    )


@pytest.mark.timeout(600)
def test_kill_9_of_a_search_loses_the_epochs_under_way_at_most(
    tmp_path: Path,
    start: Callable[[Any], BaseProcess],
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[..., None],
) -> None:
    monkeypatch.setattr(search, "project_root", lambda: tmp_path)
    moments = random.Random(11)
    kinds = ["driver", "group"] * 3
    told = searches.experiment(study={"trials": 40, "pruner": "halving", "min_epochs": 1, "reduction_factor": 2})
    driver = start(told)
    back = []
    for kind in kinds:
        wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + moments.randint(2, 5), driver.is_alive)
        time.sleep(moments.uniform(0, 0.3))
        killed = time.monotonic()
        (os.killpg if kind == "group" else os.kill)(driver.pid, signal.SIGKILL)
        driver.join()
        assert driver.exitcode == -signal.SIGKILL
        wait_until_gone(driver.pid)
        driver = start(told)
        wait_for_calls(tmp_path, sum(calls(tmp_path).values()) + 1, driver.is_alive)
        back.append(time.monotonic() - killed)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.join()
    wait_until_gone(driver.pid)
    result = search.run(told, 2, search_fits.made_up, searches.here)
    searches.is_truthful(result)
    trials = searches.study_of(result).trials
    assert len(trials) == 40
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    assert {run.info.info.status for run in runs.find("search")} <= {"FINISHED", "FAILED"}
    again = sum(calls(tmp_path).values()) - len(calls(tmp_path))
    assert again <= 2 * (len(kinds) + 1)  # an epoch a worker
    words = f"kill -9 of a search's driver, group | {len(kinds)} | {again} epochs under way | {spread(back)}"
    record_property("fault", words)


def spread(seconds: list[float]) -> str:
    return f"{min(seconds):.1f} to {max(seconds):.1f} s"


def kept_of(told: Any) -> list[tuple[dict[str, object], int]]:
    study = optuna.load_study(study_name=told.study("report"), storage=studies.storage_url())
    return [
        (trial.system_attrs["fixed_params"], int(key.split()[1]))
        for trial in study.trials
        for key in kept(trial)
        if key.startswith("fold ")
    ]


COMMAND = """
import json, os, signal, sys
from functools import partial
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started deaf to it
place, number, *paths = sys.argv[1:]
sys.path[:0] = paths
sys.argv = ["trackdl", *json.loads(os.environ["COMMAND"])]
what = sys.argv[1]
from trackdl.__main__ import main
if os.environ["STAND_IN"] == "grid":
    from support import grid_fits
    from trackdl.tasks import grid, search
    grid.run = partial(grid.run, fit=grid_fits.slow, test=grid_fits.afresh, clock=grid_fits.timed)
if os.environ["STAND_IN"] == "search":
    from support import search_fits
    from trackdl.tasks import search
    search.run = partial(search.run, train=search_fits.slow)
if os.environ["STAND_IN"] in ("data", "digits"):
    import pytest
    from support.pictures import put_pictures
    patch = pytest.MonkeyPatch()
    put_pictures("mnist", Path(place), patch)
    if os.environ["STAND_IN"] == "data":
        from trackdl.data.download import datasets as sources
        from trackdl.data.download.fetchers import Mirror
        for file in (Path(place) / "data" / "mnist").iterdir():
            file.unlink()
        files = sources.DATASETS["mnist"].files
        slow = sources.Dataset(files, lambda: [Mirror(f"http://127.0.0.1:{number}/")], "nothing: it is a test's")
        patch.setitem(sources.DATASETS, "mnist", slow)
    if what == "ledger":
        from trackdl.ledger import folder
        from trackdl.system import paths
        from trackdl.tasks import ledger
        ledger.project_root = folder.project_root = paths.project_root = lambda: Path(place)
print("ready", flush=True)
main()
"""


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A web server that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(0.1)
        yield made


def called(server: socket.socket, calls: list[socket.socket]) -> bool:
    """Take a call, if there is one, and do not answer."""
    try:
        calls.append(server.accept()[0])
    except TimeoutError:
        return False
    return True


def checkpoint(tmp_path: Path) -> bool:
    return any((tmp_path / "mlruns").rglob("epoch-*.safetensors"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("command", "stand_in", "moment", "number"),
    [
        ("grid --workers 2 --file FILE", "", "loading", signal.SIGINT),
        ("grid --workers 2 --file FILE", "grid", "calls", signal.SIGINT),
        ("grid --workers 2 --file FILE", "grid", "calls", signal.SIGTERM),
        ("search --workers 2 --file FILE", "search", "calls", signal.SIGINT),
        ("mnist --epochs 9999 --batch-size 5", "digits", "checkpoint", signal.SIGINT),
        ("mnist --epochs 9999 --batch-size 5", "data", "download", signal.SIGINT),
        ("ledger --file FILE", "digits", "checkpoint", signal.SIGINT),
    ],
    ids=["loading", "grid", "grid, SIGTERM", "search", "mnist", "download", "ledger"],
)
def test_ctrl_c_keeps_the_state_and_ends_with_130(
    command: str,
    stand_in: str,
    moment: str,
    number: signal.Signals,
    tmp_path: Path,
    silent_server: socket.socket,
    record_property: Callable[..., None],
) -> None:
    task = command.partition(" ")[0]
    told = experiment(space=SMALLER)
    file = tmp_path / f"{task}.yaml"
    if task == "ledger":
        (tmp_path / "experiments").mkdir()
        alone = DIGITS.replace("curves:\n  - {cell: 5, what: batch_loss, metric: batch_losses}\n", "")
        assert alone != DIGITS  # the table that the command reads does not print this curve
        (tmp_path / "experiments" / "mnist.yaml").write_text(alone.replace("epochs: 2", "epochs: 9999"))
        file.write_text("task: ledger\nseeds: 1\n")
    else:
        content = told.model_dump(mode="json") if task == "grid" else searches.CONTENT
        file.write_text(yaml.safe_dump(content))
    words = command.replace("FILE", str(file)).split()
    environment = os.environ | {"COMMAND": json.dumps(words), "STAND_IN": stand_in}
    if task == "ledger":
        environment["TRACKDL_REPORT"] = str(tmp_path / "experiments")
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    line = [sys.executable, "-c", COMMAND, str(tmp_path), str(silent_server.getsockname()[1]), *paths]
    log = tmp_path / "log"
    open_calls: list[socket.socket] = []
    reached = {
        "loading": lambda: "ready" in log.read_text(),
        "calls": lambda: sum(calls(tmp_path).values()) >= 4,
        "checkpoint": lambda: checkpoint(tmp_path),
        "download": lambda: called(silent_server, open_calls),
    }[moment]
    # A terminal sends Ctrl-C to all processes of the command, workers too.
    with (
        log.open("w") as out,
        subprocess.Popen(line, stdout=out, stderr=out, env=environment, start_new_session=True) as process,
    ):
        while not reached():
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        time.sleep(random.Random(f"{command} {number}").uniform(0, 0.5))
        began = time.monotonic()
        os.killpg(process.pid, number)
        try:
            assert process.wait(30) == 130, log.read_text()  # the limit is 3 s on a machine with nothing else to do
        finally:
            process.kill()
        seconds = time.monotonic() - began
    for call in open_calls:
        call.close()
    assert "Traceback" not in log.read_text()
    assert "trackdl: interrupted; what was finished is kept" in log.read_text()
    found = [run.info.info.status for name in ("grid", "search", "mnist", "ledger") for run in runs.find(name)]
    assert set(found) <= {"KILLED", "FINISHED"}
    assert moment in ("loading", "download") or "KILLED" in found
    wait_until_gone(process.pid)
    record_property("fault", f"{number.name}: trackdl {task}, {moment} | 1 | nothing | {seconds:.1f} s to the end")
    if task == "grid":
        stands_once(grid.run(told, 2, None, made_up, afresh, timed, here), cells=12)
        assert sum(calls(tmp_path).values()) <= 36 + 2


HOLDING_OUT = """
import sys
sys.path[:0] = sys.argv[1:]
import time
from joblib import Parallel, delayed
from trackdl.workers.process import attach_joblib
attach_joblib()
Parallel(n_jobs=2, backend="loky", inner_max_num_threads=1)(delayed(time.sleep)(3600) for _ in range(4))
"""


@pytest.mark.fault("kill -9 of a task in its cross-validation", recovery="its workers end within seconds")
def test_the_workers_of_a_cross_validation_end_with_their_task() -> None:
    killed = subprocess.Popen([sys.executable, "-c", HOLDING_OUT, str(ROOT / "src")], start_new_session=True)
    while len(workers_of(psutil.Process(killed.pid))) < 2:
        assert killed.poll() is None
        time.sleep(0.05)
    time.sleep(2)  # both have begun
    killed.kill()
    killed.wait()
    wait_until_gone(killed.pid)


@pytest.mark.parametrize("task", ["transfer", "table"])
def test_the_tasks_that_cross_validate_have_such_workers(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):  # noqa: N818
        pass

    def begun(*_: object) -> None:
        raise Begun

    monkeypatch.setitem(BACKENDS, "loky", None)
    monkeypatch.setattr(runs, "close_abandoned", begun)
    name, kind = {"transfer": ("transfer", spec.TransferSpec), "table": ("heart", spec.TableSpec)}[task]
    with pytest.raises(Begun):
        import_module(f"trackdl.tasks.{task}").run(spec.load(ROOT / "experiments" / f"{name}.yaml", kind, {}, name))
    assert BACKENDS["loky"].configure is not LokyBackend.configure
