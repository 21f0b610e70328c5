"""A store whose folder was copied or renamed: no command uses it, and `trackdl relocate` makes it lead to its files.

The folders' names have blanks and umlauts, which one form of a location quotes and the other does not.
"""

import hashlib
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
import torch

from support.commands import trackdl
from support.registered import EXPERIMENT, add, network
from trackdl.doctor import examine as doctor
from trackdl.errors import InputError, TrackdlError
from trackdl.system import databases
from trackdl.tracking import moved, runs, store
from trackdl.tracking.registry import register as registry
from trackdl.tracking.relocate import relocate

Use = Callable[[Path], str]


@pytest.fixture
def use(tracking: str, monkeypatch: pytest.MonkeyPatch) -> Use:  # noqa: ARG001 - it closes the store after the test
    def use(folder: Path) -> str:
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setattr(store, "project_root", lambda: folder)
        store.client.cache_clear()
        mlflow.set_tracking_uri(uri)
        return uri

    return use


@pytest.fixture
def old(tmp_path: Path, empty_store: Path, use: Use) -> Path:
    """Make a store with a registered model, and with an experiment as MLflow itself makes it."""
    folder = tmp_path / "a ö" / "store"
    folder.mkdir(parents=True)
    shutil.copy(empty_store, folder / "mlflow.db")
    use(folder)
    add(0.9, seed=3)
    client = mlflow.MlflowClient()
    plain = client.create_run(client.create_experiment("plain", str(folder / "mlruns" / "2")))
    client.log_text(plain.info.run_id, "told", "note.txt")
    client.set_tag(plain.info.run_id, "seen", f"in {folder}/mlruns")
    client.create_experiment("neighbour", (folder / "mlruns2").as_uri())
    client.create_experiment("bucket", "s3://bucket/mlruns")
    return folder


@pytest.fixture
def new(old: Path) -> Path:
    return Path(shutil.copytree(old, old.with_name("new ü")))


