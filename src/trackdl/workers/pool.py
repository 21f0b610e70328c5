"""Work spread over processes of one thread each, some of which may die.

    for ticket, outcome in work_through(fit_fold, next_task, workers=2):
        ...

Every worker is an executor of its own (loky), so a worker that is killed takes only its own task along. Workers keep
no record and know no store: whoever calls does, and so is the only one who writes.
"""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from joblib import cpu_count
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from trackdl.errors import InputError
from trackdl.system.processes import attach, starting

__all__ = ["Engine", "Failed", "Lost", "count_workers", "out_of_memory", "work_through"]

Ticket = TypeVar("Ticket")
Task = TypeVar("Task")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

# The libraries' own thread pools read these when they are loaded.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
TRIES = 2  # of a task whose worker is lost: whatever killed it may have been somebody else's


@dataclass(frozen=True)
class Failed:
    """The task raised this."""

    error: Exception


@dataclass(frozen=True)
class Lost:
    """The worker's process is gone, or of no use: killed, or out of memory."""


class Engine(Protocol):
    """Spreads tasks over processes or machines, as `work_through` does."""

    def __call__(
        self, function: Callable[[Task], Result], next_task: Callable[[], tuple[Ticket, Task] | None], workers: int, /
    ) -> Iterator[tuple[Ticket, Result | Failed | Lost]]:
        """Yield the outcome of each task."""
        ...


class _Worker(Generic[Task, Result]):
    """One process, started when first needed and anew when it was lost."""

    def __init__(self, function: Callable[[Task], Result]) -> None:
        self.function = function
        self.executor: ProcessPoolExecutor | None = None

    def submit(self, task: Task) -> "Future[Result]":
        try:
            return self._submit(task)
        except BrokenProcessPool:  # killed while it had nothing to do
            self.close()
            return self._submit(task)

    def _submit(self, task: Task) -> "Future[Result]":
        with starting():
            if self.executor is None:
                self.executor = ProcessPoolExecutor(1, initializer=_prepare, initargs=(os.getpid(),), env=ONE_THREAD)
            future: Future[Result] = self.executor.submit(self.function, task)
        return future

    def outcome(self, future: "Future[Result]") -> Result | Failed | Lost:
        try:
            return future.result()
        except BrokenProcessPool:
            self.close()
            return Lost()
        except Exception as error:
            if out_of_memory(error):
                # What it has left behind in its memory goes with it.
                self.close()
                return Lost()
            return Failed(error)

    def close(self) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=True, kill_workers=True)
            self.executor = None


def count_workers(asked: int | None) -> int:
    """Return how many workers there are to be: as many as are asked for, else one for each core of this machine.

    Raises:
        InputError: There are to be none.
    """
    if asked is not None and asked < 1:
        raise InputError(f"--workers {asked}: at least one is needed")
    return asked or cpu_count()


def work_through(
    function: Callable[[Task], Result], next_task: Callable[[], tuple[Ticket, Task] | None], workers: int
) -> Iterator[tuple[Ticket, Result | Failed | Lost]]:
    """Yield the outcome of each task, as they end.

    Args:
        function: Does a task; a function of a module, it runs in another process.
        next_task: Asked when a worker is free; gives a task with a ticket, by which the caller knows it and which stays
            here, or None when there is nothing to do. The work ends when there is nothing and no worker is busy.
        workers: How many processes.
    """
    everyone = [_Worker(function) for _ in range(workers)]
    idle = list(everyone)
    busy: dict[Future[Result], tuple[_Worker[Task, Result], Ticket, Task, int]] = {}
    try:
        while True:
            while idle and (pair := next_task()) is not None:
                worker = idle.pop()
                busy[worker.submit(pair[1])] = (worker, *pair, 1)
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker, ticket, task, tried = busy.pop(future)
                outcome = worker.outcome(future)
                if isinstance(outcome, Lost) and tried < TRIES:
                    log.warning("a worker is gone (killed, or out of memory); its task is begun anew")
                    busy[worker.submit(task)] = (worker, ticket, task, tried + 1)
                    continue
                idle.append(worker)
                yield ticket, outcome
    finally:
        for worker in everyone:
            worker.close()


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had; PyTorch has words, not a type, for the CPU's."""
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _prepare(parent: int) -> None:
    """Make this process a worker: one thread."""
    torch.set_num_threads(1)
    attach(parent)
