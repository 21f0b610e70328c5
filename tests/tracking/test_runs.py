import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from support import ROOT
from trackdl import spec
from trackdl.cli import app
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import evidence
from trackdl.system import outages, processes
from trackdl.tracking import pages, runs, store, trials
from trackdl.tracking.runs import Run

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)

pytestmark = pytest.mark.usefixtures("tracking")


def status(run: Run) -> str:
    return str(run.info.info.status)


def test_a_run_ends_as_it_went() -> None:
    with runs.start(EXPERIMENT) as fine:
        assert status(fine) == "RUNNING"
    with pytest.raises(ZeroDivisionError), runs.start(EXPERIMENT) as failed:
        _ = 1 / 0
    with pytest.raises(KeyboardInterrupt), runs.start(EXPERIMENT) as killed:
        raise KeyboardInterrupt
    assert [status(run) for run in (fine, failed, killed)] == ["FINISHED", "FAILED", "KILLED"]


def test_a_run_says_what_was_run(tmp_path: Path) -> None:
    with runs.start(EXPERIMENT) as run:
        pass
    data = run.info.data
    assert data.params["training.optimizer.lr"] == "0.01"
    assert data.tags["trackdl.task"] == "mnist"
    assert data.tags["trackdl.spec_digest"] == spec.digest(EXPERIMENT)
    logged = run.fetch("experiment.yaml", tmp_path)
    assert spec.load(logged, spec.ClassifySpec) == EXPERIMENT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one module, which stands for trackdl's."""
    root = tmp_path / "checkout"
    (root / "src" / "trackdl").mkdir(parents=True)
    (root / "src" / "trackdl" / "a.py").write_text("A = 1\n")
    (root / ".gitignore").write_text("ignored.py\n")
    for command in ("init", "add .", "-c user.name=me -c user.email=me@here commit -m first"):
        subprocess.run(["git", "-C", str(root), *command.split()], check=True, capture_output=True)
    for file in root.rglob("*.py"):
        os.utime(file, (1e9, 1e9))
    monkeypatch.setattr(runs, "project_root", lambda: root)
    monkeypatch.setattr(runs, "PACKAGE", root / "src" / "trackdl")
    return root


def code_of_a_run() -> tuple[str | None, dict[str, str], str]:
    """Return whether a new run says that its code is uncommitted, its tags, and what it keeps of it."""
    with runs.start(EXPERIMENT) as run:
        pass
    tags = run.info.data.tags
    kept = "uncommitted.diff" in run.artifacts("")
    with TemporaryDirectory() as folder:
        return (
            tags.get("trackdl.uncommitted"),
            tags,
            run.fetch("uncommitted.diff", Path(folder)).read_text() if kept else "",
        )


@pytest.mark.parametrize("name", ["new.py", "room/new.py", "ignored.py"])
def test_a_module_that_is_not_in_git_is_uncommitted(name: str, checkout: Path) -> None:
    assert code_of_a_run()[0::2] == ("false", "")
    (checkout / "notes.py").write_text("no module of ours\n")
    file = checkout / "src" / "trackdl" / name
    file.parent.mkdir(exist_ok=True)
    assert code_of_a_run()[0::2] == ("false", "")
    file.write_text("B = 2\n")
    os.utime(file, (1e9, 1e9))
    assert code_of_a_run()[0::2] == ("true", f"--- /dev/null\n+++ b/src/trackdl/{name}\n+B = 2\n")


