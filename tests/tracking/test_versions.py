"""The life of registered versions: promotion and its history, stale sources, and files that were tampered with."""

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from support.served import add_pictures, b64, content, letter
from trackdl import serving
from trackdl.apps import demo, predict, serve
from trackdl.cli import app as cli
from trackdl.errors import InputError, TrackdlError
from trackdl.tracking.registry import files as artifacts
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry import versions

pytestmark = pytest.mark.usefixtures("tracking")


def model(name: str) -> versions.Model:
    return next(found for found in versions.every_model() if found.name == name)


def tags(name: str, version: str) -> dict[str, str]:
    return dict(artifacts.find(f"models:/{name}/{version}").tags)


@pytest.mark.slow
def test_every_move_of_an_alias_is_kept() -> None:
    add_pictures(value=0.8)
    add_pictures(value=0.9)
    add_pictures(value=0.7)
    made = versions.promote("greek-cnn", "1", "writers complained about version 2")
    assert (made.version, made.replaced) == ("1", "2")
    found = model("greek-cnn")
    assert [(item.version, item.aliases) for item in found.versions] == [
        ("3", ["challenger"]),
        ("2", []),
        ("1", ["champion"]),
    ]
    history = [(moved.alias, moved.version, moved.replaced) for moved in found.history]
    assert history == [
        ("champion", "1", "2"),
        ("challenger", "3", None),
        ("champion", "2", "1"),
        ("champion", "1", None),
    ]
    assert found.history[0].why == "writers complained about version 2"
    assert [moved.when for moved in found.history] == sorted((moved.when for moved in found.history), reverse=True)
    promoted = tags("greek-cnn", "1")
    assert promoted["trackdl.promoted_why"] == "writers complained about version 2"
    assert promoted["trackdl.promoted_replaced"] == "2"
    assert promoted["trackdl.promoted_when"] == found.history[0].when
    assert found.versions[0].metrics == {"val_accuracy": 0.7}
    assert found.versions[0].score == 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "why", "words"),
    [("1", "again", "champion already"), ("9", "better", "9"), ("2", "  ", "--why is empty")],
)
def test_a_promotion_that_makes_no_sense_changes_nothing(version: str, why: str, words: str) -> None:
    add_pictures(value=0.9)
    add_pictures(value=0.8)
    before = model("greek-cnn")
    with pytest.raises(InputError, match=words):
        versions.promote("greek-cnn", version, why)
    assert model("greek-cnn") == before


def test_a_promotion_that_changes_what_users_get_must_be_forced() -> None:
    add_pictures(value=0.9)
    add_pictures(value=0.8, classes=("alpha", "gamma", "beta"))
    words = r"greek-cnn version 2 tells apart alpha, gamma, beta, and its champion, version 1, alpha, beta, gamma: .*"
    with pytest.raises(InputError, match=words + "--force makes it champion all the same"):
        versions.promote("greek-cnn", "2", "why not")
    assert model("greek-cnn").versions[1].aliases == ["champion"]
    done = CliRunner().invoke(cli.app, ["promote", "greek-cnn", "2", "--why", "a new order", "--force"])
    assert done.exit_code == 0, done.output
    assert model("greek-cnn").versions[0].aliases == ["challenger", "champion"]


def test_a_version_is_shown_as_registered_and_says_what_it_is() -> None:
    add_pictures(value=0.9)
    client = mlflow.MlflowClient()
    found = client.get_model_version("greek-cnn", "1")
    shown = client.get_logged_model(found.source.removeprefix("models:/")).tags
    assert json.loads(shown["mlflow.modelVersions"]) == [{"name": "greek-cnn", "version": "1"}]
    assert shown["mlflow.note.content"] == found.description
    assert "became champion when it was registered" in found.description
    assert not any(value.startswith(("{", "[")) for value in found.tags.values())


