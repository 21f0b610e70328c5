"""The command line: what is wrong is said without a traceback, with exit code 2 for wrong input."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from support import ROOT
from support.commands import start, trackdl
from trackdl.cli import app as cli
from trackdl.cli import options
from trackdl.tasks import ledger
from trackdl.tracking import runs


def test_the_working_tree_runs_without_being_installed() -> None:
    command = [sys.executable, str(ROOT / "src" / "trackdl"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    for name in ("data", "mnist", "fashion", "transfer", "heart", "recover", "ledger", "main", "verify", "doctor"):
        assert name in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mnist", "--epochs", "0"], ["training.epochs", "set on the command line", "greater than or equal to 1"]),
        (["mnist", "--epochs", "many"], ["--epochs", "valid integer"]),
        (["mnist", "--file", "nowhere.yaml"], ["nowhere.yaml", "cannot be read"]),
        (["mnist", "--file", "experiments/transfer.yaml"], ["key 'task'", "must be 'classify'", "'transfer'"]),
        (["mnist", "--set", "training.epocs=3"], ["training.epocs", "did you mean 'epochs'"]),
        (["mnist", "--set", "epochs"], ["KEY=VALUE"]),
        (["mnist", "--set", "training.seed=[1"], ["not valid YAML"]),
        (["mnist", "--resume", "abc", "--seed", "2"], ["--resume", "only --epochs and --device"]),
        (["mnist", "--precision", "float16"], ["training.precision", "'float32'"]),
        (["fashion", "--seeds", "0"], ["seeds", "set on the command line", "greater than or equal to 1"]),
        (
            ["fashion", "--set", "network.filter_size=0"],
            ["fashion.yaml", "network.filter_size", "greater than or equal to 1"],
        ),
        (
            ["fashion", "--set", "network.pool_size=3", "--set", "network.conv_layers=4"],
            ["key 'network': layer 3 of 4: 2×2 pixels"],
        ),
        (["fashion", "--resume", "abc", "--seeds", "2"], ["--resume", "only --epochs and --device"]),
        (["transfer", "--preprocessing", "none"], ["data.preprocessing", "'report' or 'mnist'"]),
        (["transfer", "--source", "mnist-cnn"], ["source", "must be models:/NAME@ALIAS"]),
        (["ledger", "--seeds", "0"], ["ledger.yaml", "seeds", "greater than or equal to 1"]),
        (["ledger", "--ui", "foo"], ["key 'ui'", "must be a page's address, e.g. http://127.0.0.1:5000"]),
        (["verify", "nowhere.json"], ["nowhere.json", "cannot be read"]),
        (["verify", "pyproject.toml"], ["pyproject.toml", "not a ledger"]),
        (["transfr"], ["No such command"]),
        (
            ["run", "experiments/mnist.yaml", "--resume", "abc"],
            ["not experiments/mnist.yaml: give runs:/abc/experiment.yaml"],
        ),
        (["run", "experiments/report.yaml", "--epochs", "1"], ["report.yaml", "takes no options"]),
        (["run", "experiments/mnist.yaml", "--seeds", "0"], ["seeds", "greater than or equal to 1"]),
        (["mnist", "--epoch", "3"], ["--epoch"]),
    ],
)
def test_wrong_input_is_told_and_ends_with_2(arguments: list[str], words: list[str]) -> None:
    done = trackdl(*arguments)
    assert done.returncode == 2, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--debug", "mnist", "--epochs", "0"], ["mnist", "--epochs", "0", "--debug"]])
def test_debug_shows_where_it_happened(arguments: list[str]) -> None:
    done = trackdl(*arguments)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_a_traceback_has_no_password() -> None:
    done = trackdl("--debug", "models", MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:9")
    assert "Traceback" in done.stderr
    assert "http://me:***@127.0.0.1:9" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_unknown_run_ids_are_wrong_input(tmp_path: Path) -> None:
    done = trackdl("mnist", "--resume", "0" * 32, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'm.db'}")
    assert done.returncode == 2, done.stderr
    assert "0" * 32 in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_opened_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_bytes(b"no database" * 100)
    done = trackdl("mnist", "--resume", "0" * 32, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'm.db'}")
    assert done.returncode == 1, done.stderr
    assert "m.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_underscores_are_dashes() -> None:
    # `mlflow run -P batch_size=0` becomes this.
    done = trackdl("mnist", "--batch_size", "0")
    assert done.returncode == 2
    assert "training.batch_size" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        (
            "file:///tmp/mlruns",
            2,
            ["MLFLOW_TRACKING_URI: file:///tmp/mlruns is no store's", "An address is sqlite:////"],
        ),
        ("mlruns", 2, ["mlruns is no store's address", "http://HOST:5000"]),
        ("localhost:5000", 2, ["localhost:5000 is no store's address", "http://HOST:5000"]),
        ("sqlite:///:memory:", 2, ["is kept in memory"]),
        ("mysql://me:secret@127.0.0.1/none", 2, ["***", "MySQLdb", "postgresql+psycopg"]),
        ("postgresql+psycopg://me:secret@127.0.0.1:port/none", 2, ["***", "port"]),
        ("http://me:secret@127.0.0.1:9", 1, ["***"]),
        ("http://me:s3/cr@et:secret@127.0.0.1:9", 1, ["***"]),
        ("sqlite:////proc/none/none.db", 1, ["/proc/none"]),
    ],
)
def test_a_store_that_cannot_be_had_is_told(address: str, code: int, words: list[str]) -> None:
    done = trackdl("models", MLFLOW_TRACKING_URI=address)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("answer", ["<html>hello</html>", "[]", '{"experiments": [1]}'])
def test_a_server_that_is_no_mlflow_is_told_with_what_to_do(answer: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        do_POST = do_GET  # noqa: N815

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        done = trackdl("models", MLFLOW_TRACKING_URI=address)
        server.shutdown()
    assert done.returncode == 1
    assert f"the tracking store {address}: " in done.stderr
    assert "MLFLOW_TRACKING_URI names another" in done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "command", "tables", "words"),
    [
        ("MLFLOW_TRACKING_URI", ["models"], ["customers"], "is the database of something else: it holds customers"),
        ("MLFLOW_TRACKING_URI", ["models"], ["experiments"], "is no store of MLflow's"),
        ("TRACKDL_STORAGE", ["grid", "--status"], ["customers"], "is the database of something else"),
        ("TRACKDL_STORAGE", ["grid", "--status"], ["studies", "trials"], "has no column"),
    ],
)
def test_a_database_of_something_else_is_told_and_stays_as_it_is(
    variable: str, command: list[str], tables: list[str], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as made:
        for table in tables:
            made.execute(f"create table {table} (number)")
    stores = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/m.db", variable: f"sqlite:///{file}"}
    done = trackdl(*command, **stores)
    assert done.returncode in (1, 2), done.stderr
    for word in (f"sqlite:///{file}", words, f"{variable} names another"):
        assert word in done.stderr
    assert "unexpected" not in done.stderr
    if tables == ["customers"]:
        with closing(sqlite3.connect(file)) as made:
            assert made.execute("select name from sqlite_master").fetchall() == [("customers",)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
@pytest.mark.parametrize(
    "command",
    [
        ["grid", "--device", "cuda"],
        ["search", "--device", "cuda"],
        ["heart", "--device", "cuda"],
        ["run", "experiments/search.yaml", "--set", "experiment.training.device=cuda"],
    ],
    ids=" ".join,
)
def test_a_device_that_is_not_here_is_told(command: list[str], tmp_path: Path) -> None:
    stores = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'm.db'}",
        "TRACKDL_STORAGE": f"sqlite:///{tmp_path / 'o.db'}",
    }
    done = trackdl(*command, **stores)
    assert done.returncode == 2, done.stderr
    assert "--device cuda" in done.stderr
    assert list(tmp_path.iterdir()) == []  # neither a store nor a run was made


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is here")
def test_a_step_whose_device_is_not_here_stops_the_report_before_it_begins(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert trackdl("new", str(folder), "--from", "classify").returncode == 0
    file = folder / "digits.yaml"
    file.write_text(re.sub(r"( +)seed: 1\b", r"\1seed: 1\n\1device: cuda", file.read_text()))
    done = trackdl("--report", str(folder), "main", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'm.db'}")
    assert done.returncode == 2, done.stderr
    assert "--device cuda" in done.stderr
    assert not (tmp_path / "m.db").exists()


def test_what_nobody_foresaw_takes_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: list[str]) -> None:
        raise KeyError("first\nsecond")

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr(sys, "argv", ["trackdl", "models"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false", "a pickle may be loaded"
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE", "threads spin while other programs want the cores"
    said = capsys.readouterr().err
    assert "unexpected: KeyError" in said
    assert "trackdl --debug COMMAND" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["trackdl", "models", "--debug"])
    with pytest.raises(KeyError):
        cli.main()


def test_an_interruption_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    monkeypatch.setattr("trackdl.tasks.data.run", interrupted)
    monkeypatch.setattr(sys, "argv", ["trackdl", "data"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "trackdl: interrupted; what was finished is kept\n"


def test_training_options_set_the_experiments_keys() -> None:
    app, found = typer.Typer(), {}

    @app.command()
    @options.with_training("training.precision")
    def task(file: str = "", *, settings: dict[str, Any]) -> None:
        found.update(settings, file=file)

    words = [
        "--file",
        "f",
        "--epochs",
        "3",
        "--lr",
        "0.5",
        "--device",
        "cpu",
        "--set",
        "training.epochs=4",
        "--set",
        "a=b",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert found == {
        "training.epochs": 4,
        "training.optimizer.lr": 0.5,
        "training.device": "cpu",
        "a": "b",
        "file": "f",
    }
    assert CliRunner().invoke(app, ["--precision", "float32"]).exit_code == 2


SWALLOWED = """
import os, signal, sys, time
from trackdl.__main__ import main
from trackdl.cli import app

