"""The files of a registered version, verified against the digests that were taken when it was registered.

The version's tag `trackdl.files` is the SHA-256 of the list of all files' digests, so a changed file is found before
anything is loaded. The list is an artifact of the version's run, and names the files that differ. Whoever can write to
the registry's database can also change the tag: it protects the files, not the database.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from trackdl.errors import InputError, TrackdlError
from trackdl.spec.keys import meant
from trackdl.system.findings import first_few
from trackdl.system.paths import below
from trackdl.tracking.moved import local_path
from trackdl.tracking.runs import download
from trackdl.tracking.store import client, translate_errors

DIGESTS = "trackdl.files"
# By model, or version with an alias of its own: the command that registers it.
MADE_BY = {
    "mnist-cnn": "mnist",
    "mnist-cnn@report": "transfer --source models:/mnist-cnn@report",
    "fashion-cnn": "fashion",
    "greek-cnn": "transfer",
    "heart-mlp": "heart",
}

# MLflow adds this file, with the version's name, whenever it fetches one; and if it is killed while it uploads a file,
# one whose name begins so is left.
_ADDED_BY_MLFLOW, _UPLOADING = "registered_model_meta", ".artifact.uploading."


class Unusable(TrackdlError):  # noqa: N818 - it says what the version is
    """A version's files are gone, or are not those that were registered; `reason` follows the version's name."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what}: {reason}. Nothing of it was loaded. Train it again, and the new version takes its place; or "
            "choose another (`trackdl models`, `trackdl promote`)"
        )
        self.reason = reason


