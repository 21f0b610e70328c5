"""Ctrl-C, and the signals that ask a command to end, at any moment: within an import and a finaliser too."""

import _thread
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from trackdl.system import processes

MESSAGE = "trackdl: interrupted; what was finished is kept"

# How long an import may put an interruption off, in seconds.
PATIENCE = 10

# Set from when an interruption is put off until it is raised; a second one does not wait.
_put_off = threading.Event()


def handle(command_line: str) -> None:
    """Raise KeyboardInterrupt, with the signal's name, when this process is asked to end; call it in the main thread.

    NumPy and PyTorch swallow an exception within their imports, or break by it. Therefore an import is finished first,
    for at most `PATIENCE`; one by `command_line` is what a command needs before it does anything, and ends the process
    with 130. What arrives in a finaliser, where Python drops it, is raised a moment later.

    Args:
        command_line: The package whose imports are a command's first.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        importer = _importer(frame)
        if not importer or _put_off.is_set():
            _put_off.clear()
            raise KeyboardInterrupt(signal.Signals(number).name)
        if importer.startswith(command_line):
            _end()
        _put_off_interruption(number)

    for number in (signal.SIGINT, *processes.ENDING):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP, and a shell's background jobs SIGINT
            signal.signal(number, interrupt)
    sys.unraisablehook = _raise_later


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
        processes.interrupt_main_thread(signal.Signals(number))


def _raise_later(ignored: "sys.UnraisableHookArgs") -> None:
    if not isinstance(ignored.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    _put_off_interruption(signal.Signals[str(ignored.exc_value.args[0]) if ignored.exc_value.args else "SIGINT"])
