"""A process that does one task at a time and is restarted if killed; and joblib's processes, made to end with ours."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from os import getpid
from pathlib import Path
from typing import Any, TypeVar

from joblib import register_parallel_backend
from joblib._parallel_backends import LokyBackend
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from trackdl.errors import TrackdlError
from trackdl.system.interruptions import starting
from trackdl.system.processes import attach

Result = TypeVar("Result")

_STARTS = 3  # attempts to start a process that is killed before it receives its task
# Raised if the process was killed while it was idle (the first), or while it was starting (the others).
_KILLED = BrokenProcessPool, EOFError, ConnectionError


class _Attached(LokyBackend):  # type: ignore[misc]  # joblib has no types
    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        return int(super().configure(n_jobs, parallel, initializer=attach, initargs=(getpid(),), **settings))


def attach_joblib() -> None:
    """Ends the processes of joblib's `Parallel` with this one, even if it is killed; they would live on otherwise."""
    register_parallel_backend("loky", _Attached)


_server: BaseContext | None = None  # starts processes by forking one that has loaded what they need


def fork_workers(modules: Sequence[str]) -> None:
    """Fork the coming workers from a process that imports `modules` from now on, instead of starting interpreters.

    For a process that is trackdl's alone: multiprocessing imports its main script in the workers, and a user's own may
    not be made for that. On Linux only; elsewhere a process that has loaded PyTorch cannot be forked safely.
    """
    global _server
    if sys.platform == "linux":
        _server = multiprocessing.get_context("forkserver")
        _server.set_forkserver_preload([*modules])
        resource_tracker.ensure_running()  # whose start ends with Ctrl-C unblocked
        with starting():
            forkserver.ensure_running()


class WorkerProcess:
    """One process, in an executor of its own (loky), started when it is first needed.

    `prepare`, which gets this process's id, is called in it; `env` are further environment variables of it.
    """

    def __init__(self, prepare: Callable[[int], None], env: Mapping[str, str] | None = None) -> None:
        self._prepare, self._env = prepare, env or {}
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Start a task: the call of a module's function.

        Raises:
            TrackdlError: The process was killed each time it was started.
        """
        again = Retrying(retry=retry_if_exception_type(_KILLED), stop=stop_after_attempt(_STARTS), reraise=True)
        try:
            with starting():
                future: Future[Result] = again(self._submit, function, *arguments)
        except _KILLED as error:
            raise TrackdlError(
                f"a worker process was killed each of the {_STARTS} times that it was started. Is there enough memory?"
            ) from error
        return future

    def _submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        if self._executor is None:
            # A new interpreter's libraries read `env` when they are loaded; what is forked has it from `_prepare`.
            place = (self._prepare, getpid(), Path.cwd(), {**os.environ, **self._env})
            self._executor = ProcessPoolExecutor(
                1, context=_server, initializer=_prepare, initargs=place, env={**self._env}
            )
        try:
            future: Future[Result] = self._executor.submit(function, *arguments)
        except _KILLED:
            self.close()
            raise
        return future

    def close(self) -> None:
        """Kill the process, whatever it is doing."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None


def _prepare(prepare: Callable[[int], None], parent: int, folder: Path, environment: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    prepare(parent)