def find(uri: str) -> ModelVersion:
    """Return the version at the address `models:/NAME@ALIAS` or `models:/NAME/VERSION`, or the one of `runs:/ID`.

    Raises:
        InputError: There is none, or the address is malformed.
    """
    if uri.startswith("runs:/"):
        return _of_run(uri.removeprefix("runs:/"))
    rest = uri.removeprefix("models:/")
    name, slash, version = rest.partition("/")
    try:
        with translate_errors(uri):
            if "@" in rest:
                return client().get_model_version_by_alias(*rest.split("@", 1))
            if slash:
                return client().get_model_version(name, version)
        raise InputError("malformed")
    except InputError as error:
        name, sign, which = re.fullmatch("([^@/]*)([@/]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
        registered = {model.name for model in client().search_registered_models()}
        known = registered | set(MADE_BY)
        if not sign:
            reason = "expected models:/NAME@ALIAS or models:/NAME/VERSION"
        elif name in registered:
            reason = f"{name} has no {'version with the alias ' if sign == '@' else 'version '}{which}"
        else:
            reason = f"there is no registered model {name!r}"
        near = "" if name in known else meant(name, known).capitalize()
        asked = rest if rest in MADE_BY else name
        makes = f"`trackdl {MADE_BY[asked]}` makes {asked}; " if asked in MADE_BY else near
        raise InputError(f"{uri}: {reason}. {makes}`trackdl models` lists what there is") from error


def _of_run(run: str) -> ModelVersion:
    with translate_errors(f"run {run}"):
        client().get_run(run)  # whose error says that there is none
        versions = client().search_model_versions(f"run_id = '{run}'")
    if not versions:
        raise InputError(
            f"run {run} has registered no model: a run of one training has, not its parent; `trackdl models --all` "
            "lists the runs that have"
        )
    return max(versions, key=lambda version: int(version.version))


def exists(uri: str) -> bool:
    """Return whether there is a version at the address `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
    try:
        find(uri)
    except InputError:
        return False
    return True


@contextmanager
def _fetched(uri: str, location: str) -> Iterator[Path]:
    """Yield a copy of a model's files, which are in the folder `location`; MLflow fetches those that are elsewhere.

    It would copy a folder's 150 files in threads, which takes several times as long.
    """
    local = local_path(location)
    if local is None or not local.is_dir():
        with download(uri) as copy:
            yield copy
        return
    with tempfile.TemporaryDirectory() as folder, translate_errors(uri):
        for path in _paths(local):
            copy = Path(folder, path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(local / path, copy)
        yield Path(folder)


def digests(model_id: str) -> str:
    """Return the list of a logged model's files: JSON, path to SHA-256."""
    uri = f"models:/{model_id}"
    with translate_errors(uri):
        location = client().get_logged_model(model_id).artifact_location
    with _fetched(uri, location) as folder:
        return _list(folder)


def listing(model_id: str) -> str:
    """Return which artifact of its run is the list of a logged model's files."""
    return f"model_files/{model_id}.json"


def _list(folder: Path) -> str:
    return json.dumps(_digests(folder), sort_keys=True)


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every registered file below a folder, by its path there."""
    return {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in _paths(folder)}


def _paths(folder: Path) -> list[str]:
    """Return the paths of the files below a folder that were registered.

    Left out are files that are added later: MLflow's, and the bytecode of the artifact's code. MLflow runs that code,
    trackdl does not.

    Raises:
        OSError: A folder cannot be read: its files are not gone.
    """
    found = []
    for path in below(folder):
        inside = path.relative_to(folder)
        bytecode = inside.parts[0] == "code" and inside.parent.name == "__pycache__" and inside.suffix == ".pyc"
        added = inside.as_posix() == _ADDED_BY_MLFLOW or inside.name.startswith(_UPLOADING)
        if path.is_file() and not bytecode and not added:
            found.append(inside.as_posix())
    return found


@contextmanager
def verified(found: ModelVersion) -> Iterator[Path]:
    """Yield the folder of a verified copy of a version's files; nothing in it has been loaded or run.

    Raises:
        Unusable: A file was changed, added or removed since registration, or the version has no digests.
        TrackdlError: The store failed.
    """
    what = f"{found.name} version {found.version}"
    if DIGESTS not in found.tags:
        raise Unusable(what, "it was registered without its files' digests (not by trackdl) to verify them by")
    with _files(found) as folder:
        tag = found.tags[DIGESTS]
        if tag != _sha256(_list(folder)):
            registered = _registered(found, tag, what)
            if wrong := _differences(registered, _digests(folder)):
                raise Unusable(what, f"its files are not those that were registered: {'; '.join(wrong)}")
        yield folder


def input_example(folder: Path) -> Any:
    """Return the input that was logged with a version whose files are in a folder: an array, a frame, or None."""
    return mlflow.models.Model.load(str(folder)).load_input_example(str(folder))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _registered(found: ModelVersion, tag: str, what: str) -> dict[str, str]:
    """Return the list of files that a version was registered with, from its run; its tag is the list's digest."""
    model_id = str(found.source).removeprefix("models:/")
    try:
        with download(f"runs:/{found.run_id}/{listing(model_id)}") as path:
            text = path.read_bytes().decode(errors="replace")
    except (TrackdlError, OSError):
        text = ""
    if not re.fullmatch("[0-9a-f]{64}", tag):
        raise Unusable(what, f"its tag {DIGESTS} was changed, or an earlier version of trackdl made it: train it again")
    if _sha256(text) != tag:
        raise Unusable(what, "its files are not those that were registered, and the list of those is gone, too")
    listed: dict[str, str] = json.loads(text)
    return listed


@contextmanager
def _files(found: ModelVersion) -> Iterator[Path]:
    """Yield a copy of a version's files, if there are any."""
    what = f"{found.name} version {found.version}"
    try:
        with translate_errors(what):
            where = client().get_model_version_download_uri(found.name, str(found.version))
            if where.startswith("models:/m-"):
                where = client().get_logged_model(where.removeprefix("models:/").partition("/")[0]).artifact_location
    except InputError as error:
        raise Unusable(what, f"its files are gone: {error}") from error
    with translate_errors(what):
        strange = _strange(local_path(where))
    if strange:
        raise Unusable(what, f"among its files are links, or what is no file: {first_few(strange)}")
    with _fetched(f"models:/{found.name}/{found.version}", where) as folder:
        if not any(folder.iterdir()):
            raise Unusable(what, f"its files are gone: they are not in {local_path(where) or where}")
        yield folder


def _strange(folder: Path | None) -> list[str]:
    """Return what below a folder is neither a file nor a folder; a link might lead a copy anywhere."""
    found = below(folder) if folder and folder.is_dir() else []
    return [str(path) for path in found if path.is_symlink() or not (path.is_file() or path.is_dir())]


def broken(found: ModelVersion) -> str:
    """Return why a version is no longer of use, or an empty text: its run is gone, or its files are not as they were.

    Raises:
        TrackdlError: The store failed.
    """
    try:
        with translate_errors(f"{found.name} version {found.version}"):
            if found.run_id and client().get_run(found.run_id).info.lifecycle_stage != "active":
                return f"its run {found.run_id[:8]} is deleted"
        with verified(found) if DIGESTS in found.tags else _files(found):
            return ""
    except Unusable as error:
        return error.reason
    except InputError:
        return f"its run {str(found.run_id)[:8]} is gone"


def _differences(registered: dict[str, str], found: dict[str, str]) -> list[str]:
    kinds = {
        "changed": [path for path in registered if path in found and found[path] != registered[path]],
        "missing": [path for path in registered if path not in found],
        "added": [path for path in found if path not in registered],
    }
    return [f"{kind} {first_few(paths)}" for kind, paths in kinds.items() if paths]
