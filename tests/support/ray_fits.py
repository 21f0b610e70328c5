"""Stand-ins for a fit that are run on the nodes of a Ray cluster."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from support.grid_fits import made_up
from trackdl.data.download import datasets as sources
from trackdl.data.download.datasets import DATASETS, Dataset, File
from trackdl.studies.grid.fits import FoldResult, FoldTask

CONTENT = b"data" * 1000


def note(name: str, line: str) -> None:
    with Path(os.environ["GRID_TEST"], name).open("a") as file:
        file.write(line + "\n")


class Counted:
    """A source that notes for which data folder it was asked."""

    def __str__(self) -> str:
        return "a test's source"

    def open(self, wanted: Sequence[File], scratch: Path) -> Callable[[File], bytes]:  # noqa: ARG002
        note("fetched", os.environ["TRACKDL_DATA_DIR"])
        time.sleep(0.3)
        return lambda _: CONTENT


def where(task: FoldTask) -> None:
    note("where", json.dumps([task.experiment.network.model_dump(), task.fold, os.environ["TRACKDL_DATA_DIR"]]))


def fetching(task: FoldTask) -> FoldResult:
    """Fetch a data set of one file into the node's folder."""
    file = File("bytes", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    DATASETS["fashion"] = Dataset((file,), lambda: [Counted()], "nothing: these are a test's")
    where(task)
    sources.fetch("fashion")
    time.sleep(1)  # long enough that the first node's worker cannot take every fold before the others start
    return made_up(task)


def slow_there(task: FoldTask) -> FoldResult:
    where(task)
    # The third node is to be killed under its work, however long a busy machine takes to do it.
    time.sleep(60 if os.environ["TRACKDL_DATA_DIR"].endswith("node2") else 1)
    return made_up(task)


def data_folder(_: int) -> str:
    return os.environ["TRACKDL_DATA_DIR"]


def gone(task: str) -> str:
    if task == "raises":
        raise ValueError("on purpose")
    if task == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return task
