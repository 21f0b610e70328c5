"""Figures drawn in another process: drawing a trial's figure takes as long as writing all the rest of the trial.

studio.draw(keep, plots.fold_curves, folds, title)    # returns at once
studio.deliver()                                      # calls keep(PNG) in this process if the figure is drawn
"""

import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError
from matplotlib.figure import Figure

from trackdl.system.processes import attach
from trackdl.workers.process import WorkerProcess

Draw = Callable[..., Figure]
Take = Callable[[bytes], None]


class Studio:
    """Draws figures one after another, and delivers them in the order of the calls of `draw`."""

    def __init__(self) -> None:
        self._process = WorkerProcess(attach)
        self._due: deque[tuple[Future[bytes], Take, Draw, tuple[Any, ...]]] = deque()

    def draw(self, take: Take, make: Draw, *arguments: Any) -> None:
        """Have `make(*arguments)` drawn, and `take` called with the PNG by a later `deliver`."""
        self._due.append((self._process.submit(_png, make, arguments), take, make, arguments))

    def deliver(self, *, everything: bool = False) -> None:
        """Deliver the figures that are drawn; `everything` waits for the rest."""
        while self._due and (everything or self._due[0][0].done()):
            future, take, make, arguments = self._due.popleft()
            try:
                png = future.result()
            except (BrokenProcessPool, ShutdownExecutorError):  # killed during this figure or an earlier one
                png = _png(make, arguments)
            take(png)

    def close(self) -> None:
        """End the process; figures that were not delivered are not drawn."""
        self._process.close()


def _png(make: Draw, arguments: tuple[Any, ...]) -> bytes:
    file = io.BytesIO()
    make(*arguments).savefig(file, format="png")
    return file.getvalue()
