"""Task 4 whole, shortened: what it leaves in the store, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from typer.testing import CliRunner

from support import ROOT
from support.tables import load_heart
from trackdl import spec
from trackdl.cli.app import app
from trackdl.errors import InputError
from trackdl.tasks import table

SHORT = {
    "training.epochs": 2,
    "networks": [{"name": "architecture-1", "hidden": [10]}, {"name": "small", "hidden": [3], "cross_validate": False}],
    "ablation": [{"name": "without dropout", "set": {"dropout": 0.0}}],
    "seeds": 2,
    "folds": 3,
    "repeats": 1,
}


def experiment(**changes: object) -> spec.TableSpec:
    return spec.load(ROOT / "experiments" / "heart.yaml", spec.TableSpec, {**SHORT, **changes})


@pytest.mark.slow
@pytest.mark.draws
def test_the_task_leaves_a_run_a_model_and_its_numbers(
    tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = table.run(experiment())
    table.show(result)
    printed = capsys.readouterr().out
    for words in ("95", "47.50%", "improved/architecture-1", "logistic-regression", "without dropout", "Cholesterol"):
        assert words in printed

    client = mlflow.MlflowClient(tracking)
    found = client.search_runs([client.get_run(result.run.id).info.experiment_id], max_results=1000)
    assert {run.info.status for run in found} == {"FINISHED"}
    below = {run.data.tags["mlflow.runName"]: run for run in found}
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in below.items()}
    for group in ("as-reported", "corrected", "scaled", "improved", "baselines", "ablation"):
        assert parents[group] == result.run.id
    improved = below["improved/architecture-1"]
    assert parents["improved/architecture-1"] == below["improved"].info.run_id
    same = {"test_accuracy", "test_accuracy_low", *(f"test_{name}" for name in ("auc", "brier", "log_loss"))}
    same |= {f"cv_{name}" for name in ("accuracy", "auc", "brier", "log_loss")}
    for name in ("as-reported", "improved/architecture-1", "baselines/random-forest"):
        assert same <= set(below[name].data.metrics)
    assert "cv_accuracy" not in below["improved/small"].data.metrics

    # Every figure can be made again from what is kept.
    def artifact(run: object, name: str) -> Path:
        return Path(client.download_artifacts(run.info.run_id, name, str(tmp_path)))

    said = pd.read_csv(artifact(improved, "predictions/test.csv"))
    assert len(said) == 2 * 200
    first = said[said["seed"] == 47]
    assert (first["label"] == first["target"]).mean() == improved.data.metrics["test_accuracy"]
    assert len(pd.read_csv(artifact(improved, "predictions/cross_validation.csv"))) == 918
    assert len(json.loads(artifact(improved, "predictions/folds.json").read_text())["folds"]) == 3
    assert "Sequential" in artifact(improved, "network.txt").read_text()
    pictures = {item.path for item in client.list_artifacts(result.run.id, "pictures")}
    assert pictures == {f"pictures/{name}.png" for name in ("roc", "calibration", "confusion", "ablation", "protocols")}
    assert client.list_artifacts(below["scaled"].info.run_id, "pictures")

    version = client.get_model_version_by_alias("heart-mlp", "champion")
    assert version.run_id == result.run.id
    assert "cv_accuracy" in version.tags["trackdl.decided_by"]

    # A fresh process, with nothing but the store, says of raw rows what the run said of them.
    rows = load_heart().test_rows.drop(columns="HeartDisease")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    code = (
        "import sys, mlflow, pandas as pd; model = mlflow.pyfunc.load_model('models:/heart-mlp@champion');"
        f"answer = model.predict(pd.read_csv({str(tmp_path / 'rows.csv')!r}));"
        "print([said['heart disease'] for said in answer['probabilities']])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout.splitlines()[-1])
    assert again == pytest.approx(first["probability"].tolist(), rel=1e-6)

    # The same again is no better: a challenger.
    assert "tie" in table.run(experiment()).decision.reason


@pytest.mark.slow
def test_ones_own_table(tracking: str, tmp_path: Path) -> None:  # noqa: ARG001 - the store is needed
    path = tmp_path / "own.csv"
    load_heart().frame.head(90).to_csv(path, index=False)
    result = table.run(experiment(**{"data.csv": str(path), "ablation": []}))
    assert result.rows == []  # the report's numbers are of its own rows
    assert len(result.table.test) == 18
    with pytest.raises(InputError, match="too few for 80 folds"):
        table.run(experiment(**{"data.csv": str(path), "folds": 80}))


def test_options_set_keys_and_a_wrong_table_is_named(tracking: str, tmp_path: Path) -> None:  # noqa: ARG001
    path = tmp_path / "wrong.csv"
    path.write_text(load_heart().frame.head(3).to_csv(index=False).replace("ATA", "atypical", 1))
    done = CliRunner().invoke(app, ["heart", "--csv", str(path)])
    assert isinstance(done.exception, InputError)
    assert "row 1, column ChestPainType: is 'atypical'; it may be one of ASY, ATA, NAP, TA" in str(done.exception)
    done = CliRunner().invoke(app, ["heart", "--folds", "1"])
    assert "'folds' (set on the command line)" in str(done.exception)
