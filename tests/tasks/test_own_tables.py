"""Tables of one's own through the whole task: trained, registered, predicted with, served, and read by the ledger."""

import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_wine
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from typer.testing import CliRunner

from support.served import ask
from trackdl import spec
from trackdl.apps import predict
from trackdl.cli.app import app
from trackdl.errors import InputError
from trackdl.ledger.archive import models_below
from trackdl.ledger.evidence import Store
from trackdl.ledger.formulas import compute
from trackdl.ledger.recipes import recipe
from trackdl.serving.guard import Guard
from trackdl.serving.server import ModelScorer
from trackdl.spec.table import TableSpec
from trackdl.tasks import table as task
from trackdl.tracking.registry import files
from trackdl.tracking.runs import Run

WINE = """
task: table
data: {sklearn: wine}
networks: [{name: wide, hidden: [16, 8], activation: tanh}, {name: other, hidden: [4], dropout: 0.05}]
training: {epochs: 20, batch_size: 16, optimizer: {name: adam, lr: 0.02}, seed: 3}
protocols:
  plain: {inputs: {encoding: one-hot}, loss: cross_entropy}
  weighted: {loss: cross_entropy, class_weights: true, early_stopping: {share: 0.2, patience: 5}, members: 2}
subject: plain
ablation: [{name: unscaled, set: {inputs.scale: false}}]
baselines: [logistic-regression, svm, k-neighbours, naive-bayes]
seeds: 2
folds: 3
"""


def patient(i: int) -> str:
    ca, thal = "?" if i % 7 == 0 else str(i % 3), "" if i % 11 == 0 else (3, 6, 7)[i % 3]
    return f"{i};{40 + i % 30 + 9 * (i % 5 > 0)};{i % 4 + 1};{ca};{thal};{i % 5}\n"


# As the design has it: nothing is said about training, seeds and folds.
CLEVELAND = """
task: table
data: {csv: cleveland.csv, target: num, missing: ["?", ""], text: [cp, thal], drop: [id], test_share: 0.2,
       classes: {"0": normal, "1": disease, "2": disease, "3": disease, "4": disease}}
networks: [{name: wide, hidden: [16, 8, 4], activation: tanh}]
protocols: {plain: {inputs: {encoding: one-hot}, loss: cross_entropy}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a report, which is in use."""
    made = tmp_path / "my-report"
    made.mkdir()
    (made / "cleveland.csv").write_text("id;age;cp;ca;thal;num\n" + "".join(map(patient, range(100))))
    (made / "cleveland.yaml").write_text(CLEVELAND)
    monkeypatch.setenv("TRACKDL_REPORT", str(made))
    return made


def figure(run: Run, metric: str, seed: int) -> float:
    way = recipe("table", metric, None, seed)
    keeper = models_below(Store(), run.id)[way.model]
    return compute(way.formula, [Store().fetch(keeper, path) for path in way.artifacts], way.select, seed).value


