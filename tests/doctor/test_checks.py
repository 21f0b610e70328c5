"""Each check of `trackdl doctor` finds the fault that is planted, and nothing where there is none."""

import hashlib
import json
import os
import pickle
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import torch
from mlflow.entities.model_registry import ModelVersion
from optuna.storages import RDBStorage
from safetensors.torch import save, save_file
from sqlalchemy import NullPool

from support.commands import trackdl
from support.registered import add
from trackdl import spec
from trackdl.data.download import datasets as sources
from trackdl.data.download import report_weights
from trackdl.data.download.fetchers import Folder, Mirror
from trackdl.data.download.packages import NpmPackage
from trackdl.doctor import examine as doctor
from trackdl.doctor import machine as checkup
from trackdl.studies import health as studies
from trackdl.system import processes
from trackdl.tasks import data as task_data
from trackdl.tracking import health, moved, runs, spool, store
from trackdl.tracking.registry import versions
from trackdl.tracking.registry.register import Decision


def only(monkeypatch: pytest.MonkeyPatch, *sources_: object, name: str = "toy") -> None:
    """Make a data set of one file the only one there is."""
    files = (sources.File("a", 1, "0" * 64),)
    monkeypatch.setattr(sources, "DATASETS", {name: sources.Dataset(files, lambda: list(sources_), "do this")})


def test_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("alpha==1.0\n    # via beta\nbeta==2.0 ; sys_platform == 'none'\ngamma==3.0\n")
    have = {"alpha": "1.0+cpu", "gamma": "3.0"}
    with monkeypatch.context() as patched:
        patched.setattr(checkup.importlib.metadata, "version", have.__getitem__)
        assert checkup.versions(lock).level == "ok"
        have["gamma"] = "3.1"
        found = checkup.versions(lock)
    assert found.level == "fault"
    assert "gamma 3.1, not ==3.0" in found.words
    assert "make setup" in found.remedy
    lock.write_text("surely-not-installed==1.0\n")
    assert checkup.versions(lock).level == "warn"
    assert checkup.versions(tmp_path / "none").level == "warn"