def dump(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as opened:
        return list(opened.iterdump())


def within(root: Path, folder: Path) -> int:
    """Return how many values of any table of a folder's database are paths in `root`."""
    count = 0
    with closing(sqlite3.connect(folder / "mlflow.db")) as opened:
        for (table,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            values = [value for row in opened.execute(f'SELECT * FROM "{table}"') for value in row]
            paths = [path for path in map(moved.local_path, values) if path]
            count += sum(path.is_relative_to(root) for path in paths)
    return count


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_a_copy_is_refused_then_relocated_and_the_old_one_is_untouched(old: Path, new: Path, use: Use) -> None:
    before, uri = digests(old), use(new)
    content = dump(new)
    with pytest.raises(InputError, match=r"trackdl relocate") as refused, runs.start(EXPERIMENT):
        pass
    assert all(str(folder / "mlruns") in str(refused.value) for folder in (old, new))
    found = {item.name: item for item in doctor.examine()}
    assert (found["place"].level, "trackdl relocate" in found["place"].remedy) == ("fault", True)
    assert "aliases" not in found, "it would only say the same"
    dry = relocate(uri, dry_run=True)
    assert dry is not None
    assert dump(new) == content
    assert not list(new.glob("*before-relocation*"))

    done = relocate(uri)
    assert done is not None
    # Two experiments, two runs, a logged model, and where a version lies: each leads to the old folder once.
    assert (done.values, dry.values, done.behind, done.nowhere) == (6, 6, [], [])
    assert done.backup is not None
    with closing(sqlite3.connect(done.backup)) as opened:
        assert list(opened.iterdump()) == content
    assert within(old / "mlruns", old) == 6
    assert within(old / "mlruns", new) == 0
    assert within(old / "mlruns2", new) == 1, "it begins with the same letters, but is another folder"
    assert [line for line in dump(new) if f"'in {old}/mlruns'" in line], "a text that names the folder was changed"
    assert [line for line in dump(new) if "s3://bucket/mlruns" in line]
    assert {item.name: item for item in doctor.examine()}["place"].level == "ok"
    assert relocate(uri) is None

    source = registry.fetch_model("models:/mnist-cnn@champion")
    for ours, theirs in zip(network(3).parameters(), source.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    client = mlflow.MlflowClient()
    plain = client.search_runs([client.get_experiment_by_name("plain").experiment_id])[0]
    assert Path(client.download_artifacts(plain.info.run_id, "note.txt")).read_text() == "told"
    assert plain.info.artifact_uri == str(new / "mlruns" / "2" / plain.info.run_id / "artifacts")
    assert add(0.95).version == "2"
    mine = set(digests(new)) - set(before)
    assert sum(name.endswith("MLmodel") for name in mine) == 1
    assert digests(old) == before


def test_a_renamed_folder_and_a_second_move(old: Path, use: Use) -> None:
    place = old
    for name in ("renamed é", "again"):
        place = place.rename(place.with_name(name))
        uri = use(place)
        with pytest.raises(InputError, match="trackdl relocate"):
            store.client()
        assert not old.exists()
        done = relocate(uri)
        assert done is not None
        assert (done.values, done.nowhere) == (6, [])
        assert registry.fetch_model("models:/mnist-cnn/1").version == "1"
    assert not old.exists()


def test_a_database_without_its_artifacts_is_refused(old: Path, tmp_path: Path, use: Use) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(old / "mlflow.db", alone)
    uri, content = use(alone), dump(alone)
    with pytest.raises(InputError, match="trackdl relocate"):
        store.client()
    with pytest.raises(InputError, match="copy them there first"):
        relocate(uri)
    assert dump(alone) == content
    assert not list(alone.glob("*before-relocation*"))
    shutil.copytree(old / "mlruns" / "models", alone / "mlruns" / "models")
    done = relocate(uri)
    assert done is not None
    assert len(done.behind) == 2, "the artifacts of both runs were not copied"
    assert "copy them" in done.words()


def test_a_rewrite_that_is_interrupted_leaves_the_database_as_it_was(new: Path, use: Use) -> None:
    with closing(sqlite3.connect(new / "mlflow.db")) as opened:
        opened.execute(
            "CREATE TRIGGER stop BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(ABORT, 'power cut'); END"
        )
    content, uri = dump(new), use(new)
    with pytest.raises(TrackdlError, match="power cut"):
        relocate(uri)
    assert dump(new) == content


@pytest.mark.slow
def test_a_database_in_use_is_not_relocated(new: Path, use: Use) -> None:
    content, uri = dump(new), use(new)
    with closing(sqlite3.connect(new / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TrackdlError, match="locked"):
            relocate(uri)
    assert dump(new) == content


def test_unsent_records_go_with_the_store(old: Path, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    record = store.spool_folder() / ("ab" * 16) / "00000001"
    record.mkdir(parents=True)
    place = old.rename(old.with_name("renamed"))
    uri = use(place)
    monkeypatch.setattr("trackdl.tracking.relocate.project_root", lambda: place)
    relocate(uri)
    assert (store.spool_folder() / record.parent.name / record.name).is_dir()


@pytest.mark.parametrize("name", ["x%20y", "what?", "a#b", "pct %41", "ä b"])
def test_every_sign_in_a_folders_name_is_taken_as_it_is(
    name: str,
    tmp_path: Path,
    empty_store: Path,
    tracking: str,  # noqa: ARG001 - it closes the store after the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setattr(store, "project_root", lambda: folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    uri = store.address()
    assert databases.sqlite_file(uri) == folder / "mlflow.db"
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    store.client.cache_clear()
    with runs.start(EXPERIMENT) as run:
        run.text("kept", "note.txt")
    copy = Path(shutil.copytree(folder, tmp_path / f"copy of {name}"))
    assert {file.parent for file in tmp_path.rglob("*.db")} == {folder, copy, tmp_path}, "a database lies elsewhere"
    there = databases.sqlite_url(copy / "mlflow.db")
    assert moved.find(uri) is None
    assert relocate(there)
    assert moved.find(there) is None
    assert within(folder, copy) == 0


@pytest.mark.parametrize(("before", "after"), [("mlflow.db", "store.db"), ("runs.sqlite", "runs.sqlite")])
def test_a_copied_database_is_found_by_its_old_name_or_another(
    before: str, after: str, old: Path, tmp_path: Path
) -> None:
    (tmp_path / "alone").mkdir()
    (old / "mlflow.db").rename(old / before)
    shutil.copy(old / before, tmp_path / "alone" / after)
    found = moved.find(databases.sqlite_url(tmp_path / "alone" / after))
    assert found
    assert found.roots == (old / "mlruns",)


def test_a_place_that_was_chosen_is_left_alone(tmp_path: Path, tracking: str) -> None:
    client = store.client()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tmp_path / "mlflow.db", elsewhere)  # of another store: it has none of these experiments
    for name, location in (("a", elsewhere / "mlruns"), ("b", elsewhere / "mlruns" / "2"), ("c", tmp_path / "archive")):
        run = client.create_run(client.create_experiment(name, str(location)))
        client.log_text(run.info.run_id, name, "note.txt")
    (tmp_path / "link").symlink_to(tmp_path)
    client.create_experiment("same", str(tmp_path / "link" / "mlruns"))
    assert moved.find(tracking) is None
    assert relocate(tracking) is None
    assert moved.find("http://127.0.0.1:5000") is None
    with pytest.raises(InputError, match="only a SQLite store"):
        relocate("http://127.0.0.1:5000")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/a b/mlruns", "/a b/mlruns"),
        ("file:///a%20b/mlruns", "/a b/mlruns"),
        ("file://host/a/mlruns", None),
        ("models:/m-1", None),
        ("mlruns/1", None),
        (None, None),
    ],
)
def test_local_paths(location: str | None, path: str | None) -> None:
    assert moved.local_path(location) == (Path(path) if path else None)


def test_the_commands(new: Path, use: Use) -> None:
    use(new)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return trackdl(*arguments, TRACKDL_STORAGE=f"sqlite:///{new / 'optuna.db'}")

    before = digests(new)
    refused = command("models")
    assert refused.returncode == 2
    assert "trackdl relocate" in refused.stderr
    assert {name for name in digests(new).items() ^ before.items() if not name[0].endswith(".lock")} == set()
    for words in ("6 values of the database were changed", "nothing to do"):
        done = command("relocate")
        assert done.returncode == 0, done.stderr
        assert words in " ".join(done.stdout.split())
    assert "mnist-cnn" in command("models").stdout