@pytest.mark.slow
@pytest.mark.draws
@pytest.mark.usefixtures("folder")
def test_a_table_of_three_classes(tracking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = task.run(spec.parse(WINE, "wine.yaml", TableSpec))
    summary = task.show(result)
    assert "weighted/wide" in summary
    assert "naive-bayes" in capsys.readouterr().out
    found = result.metrics["plain/wide"]
    assert found["test_accuracy"] > 0.85
    assert found["cv_accuracy"] > 0.9
    assert result.metrics["baselines/svm"]["test_accuracy"] > 0.9

    client = mlflow.MlflowClient(tracking)
    run = models_below(Store(), result.run.id)["plain/wide"]
    rows = pd.read_csv(client.download_artifacts(run, "predictions/test.csv", str(tmp_path))).query("seed == 3")
    each = rows.filter(like="probability_").to_numpy()
    truth = rows["target"].to_numpy()
    assert (each.argmax(axis=1) == rows["label"]).all()
    np.testing.assert_allclose(each.sum(axis=1), 1, atol=1e-6)
    by_hand = {
        "test_accuracy": (rows["label"] == truth).mean(),
        "test_auc": roc_auc_score(truth, each / each.sum(axis=1, keepdims=True), multi_class="ovr"),
        "test_f1": f1_score(truth, rows["label"], average="macro"),
        "test_brier": ((each - np.eye(3)[truth]) ** 2).sum(axis=1).mean(),
        "test_log_loss": log_loss(truth, each / each.sum(axis=1, keepdims=True)),
        "test_loss": log_loss(truth, each / each.sum(axis=1, keepdims=True)),
    }
    for metric, value in by_hand.items():
        assert found[metric] == pytest.approx(value, abs=1e-6), metric
        assert figure(result.run, f"plain/wide/{metric}", 3) == pytest.approx(value, abs=1e-6), metric
    pictures = {item.path for item in client.list_artifacts(result.run.id, "pictures")}
    assert pictures == {f"pictures/{name}.png" for name in ("calibration", "confusion", "ablation", "protocols")}

    # Registered under the report's name, and served as trained.
    uri = "models:/my-report-wine@champion"
    wine = load_wine(as_frame=True)
    tested = wine.data.iloc[result.table.test].reset_index(drop=True)
    answers = mlflow.pyfunc.load_model(uri).predict(tested)
    served = [[item[name] for name in wine.target_names] for item in answers["probabilities"]]
    np.testing.assert_allclose(served, each, atol=1e-6)
    tested.assign(**{"class": "class_0"}).to_csv(tmp_path / "rows.csv", index=False, sep=";", decimal=",")
    predicted = predict.predict(uri, [str(tmp_path / "rows.csv")])
    assert [item["label"] for item in predicted] == answers["label"].tolist()
    with files.verified(files.find(uri)) as artifact:
        guard = Guard(ModelScorer(artifact, "my-report-wine", "1"))
    status, answer = ask(guard, json.dumps({"dataframe_records": tested.head(2).to_dict("records")}))
    assert (status, answer["predictions"][0]["probabilities"]) == (200, pytest.approx(predicted[0]["probabilities"]))
    status, answer = ask(guard, json.dumps({"dataframe_records": [{"alcohol": 13.0}]}))
    assert status == 400
    assert "missing inputs ['malic_acid'" in answer["message"]
    status, _ = ask(guard, json.dumps({"dataframe_records": [dict.fromkeys(tested.columns, 1e29)]}))
    assert status in (200, 400)


@pytest.mark.slow
def test_a_table_with_missing_values_by_its_file_alone(tracking: str, folder: Path) -> None:
    done = CliRunner().invoke(app, ["run", str(folder / "cleveland.yaml"), "--epochs", "3", "--set", "folds=3"])
    assert done.exception is None, done.output
    client = mlflow.MlflowClient(tracking)
    version = client.get_model_version_by_alias("my-report-cleveland", "champion")
    run = client.get_run(version.run_id)
    assert (run.data.tags["trackdl.task"], run.data.tags["trackdl.kind"]) == ("cleveland", "table")
    model = mlflow.pyfunc.load_model("models:/my-report-cleveland@champion")
    row = {"age": 63, "cp": 1, "ca": "?", "thal": 6}
    same = model.predict([row | {"ca": None}])
    assert model.predict([row])["probabilities"][0] == same["probabilities"][0]
    assert set(same["probabilities"][0]) == {"normal", "disease"}
    for change, words in (({"cp": 9}, "column cp: is 9; it may be one of 1, 2, 3, 4"), ({"age": "old"}, "column age")):
        with pytest.raises(mlflow.exceptions.MlflowException, match=words):
            model.predict([row | change])


def test_without_folds_and_baselines_the_test_rows_decide(tracking: str, folder: Path) -> None:  # noqa: ARG001
    short: dict[str, Any] = {"folds": 0, "baselines": [], "training.epochs": 2, "register": "nets"}
    result = task.run(spec.load(folder / "cleveland.yaml", TableSpec, short))
    task.show(result)
    assert result.decision.alias == "champion"
    assert result.decision.name == "nets"
    assert list(result.metrics) == ["plain/wide"]
    # Other test rows are other data: the two cannot be compared.
    other = task.run(spec.load(folder / "cleveland.yaml", TableSpec, {**short, "training.seed": 2}))
    assert "scored on other data" in other.decision.reason


@pytest.mark.slow
def test_any_names_will_do(tracking: str, folder: Path) -> None:  # noqa: ARG001
    rows = "".join(f'{i};"{"<=50K" if i < 15 else ">50K"}"\n' for i in range(30))
    (folder / "cleveland.csv").write_text(f'größe [cm] (in %);"a/b $_^$"\n{rows}', encoding="utf-8")
    data = {"csv": "cleveland.csv", "target": "a/b $_^$", "classes": {"<=50K": "$_^$ low", ">50K": "high: α"}}
    for columns in ({}, {"größe [cm] (in %)": {"low": 0.0}}):
        changes = {"data": {**data, "columns": columns}, "folds": 2, "training.epochs": 1}
        result = task.run(spec.load(folder / "cleveland.yaml", TableSpec, changes))
        assert result.table.schema.classes == ["$_^$ low", "high: α"]


def test_what_the_table_cannot_do_is_said_before_a_run_is_made(tracking: str, folder: Path) -> None:
    for changes, words in (
        ({"protocols": {"a": {"loss": "bce"}}, "data.classes": {}}, "loss bce: is for two classes; num has 5"),
        ({"folds": 50}, "the class 'normal' has 20 rows, too few for 50 folds"),
        ({"protocols": {"a": {"loss": "bce", "inputs": {"drop": ["sex"]}}}}, "inputs.drop: no column 'sex'"),
        ({"data.csv": "none.csv"}, r"my-report/none\.csv: cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            task.run(spec.load(folder / "cleveland.yaml", TableSpec, changes))
    assert not mlflow.MlflowClient(tracking).search_runs(["0", "1"])


def test_the_probabilities_of_an_older_run_are_one_column() -> None:
    rows = pd.DataFrame({"seed": 1, "target": [0, 1, 1], "label": [0, 1, 0], "probability": [0.1, 0.9, 0.4]})
    content = io.StringIO()
    rows.to_csv(content, index=False)
    made = compute("score of a seed's rows", [content.getvalue().encode()], "auc", 1)
    assert made.value == 1
