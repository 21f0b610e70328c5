"""The files of a registered version: which they were when it was registered, and whether they still are.

The digests of all files stand in the version's tag `trackdl.files`, so a changed artifact is found before anything of
it is loaded. Who can write to the registry's database can also change the tag: it guards the files, not the database.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from trackdl.errors import InputError, TrackdlError
from trackdl.tracking.store import client, translate_errors

__all__ = ["DIGESTS", "digests", "exists", "find", "verified"]

DIGESTS = "trackdl.files"
# Which command registers a model, or the version with an alias of its own.
MADE_BY = {
    "mnist-cnn": "mnist",
    "mnist-cnn@report": "transfer --source models:/mnist-cnn@report",
    "fashion-cnn": "fashion",
    "greek-cnn": "transfer",
    "heart-mlp": "heart",
}

# MLflow adds this file, with the version's name, whenever it fetches one.
_ADDED_BY_MLFLOW = "registered_model_meta"
_HANDFUL = 5


def find(uri: str) -> ModelVersion:
    """Return the version that a `models:/NAME@ALIAS` or `models:/NAME/VERSION` names.

    Raises:
        InputError: There is none, or it is no such address.
    """
    rest = uri.removeprefix("models:/")
    try:
        return _find(uri, rest)
    except InputError as error:
        name = rest if rest in MADE_BY else re.split("[@/]", rest)[0]
        makes = f"`trackdl {MADE_BY[name]}` makes {name}; " if name in MADE_BY else ""
        raise InputError(f"{error}. {makes}`trackdl models` lists what there is") from error


def _find(uri: str, rest: str) -> ModelVersion:
    with translate_errors(uri):
        if "@" in rest:
            return client().get_model_version_by_alias(*rest.split("@", 1))
        name, slash, version = rest.partition("/")
        if not slash:
            raise InputError(f"{uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION")
        return client().get_model_version(name, version)


def exists(uri: str) -> bool:
    """Return whether a `models:/NAME@ALIAS` or `models:/NAME/VERSION` names a registered model version."""
    try:
        find(uri)
    except InputError:
        return False
    return True


@contextmanager
def _fetched(uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, translate_errors(uri):
        yield Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


def digests(uri: str) -> str:
    """Return the digests of a logged model's files, as the tag `trackdl.files` holds them: JSON, path to SHA-256."""
    with _fetched(uri) as folder:
        return json.dumps(_digests(folder), sort_keys=True)


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path there.

    Left out is what others leave there: MLflow's note of the version, and the bytecode that Python writes beside the
    artifact's code when MLflow runs that. trackdl runs none of the artifact's code.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        bytecode = inside.parts[0] == "code" and inside.parent.name == "__pycache__" and inside.suffix == ".pyc"
        if path.is_file() and not bytecode and inside.as_posix() != _ADDED_BY_MLFLOW:
            found[inside.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextmanager
def verified(found: ModelVersion) -> Iterator[Path]:
    """Give a copy of a version's files, each the one that was registered; nothing of them has been loaded or run.

    Yields:
        The copy's folder, gone when the block ends.

    Raises:
        TrackdlError: A file was changed, added or removed since, or the version has no digests to compare with.
    """
    what = f"{found.name} version {found.version}"
    if DIGESTS not in found.tags:
        raise TrackdlError(
            f"{what} was registered without its files' digests (not by trackdl, or by an early one), so nobody can tell"
            f" what they were; nothing of it was loaded. Train it again, or choose another: trackdl models"
        )
    with _fetched(f"models:/{found.name}/{found.version}") as folder:
        wrong = _differences(json.loads(found.tags[DIGESTS]), _digests(folder))
        if wrong:
            raise TrackdlError(
                f"{what}: its files are not those that were registered: {'; '.join(wrong)}. Nothing of it was loaded."
                f" Choose another version (trackdl models, trackdl promote) or train again"
            )
        yield folder


def _differences(registered: dict[str, str], found: dict[str, str]) -> list[str]:
    sorts = {
        "changed": [path for path in registered if path in found and found[path] != registered[path]],
        "missing": [path for path in registered if path not in found],
        "added": [path for path in found if path not in registered],
    }
    return [f"{sort} {_listed(paths)}" for sort, paths in sorts.items() if paths]


def _listed(paths: list[str]) -> str:
    more = f" and {len(paths) - _HANDFUL} more" if len(paths) > _HANDFUL else ""
    return ", ".join(paths[:_HANDFUL]) + more