def test_data(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKDL_GREEK_DIR", raising=False)

    def mnist() -> checkup.Finding:
        return next(item for item in checkup.data(tiny_mnist) if item.name == "data: mnist")

    assert mnist().level == "ok"
    file = tiny_mnist / "mnist" / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x63")
    assert mnist().level == "fault"
    assert file.name in mnist().words
    shutil.rmtree(tiny_mnist / "mnist")
    assert mnist().level == "warn"
    assert "trackdl data" in mnist().remedy


def test_letters_and_weights_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def levels() -> list[str]:
        return [item.level for item in checkup.data(tmp_path) if item.name in ("data: greek", "data: report-weights")]

    weights = {name: torch.zeros(2) for name in ("a", "b")}
    save_file(weights, tmp_path / "model.safetensors")
    monkeypatch.setattr(report_weights, "DIGEST", hashlib.sha256(save(weights)).hexdigest())
    for name in ("TRACKDL_GREEK_DIR", "TRACKDL_REPORT_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path))
    assert levels() == ["ok", "ok"]
    for name in ("TRACKDL_GREEK_DIR", "TRACKDL_REPORT_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert levels() == ["fault", "fault"]
    monkeypatch.delenv("TRACKDL_REPORT_WEIGHTS")
    assert levels() == ["fault", "warn"]


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = NpmPackage(name="a", version="1", folder="b", sha256="c")
    only(monkeypatch, Mirror("http://127.0.0.1:9/"), Folder(tmp_path / "none"), package)
    monkeypatch.setenv("PATH", str(tmp_path))
    (none,) = checkup.reachable(tmp_path)
    assert (none.level, none.remedy) == ("warn", "do this")
    assert none.words.count(": no") == 2
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\n")
    npm.chmod(0o755)
    (some,) = checkup.reachable(tmp_path)
    assert some.level == "ok"
    assert "its client is installed" in some.words


def test_a_folder_that_replaces_the_data_needs_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, Mirror("http://127.0.0.1:9/"), name="greek")
    monkeypatch.delenv("TRACKDL_GREEK_DIR", raising=False)
    assert [found.level for found in checkup.reachable(tmp_path)] == ["warn"]
    monkeypatch.setenv("TRACKDL_GREEK_DIR", str(tmp_path))
    (found,) = checkup.reachable(tmp_path)
    assert (found.level, found.words.endswith("not needed, TRACKDL_GREEK_DIR names a folder")) == ("ok", True)


def test_a_source_that_answers_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        only(monkeypatch, Mirror(f"http://127.0.0.1:{server.getsockname()[1]}/"))
        (found,) = checkup.reachable(tmp_path)
    assert found.level == "ok"


@pytest.mark.parametrize(("free", "level"), [(100, "ok"), (3, "warn"), (0.5, "fault")])
def test_disk(tmp_path: Path, free: float, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=int(free * checkup.GIB))
    monkeypatch.setattr(checkup.shutil, "disk_usage", {tmp_path: usage}.__getitem__)
    found = checkup.disk([tmp_path / "not" / "there"])
    assert found.level == level
    assert bool(found.remedy) == (level != "ok")


def test_pickles(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.zeros(3))
    (tmp_path / "text.txt").write_text("PK or not")
    assert checkup.pickles(tmp_path).level == "ok"
    planted = {
        "named.pkl": b"",
        "hidden.bin": pickle.dumps({"a": 1}),
        "weights.safetensors": b"",
        "objects.npy": b"",
    }
    for name, content in planted.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in planted:
        assert checkup.is_pickle(tmp_path / name), name
    found = checkup.pickles(tmp_path)
    assert found.level == "fault"
    assert "named.pkl" in found.words
    with zipfile.ZipFile(tmp_path / "torn.bin", "w") as archive:
        archive.writestr("a", "b")
    torn = (tmp_path / "torn.bin").read_bytes()[:20]
    (tmp_path / "torn.bin").write_bytes(torn)
    assert not checkup.is_pickle(tmp_path / "torn.bin")


def test_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkup.hardware().level == "ok"
    monkeypatch.setattr(checkup, "resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(checkup, "resolve_precision", lambda _, __: torch.float32)
    if not torch.cuda.is_available():
        found = checkup.hardware()
        assert found.level == "fault"
        assert "--device cpu" in found.remedy


# Migrations between MLflow's last minor versions: 3.16 to 3.17.
BACK = 2


def database(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///"))


def test_schema(tracking: str, tmp_path: Path) -> None:
    assert health.schema(tracking).level == "ok"
    assert health.schema(f"sqlite:///{tmp_path / 'none.db'}").level == "ok"
    assert not (tmp_path / "none.db").exists()
    with sqlite3.connect(database(tracking)) as connection:
        connection.execute("update alembic_version set version_num = '000000000000'")
    connection.close()
    found = health.schema(tracking)
    assert found.level == "fault"
    assert "mlflow db upgrade" in found.remedy
    (tmp_path / "torn.db").write_bytes(b"no database" * 100)
    assert health.schema(f"sqlite:///{tmp_path / 'torn.db'}").level == "fault"


@pytest.mark.parametrize("url", ["mysql://me:secret@127.0.0.1/none", "postgresql+none://me:secret@127.0.0.1/none"])
def test_a_database_without_a_driver_is_a_fault(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_STORAGE", url)
    for found in doctor._run({"store": lambda: health.schema(url), "studies": studies.schema}):
        assert found.level == "fault"
        assert "secret" not in found.words
        assert "127.0.0.1" in found.words


def test_a_server_that_does_not_answer_is_one_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(checkup, "reachable", lambda _: [])
    store.client.cache_clear()
    found = {item.name: item for item in doctor.examine()}
    assert found["store"].level == "fault"
    assert "the tracking store http://127.0.0.1:9" in found["store"].words
    assert "aliases" not in found


def test_schema_of_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "studies.db"
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{file}")
    assert studies.schema().level == "ok"
    assert not file.exists()
    sqlite3.connect(file).close()
    file.touch()
    assert "is empty" in studies.schema().words
    made = RDBStorage(f"sqlite:///{file}", {"poolclass": NullPool})
    made.remove_session()
    assert studies.schema().level == "ok"
    with sqlite3.connect(file) as connection:
        connection.execute("update alembic_version set version_num = 'v2.6.0.a'")
    connection.close()
    before = file.read_bytes()
    found = studies.schema()
    assert found.level == "fault"
    assert "optuna storage upgrade" in found.remedy
    assert file.read_bytes() == before
    file.write_bytes(b"no database" * 100)
    assert studies.schema().level == "fault"


def started(**tags: str) -> str:
    client = mlflow.MlflowClient()
    return client.create_run("0", tags={"trackdl.task": "mnist", **tags}).info.run_id


def test_stuck_runs(tracking: str) -> None:  # noqa: ARG001
    client = health.client()
    mine = {"trackdl.host": socket.gethostname()}
    started(**mine, **{"trackdl.process": processes.tag()})
    assert health.stuck().level == "ok"
    day = int((time.time() - 2 * health.DAY) * 1000)
    client.create_run("0", start_time=day, tags={"trackdl.host": "elsewhere"})
    assert health.stuck().level == "warn"
    gone = started(**mine, **{"trackdl.process": "1:0"})
    found = health.stuck()
    assert found.level == "fault"
    assert gone[:8] in found.words


def _created() -> float:
    import psutil

    return psutil.Process().create_time()


def test_aliases_and_orphans(tracking: str, tmp_path: Path) -> None:
    client = health.client()
    folder = moved.artifact_folder(tracking)
    assert folder == (tmp_path / "mlruns").resolve()
    experiment = client.create_experiment("toy", artifact_location=folder.as_uri() + "/7")
    run = client.create_run(experiment).info
    model = client.create_logged_model(experiment, name="model", source_run_id=run.run_id)
    files = Path(model.artifact_location.removeprefix("file://"))
    files.mkdir(parents=True)
    (files / "MLmodel").write_text("flavors: {}")
    (folder / "7" / run.run_id).mkdir()
    client.create_registered_model("toy")
    version = client.create_model_version("toy", f"models:/{model.model_id}", run.run_id, model_id=model.model_id)
    client.set_registered_model_alias("toy", "champion", version.version)
    assert health.aliases().level == "ok"
    assert health.orphans(folder).level == "ok"

    lost = folder / "7" / ("ab" * 16)
    lost.mkdir()
    (folder / "7" / "models" / "m-lost").mkdir()
    found = health.orphans(folder)
    assert found.level == "warn"
    assert lost.name in found.words
    assert "m-lost" in found.words

    shutil.move(files, tmp_path / "elsewhere")
    assert "its files are gone: they are not in" in health.aliases().words
    shutil.move(tmp_path / "elsewhere", files)
    client.delete_run(run.run_id)
    found = health.aliases()
    assert found.level == "fault"
    assert "is deleted" in found.words


def test_stale_champions(tracking: str) -> None:  # noqa: ARG001
    client = health.client()
    for name in ("source", "pupil"):
        client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version("source", "file:///none")
    learnt_from = {"trackdl.source_model": "source", "trackdl.source_version": "1"}
    client.create_model_version("pupil", "file:///none", tags=learnt_from)
    client.set_registered_model_alias("source", "champion", "1")
    client.set_registered_model_alias("pupil", "champion", "1")
    assert health.stale().level == "ok"
    client.set_registered_model_alias("source", "champion", "2")
    found = health.stale()
    assert found.level == "warn"
    assert "pupil version 1: its source source version 1 is no longer champion" in found.words
    assert "trackdl promote" in found.remedy


def test_models_of_deleted_experiments_are_no_orphans(tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PAGE", 1)
    client = health.client()
    folder = moved.artifact_folder(tracking)
    assert folder
    experiment = client.create_experiment("toy", artifact_location=folder.as_uri() + "/7")
    for _ in range(2):
        model = client.create_logged_model(experiment)
        (folder / "7" / "models" / model.model_id / "artifacts").mkdir(parents=True)
    assert health.orphans(folder).level == "ok"
    client.delete_experiment(experiment)
    assert health.orphans(folder).level == "ok"
    (folder / "7" / "models" / "m-lost").mkdir()
    found = health.orphans(folder)
    assert found.level == "warn"
    assert found.remedy.startswith("run `mlflow gc ")


@pytest.mark.parametrize("error", [OSError("no"), ModuleNotFoundError("no"), KeyError("no")])
def test_a_check_that_fails_is_a_fault_and_the_others_go_on(
    tracking: str,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def broken() -> checkup.Finding:
        raise error

    monkeypatch.setattr(health, "stuck", broken)
    monkeypatch.setattr(checkup, "reachable", lambda _: [])
    found = {item.name: item for item in doctor.examine()}
    assert found["stuck runs"].level == "fault"
    assert "aliases" in found
    assert all(item.remedy for item in found.values() if item.level != "ok")


def test_the_command_ends_with_1_and_says_so_in_json(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "model.pkl").write_bytes(b"")
    done = trackdl("doctor", "--json", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert done.returncode == 1, done.stderr
    found = {item["name"]: item for item in json.loads(done.stdout)}
    assert found["pickles"]["level"] == "fault"
    assert "pickles" in done.stderr
    assert not (tmp_path / "mlflow.db").exists(), "looking made a store"


@pytest.mark.usefixtures("tracking")
def test_what_waits_for_the_tracking_store() -> None:
    assert health.unsent().level == "ok"
    for number in range(3):
        spool.keep("a" * 32, spool.Record("tags", {"tags": {"number": str(number)}, "params": {}}))
    found = health.unsent()
    assert found.level == "warn"
    assert "3 records of 1 runs" in found.words
    assert str(store.spool_folder().parent) in found.words
    assert "`trackdl data`" in found.remedy


@pytest.mark.usefixtures("tracking")
def test_a_run_says_which_process_it_is_of() -> None:
    with runs.start("mnist") as run:
        told = run.info.data.tags["trackdl.process"]
    assert told == processes.tag()
    assert processes.alive(told)
    assert not processes.alive("nonsense")


# What follows carries out the remedies that the checks name, and finds the fault gone.


def done_as_told(remedy: str, tool: str) -> None:
    """Run the command between backquotes that begins with a tool's name."""
    (words,) = re.findall(f"`({tool} [^`]*)`", remedy)
    command = [str(Path(sys.executable).with_name(tool)), *words.split()[1:]]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_remedy_of_data_that_changed(
    tiny_mnist: Path,
    tracking: str,  # noqa: ARG001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def mnist() -> checkup.Finding:
        return next(item for item in checkup.data(tiny_mnist) if item.name == "data: mnist")

    file = tiny_mnist / "mnist" / "t10k-labels-idx1-ubyte"
    whole = shutil.copytree(tiny_mnist / "mnist", tmp_path / "mirror")
    changed = replace(sources.DATASETS["mnist"], sources=lambda: [Folder(whole)])
    monkeypatch.setitem(sources.DATASETS, "mnist", changed)
    file.write_bytes(b"other")
    assert mnist().remedy == "move what is wrong away, and `trackdl data` fetches it"
    file.rename(tmp_path / "away")
    task_data.run(spec.DataSpec(task="data", datasets=["mnist"]))
    assert mnist().level == "ok"


def test_remedy_of_studies_of_an_older_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    monkeypatch.setenv("TRACKDL_STORAGE", url)
    RDBStorage(url, {"poolclass": NullPool}).remove_session()
    with closing(sqlite3.connect(tmp_path / "studies.db")) as opened, opened:
        opened.execute("update alembic_version set version_num = 'v3.0.0.d'")
    found = studies.schema()
    assert found.level == "fault"
    done_as_told(found.remedy, "optuna")
    assert studies.schema().level == "ok"


def test_remedy_of_records_that_wait_and_of_stuck_runs(tracking: str) -> None:  # noqa: ARG001
    client = health.client()
    run = started(**{"trackdl.host": socket.gethostname(), "trackdl.process": "1:0"})
    spool.keep(run, spool.Record("tags", {"tags": {"kept": "yes"}, "params": {}}))
    assert (health.unsent().level, health.stuck().level) == ("warn", "fault")
    runs.close_abandoned("data")  # as every command begins
    assert health.unsent().level == "ok"
    assert client.get_run(run).data.tags["kept"] == "yes"
    assert health.stuck().level == "fault"
    runs.close_abandoned("mnist")  # as the next command of its task begins
    assert health.stuck().level == "ok"


def delete_run(version: ModelVersion, _: Path) -> None:
    health.client().delete_run(version.run_id)


def collect(version: ModelVersion, _: Path) -> None:
    health.client().delete_run(version.run_id)
    health.client().delete_logged_model(version.source.removeprefix("models:/"))
    done_as_told(f"`{store.gc_command()}`", "mlflow")


def lose_all(_: ModelVersion, files: Path) -> None:
    shutil.rmtree(files)


def lose_one(_: ModelVersion, files: Path) -> None:
    (files / "data" / "model" / "weights.safetensors").unlink()


def change_one(_: ModelVersion, files: Path) -> None:
    (files / "data" / "model" / "weights.safetensors").write_bytes(b"other")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_", "words"),
    [
        (delete_run, "is deleted"),
        (collect, "is gone"),
        (lose_all, "its files are gone: they are not in /"),
        (lose_one, "missing data/model/weights.safetensors"),
        (change_one, "changed data/model/weights.safetensors"),
    ],
)
def test_remedy_of_a_champion_that_is_of_no_use(
    break_: Callable[[ModelVersion, Path], None],
    words: str,
    tracking: str,  # noqa: ARG001
) -> None:
    client = health.client()
    first = client.get_model_version("mnist-cnn", add(0.9).version)
    client.set_registered_model_alias("mnist-cnn", "challenger", first.version)
    logged = client.get_logged_model(first.source.removeprefix("models:/"))
    assert health.aliases().level == "ok"
    break_(first, Path(logged.artifact_location.removeprefix("file://")))
    found = health.aliases()
    assert found.level == "fault"
    assert found.words.count(words) == 2
    second = add(0.9)  # the same score, as its task gives again
    assert second.alias == "champion", second.reason
    assert words in second.reason
    assert "mnist-cnn@challenger (version 1)" in health.aliases().words
    client.delete_registered_model_alias("mnist-cnn", "challenger")
    assert health.aliases().level == "ok"


def test_remedy_of_a_stale_champion(tracking: str) -> None:  # noqa: ARG001
    client = health.client()
    client.create_registered_model("source")
    for _ in range(2):
        client.create_model_version("source", "file:///none")

    def learnt(version: str) -> Decision:
        decision = add(0.9)
        for key, value in (("model", "source"), ("version", version)):
            client.set_model_version_tag("mnist-cnn", decision.version, f"trackdl.source_{key}", value)
        return decision

    client.set_registered_model_alias("source", "champion", "1")
    learnt("1")
    client.set_registered_model_alias("source", "champion", "2")
    assert "mnist-cnn version 1" in health.stale().words
    assert learnt("2").alias != "champion"
    versions.promote("mnist-cnn", "2", "it learnt from the present champion")
    assert health.stale().level == "ok"


@pytest.mark.slow
def test_remedy_of_orphans_and_pickles(tracking: str) -> None:
    client, folder = health.client(), moved.artifact_folder(tracking)
    assert folder
    version = client.get_model_version("mnist-cnn", add(0.9).version)
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    own = Path(client.get_run(version.run_id).info.artifact_uri.removeprefix("file://"))
    for place in (own, Path(logged.artifact_location.removeprefix("file://"))):
        place.mkdir(parents=True, exist_ok=True)
        (place / "planted.pkl").write_bytes(b"")
    lost = own.with_name("ab" * 16)
    lost.mkdir()
    pickled, orphaned = checkup.pickles(folder), health.orphans(folder)
    assert pickled.words.count("planted.pkl") == 2
    assert orphaned.words == f"no run owns {lost.relative_to(folder)}"
    client.delete_run(version.run_id)
    client.delete_logged_model(logged.model_id)
    done_as_told(pickled.remedy, "mlflow")
    assert checkup.pickles(folder).level == "ok"
    assert health.orphans(folder).words == orphaned.words
    lost.rmdir()
    assert health.orphans(folder).level == "ok"


def test_a_folder_that_cannot_be_read_is_not_said_to_hold_no_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):  # which `trackdl doctor` prints as a check that failed
        checkup.pickles(tmp_path)
