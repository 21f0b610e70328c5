"""A process that does one task at a time and is restarted if killed; and joblib's processes, made to end with ours."""

from collections.abc import Callable
from concurrent.futures import Future
from os import getpid
from typing import Any, TypeVar

from joblib import register_parallel_backend
from joblib._parallel_backends import LokyBackend
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from trackdl.system.processes import attach, starting

Result = TypeVar("Result")


class _Attached(LokyBackend):  # type: ignore[misc]  # joblib has no types
    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        return int(super().configure(n_jobs, parallel, initializer=attach, initargs=(getpid(),), **settings))


def attach_joblib() -> None:
    """Ends the processes of joblib's `Parallel` with this one, even if it is killed; they would live on otherwise."""
    register_parallel_backend("loky", _Attached)


class WorkerProcess:
    """One process, in an executor of its own (loky), started when it is first needed.

    `prepare`, which gets this process's id, is called in it; `env` are further environment variables of it.
    """

    def __init__(self, prepare: Callable[[int], None], env: dict[str, str] | None = None) -> None:
        self._prepare, self._env = prepare, env
        self._executor: ProcessPoolExecutor | None = None

    def submit(self, function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
        """Start a task: the call of a module's function."""
        with starting():
            if self._executor is None:
                self._executor = ProcessPoolExecutor(1, initializer=self._prepare, initargs=(getpid(),), env=self._env)
            try:
                future: Future[Result] = self._executor.submit(function, *arguments)
            except BrokenProcessPool:  # killed while idle
                self.close()
                return self.submit(function, *arguments)
        return future

    def close(self) -> None:
        """Kill the process, whatever it is doing."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None
