"""What the tests share: a store of their own, and tiny data sets that stand where the real ones would."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("support")  # before its first import: what it asserts is explained too

from support import quick  # noqa: E402, I001 - before all that it makes quick

import mlflow  # noqa: E402
import torch  # noqa: E402
from support.apart import blank_figures, own_store  # noqa: E402
from support.forked import CONTEXT  # noqa: E402
from support.pictures import put_pictures  # noqa: E402
from support.postgres import Server, why_not  # noqa: E402
from trackdl.workers import process  # noqa: E402

# Stores and checkpoints wait for the disk at each commit, a third of the tests' time; in memory nothing waits. Each use
# of a model copies 150 files, and making files where many were just deleted is slow on some disks.
MEMORY = Path("/dev/shm")
if (
    os.access(MEMORY, os.W_OK)
    and shutil.disk_usage(MEMORY).free > 8e9
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC  # tests put programs of their own on the path
):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    if "TMPDIR" not in os.environ:  # of this process, and of those that it starts
        for left in MEMORY.glob("trackdl-tests-*"):  # by tests that were killed
            if left.stat().st_mtime < time.time() - 86_400:
                shutil.rmtree(left, ignore_errors=True)
        temporary = tempfile.TemporaryDirectory(prefix="trackdl-tests-", dir=MEMORY)
        Path(temporary.name).chmod(0o711)  # PostgreSQL's server is another user's
        os.environ["TMPDIR"] = tempfile.tempdir = temporary.name

# One thread: the tests' tensors are tiny, and two threads that wait for each other on a busy machine are slow.
torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Exclude what the tests have imported from garbage collection."""
    quick.freeze()


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
def _own_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's MLflow and data settings out of the tests."""
    if not any(request.node.get_closest_marker(name) for name in ("real", "faults", "parallel")):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # joblib then fits in this process and starts no interpreters
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    # As in this process: two threads of one fit that share a core with another test take ten times as long as one.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "TRACKDL_"))]:
        if name not in ("TRACKDL_GREEK_DIR", "TRACKDL_REPORT_WEIGHTS", "TRACKDL_DATA_DIR", "MLFLOW_DISABLE_TELEMETRY"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork worker processes, as the commands do, from one that has loaded everything."""
    monkeypatch.setattr(process, "_server", CONTEXT)


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Undo what a command of this process has set: its handler writes where the test before was captured."""
    yield
    logger = logging.getLogger("trackdl")
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _blank_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a blank image for each figure, unless the test is marked `draws`."""
    if not request.node.get_closest_marker("draws"):
        blank_figures(monkeypatch)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one empty store: MLflow takes seconds to make a new one, a copy takes none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give an empty store of the test's own, and its address."""
    with own_store(tmp_path, empty_store, monkeypatch) as uri:
        yield uri


@pytest.fixture
def own_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test a store of studies of its own, and its stand-ins a folder for their notes."""
    from trackdl.studies import store as studies  # Optuna takes a second that most tests need not pay

    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    monkeypatch.setenv("GRID_TEST", str(tmp_path))
    monkeypatch.setenv("SEARCH_TEST", str(tmp_path))
    studies.storage.cache_clear()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """Give a PostgreSQL server, or skip the test and say why there is none."""
    if reason := why_not():
        pytest.skip(reason)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def tiny_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put 600 training and 100 test pictures in MNIST's place; return the data folder."""
    return put_pictures("mnist", tmp_path, monkeypatch)


@pytest.fixture
def tiny_fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put 600 training and 100 test pictures in Fashion-MNIST's place; return the data folder."""
    return put_pictures("fashion", tmp_path, monkeypatch)
