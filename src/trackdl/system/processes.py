"""Processes of this machine: told apart from all others, and ended with the one that started them."""

import ctypes
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

__all__ = ["alive", "attach", "keep_memory", "starting", "tag", "uninterrupted"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

PARENT_CHECK = 1.0  # seconds


def keep_memory() -> None:
    """Let glibc keep memory that a training step frees; returning it to the system costs up to 15 % of a fit.

    For a process that is trackdl's alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 1 << 27)
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 25)  # data sets are larger, so their memory is still returned


def tag() -> str:
    """Return what tells this process from all others of this machine: its number and when it began."""
    return f"{os.getpid()}:{_began(os.getpid())}"


def _began(pid: int) -> str:
    """Return when a process began, told so that it stays the same when the machine's clock is set."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        return stat.read_text().rpartition(")")[2].split()[19]  # ticks since the machine was started
    return f"{psutil.Process(pid).create_time():.0f}"


def alive(process: str) -> bool:
    """Return whether the process that a run names (its tag `trackdl.process`) still runs on this machine."""
    pid, _, began = process.partition(":")
    try:
        return _began(int(pid)) == began
    except (psutil.NoSuchProcess, OSError, ValueError):
        return False


@contextmanager
def starting() -> Iterator[None]:
    """Start processes in the block that Ctrl-C does not reach while they are being started.

    A terminal sends it to every process of a command, and Python has no answer to it before its first import is done.
    What is blocked here stays blocked there; here it is heard at the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put an interruption, by Ctrl-C or a signal, off to the end of the block; a second one is heard at once."""
    if threading.current_thread() is not threading.main_thread():  # no signal is handled there
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    heard = {number: handler for number, handler in handlers.items() if callable(handler)}

    def put_off(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            heard[signal.Signals(number)](number, frame)

    for number in heard:
        signal.signal(number, put_off)
    try:
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
        if len(came) == 1:
            heard[signal.Signals(came[0])](came[0], None)


def attach(parent: int) -> None:
    """Make this process one that works for `parent`: deaf to Ctrl-C, which its parent hears, and gone when that is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
