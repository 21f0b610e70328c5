"""Whether a store was moved: MLflow keeps absolute paths of artifacts, which are wrong once its folder is copied."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy

from trackdl.errors import InputError
from trackdl.system import databases
from trackdl.system.findings import Finding, first_few

SAMPLES = 20  # runs of an experiment that are looked for in the new place


@dataclass(frozen=True)
class Moved:
    """A moved store: its database `file`, the roots of artifacts that it names, and the root `here` next to it."""

    file: Path
    roots: tuple[Path, ...]
    here: Path

    def __str__(self) -> str:
        return (
            f"{self.file} was moved or copied: its runs' artifacts belong in {self.here}, but it leads to "
            + first_few(map(str, self.roots))
        )


def artifact_folder(uri: str) -> Path | None:
    """Return the folder of a SQLite store's artifacts; None for another store, which alone knows it."""
    file = databases.sqlite_file(uri)
    return file.parent.resolve() / "mlruns" if file else None


def local_path(location: object) -> Path | None:
    """Return the path of a location of artifacts, `/PATH` or `file:///PATH`; None for any other value."""
    if not isinstance(location, str) or not location.startswith(("/", "file:/")):
        return None
    if location.startswith("/"):
        return Path(location)
    try:
        parts = urlsplit(location)
    except ValueError:
        return None
    return None if parts.netloc else Path(unquote(parts.path))


def find(uri: str) -> Moved | None:
    """Look whether a SQLite store leads to the artifacts of another folder's `mlruns/`; None if not.

    A location that was chosen on purpose is left alone, `mlruns/` of another folder included, unless something shows
    that the store was there: that folder's database has the same experiment, or is gone with its folder, or the runs'
    artifacts are next to this database.
    """
    file, here = databases.sqlite_file(uri), artifact_folder(uri)
    if file is None or here is None or not file.is_file():
        return None
    roots: dict[Path, None] = {}
    with databases.connection(uri) as connected:
        if not sqlalchemy.inspect(connected).has_table("experiments"):
            return None
        places = connected.execute(
            sqlalchemy.text("SELECT experiment_id, artifact_location, creation_time FROM experiments")
        )
        for number, location, created in places.all():
            path = local_path(location)
            own = path is not None and path.name == "mlruns"  # as `home_experiment` makes it; MLflow appends the number
            root = path.parent if path and path.name == str(number) else path
            if root is None or root.name != "mlruns" or root in roots or root.resolve() == here.resolve():
                continue
            query = sqlalchemy.text("SELECT artifact_uri FROM runs WHERE experiment_id = :number LIMIT :most")
            found = connected.execute(query, {"number": number, "most": SAMPLES}).scalars()
            others = {root.parent / file.name, *root.parent.glob("*.db")}
            runs = [run for run in map(local_path, found) if run and run.is_relative_to(root)]
            if (
                any((here / run.relative_to(root)).exists() for run in runs)
                or ((own or runs) and not os.path.lexists(root.parent))
                or any(_copied_from(other, file, number, created) for other in others)
            ):
                roots[root] = None
    return Moved(file, tuple(roots), here) if roots else None


def refuse(uri: str) -> None:
    """Refuse a store that was moved, before anything of it is used.

    Raises:
        InputError: It was.
    """
    if moved := find(uri):
        raise InputError(
            f"{moved}. Artifacts would be written and read there. Nothing was changed. `trackdl relocate` makes the "
            "store lead to its own folder (--dry-run only says what it would do)"
        )


def check(uri: str) -> Finding:
    """Check that the store leads to the artifacts of its own folder."""
    if moved := find(uri):
        return Finding(
            "place", "fault", str(moved), "`trackdl relocate`; no command but this one uses the store until then"
        )
    return Finding("place", "ok", "the store was not moved away from its artifacts")


def _copied_from(other: Path, file: Path, number: int, created: int | None) -> bool:
    """Return whether another database, which is only read, has the same experiment."""
    if not os.path.isfile(other) or other.samefile(file):  # noqa: PTH113 - False for a folder that is not ours to read
        return False
    try:
        with closing(sqlite3.connect(f"{other.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            query = "SELECT 1 FROM experiments WHERE experiment_id = ? AND creation_time IS ?"
            return opened.execute(query, (number, created)).fetchone() is not None
    except sqlite3.Error:  # it is none of MLflow's
        return False
