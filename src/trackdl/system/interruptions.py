"""Ctrl-C and the signals that ask a command to end: raised at the right moment, deferred where they would harm."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

MESSAGE = "trackdl: interrupted; what was finished is kept"

# How long an import may put an interruption off, in seconds.
PATIENCE = 10

# What asks a process to end: Ctrl-C and, where the system has them, these. A terminal that is closed sends SIGHUP.
SIGNALS = (signal.SIGINT, *(signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)))

# Set from when an interruption is put off until it is raised; a second one does not wait.
_put_off = threading.Event()


def handle(*command_line: str) -> None:
    """Raise KeyboardInterrupt, with the signal's name, when this process is asked to end; call it in the main thread.

    An import is finished first, because NumPy and PyTorch swallow an exception there or break, but it is waited for no
    longer than `PATIENCE`. What the modules and packages `command_line` import, a command needs before it does
    anything: there, the process ends at once, with exit code 130. A finaliser, where Python drops exceptions, is
    finished first too.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        importer = _importer(frame)
        if not importer or _put_off.is_set():
            _put_off.clear()
            raise KeyboardInterrupt(signal.Signals(number).name)
        if importer.startswith(command_line):
            _end()
        _put_off_interruption(number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP, and a shell's background jobs SIGINT
            signal.signal(number, interrupt)
    sys.unraisablehook = _raise_later


@contextmanager
def starting() -> Iterator[None]:
    """Block Ctrl-C for processes that are started in the block.

    A terminal sends it to every process of a command, and it would kill a Python that is still importing. The new
    processes inherit the blocking; in this process, a Ctrl-C is raised at the end of the block. On Windows, nothing is
    blocked.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Defer an interruption, by Ctrl-C or a signal, to the end of the block; a second one takes effect at once."""
    if threading.current_thread() is not threading.main_thread():  # other threads handle no signals
        yield
        return
    deferred: list[int] = []
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    callables = {number: handler for number, handler in handlers.items() if callable(handler)}

    def defer(number: int, frame: FrameType | None) -> None:
        deferred.append(number)
        if len(deferred) > 1:
            callables[signal.Signals(number)](number, frame)

    for number in callables:
        signal.signal(number, defer)
    try:
        yield
    finally:
        for number, handler in callables.items():
            signal.signal(number, handler)
        if len(deferred) == 1:
            callables[signal.Signals(deferred[0])](deferred[0], None)


def _end() -> NoReturn:
    with suppress(OSError):  # Ctrl-C ends the reader of a pipe too
        os.write(2, f"{MESSAGE}\n".encode())  # not by sys.stderr, which may be in use just now
    os._exit(130)


def _importer(frame: FrameType | None) -> str:
    """Return the name of the module that began the outermost import under way; empty if there is none."""
    found, importing = "", False
    while frame:
        name = str(frame.f_globals.get("__name__"))
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            importing = True
        elif importing and name != "importlib":  # whose `import_module` may stand between
            found, importing = name, False
        frame = frame.f_back
    return found


def _put_off_interruption(number: int) -> None:
    _put_off.set()
    _thread.start_new_thread(_interrupt_later, (number,))  # threading.Thread takes a lock, which may be held just now


def _interrupt_later(number: int) -> None:
    """Interrupt the main thread as soon as it imports nothing, unless a second interruption was faster."""
    main, latest = threading.main_thread().ident or 0, time.monotonic() + PATIENCE
    time.sleep(0.05)
    while _importer(sys._current_frames().get(main)) and time.monotonic() < latest:
        time.sleep(0.05)
    if _put_off.is_set():
        _interrupt_main_thread(signal.Signals(number))


def _raise_later(ignored: "sys.UnraisableHookArgs") -> None:
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    _put_off_interruption(signal.Signals[str(ignored.exc_value.args[0]) if ignored.exc_value.args else "SIGINT"])


def _interrupt_main_thread(number: signal.Signals) -> None:
    """Send a signal to the main thread of this process, from another thread."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:  # on Windows a waiting call is not ended by it
        _thread.interrupt_main(number)
