"""Tasks spread over processes of one thread each, any of which may be killed.

    for ticket, outcome in work_through(fit_fold, next_task, workers=2):
        ...

A worker that is killed loses only its own task. Workers write to no store; only their caller does.
"""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from joblib import cpu_count
from joblib.externals.loky.process_executor import BrokenProcessPool
from threadpoolctl import threadpool_limits

from trackdl.errors import InputError
from trackdl.system.processes import attach, keep_memory
from trackdl.workers.process import WorkerProcess

Ticket = TypeVar("Ticket")
Task = TypeVar("Task")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

# The libraries' own thread pools read these when they are loaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
TRIES = 2  # of a task whose worker is lost: the cause may have been another program's use of memory


@dataclass(frozen=True)
class Failed:
    """The task raised `error`."""

    error: Exception

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True)
class Lost:
    """The task's worker was killed, or ran out of memory, at each try."""

    def __str__(self) -> str:
        return "its worker was killed, twice; out of memory?"


class Engine(Protocol):
    """Spreads tasks over processes or machines; see `work_through`."""

    def __call__(
        self, function: Callable[[Task], Result], next_task: Callable[[], tuple[Ticket, Task] | None], workers: int, /
    ) -> Iterator[tuple[Ticket, Result | Failed | Lost]]:
        """Yield the outcome of each task."""
        ...


def count_workers(asked: int | None) -> int:
    """Return the number of workers: `asked`, or one for each core of this machine if it is None.

    Raises:
        InputError: It is less than 1.
    """
    if asked is not None and asked < 1:
        raise InputError(f"--workers {asked}: at least one is needed")
    return asked or cpu_count()


def work_through(
    function: Callable[[Task], Result], next_task: Callable[[], tuple[Ticket, Task] | None], workers: int
) -> Iterator[tuple[Ticket, Result | Failed | Lost]]:
    """Yield each task's ticket and outcome as it ends.

    Args:
        function: Does a task, in another process; it must be a module's.
        next_task: Called when a worker is idle; returns a task with its ticket, which is the caller's name for it and
            stays in this process, or None if there is no task now. The work ends when every worker is idle.
        workers: The number of processes.
    """
    everyone = [WorkerProcess(prepare_worker, ONE_THREAD) for _ in range(workers)]
    idle = list(everyone)
    busy: dict[Future[Result], tuple[WorkerProcess, Ticket, Task, int]] = {}
    try:
        while True:
            while idle and (pair := next_task()) is not None:
                worker = idle.pop()
                busy[worker.submit(function, pair[1])] = (worker, *pair, 1)
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker, ticket, task, tried = busy.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, Lost):
                    worker.close()  # which also frees its memory
                    if tried < TRIES:
                        log.warning("a worker is gone (killed, or out of memory); its task is restarted")
                        busy[worker.submit(function, task)] = (worker, ticket, task, tried + 1)
                        continue
                idle.append(worker)
                yield ticket, outcome
    finally:
        for worker in everyone:
            worker.close()


def _outcome(future: "Future[Result]") -> Result | Failed | Lost:
    try:
        return future.result()
    except BrokenProcessPool:
        return Lost()
    except Exception as error:
        return Lost() if out_of_memory(error) else Failed(error)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; PyTorch has no type for the CPU's, only messages."""
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def prepare_worker(parent: int) -> None:
    """Make this process a worker of `parent`, with one thread."""
    torch.set_num_threads(1)
    threadpool_limits(1)  # of libraries that were loaded before `ONE_THREAD` was set
    keep_memory()
    attach(parent)
