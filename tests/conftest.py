"""What the tests share: a store of their own, and tiny data sets that stand where the real ones would."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from postgres import Server, why_not
from trackdl.data.download import datasets as sources
from trackdl.tracking import store

ROOT = Path(__file__).resolve().parents[1]

# One thread: the tests' tensors are tiny, and two threads that wait for each other on a busy machine are slow.
torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests of faults have recorded: a line a fault."""
    reports = [report for kind in ("passed",) for report in terminalreporter.getreports(kind)]
    told = [value for report in reports for name, value in report.user_properties if name == "fault"]
    if told and (told := list(dict.fromkeys(told))):
        terminalreporter.section("fault | times tried | lost | time to recover")
        for line in told:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _told(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Record the line of a test that is marked `fault`."""
    if mark := request.node.get_closest_marker("fault"):
        told = {"times": 1, "lost": "nothing", "recovery": "at once"} | mark.kwargs
        record_property("fault", " | ".join([*mark.args, *map(str, told.values())]))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's MLflow and data settings out of the tests."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # As in this process: two threads of one fit that share a core with another test take ten times as long as one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "TRACKDL_"))]:
        if name not in ("TRACKDL_GREEK_DIR", "TRACKDL_REPORT_WEIGHTS", "TRACKDL_DATA_DIR", "MLFLOW_DISABLE_TELEMETRY"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one empty store: MLflow takes seconds to make a new one, a copy takes none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give an empty store of the test's own, and its address."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    store.client.cache_clear()
    yield uri
    while mlflow.active_run():
        mlflow.end_run("FAILED")
    store.client.cache_clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Give a PostgreSQL server, or skip the test and say why there is none."""
    if reason := why_not():
        pytest.skip(reason)
    made = Server()
    yield made
    made.close()


def idx(array: np.ndarray) -> bytes:
    """Return an IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures, uint8 [count, 28, 28], whose class is where their bright square stands."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 10)
    pictures = random.integers(0, 60, (count, 28, 28))
    for picture, label in zip(pictures, labels, strict=True):
        row, column = 3 + 8 * (label // 4), 1 + 7 * (label % 4)
        picture[row : row + 6, column : column + 6] = random.integers(180, 256)
    return pictures.astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put 600 training and 100 test pictures in MNIST's place; return the data folder."""
    return put_pictures("mnist", tmp_path, monkeypatch)


@pytest.fixture
def tiny_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put 600 training and 100 test pictures in Fashion-MNIST's place; return the data folder."""
    return put_pictures("fashion", tmp_path, monkeypatch)


def put_pictures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put tiny files of pictures in a data set's place."""
    train, test = blobs(600, 0), blobs(100, 1)
    contents = {
        "train-images-idx3-ubyte": idx(train[0]),
        "train-labels-idx1-ubyte": idx(train[1]),
        "t10k-images-idx3-ubyte": idx(test[0]),
        "t10k-labels-idx1-ubyte": idx(test[1]),
    }
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    files = tuple(
        sources.File(name=file, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for file, content in contents.items()
    )
    monkeypatch.setitem(sources.DATASETS, name, sources.Dataset(files, list, "nothing: these are a test's"))
    monkeypatch.setenv("TRACKDL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