def test_the_code_of_a_read_only_installation_is_kept_with_its_model(tmp_path: Path, tracking: str) -> None:
    for item in (place := tmp_path / "installed" / "trackdl", place / "serving"):
        item.mkdir(parents=True)
        (item / "__init__.py").write_text("")
    for path in (*place.rglob("*.py"), place / "serving", place):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serving, "__file__", str(place / "serving" / "__init__.py"))
        add_pictures(value=0.9)
    place.chmod(0o755)
    (place / "serving").chmod(0o755)
    kept = [path for path in folder_of(tracking).rglob("*") if "code" in path.parts]
    assert kept
    assert all(path.stat().st_mode & 0o200 for path in kept)


def test_a_move_is_a_tag_that_people_can_read() -> None:
    add_pictures(value=0.9)
    (now,) = model("greek-cnn").history
    key = f"trackdl.history.champion.{now.when.removesuffix('+00:00')}"
    tags_of_model = mlflow.MlflowClient().get_registered_model("greek-cnn").tags
    assert tags_of_model[key] == "version 1 after none: there was none before"


def test_a_changed_file_is_found_even_if_the_list_of_files_is_gone(tracking: str) -> None:
    add_pictures(value=0.9)
    found = artifacts.find("models:/greek-cnn@champion")
    run = mlflow.MlflowClient().get_run(found.run_id)
    (listed,) = (Path(urlparse(run.info.artifact_uri).path) / "model_files").iterdir()
    words = change_card(folder_of(tracking))
    with pytest.raises(TrackdlError, match=words):
        artifacts.verified(found).__enter__()
    listed.write_text("{}")
    with pytest.raises(TrackdlError, match="the list of those is gone, too"):
        artifacts.verified(found).__enter__()


def change_card(folder: Path) -> str:
    path = folder / "data/model/model.json"
    path.write_text(path.read_text() + " ")
    return "changed data/model/model.json"


def test_tags_that_are_no_json_or_no_number_are_told_and_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    add_pictures(value=0.9)
    client = mlflow.MlflowClient()
    client.set_registered_model_tag("greek-cnn", "trackdl.history.champion.1", "{no JSON")
    client.set_registered_model_tag("greek-cnn", "trackdl.history.champion.2", '{"alias": "champion"}')
    client.set_model_version_tag("greek-cnn", "1", "trackdl.score", "much")
    found = model("greek-cnn")
    assert (len(found.history), found.versions[0].score) == (1, None)
    assert "trackdl.history.champion.1 is no record of a move" in caplog.text
    assert add_pictures(value=0.5).reason == "version 1 has no score"


@pytest.mark.slow
def test_a_model_whose_source_lost_its_place_is_stale_until_that_comes_back() -> None:
    add_pictures("mnist-cnn", 0.9)
    source = {"trackdl.source_model": "mnist-cnn", "trackdl.source_version": "1"}
    add_pictures("greek-cnn", 0.9, lineage=source)
    assert not model("greek-cnn").versions[0].stale
    assert "trackdl.stale" not in tags("greek-cnn", "1")
    add_pictures("mnist-cnn", 0.95)
    words = "its source mnist-cnn version 1 is no longer champion; version 2 is"
    assert model("greek-cnn").versions[0].stale == words
    assert tags("greek-cnn", "1")["trackdl.stale"] == words
    add_pictures("greek-cnn", 0.8, lineage=source)
    assert tags("greek-cnn", "2")["trackdl.stale"] == words
    versions.promote("mnist-cnn", "1", "a rollback")
    assert not any(item.stale for item in model("greek-cnn").versions)
    assert not {"trackdl.stale"} & (tags("greek-cnn", "1").keys() | tags("greek-cnn", "2").keys())


@pytest.mark.slow
def test_a_source_with_an_alias_of_its_own_is_in_use() -> None:
    add_pictures("mnist-cnn", 0.9)
    add_pictures("mnist-cnn", 0.8)
    versions.move("mnist-cnn", "report", "2", "its own")
    for version in ("1", "2"):
        source = {"trackdl.source_model": "mnist-cnn", "trackdl.source_version": version}
        add_pictures("greek-cnn", 0.9, lineage=source)
    assert not any(item.stale for item in model("greek-cnn").versions)
    assert not any("trackdl.stale" in tags("greek-cnn", version) for version in ("1", "2"))
    add_pictures("mnist-cnn", 0.95)
    assert [bool(item.stale) for item in model("greek-cnn").versions] == [False, True]
    assert [item.aliases for item in model("mnist-cnn").versions] == [["champion"], ["challenger", "report"], []]


