"""Output for people: a progress bar on a terminal, plain lines in a log, tables of results."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

log = logging.getLogger(__name__)

_errors = Console(stderr=True)

# About how many lines a log gets from one progress bar, if its steps are quick.
LOG_LINES = 10
# A step that ends this long after the last line, or later, gets a line of its own.
LOG_SECONDS = 60


# A password in an address, before its host's @ or the last one, or among its options.
_PASSWORD = re.compile(r"://[^/@:]*:(?=([^/]*)@)(?=(.*)@)|[?&]password=([^&]+)")

# Signs that move a terminal's cursor, colour what follows, or turn the direction of writing.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Hiding:
    """A stream that shows none of some secrets, whoever prints to it: a library's warnings and tracebacks too."""

    def __init__(self, stream: TextIO, secrets: Collection[str]) -> None:
        self._stream, self._secrets = stream, secrets

    def write(self, text: str) -> int:
        for secret in self._secrets:
            text = text.replace(f":{secret}@", ":***@").replace(f"password={secret}", "password=***")
        return self._stream.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def hide_passwords() -> None:
    """Hide the passwords of addresses in the environment in all that is printed; for a process of trackdl's alone."""
    found = {secret for value in os.environ.values() for secret in _PASSWORD.findall(value)}
    if secrets := sorted(filter(None, {part for parts in found for part in parts}), key=len, reverse=True):
        sys.stdout = cast("TextIO", _Hiding(sys.stdout, secrets))
        sys.stderr = cast("TextIO", _Hiding(sys.stderr, secrets))


def plain(text: str) -> str:
    """Return a text with control signs written out: names of files, classes and columns come from anybody."""
    return _CONTROL.sub(lambda sign: repr(sign[0])[1:-1], text)


def entry(text: str) -> str:
    """Return a text as one entry of an output, `plain`: lines after the first are indented, so a name forges none."""
    return plain(text).replace("\n", "\n  ")


def _plain_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = entry(record.getMessage()), None
    return True


def setup(*, debug: bool) -> None:
    """Send trackdl's log to standard error: short lines on a terminal, with the time of day in a file."""
    handler: logging.Handler
    if _errors.is_terminal:
        handler = RichHandler(console=_errors, show_path=False, show_time=False, markup=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    handler.addFilter(_plain_record)
    logger = logging.getLogger("trackdl")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)


def say(text: str = "", *, whole: bool = False) -> None:
    """Print a line of results on standard output, as an `entry`; `whole` is for a text of lines, such as JSON."""
    Console(soft_wrap=True, markup=False, highlight=False).print(plain(text) if whole else entry(text))


def say_json(value: Any) -> None:
    """Print a value as JSON on standard output, with the control signs of names escaped as JSON has them."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    sys.stdout.write(_CONTROL.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text) + "\n")


def print_table(title: str, columns: list[str], rows: list[list[str]], *, left: bool = False) -> None:
    """Print a table on standard output; columns after the first are aligned to the right, or all to the left."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(escape(plain(column)), justify="right" if index and not left else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(plain(cell)) for cell in row))
    terminal = Console()
    # A log has no width, and a table that is folded into 80 columns is hard to read.
    out = terminal if terminal.is_terminal else Console(width=150)
    out.print(entry(title), style="bold", markup=False, highlight=False)
    out.print(table)


def counted(count: int, noun: str) -> str:
    """Return a number of things as text: 1 fault, 2 faults."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


@contextmanager
def progress(what: str, total: int | None, done: int = 0, every: int | None = None) -> Iterator[Callable[..., None]]:
    """Show the progress of long work.

    Args:
        what: Its name.
        total: The number of its steps, if known.
        done: The number of steps that were done before.
        every: The number of steps for each line of a log; by default, a log gets about `LOG_LINES` in all. Where steps
            are slow, lines come more often.

    Yields:
        A function to call after each step, with a short text about it; or within one, with the share that is done too,
        which a log does not show.
    """
    count, each, logged_at = done, every or max(1, (total or 0) // LOG_LINES), time.monotonic()
    name, about = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[words]}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), about)
    with Progress(*columns, console=_errors, transient=True) if _errors.is_terminal else nullcontext() as bar:
        task = bar.add_task(entry(what), total=total, completed=done, words="") if bar else None

        def step(words: str, share: float | None = None) -> None:
            nonlocal count, logged_at
            count += share is None
            if bar and task is not None:
                bar.update(task, completed=count + (share or 0), words=entry(words))
            elif share is None and (count % each == 0 or count == total or time.monotonic() - logged_at >= LOG_SECONDS):
                logged_at = time.monotonic()
                log.info("%s %d%s %s", what, count, f"/{total}" if total else "", words)

        yield step
