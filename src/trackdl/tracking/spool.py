"""What waits for the tracking store: letters on disk, below `spool_folder`, a folder for each run, in order.

Several processes keep and send letters at a time. A letter goes only once it was sent, and a run's folder only while
nobody keeps anything: so none is lost between one process's sending and another's keeping.
"""

import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from trackdl.errors import TrackdlError
from trackdl.tracking.store import spool_folder

__all__ = ["Letter", "discard", "keep", "read", "run_folders", "sweep", "waiting"]


@dataclass(frozen=True)
class Letter:
    """One thing that is told of a run.

    Attributes:
        kind: "metrics", "tags", "file", "input" or "end".
        content: What it says, a JSON value.
        file: The file that goes with it.
    """

    kind: str
    content: dict[str, Any]
    file: Path | None = None


def keep(run_id: str, letter: Letter) -> None:
    """Put a letter behind those that wait: whole or not at all.

    Raises:
        TrackdlError: It cannot be kept: the disk is full.
    """
    folder = spool_folder() / run_id
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _changing():
            folder.mkdir(exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
            (made / "letter.json").write_text(json.dumps({"kind": letter.kind, "content": letter.content}))
            if letter.file:
                (made / "file").mkdir()
                shutil.copyfile(letter.file, made / "file" / letter.file.name)
            for path in (path for path in made.rglob("*") if path.is_file()):
                with path.open("rb+") as written:
                    os.fsync(written.fileno())
            number = max((int(path.name) for path in waiting(run_id)), default=0) + 1
            made.rename(folder / f"{number:08d}")
    except OSError as error:
        raise TrackdlError(
            f"the tracking store does not answer, and {folder} cannot keep what is for it: {error}. Make room"
        ) from error


def waiting(run_id: str) -> list[Path]:
    """Return where the letters of a run lie that the store has not taken yet, in order."""
    folder = spool_folder() / run_id
    found = folder.iterdir() if folder.is_dir() else []
    return sorted(path for path in found if re.fullmatch(r"\d{8}", path.name))


def run_folders() -> list[Path]:
    """Return the folders of the runs that letters wait for, or waited; each is named by its run's id."""
    root = spool_folder()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def read(place: Path) -> Letter:
    """Read the letter that lies at `place`."""
    said = json.loads((place / "letter.json").read_text())
    files = list((place / "file").iterdir()) if (place / "file").is_dir() else []
    return Letter(said["kind"], said["content"], files[0] if files else None)


def discard(place: Path) -> None:
    """Throw away a letter that was sent: at once, so that no half of it is ever read."""
    sent = Path(tempfile.mkdtemp(dir=place.parent, prefix=".sent-"))
    place.rename(sent / place.name)
    shutil.rmtree(sent)


def sweep(folder: Path) -> None:
    """Remove a run's folder, unless letters wait in it; what processes that were killed left there goes too."""
    with _changing():
        if not waiting(folder.name):
            for left in [*folder.glob(".part-*"), *folder.glob(".sent-*")]:
                shutil.rmtree(left)
            with suppress(OSError):  # somebody else's files lie there: it stays
                folder.rmdir()


def _changing() -> FileLock:
    """Return the lock that whoever keeps a letter, or removes a folder, holds meanwhile."""
    return FileLock(spool_folder() / ".changing")
