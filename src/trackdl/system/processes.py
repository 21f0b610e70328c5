"""Processes of this machine: identified, prepared, and ended with their parent."""

import atexit
import ctypes
import gc
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

PARENT_CHECK = 1.0  # seconds
_THRESHOLDS = gc.get_threshold()
# They log tracebacks of what they also raise, every retry, and every migration; and, where git is missing, twenty lines
# for each run. ("alembic" itself is set by MLflow.)
NOISY = (
    *("alembic.runtime", "mlflow.store.db.utils", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils.git_utils"),
    "urllib3.connectionpool",
)


@contextmanager
def environment_variables(changes: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:  # without a moment in which another thread finds none
                os.environ[name] = value


def quiet_libraries() -> None:
    """Silence the loggers of libraries whose messages repeat trackdl's own; for a process that is trackdl's alone."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def collect_rarely() -> None:
    """Look for garbage rarely until `freeze_imports`, and not at the end; for a process that is trackdl's alone.

    Collections are a fifth of the time that importing PyTorch and MLflow takes, and those at the end another second.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


def freeze_imports() -> None:
    """Exclude what has been imported from garbage collection; for a process that is trackdl's alone.

    MLflow's imports leave so many objects that a full collection in the middle of a fit would take 0.4 s.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def keep_memory() -> None:
    """Let glibc keep memory that a training step frees; returning it to the system costs up to 15 % of a fit.

    For a process that is trackdl's alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 27)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # data sets are larger, so their memory is still returned


def tag() -> str:
    """Return what identifies this process on this machine: its id and its start time."""
    return f"{os.getpid()}:{_began(os.getpid())}"


def _began(pid: int) -> str:
    """Return a process's start time, in units that do not change when the machine's clock is set."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_text().rpartition(")")[2].split()[19]  # ticks since the machine was started
    return f"{psutil.Process(pid).create_time():.0f}"


def alive(process: str) -> bool:
    """Return whether the process with this `tag` (a run's tag `trackdl.process`) still runs on this machine."""
    pid, _, began = process.partition(":")
    try:
        return _began(int(pid)) == began
    except (psutil.NoSuchProcess, OSError, ValueError):
        return False


def attach(parent: int) -> None:
    """Make this process a worker of `parent`: it ignores Ctrl-C, which its parent handles, and ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


def end_with(parent: int) -> None:
    """Let this process and its children end soon after its parent has, which may have been killed."""

    def watch() -> None:
        # Its parent for the system may be another: the process that it was forked from, or in Windows none any more.
        with suppress(psutil.NoSuchProcess):
            watched = psutil.Process(parent)
            while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
                time.sleep(PARENT_CHECK)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