@pytest.mark.slow
def test_the_commands_print_and_move() -> None:
    add_pictures("mnist-cnn", 0.9)
    add_pictures("greek-cnn", 0.9, lineage={"trackdl.source_model": "mnist-cnn", "trackdl.source_version": "1"})
    add_pictures("mnist-cnn", 0.8)
    run = CliRunner().invoke
    done = run(cli.app, ["promote", "mnist-cnn", "2", "--why", "less ink needed"])
    assert done.exit_code == 0, done.output
    assert "version 2 is now champion, in place of version 1: less ink needed" in done.output
    assert "greek-cnn version 1 (champion) is stale" in done.output
    listed = run(cli.app, ["models"]).output
    for words in ("mnist-cnn", "champion", "stale", "val_accuracy 0.9"):
        assert words in listed
    assert "less ink needed" not in listed
    assert "less ink needed" in run(cli.app, ["models", "--all"]).output
    (only,) = json.loads(run(cli.app, ["models", "greek-cnn", "--json"]).output)
    assert only["versions"][0]["source"] == "mnist-cnn version 1"
    assert isinstance(run(cli.app, ["models", "nobody"]).exception, InputError)
    assert isinstance(
        run(cli.app, ["predict", "greek-cnn", "x", "--alias", "a", "--version", "1"]).exception, InputError
    )


@pytest.mark.slow
def test_versions_without_an_alias_are_counted_and_all_are_listed_when_asked() -> None:
    for accuracy in (0.7, 0.8, 0.9):
        add_pictures("mnist-cnn", accuracy)
    listed, every = (CliRunner().invoke(cli.app, ["models", *more]).output for more in ([], ["--all"]))
    assert "0.9000" in listed
    assert not {"0.7000", "0.8000"} & set(listed.split())
    assert "2 versions without an alias not shown: trackdl models mnist-cnn --all" in listed
    assert {"0.7000", "0.8000", "0.9000"} <= set(every.split())


def test_an_empty_registry_is_said() -> None:
    assert "No model is registered yet" in CliRunner().invoke(cli.app, ["models"]).output


def folder_of(tracking: str) -> Path:
    return Path(urlparse(mlflow.MlflowClient(tracking).get_model_version_download_uri("greek-cnn", "1")).path)


class Bait:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.marker}",)


def put_pickle(folder: Path, marker: Path) -> str:
    (folder / "data/model/python_model.pkl").write_bytes(pickle.dumps(Bait(marker)))
    return "added data/model/python_model.pkl"


def change_weights(folder: Path, _: Path) -> str:
    path = folder / "data/model/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    return "changed data/model/weights.safetensors"


def change_both(folder: Path, _: Path) -> str:
    """Put other weights in place, with a card that names their digest: a folder whole in itself."""
    model, card = serving.read_model(folder / "data/model")
    with_ones = {name: tensor.clone().fill_(1) for name, tensor in model.state_dict().items()}
    model.load_state_dict(with_ones)
    serving.write_model(folder / "data/model", model, card)
    return "changed data/model/model.json, data/model/weights.safetensors"


def other_loader(folder: Path, marker: Path) -> str:
    described = yaml.safe_load((folder / "MLmodel").read_text())
    described["flavors"]["python_function"]["loader_module"] = "elsewhere"
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    (folder / "code/elsewhere.py").write_text(f"open({str(marker)!r}, 'w')\n")
    return "changed MLmodel; added code/elsewhere.py"


def change_code(folder: Path, marker: Path) -> str:
    path = folder / "code/trackdl/serving/__init__.py"
    path.write_text(f"open({str(marker)!r}, 'w')\n{path.read_text()}")
    return "changed code/trackdl/serving/__init__.py"


def remove_card(folder: Path, _: Path) -> str:
    (folder / "data/model/model.json").unlink()
    return "missing data/model/model.json"


def no_digests(*_: Path) -> str:
    mlflow.MlflowClient().delete_model_version_tag("greek-cnn", "1", artifacts.DIGESTS)
    return "registered without its files' digests"


