"""Makes a store that was moved lead to the artifacts in its own folder (`moved` finds such a store)."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from trackdl.errors import InputError, TrackdlError
from trackdl.system import databases, locks
from trackdl.system.findings import first_few
from trackdl.system.paths import project_root, whole_file
from trackdl.tracking import moved
from trackdl.tracking.moved import Moved, local_path
from trackdl.tracking.store import refuse_older, spool_folder, translate_errors

# Everything else that is a path (a run's source, its parameters, a data set's source) says what was, and stays.
_ARTIFACTS = (("runs", "artifact_uri"), ("logged_models", "artifact_location"), ("model_versions", "storage_location"))
COLUMNS = (("experiments", "artifact_location"), *_ARTIFACTS, ("model_versions", "source"), ("trace_tags", "value"))


@dataclass(frozen=True)
class Relocated:
    """What was done, or would be.

    Attributes:
        moved: The store, as it was found.
        values: How many values of the database were changed.
        backup: The copy of the database that was made first; None if nothing was changed.
        behind: Folders of artifacts that are still at the old place and missing at the new one.
        nowhere: Folders that are at neither; a run that logged no file has none.
    """

    moved: Moved
    values: int
    backup: Path | None
    behind: list[Path]
    nowhere: list[Path]

    def words(self) -> str:
        """Return what a user wants to know of it."""
        did = f"were changed; {self.backup} is the database before" if self.backup else "would be changed"
        lines = [f"{self.moved}.", f"{self.values} values of the database {did}."]
        if self.behind:
            lines.append(f"{len(self.behind)} folders are still at the old place, copy them: {_some(self.behind)}")
        if self.nowhere:
            lines.append(
                f"{len(self.nowhere)} folders are at neither place (a run that logged no file has none): "
                f"{_some(self.nowhere)}"
            )
        if not self.behind + self.nowhere:
            lines.append("All artifacts are at the new place.")
        return "\n".join(lines)


def relocate(uri: str, *, dry_run: bool = False, without_artifacts: bool = False) -> Relocated | None:
    """Rewrite the locations of a moved store's artifacts, in one transaction; None if the store was not moved.

    Args:
        uri: The store's address.
        dry_run: Change nothing.
        without_artifacts: Do it even if no artifact is at the new place.

    Raises:
        InputError: The store is no SQLite file, or no artifact is at the new place.
        TrackdlError: The database cannot be changed; it is as it was.
    """
    file = databases.sqlite_file(uri)
    if file is None:
        raise InputError(
            f"{databases.redact(uri)}: only a SQLite store is relocated; a server's is the server's affair"
        )
    if not file.is_file():
        return None
    with translate_errors(f"relocating {file}"), locks.creation_lock(uri):
        refuse_older(uri)
        found = moved.find(uri)
        if found is None:
            return None
        try:
            with closing(sqlite3.connect(file, isolation_level=None)) as store:
                return _rewrite(store, found, dry_run, without_artifacts)
        except sqlite3.Error as error:
            raise TrackdlError(
                f"{file}: {error}. It is as it was; if another program uses it, end that first"
            ) from error


def _rewrite(store: sqlite3.Connection, found: Moved, dry_run: bool, without_artifacts: bool) -> Relocated:
    def rebased(value: str | None) -> str | None:
        path = local_path(value)
        root = next((root for root in found.roots if path and path.is_relative_to(root)), None)
        if path is None or root is None:
            return value
        new = found.here / path.relative_to(root)
        return new.as_uri() if str(value).startswith("file:") else str(new)

    store.create_function("rebased", 1, rebased, deterministic=True)
    store.execute("BEGIN IMMEDIATE")  # nobody else writes from here on; closing the store without COMMIT undoes it
    folders = _folders(store, found.here)
    if folders and not without_artifacts and not any(folder.exists() for folder in folders):
        raise InputError(
            f"{found}. None of its {len(folders)} folders of artifacts is in {found.here}: copy them there first; if "
            "they are lost, `trackdl relocate --without-artifacts`. Nothing was changed"
        )
    backup = None if dry_run else _back_up(found.file)
    values = 0
    for table, column in COLUMNS:
        where = f"WHERE {column} IS NOT rebased({column})"
        values += store.execute(f"SELECT count(*) FROM {table} {where}").fetchone()[0]  # noqa: S608 - names from here
        if not dry_run:
            store.execute(f"UPDATE {table} SET {column} = rebased({column}) {where}")  # noqa: S608 - names from here
    if not dry_run:
        store.execute("COMMIT")
        _move_unsent(found)
    missing = [folder for folder in _folders(store, found.here) if not folder.exists()]
    behind = [
        folder for folder in missing if any((root / folder.relative_to(found.here)).exists() for root in found.roots)
    ]
    return Relocated(found, values, backup, behind, [folder for folder in missing if folder not in behind])


def _some(folders: list[Path]) -> str:
    return first_few(map(str, folders))


def _folders(store: sqlite3.Connection, here: Path) -> list[Path]:
    """Return where the artifacts of runs and models belong, as far as that is in `here`."""
    queries = [f"SELECT rebased({column}) FROM {table}" for table, column in _ARTIFACTS]  # noqa: S608 - names from here
    paths = {local_path(value) for (value,) in store.execute(" UNION ".join(queries))}
    return sorted(path for path in paths if path and path.is_relative_to(here))


def _back_up(file: Path) -> Path:
    """Copy the database to a new file next to it."""
    stem = f"{file.name}.before-relocation-{datetime.now():%Y%m%d-%H%M%S}"
    names = (file.with_name(stem + (f"-{number}" if number else "")) for number in count())
    backup = next(name for name in names if not name.exists())
    with whole_file(backup) as part, closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(part)) as new:
        old.backup(new)
    return backup


def _move_unsent(found: Moved) -> None:
    """Let the records that wait for the store be found: their folder is named by the store's address."""
    if found.file.parent.resolve() != project_root().resolve():
        return  # a folder of that name would be the other store's own
    for root in found.roots:
        old = spool_folder(databases.sqlite_url(root.parent / found.file.name))
        new = spool_folder(databases.sqlite_url(found.file))
        if old.is_dir() and not new.exists():
            old.rename(new)
