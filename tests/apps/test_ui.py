"""`trackdl ui`: two pages started and stopped together, for this machine only; a browser opens what they are for."""

import contextlib
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import optuna
import psutil
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from support.browser import needs_browser
from support.served import EXPERIMENT, add_pictures
from support.ui import started
from tools import screens
from tools.screens import served
from trackdl import spec
from trackdl.apps import ui
from trackdl.apps.dashboard import only_for
from trackdl.errors import TrackdlError
from trackdl.spec.ledger import LedgerSpec
from trackdl.system import paths
from trackdl.tracking import pages, runs, store


def stopped(process: subprocess.Popen[str], number: int) -> tuple[int, list[psutil.Process]]:
    """Send a signal; return the exit code and which of the children are left."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    code = process.wait(timeout=60)
    _, left = psutil.wait_procs(children, timeout=20)
    return code, left


def status(address: str, host: str | None = None) -> int:
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def keeps_studies_in(process: psutil.Process, url: str) -> bool:
    """Return whether a process's environment names a store of studies."""
    with contextlib.suppress(psutil.Error):
        return process.environ().get("TRACKDL_STORAGE") == url
    return False


@pytest.fixture
def tracked(tracking: str, tmp_path: Path) -> dict[str, str]:
    """Make two runs with metrics, a registered model and a study; return the settings that name their stores."""
    for number in range(2):
        tried = spec.changed(EXPERIMENT, {"training.seed": number + 1, "training.optimizer.lr": 0.02})
        with runs.start(tried) as run:
            for epoch in (1, 2, 3):
                run.metrics({"test_accuracy": 0.9 + 0.01 * epoch + 0.02 * number}, step=epoch)
    add_pictures("fashion-cnn")
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=url, study_name="grid", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    store.client.cache_clear()
    return {"MLFLOW_TRACKING_URI": tracking, "TRACKDL_STORAGE": url}


def newest(count: int) -> tuple[str, list[str]]:
    """Return the experiment's id and the newest runs'."""
    experiment = store.client().get_experiment_by_name("trackdl")
    found = store.client().search_runs([experiment.experiment_id], max_results=count)
    return experiment.experiment_id, [run.info.run_id for run in found]


@pytest.mark.slow
@needs_browser
def test_the_pages_show_two_runs_and_the_study_and_end_together(tracked: dict[str, str], tmp_path: Path) -> None:
    with started(tmp_path, **tracked) as (process, addresses):
        assert status(addresses["Optuna"], "evil.example") == 403
        assert status(addresses["MLflow"] + "/ajax-api/2.0/mlflow/experiments/search", "evil.example") == 403
        with screens.opened(viewport={"width": 1400, "height": 900}) as page:
            page.goto(addresses["list"])
            for words in ("mnist, lr=0.02, seed 1", "mnist, lr=0.02, seed 2", "test_accuracy", "0.93"):
                page.get_by_text(words, exact=True).first.wait_for()
            page.get_by_text("Each row is one task of a report").wait_for()
            assert page.get_by_role("link", name="Playground").count() == 0, "the pages of the machine-learning view"
            (model,) = store.client().search_logged_models([newest(1)[0]])
            page.goto(f"{addresses['MLflow']}/#/experiments/{model.experiment_id}/models/{model.model_id}")
            page.get_by_text("Model versions").wait_for()
            page.get_by_text("It became champion when it was registered").wait_for()
            page.get_by_role("link", name="fashion-cnn").wait_for()
            screens.compare_runs(page, addresses["MLflow"], *newest(2))
            page.get_by_text("test_accuracy").first.wait_for()
            screens.open_study(page, addresses["Optuna"], "grid")
            assert not page.foreign
        serving = [each for each in psutil.process_iter() if keeps_studies_in(each, tracked["TRACKDL_STORAGE"])]
        assert len(serving) == 4, "the command, MLflow, its server, and the dashboard"
        code, left = stopped(process, signal.SIGINT)
    assert (code, left) == (130, [])


@pytest.mark.slow
def test_without_a_study_it_is_said_and_a_page_that_dies_ends_all(tracking: str, tmp_path: Path) -> None:
    settings = {"MLFLOW_TRACKING_URI": tracking, "TRACKDL_STORAGE": f"sqlite:///{tmp_path / 'none.db'}"}
    with started(tmp_path, **settings) as (process, addresses):
        assert "No study is stored yet" in addresses["said"]
        assert "Optuna" not in addresses
        assert status(addresses["MLflow"]) == 200
        for page in ("", "/ajax-api/2.0/mlflow/experiments/search"):
            assert status(addresses["MLflow"] + page, "evil.example") == 403
        family = psutil.Process(process.pid).children(recursive=True)
        for child in psutil.Process(process.pid).children():
            child.kill()
        assert process.wait(timeout=60) == 1
        assert process.stdout
        assert "MLflow ended" in process.stdout.read()
        assert not psutil.wait_procs(family, timeout=20)[1]


@pytest.mark.slow
def test_a_kill_of_the_command_ends_the_pages(tracked: dict[str, str], tmp_path: Path) -> None:
    with started(tmp_path, **tracked) as (process, addresses):
        assert [status(addresses[name]) for name in ("MLflow", "Optuna")] == [200, 200]
        assert stopped(process, signal.SIGKILL) == (-signal.SIGKILL, [])


def test_mlflow_is_where_links_lead_or_says_that_it_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ui, "UI", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(ui, "_start", lambda _, chosen, *__: chosen)
        assert ui._mlflow("sqlite:///a.db") != port
        assert f"Port {port} is taken" in capsys.readouterr().out
    assert ui._mlflow("sqlite:///a.db") == port
    assert not capsys.readouterr().out
    assert LedgerSpec.model_fields["ui"].default == pages.UI == paths.UI


@pytest.mark.usefixtures("tracking")
def test_the_answer_of_another_program_is_not_taken_for_the_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "_TIMEOUT", 1)
    with (
        served(Starlette(routes=[Route("/", lambda _: PlainTextResponse("mine"))])) as address,
        TemporaryFile() as log,
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process,
    ):
        with pytest.raises(TrackdlError, match="does not answer"):
            ui._await(ui.Page("MLflow", address, process, log))
        process.kill()


def test_the_dashboard_answers_its_own_names_only() -> None:
    asked: list[str] = []

    def app(environ: dict[str, Any], _: Any) -> list[bytes]:
        asked.append(environ["HTTP_HOST"])
        return [b"studies"]

    guarded = only_for({"127.0.0.1:80"}, app)
    said: list[str] = []
    for host in ("127.0.0.1:80", "evil.example", "127.0.0.1:80.evil.example"):
        guarded({"HTTP_HOST": host}, lambda status, _: said.append(status))
    guarded({}, lambda status, _: said.append(status))
    assert asked == ["127.0.0.1:80"]
    assert said == ["403 Forbidden"] * 3