def link_a_file(folder: Path, marker: Path) -> str:
    marker.parent.mkdir(exist_ok=True)
    (folder / "data/model/weights.safetensors").rename(folder.parent / "weights.safetensors")
    (folder / "data/model/weights.safetensors").symlink_to(folder.parent / "weights.safetensors")
    return "links, or what is no file"


def link_a_folder(folder: Path, _: Path) -> str:
    (folder / "data/more").symlink_to("/")
    return "links, or what is no file"


def link_nowhere(folder: Path, _: Path) -> str:
    (folder / "data/more").symlink_to("nowhere")
    return "links, or what is no file"


def put_a_pipe(folder: Path, _: Path) -> str:
    os.mkfifo(folder / "data/pipe")
    return "links, or what is no file"


def tag_of_another_list(folder: Path, _: Path) -> str:  # noqa: ARG001 - the store knows where it is
    mlflow.MlflowClient().set_model_version_tag("greek-cnn", "1", artifacts.DIGESTS, "{no JSON")
    return "was changed, or an earlier version of trackdl made it: train it again"


TAMPERING = [
    *(put_pickle, change_weights, change_both, other_loader, change_code, remove_card, no_digests),
    *(link_a_file, link_a_folder, link_nowhere, put_a_pipe, tag_of_another_list),
]


@pytest.mark.slow
@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_a_tampered_version_is_refused_before_anything_of_it_runs(
    tracking: str, tmp_path: Path, tamper: Callable[[Path, Path], str]
) -> None:
    add_pictures()
    (tmp_path / "letter.png").write_bytes(content(letter()))
    uri = "models:/greek-cnn@champion"
    assert predict.predict(uri, [str(tmp_path / "letter.png")])[0]["model"] == "greek-cnn"
    marker = tmp_path / "ran"
    words = tamper(folder_of(tracking), marker)
    for use in (
        lambda: predict.predict(uri, [str(tmp_path / "letter.png")]),
        lambda: serve.serve(uri, "127.0.0.1", 0),
        lambda: registry.fetch_model(uri),
    ):
        with pytest.raises(TrackdlError) as caught:
            use()
        assert words in str(caught.value)
        assert "othing of it was loaded" in str(caught.value)
    (shown,) = demo.load()
    assert shown.served is None
    assert words in shown.problem
    add_pictures(value=0.95)
    with pytest.raises(TrackdlError, match="loaded"):
        versions.promote("greek-cnn", "1", "a rollback")
    assert not marker.exists()


def test_a_champion_that_is_not_loaded_any_more_gives_way() -> None:
    add_pictures(value=0.9)
    no_digests()
    decision = add_pictures(value=0.5)
    assert decision.alias == "champion"
    assert "without its files' digests" in decision.reason


def test_what_mlflow_and_python_leave_behind_is_no_tampering(tracking: str) -> None:
    add_pictures()
    folder = folder_of(tracking)
    loaded = mlflow.pyfunc.load_model("models:/greek-cnn@champion")
    assert (folder / "registered_model_meta").is_file()
    (answer,) = loaded.predict(np.array([b64(content(letter()))])).to_dict("records")
    assert (answer["model"], answer["version"]) == ("greek-cnn", "1")
    (folder / "code/trackdl/__pycache__").mkdir(exist_ok=True)
    (folder / "code/trackdl/__pycache__/cli.cpython-311.pyc").write_bytes(b"x")
    (folder / "data/.artifact.uploading.1").write_bytes(b"hal")
    with artifacts.verified(artifacts.find("models:/greek-cnn@champion")) as copy:
        assert not (copy / "data/.artifact.uploading.1").exists()


@pytest.mark.parametrize("folder", ["artifacts", "data"])
def test_a_champion_whose_files_cannot_be_read_keeps_its_place(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store failed; nothing says that the files are gone."""
    add_pictures(value=0.9)
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    words = r"Permission denied.*Is it there, readable and writable\?"
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse)
        with pytest.raises(TrackdlError, match=words) as caught:
            artifacts.broken(artifacts.find("models:/greek-cnn@champion"))
    assert not isinstance(caught.value, artifacts.Unusable)
    assert artifacts.broken(artifacts.find("models:/greek-cnn@champion")) == ""
