"""Records that wait for the tracking store: on disk in `spool_folder`, in order, with a folder for each run.

Several processes may keep and send records at the same time. A record is removed only after it was sent, and a run's
folder only while no process keeps anything, so none is lost between one process's sending and another's keeping.
"""

import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from trackdl.errors import TrackdlError
from trackdl.tracking.store import spool_folder


@dataclass(frozen=True)
class Record:
    """One write to a run: its `content` is a JSON value; `file` is the artifact of a "file"."""

    kind: Literal["metrics", "tags", "file", "input", "end"]
    content: dict[str, Any]
    file: Path | None = None


def keep(run_id: str, record: Record) -> None:
    """Append a record to those of its run that wait, completely or not at all.

    Raises:
        TrackdlError: It cannot be written, e.g. because the disk is full.
    """
    folder = spool_folder() / run_id
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _changing():
            folder.mkdir(exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
            (made / "letter.json").write_text(json.dumps({"kind": record.kind, "content": record.content}))
            if record.file:
                (made / "file").mkdir()
                shutil.copyfile(record.file, made / "file" / record.file.name)
            for path in (path for path in made.rglob("*") if path.is_file()):
                with path.open("rb+") as written:
                    os.fsync(written.fileno())
            number = max((int(path.name) for path in waiting(run_id)), default=0) + 1
            made.rename(folder / f"{number:08d}")
    except OSError as error:
        raise TrackdlError(
            f"the tracking store does not answer, and its records cannot be kept in {folder}: {error}. Make room"
        ) from error


def waiting(run_id: str) -> list[Path]:
    """Return the folders of a run's records that the store has not taken yet, in order."""
    folder = spool_folder() / run_id
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path for path in found if re.fullmatch(r"\d{8}", path.name))


def run_folders() -> list[Path]:
    """Return the folders of the runs that have records, or had some; each is named by its run's id."""
    root = spool_folder()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def read(place: Path) -> Record:
    """Read the record in the folder `place`."""
    file = next((place / "file").glob("*"), None)
    return Record(**json.loads((place / "letter.json").read_text()), file=file)


def discard(place: Path) -> None:
    """Remove a record that was sent, in one step, so that no half of it is ever read."""
    sent = Path(tempfile.mkdtemp(dir=place.parent, prefix=".sent-"))
    place.rename(sent / place.name)
    shutil.rmtree(sent)


def sweep(folder: Path) -> None:
    """Remove a run's folder, with what killed processes left there, unless records wait in it."""
    with _changing():
        if not waiting(folder.name):
            for half in [*folder.glob(".part-*"), *folder.glob(".sent-*")]:
                shutil.rmtree(half)
            with suppress(OSError):  # it stays if it has other files
                folder.rmdir()


def _changing() -> FileLock:
    """Return the lock for keeping a record or removing a folder."""
    return FileLock(spool_folder() / ".changing")
