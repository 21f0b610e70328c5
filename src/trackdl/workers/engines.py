"""Engines spread tasks over this machine's processes (`local`) or a Ray cluster's machines (`ray`)."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from trackdl.errors import InputError, TrackdlError
from trackdl.workers.pool import TRIES, Engine, Failed, Lost, count_workers, out_of_memory, work_through

ENGINES = ("local", "ray")

Ticket = TypeVar("Ticket")
Task = TypeVar("Task")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def choose(name: str, workers: int | None, gpus_per_worker: float) -> tuple[Engine, int]:
    """Return an engine and its number of workers, each of which gets `gpus_per_worker` of a GPU on a cluster.

    Without a number, `workers` are one for each core of this machine or of the cluster, or as many as its GPUs allow.

    Raises:
        InputError: There is no such engine, it is not installed, or its cluster lacks the resources.
    """
    if name not in ENGINES:
        raise InputError(f"--engine {name}: expected {' or '.join(ENGINES)}")
    count = count_workers(workers)
    if gpus_per_worker < 0 or (gpus_per_worker and name != "ray"):
        raise InputError(f"--gpus-per-worker {gpus_per_worker:g}: a part of a GPU, for --engine ray")
    if name == "local":
        return work_through, count
    ray = _connected()
    has = ray.cluster_resources()
    if gpus_per_worker and has.get("GPU", 0) < gpus_per_worker:
        raise InputError(f"--gpus-per-worker {gpus_per_worker:g}: the Ray cluster has {has.get('GPU', 0):g} GPUs")
    room = has.get("GPU", 0) / gpus_per_worker if gpus_per_worker else has.get("CPU", 1)
    log.info("Ray: %d nodes, %g CPUs, %g GPUs", len(ray.nodes()), has.get("CPU", 0), has.get("GPU", 0))
    return _OnRay(ray, gpus_per_worker), workers or max(1, int(room))


def _connected() -> Any:
    """Return Ray, connected to the cluster of RAY_ADDRESS, else to one that runs here, else to a new one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError('--engine ray: Ray is not installed; `pip install "ray[default]"` installs it') from error
    if not ray.is_initialized():
        # Ray's own handler of SIGTERM exits, and the runs would not be marked KILLED.
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError) as error:
            raise TrackdlError(f"the Ray cluster cannot be reached: {error}. RAY_ADDRESS names it") from error
        signal.signal(signal.SIGTERM, before)
    return ray


class _OnRay:
    """An engine on a Ray cluster. A task whose worker or node is gone is restarted elsewhere, once."""

    def __init__(self, ray: Any, gpus_per_worker: float) -> None:
        self.ray, self.gpus = ray, gpus_per_worker

    def __call__(
        self, function: Callable[[Task], Result], next_task: Callable[[], tuple[Ticket, Task] | None], workers: int, /
    ) -> Iterator[tuple[Ticket, Result | Failed | Lost]]:
        # Ray's own retries would hide lost workers.
        remote = self.ray.remote(max_retries=0, num_cpus=1, num_gpus=self.gpus, retry_exceptions=False)(_in_one_thread)
        busy: dict[Any, tuple[Ticket, Task, int]] = {}
        try:
            while True:
                while len(busy) < workers and (pair := next_task()) is not None:
                    busy[remote.remote(function, pair[1])] = (*pair, 1)
                if not busy:
                    return
                done, _ = self.ray.wait(list(busy), num_returns=1)
                ticket, task, tried = busy.pop(done[0])
                outcome = self._outcome(done[0])
                if isinstance(outcome, Lost) and tried < TRIES:
                    log.warning("a worker is gone (killed, out of memory, or its node is); its task is restarted")
                    busy[remote.remote(function, task)] = (ticket, task, tried + 1)
                    continue
                yield ticket, outcome
        finally:
            for running in busy:
                self.ray.cancel(running, force=True)

    def _outcome(self, done: Any) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return self.ray.get(done)
        except RayTaskError as error:
            cause = error.cause
            if out_of_memory(cause):
                return Lost()
            return Failed(cause if isinstance(cause, Exception) else TrackdlError(str(cause)))
        except RayError:
            return Lost()


def _in_one_thread(function: Callable[[Task], Result], task: Task) -> Result:
    torch.set_num_threads(1)
    return function(task)