class Closed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def work(*_):
    print('works', flush=True)
    Closed()
    time.sleep(60)

app.models.COMMANDS.clear()
sys.argv = ['trackdl', 'data']
import trackdl.tasks.data
trackdl.tasks.data.run = work
main()
"""


@pytest.mark.slow
def test_a_signal_that_arrives_in_a_finaliser_ends_the_command_all_the_same() -> None:
    done = subprocess.run(  # Python drops what is raised there
        [sys.executable, "-c", SWALLOWED], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout) == (130, "works\n")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("tracking")
def test_an_interrupted_run_is_killed_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    assert trackdl("new", str(tmp_path / "mine")).returncode == 0
    log, out = tmp_path / "log", tmp_path / "out"
    words = ["run", str(tmp_path / "mine" / "digits.yaml"), "--epochs", "100"]
    with start(*words, out=out, err=log) as process:
        while not log.exists() or "epochs 10/100" not in log.read_text():
            assert process.is_alive(), log.read_text()
            time.sleep(0.1)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == 130, log.read_text()
    assert "Traceback" not in log.read_text()
    (run,) = runs.find("digits")
    assert run.info.info.status == "KILLED"
    assert f"run {run.id} is marked KILLED, and keeps what it has logged; " in log.read_text()
    assert log.read_text().endswith("trackdl: interrupted; what was finished is kept\n")


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_a_training_goes_on_with_another_device(tmp_path: Path) -> None:
    """A run that named `cuda` could not be continued on a machine without a GPU."""
    assert trackdl("new", str(tmp_path / "mine")).returncode == 0
    assert trackdl("run", str(tmp_path / "mine" / "digits.yaml"), "--epochs", "1").returncode == 0
    (first,) = runs.find("digits")
    assert first.info.data.params["training.device"] == "auto"
    words = ["--report", str(tmp_path / "mine"), "run", f"runs:/{first.id}/experiment.yaml", "--resume", first.id]
    done = trackdl(*words, "--device", "cpu", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    (second,) = (run for run in runs.find("digits") if run.id != first.id)
    assert second.info.data.params["training.device"] == "cpu"
    assert second.history("test_accuracy")[-1][0] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_store_whose_creation_is_cut_off(tmp_path: Path, number: signal.Signals) -> None:
    """A Ctrl-C left it without its last tables, and it was refused from then on; the remedy did not work."""
    store = tmp_path / "mlflow.db"
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", "TRACKDL_STORAGE": None}
    with start("models", out=tmp_path / "out", err=tmp_path / "err", **environment) as process:
        while not store.exists() or store.stat().st_size < 100_000:
            assert process.is_alive(), (tmp_path / "err").read_text()
            time.sleep(0.005)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode in (130, -signal.SIGKILL), (tmp_path / "err").read_text()
    done = trackdl("models", **environment)
    if number == signal.SIGKILL:
        assert done.returncode == 1
        assert f"{store} was made by another version of MLflow, or only in part" in done.stderr
        assert "if the command that made it was killed, delete it" in done.stderr
        store.unlink()
        done = trackdl("models", **environment)
    assert done.returncode == 0, done.stderr


def test_a_path_that_cannot_be_is_wrong_input(tmp_path: Path) -> None:
    done = trackdl("new", "x" * 300, cwd=tmp_path)
    assert done.returncode == 2
    assert "File name too long" in done.stderr
    assert "unexpected" not in done.stderr


def test_a_file_of_a_report_is_read_with_its_report(tmp_path: Path) -> None:
    """`trackdl grid --file OTHER/grid.yaml` looked for the experiment `of` in the project's own folder."""
    assert trackdl("new", str(tmp_path / "other"), "--from", "grid").returncode == 0
    done = trackdl("grid", "--file", str(tmp_path / "other" / "grid.yaml"), "--set", "space.foo=[1]", cwd=tmp_path)
    assert "digits.yaml: cannot be read" not in done.stderr
    assert "foo" in done.stderr


@pytest.mark.parametrize("differences", [[], ["the accuracy of mnist is 0.97, not 0.98"]])
def test_what_verify_finds_is_printed_as_json(differences: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(differences=differences, notes=["one figure has no evidence"])
    monkeypatch.setattr(ledger, "verify", lambda *_: found)
    done = CliRunner().invoke(cli.app, ["verify", "ledger.json", "--json"])
    assert done.exit_code == len(differences)
    assert json.loads(done.stdout) == {"differences": differences, "notes": found.notes}