def test_git_is_asked_once_for_a_run_and_those_below_it_and_anew_for_the_next(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    git = runs._git
    monkeypatch.setattr(runs, "_git", lambda *words: asked.append(words) or git(*words))

    def commits() -> set[str]:
        with runs.start(EXPERIMENT) as parent, runs.start(EXPERIMENT) as child:
            return {run.info.data.tags["mlflow.source.git.commit"] for run in (parent, child)}

    (first,) = commits()
    once = len(asked)
    assert once == len(set(asked)) > 0
    me = ["-c", "user.name=me", "-c", "user.email=me@here"]
    commit = ["git", "-C", str(checkout), *me, "commit", "-m", "second", "--allow-empty"]
    subprocess.run(commit, check=True, capture_output=True)
    assert first not in commits()
    assert len(asked) == 2 * once


def test_code_that_was_written_after_the_command_began_has_no_digest(
    checkout: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert code_of_a_run()[1]["trackdl.code_digest"]
    (checkout / "src" / "trackdl" / "a.py").touch()
    with caplog.at_level("WARNING", "trackdl"):
        uncommitted, tags, _ = code_of_a_run()
    assert uncommitted == "true"
    assert not tags["trackdl.code_digest"]
    assert "a.py changed after this command began" in caplog.text


def test_a_repository_around_an_installed_trackdl_is_not_taken_for_its_own(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PACKAGE", checkout / ".venv" / "trackdl")
    _, tags, _ = code_of_a_run()
    assert not tags["mlflow.source.git.commit"]
    assert "trackdl.uncommitted" not in tags


def test_the_run_that_mlflow_run_made_is_taken_once(monkeypatch: pytest.MonkeyPatch, tracking: str) -> None:
    client = mlflow.MlflowClient(tracking)
    made = client.create_run(client.create_experiment("elsewhere")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    with runs.start(EXPERIMENT) as outer:
        assert outer.id == made
        assert "MLFLOW_RUN_ID" not in os.environ
        with runs.start(EXPERIMENT) as inner:
            assert inner.id != made
    assert inner.info.data.tags["mlflow.parentRunId"] == made
    assert inner.info.info.experiment_id != "", "nested runs have an experiment"
    # Runs are found in every experiment.
    assert {run.id for run in runs.find("mnist")} == {outer.id, inner.id}


@pytest.mark.parametrize(
    ("tags", "status", "words"),
    [
        ({}, "FINISHED", r"has ended \(FINISHED\)"),
        ({}, "FAILED", r"has ended \(FAILED\)"),
        ({"trackdl.task": "fashion"}, "RUNNING", r"task fashion \(RUNNING\)"),
        ({"trackdl.task": "mnist"}, "KILLED", r"task mnist \(KILLED\)"),
        ({}, "DELETED", "is deleted"),
        ({}, "ABSENT", "not found"),
    ],
)
def test_a_run_that_is_not_new_is_not_taken_for_the_callers(
    tags: dict[str, str], status: str, words: str, monkeypatch: pytest.MonkeyPatch, tracking: str
) -> None:
    client = mlflow.MlflowClient(tracking)
    named = client.create_run("0", tags=tags, run_name="mine").info.run_id
    if status == "DELETED":
        client.delete_run(named)
    elif status not in ("RUNNING", "ABSENT"):
        client.set_terminated(named, status)
    before = client.get_run(named).to_dictionary()
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32 if status == "ABSENT" else named)
    with pytest.raises(InputError, match=f"(?s)MLFLOW_RUN_ID.*{words}"), runs.start(EXPERIMENT):
        pass
    assert client.get_run(named).to_dictionary() == before
    with runs.start(EXPERIMENT) as run:
        assert run.id != named


def test_long_curves_come_back_whole() -> None:
    points = [(step, step / 7) for step in range(2500)]
    with runs.start(EXPERIMENT) as run:
        run.curve("batch_loss", points)
    assert run.history("batch_loss") == points


def test_a_step_logged_twice_counts_once() -> None:
    with runs.start(EXPERIMENT) as run:
        run.metrics({"test_loss": 1.0}, step=1)
        run.metrics({"test_loss": 1.0}, step=1)
    assert run.history("test_loss") == [(1, 1.0)]


def test_a_run_is_named_after_what_differs_from_the_reports_file_and_its_seed() -> None:
    assert runs.title(EXPERIMENT) == "mnist, seed 1"
    changed = spec.changed(EXPERIMENT, {"training.epochs": 2, "training.optimizer.lr": 0.02, "training.seed": 3})
    assert runs.title(changed) == "mnist, 2 epochs, lr=0.02, seed 3"
    assert runs.title(spec.changed(EXPERIMENT, {"seeds": 5})) == "mnist, 5 seeds"
    assert runs.title(spec.report()) == "main"


def test_an_experiment_that_mlflow_run_made_gets_the_list_of_runs_and_keeps_what_a_person_wrote() -> None:
    made = store.client().create_experiment("trackdl", tags={"mlflow.note.content": "mine"})
    with runs.start(EXPERIMENT) as run:
        assert run.experiment_id == made
    tags = store.client().get_experiment(made).tags
    assert tags["mlflow.note.content"] == "mine"
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "metrics.`test_accuracy`" in json.loads(tags["mlflow.sharedViewState.trackdl"])["selectedColumns"]


def test_a_table_is_one_of_mlflows_and_a_description_names_it() -> None:
    with runs.start(EXPERIMENT) as run:
        run.frame(pd.DataFrame({"model": ["a", "b"], "accuracy": [0.5, None]}), "models.json")
        run.describe("half are right")
    found = MlflowClient().load_table(run.experiment_id, "models.json", [run.id])
    assert found["model"].tolist() == ["a", "b"]
    note = run.info.data.tags["mlflow.note.content"]
    assert note.startswith("half are right")
    assert f"trackdl run runs:/{run.id}/experiment.yaml" in note
    assert "models.json" in note


def test_a_command_that_runs_it_again_names_the_report_and_no_other_report_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runs.start(EXPERIMENT) as own:
        pass
    assert runs.command(own.id) == f"trackdl run runs:/{own.id}/experiment.yaml"
    other = tmp_path / "my report"
    other.mkdir()
    (other / "report.yaml").write_text("slug: mine\ntitle: Mine\nsource: here\n")
    with monkeypatch.context() as there:
        there.setenv("TRACKDL_REPORT", str(other))
        with runs.start(EXPERIMENT) as run:
            run.describe("none is right")
        command = f"trackdl --report '{other}' run runs:/{run.id}/experiment.yaml"
        assert runs.command(run.id) == command
        assert command in run.info.data.tags["mlflow.note.content"]
        runs.check_report(run.id)
        with pytest.raises(
            InputError, match=r"is of the report munukutla-maghrabi, and .*my report is the folder of mine"
        ):
            runs.check_report(own.id)
    for command in (["run"], ["mnist", "--file"]):
        done = CliRunner().invoke(app.app, [*command, f"runs:/{run.id}/experiment.yaml"])
        assert isinstance(done.exception, InputError)
        assert f"run {run.id} is of the report mine" in str(done.exception)


def test_a_data_set_has_its_schema_and_profile() -> None:
    images = np.zeros((3, 2, 2), np.uint8), np.arange(3)
    with runs.start(EXPERIMENT) as run:
        run.dataset(runs.describe_dataset("images", "ab" * 32, "drawn", images), "training")
        run.dataset(runs.describe_dataset("rows", "cd" * 32, "drawn", pd.DataFrame({"Age": [54]})), "testing")
    found = {item.dataset.name: item.dataset for item in run.info.inputs.dataset_inputs}
    assert json.loads(found["images"].profile)["features_shape"] == [3, 2, 2]
    assert "Age" in found["rows"].schema
    assert found["rows"].digest == ("cd" * 32)[:32]


def test_a_data_set_is_an_input_with_its_digest() -> None:
    with runs.start(EXPERIMENT) as run:
        run.dataset(runs.describe_dataset("mnist-train", "ab" * 32, "http://example.org/"), "training")
    (found,) = run.info.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("mnist-train", "ab" * 16)


CHILD = """
import os, sys
from trackdl import spec
from trackdl.tracking import runs, store, trials
from pathlib import Path
with runs.start(spec.load(Path(sys.argv[1]), spec.ClassifySpec)) as run:
    print(run.id, flush=True)
    sys.stdin.read()
"""


def child() -> tuple[subprocess.Popen[str], Run]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(ROOT / "experiments" / "mnist.yaml")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    return process, Run(process.stdout.readline().strip())


@pytest.mark.slow
def test_a_run_whose_process_was_killed_is_found_and_said(caplog: pytest.LogCaptureFixture) -> None:
    process, run = child()
    with process:
        assert runs.close_abandoned("mnist") == []  # it lives
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert status(run) == "RUNNING"
    with caplog.at_level("WARNING", "trackdl"):
        assert runs.close_abandoned("transfer") == []
        assert [found.id for found in runs.close_abandoned("mnist")] == [run.id]
    assert run.id in caplog.text
    assert status(run) == "KILLED"
    assert runs.close_abandoned("mnist") == []


DYING = """
import os, sys
from pathlib import Path
from trackdl import spec
from trackdl.tracking import runs
runs._git = lambda *_: os._exit(9)
resume = runs.Run(sys.argv[2]) if len(sys.argv) > 2 else None
with runs.start(spec.load(Path(sys.argv[1]), spec.ClassifySpec), resume=resume):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["new", "resumed", "made by mlflow run"])
def test_a_run_whose_process_ends_while_it_is_started_is_found(how: str, tracking: str) -> None:
    client = mlflow.MlflowClient(tracking)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", DYING, str(ROOT / "experiments" / "mnist.yaml")]
    made = None if how == "new" else client.create_run("0").info.run_id
    if how == "resumed":
        command.append(str(made))
    elif made:
        environment["MLFLOW_RUN_ID"] = made
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    (closed,) = runs.close_abandoned("mnist")
    assert made in (None, closed.id)
    assert status(closed) == "KILLED"


@pytest.mark.parametrize("code", [TEMPORARILY_UNAVAILABLE, INTERNAL_ERROR])
def test_a_trial_has_no_second_run_where_the_store_does_not_answer(
    code: int, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.1)
    client = mlflow.MlflowClient(tracking)
    parent, known = (Run(client.create_run("0").info.run_id) for _ in range(2))

    def fails(*_: object, **__: object) -> None:
        raise MlflowException("the store fails", code)

    monkeypatch.setattr(SqlAlchemyStore, "get_run", fails)
    with pytest.raises(TrackdlError):
        trials.open_trial(parent, known.id, "a trial", {}, {})
    with pytest.raises(TrackdlError):
        trials.adopt(parent, [known.id])
    assert len(client.search_runs(["0"])) == 2


def test_a_trial_whose_run_was_deleted_gets_another(tracking: str) -> None:
    client = mlflow.MlflowClient(tracking)
    parent, deleted = (Run(client.create_run("0").info.run_id) for _ in range(2))
    client.delete_run(deleted.id)
    for known in (deleted.id, "f" * 32):
        assert trials.open_trial(parent, known, "a trial", {}, {}).id != known
    trials.adopt(parent, [deleted.id, "f" * 32])


def test_searches_go_on_past_their_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow gives a thousand runs at a time; here it gives two."""
    with runs.start(EXPERIMENT, name="above") as above:
        for _ in range(5):
            with runs.start(EXPERIMENT, name="below"):
                pass
    whole = MlflowClient.search_runs

    def two(self: MlflowClient, *given: object, **keys: object) -> object:
        return whole(self, *given, **{**keys, "max_results": 2})

    monkeypatch.setattr(MlflowClient, "search_runs", two)
    assert len(runs.find("mnist")) == 6
    assert len(evidence.Store().below(above.id)) == 5


def test_what_does_not_exist_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"run nowhere.*tracking store"):
        _ = Run("nowhere").info
    with pytest.raises(InputError), runs.download("runs:/nowhere/experiment.yaml"):
        pass


@pytest.mark.slow
def test_a_deleted_experiment_is_told_and_restored_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with runs.start(EXPERIMENT) as before:
        pass
    store.client().delete_experiment(before.experiment_id)
    for named in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(named, {"MLFLOW_EXPERIMENT_NAME": "trackdl"}.get(named, before.experiment_id))
        with pytest.raises(InputError, match="'trackdl' was deleted, with the runs in it") as told:
            runs.start(EXPERIMENT).__enter__()
    (command,) = re.findall("`(MLFLOW_[^`]*)`", str(told.value))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, shell=True, check=True, env={**os.environ, "PATH": path})
    with runs.start(EXPERIMENT) as after:
        assert after.experiment_id == before.experiment_id
    assert {run.id for run in runs.find("mnist")} == {before.id, after.id}


def test_a_store_of_an_older_mlflow_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    url = f"sqlite:///{tmp_path / 'older.db'}"
    config = utils._get_alembic_config(url)
    revisions = [item.revision for item in ScriptDirectory.from_config(config).walk_revisions()]
    engine = sqlalchemy.create_engine(url)
    utils.InitialBase.metadata.create_all(engine)
    # So far back that tables lack: MLflow itself would add them unasked.
    command.upgrade(config, revisions[12])
    assert not utils._all_tables_exist(engine)
    engine.dispose()
    before = (tmp_path / "older.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    store.client.cache_clear()
    with pytest.raises(TrackdlError, match=f"mlflow db upgrade {url}"):
        runs.find("mnist")
    assert (tmp_path / "older.db").read_bytes() == before


def test_a_process_is_known_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    before = processes.tag()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 0.0)
    assert processes.tag() == before
    assert processes.alive(before)
    assert not processes.alive("1:0")


def test_accuracies_are_logged_before_losses() -> None:
    names = ["fold_0_train_loss", "fold_0_val_accuracy", "train_loss", "val_accuracy"]
    assert pages.headlines_first(names) == ["val_accuracy", "fold_0_val_accuracy", "fold_0_train_loss", "train_loss"]
