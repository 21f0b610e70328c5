"""Figures drawn in a process of their own: a trial's picture takes as long as all else that is written of it.

    studio.draw(keep, plots.fold_curves, folds, title)    # comes back at once
    studio.deliver()                                      # calls keep(PNG) where the picture is there

Who asked takes the picture, in this process: the other one knows no store.
"""

import io
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor, ShutdownExecutorError
from matplotlib.figure import Figure

from trackdl.system.processes import attach, starting

__all__ = ["Studio"]

Draw = Callable[..., Figure]
Take = Callable[[bytes], None]


class Studio:
    """Draws figures one after another and hands them over in the order in which they were asked for."""

    def __init__(self) -> None:
        self._process: ProcessPoolExecutor | None = None
        self._due: deque[tuple[Future[bytes], Take, Draw, tuple[Any, ...]]] = deque()

    def draw(self, take: Take, make: Draw, *arguments: Any) -> None:
        """Have `make(*arguments)` drawn, and `take` called with the PNG by a later `deliver`."""
        try:
            future = self._submit(make, arguments)
        except BrokenProcessPool:  # killed while it had nothing to do
            self.close()
            future = self._submit(make, arguments)
        self._due.append((future, take, make, arguments))

    def _submit(self, make: Draw, arguments: tuple[Any, ...]) -> "Future[bytes]":
        with starting():
            if self._process is None:
                self._process = ProcessPoolExecutor(1, initializer=attach, initargs=(os.getpid(),))
            future: Future[bytes] = self._process.submit(_png, make, arguments)
        return future

    def deliver(self, *, everything: bool = False) -> None:
        """Hand over what is drawn; `everything` waits for the rest."""
        while self._due and (everything or self._due[0][0].done()):
            future, take, make, arguments = self._due.popleft()
            try:
                picture = future.result()
            except (BrokenProcessPool, ShutdownExecutorError):  # it was killed, under this picture or one before it
                picture = _png(make, arguments)
            take(picture)

    def close(self) -> None:
        """End the process; what was not handed over is not drawn."""
        if self._process is not None:
            self._process.shutdown(wait=True, kill_workers=True)
            self._process = None


def _png(make: Draw, arguments: tuple[Any, ...]) -> bytes:
    file = io.BytesIO()
    make(*arguments).savefig(file, format="png")
    return file.getvalue()
