"""A store made by the last MLflow minor version, itself: it is told, left alone, and upgraded by the remedy."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT
from trackdl.doctor import examine as doctor
from trackdl.doctor import machine as checkup
from trackdl.errors import TrackdlError
from trackdl.tracking import health, runs, store

BEFORE = "3.16.1"
MADE = """
import sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("trackdl")
with mlflow.start_run(tags={"trackdl.task": "mnist"}) as run:
    mlflow.log_metric("test_accuracy", 0.5, step=1)
print(run.info.run_id)
"""


def test_it_is_the_minor_version_before_ours() -> None:
    major, minor, _ = map(int, BEFORE.split("."))
    now = importlib.metadata.version("mlflow")
    assert now.startswith(f"{major}.{minor + 1}."), f"MLflow is {now}: name the minor version before it in BEFORE"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Return the Python of a new environment with MLflow as it was; all that it needs is as in the lock."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = tmp_path / "pins.txt"
    pins.write_text("\n".join(line for line in lock if not line.startswith("mlflow")), encoding="utf-8")
    place = tmp_path / "older"
    python = place / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]  # it is set up where make worked
    command = [*pip, "--constraint", pins, f"mlflow=={BEFORE}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"MLflow {BEFORE} cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.mark.fault("a store made by the MLflow before", recovery="`mlflow db upgrade`")
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_store_of_the_version_before_is_told_left_alone_and_upgraded_by_the_remedy(
    older: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "before.db"
    url = f"sqlite:///{file}"
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    made = subprocess.run(
        [older, "-c", MADE, url], cwd=tmp_path, env=quiet, stdout=subprocess.PIPE, text=True, check=True
    )
    content = file.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.setattr(checkup, "reachable", lambda _: [])
    store.client.cache_clear()

    found = {item.name: item for item in doctor.examine()}
    assert found["store"].level == "fault"
    assert f"mlflow db upgrade {url}" in found["store"].remedy
    assert "stuck runs" not in found  # nothing that would open it is tried
    with pytest.raises(TrackdlError, match=f"mlflow db upgrade {url}"):
        runs.find("mnist")
    assert file.read_bytes() == content

    command = found["store"].remedy.partition("`")[2].partition("`")[0].split()
    subprocess.run([sys.executable, "-m", *command], env=quiet, check=True, capture_output=True)
    assert health.schema(url).level == "ok"
    (run,) = runs.find("mnist")
    assert run.id == made.stdout.split()[-1]
    assert run.history("test_accuracy") == [(1, 0.5)]
    store.client.cache_clear()
