"""Workers that are killed while they start."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import forkserver

import pytest

from trackdl.errors import TrackdlError
from trackdl.system.processes import attach
from trackdl.workers import process
from trackdl.workers.process import WorkerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """Give a worker that is forked."""
    monkeypatch.setattr(process, "_server", multiprocessing.get_context("forkserver"))
    made = WorkerProcess(attach)
    yield made
    made.close()


def kill_when_started(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Kill the next workers, so many, as they start; return the list of those killed, which grows."""
    killed: list[int] = []
    read: Callable[[int], int] = forkserver.read_signed  # type: ignore[attr-defined]  # multiprocessing's own

    def told(pipe: int) -> int:
        pid = read(pipe)
        if len(killed) < times:
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)
            raise EOFError("unexpected EOF")  # as it does if the process ended before it reported its id
        return pid

    monkeypatch.setattr(forkserver, "read_signed", told)
    return killed


def test_a_worker_that_is_killed_while_it_starts_is_started_again(
    worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = kill_when_started(monkeypatch, 2)
    assert worker.submit(abs, -3).result() == 3
    assert len(killed) == 2


def test_a_worker_that_cannot_be_started_is_given_up(worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = kill_when_started(monkeypatch, 1000)
    with pytest.raises(TrackdlError, match="killed each of the 3 times that it was started"):
        worker.submit(abs, -3)
    assert len(killed) == 3
