"""Outages of a store: how they are recognised, and how they are waited out.

store = RetryingProxy(MlflowClient(uri), "the tracking store", uri)
store.search_experiments()  # retried while the store is away
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential

from trackdl.system.interruptions import uninterrupted

log = logging.getLogger(__name__)

PATIENCE = 90.0  # seconds for which a call is retried
CALL = 45.0  # seconds that one call of a server may take, however steadily its bytes come

# SQLite's word for a database that is there, and is not what was looked for.
_OTHER = ("no such table", "no such column", "has no column")
_FULL = ("disk is full", "No space left", "File too large", "disk I/O error", "readonly database", "unable to open")

Result = TypeVar("Result")


class TooSlow(Exception):  # noqa: N818 - it says what the server was
    """A server had not answered a call whole when its time was up. It is no OSError, which urllib3 would retry."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TooSlow in the block after some time: libraries' timeouts are of each read, so a trickle never ends.

    Where there is no such timer (Windows, or another thread than the main one), nothing is limited.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise TooSlow(f"no whole answer within {seconds:.0f} s")

    began, before = time.monotonic(), signal.signal(signal.SIGALRM, end)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # somebody else's timer goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.001))


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its chain of causes."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def database_gone(error: BaseException) -> bool:
    """Return whether a database was locked, restarted or cut off; a full disk or a wrong database do not count."""
    if disk_full(error) or any(words in str(item) for item in causes(error) for words in _OTHER):
        return False
    return any(isinstance(item, DisconnectionError | InterfaceError | OperationalError) for item in causes(error))


def disk_full(error: BaseException) -> bool:
    """Return whether a disk or the process's quota was full, or the file cannot be written."""
    return any(words in str(item) for item in causes(error) for words in _FULL)


def retry_while_away(
    call: Callable[[], Result], store: str, gone: Callable[[BaseException], bool] = database_gone
) -> Result:
    """Call a store, and retry for up to `PATIENCE` seconds while it is away.

    Only for calls that may be made twice: the first may have succeeded although its answer was lost.

    Args:
        call: Calls the store.
        store: The store's name, for the warning.
        gone: Whether an error means that the store is away.
    """

    def warn(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            log.warning("%s does not answer; the call is retried for up to %.0f s", store, PATIENCE)

    retrying = Retrying(
        # A Ctrl-C that arrives during a store's error has that error as its context, and must not be retried.
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and gone(error)),
        wait=wait_exponential(0.2, max=5),
        stop=stop_after_delay(PATIENCE),
        before_sleep=warn,
        reraise=True,
    )
    return retrying(call)


def defer_interrupts(url: str) -> AbstractContextManager[None]:
    """Defer Ctrl-C and signals to the end of the block, around one call of the database at `url`.

    A call that is interrupted half-way leaves a SQLite file locked, and this process could not mark its run KILLED. A
    server has no such lock and may take long to answer, so nothing is deferred for it.
    """
    return nullcontext() if url.startswith("http") else uninterrupted()


def one_call(url: str, seconds: float | None = None) -> AbstractContextManager[None]:
    """Limit the block, one call of the store at `url`, if that is a server; by default to `CALL` seconds."""
    return deadline(seconds or CALL) if url.startswith("http") else nullcontext()


class RetryingProxy:
    """A store's client whose methods are retried while the store is away (`retry_while_away`).

    Interruptions are deferred within each attempt and raised between two attempts.

    Args:
        client: The client.
        store: The store's name, for the warning.
        url: The store's address.
        gone: Whether an error means that the store is away.
        once: The methods that must not be called twice; they are passed through.
    """

    def __init__(
        self,
        client: Any,
        store: str,
        url: str,
        gone: Callable[[BaseException], bool] = database_gone,
        once: frozenset[str] = frozenset(),
    ) -> None:
        self._client, self._store, self._url, self._gone, self._once = client, store, url, gone, once

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # `copy` asks for these before there is a client
            raise AttributeError(name)
        found = getattr(self._client, name)
        if not callable(found) or name in self._once:
            return found
        return lambda *args, **kwargs: self._retry(partial(found, *args, **kwargs))

    def _retry(self, call: Callable[[], Result]) -> Result:
        def attempt() -> Result:
            with defer_interrupts(self._url), one_call(self._url):
                return call()

        return retry_while_away(attempt, self._store, self._gone)
