"""The entry points as users run them, on the real data: `mlflow run . -e NAME --env-manager local`."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from support import ROOT

pytestmark = pytest.mark.real


def mlflow_run(tracking: str, entry: str, *parameters: str) -> subprocess.CompletedProcess[str]:
    bin_folder = Path(sys.executable).parent
    command = [str(bin_folder / "mlflow"), "run", ".", "-e", entry, "--env-manager", "local"]
    for parameter in parameters:
        command += ["-P", parameter]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_data(tracking: str) -> None:
    done = mlflow_run(tracking, "data")
    assert done.returncode == 0, done.stderr
    for name in ("mnist", "fashion", "heart", "greek"):
        assert name in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mnist_then_transfer_both_ways(tracking: str) -> None:
    """One run each, through MLflow, from the data to the registry; the Greek step takes the MNIST step's model.

    Three folds stand for leave-one-out, which takes a minute: `make run` does that.
    """
    done = mlflow_run(tracking, "mnist", "epochs=2", "batch_size=64")
    assert done.returncode == 0, done.stderr
    assert "94.35%" in done.stdout  # the report's first epoch stands beside ours
    client = mlflow.MlflowClient(tracking)
    parent = client.get_model_version_by_alias("mnist-cnn", "champion")
    assert client.get_run(parent.run_id).info.status == "FINISHED"
    assert client.get_run(parent.run_id).data.metrics["test_accuracy"] > 0.95
    # The run that `mlflow run` made is the task's run: it carries both the project's parameters and our tags.
    assert client.get_run(parent.run_id).data.tags["mlflow.project.entryPoint"] == "mnist"
    for preprocessing in ("report", "mnist"):
        done = mlflow_run(tracking, "transfer", f"preprocessing={preprocessing}", "folds=3")
        assert done.returncode == 0, done.stderr
        assert "exact 95 % interval" in done.stdout
    versions = {version.version: version.tags for version in client.search_model_versions("name = 'greek-cnn'")}
    assert len(versions) == 2
    for tags in versions.values():
        assert tags["trackdl.source_run"] == parent.run_id
    for version in versions:
        run = client.get_run(client.get_model_version("greek-cnn", version).run_id)
        # The report's 27 of 27 at the end, and far better than chance on letters held out.
        assert run.data.metrics["train_accuracy"] > 0.9
        # The report's own way with a picture makes less of synthetic letters: 18 of 27, where chance has 9.
        least = 0.6 if run.data.tags["trackdl.synthetic"] == "true" else 0.7
        assert run.data.metrics["val_accuracy"] > least


def test_fashion(tracking: str) -> None:
    """Three epochs of the report's network: registered by validation accuracy, beside the report's first epochs."""
    done = mlflow_run(tracking, "fashion", "epochs=3", "seed=2")
    assert done.returncode == 0, done.stderr
    assert "82.99%" in done.stdout  # the report's first epoch stands beside ours
    client = mlflow.MlflowClient(tracking)
    version = client.get_model_version_by_alias("fashion-cnn", "champion")
    metrics = client.get_run(version.run_id).data.metrics
    assert float(version.tags["trackdl.score"]) == metrics["best_val_accuracy"] > 0.85
    assert metrics["best_test_accuracy"] > 0.85


@pytest.mark.slow
def test_heart(tracking: str) -> None:
    """Fewer folds than usual; all that the report's protocol printed, and the mended networks."""
    done = mlflow_run(tracking, "heart", "folds=3", "repeats=1", "seeds=1")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(tracking)
    run = client.get_run(client.get_model_version_by_alias("heart-mlp", "champion").run_id)
    assert run.data.tags["mlflow.project.entryPoint"] == "heart"
    table = pd.read_json(client.download_artifacts(run.info.run_id, "models.json"), orient="split").set_index("model")
    for network in ("architecture-1", "architecture-2", "architecture-2-100"):
        assert table.loc[f"as-reported/{network}", "test_accuracy"] == pytest.approx(0.475, abs=1e-9)
    assert table.loc["as-reported/architecture-1", "batch_loss"] == pytest.approx(0.2325, abs=5e-4)
    assert table.loc["scaled/architecture-1", "test_accuracy"] >= 0.84
    assert table.loc["improved/architecture-1", "cv_auc"] > 0.92


@pytest.mark.slow
def test_ledger(tracking: str) -> None:
    """Of a store without runs it is empty, and says for each number what to run."""
    done = mlflow_run(tracking, "ledger")
    assert done.returncode == 0, done.stderr
    assert "not run yet 475" in done.stdout  # the grid's six numbers are judged by the table in the checkout


def test_a_wrong_parameter_fails_the_run(tracking: str) -> None:
    done = mlflow_run(tracking, "mnist", "epochs=0")
    assert done.returncode != 0
    assert "training.epochs" in done.stderr
    client = mlflow.MlflowClient(tracking)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert [run.info.status for run in client.search_runs(experiments)] == ["FAILED"]
