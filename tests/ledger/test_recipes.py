"""What the ledger computes from a run's artifacts is what the run logged, for every task; wrong artifacts are told."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors.numpy import load, save
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from support import ROOT
from trackdl import spec
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger.archive import condensed, facts_of
from trackdl.ledger.archive import models_below as below
from trackdl.ledger.evidence import Store
from trackdl.ledger.formulas import CURVES, FORMULAS, compute, compute_curve
from trackdl.ledger.recipes import recipe
from trackdl.spec import ClassifySpec, TableSpec, TransferSpec
from trackdl.tasks import classify, table, transfer
from trackdl.tracking.runs import Run

FILES = ROOT / "experiments"


def models_below(run: Run) -> dict[str, str]:
    """Return the runs below one that evaluate a model each."""
    return below(Store(), run.id)


def agrees(kind: str, metric: str, epoch: int | None, run: Run, seed: int = 1) -> None:
    """Check that a figure computed from the run's artifacts is the metric that the run logged."""
    way = recipe(kind, metric, epoch, seed)
    keeper = Run(models_below(run)[way.model]) if way.model else run
    files = [Store().fetch(keeper.id, path) for path in way.artifacts]
    name, step = way.logged
    logged = dict(keeper.history(name))[step]
    assert compute(way.formula, files, way.select, seed).value == pytest.approx(logged, rel=1e-4), metric


def measured(kind: str, metric: str, epoch: int | None, run: Run, seed: int = 1) -> float:
    """Return a figure that is computed from the run's artifacts."""
    way = recipe(kind, metric, epoch, seed)
    keeper = Run(models_below(run)[way.model]) if way.model else run
    return compute(way.formula, [Store().fetch(keeper.id, path) for path in way.artifacts], way.select, seed).value


def curve_agrees(kind: str, metric: str, epoch: int, run: Run, seed: int = 1) -> None:
    """Check that a curve computed from the run's artifacts has the batch losses that the run logged."""
    way = recipe(kind, metric, epoch, seed)
    keeper = Run(models_below(run)[way.model]) if way.model else run
    files = [Store().fetch(keeper.id, path) for path in way.artifacts]
    logged = keeper.history("batch_loss")
    size = compute_curve(way.formula, files, seed, [(1, 0)]).size
    places = [(seen // size + 1, seen % size) for seen, _ in logged]
    found = compute_curve(way.formula, files, seed, places)
    assert found.losses.tolist() == pytest.approx([loss for _, loss in logged], rel=1e-6)
    with pytest.raises(TrackdlError, match="the artifacts are not what"):
        compute_curve(way.formula, files, seed, [(1, 1)])


@pytest.mark.usefixtures("tracking", "tiny_fashion")
def test_fashion() -> None:
    short = {"training.epochs": 3, "network.filters": 4, "network.dense_nodes": 16, "test": {"after": [2]}}
    run = classify.run(spec.load(FILES / "fashion.yaml", ClassifySpec, short)).run
    for epoch in (1, 2, 3):
        for metric in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            agrees("classify", metric, epoch, run)
    for metric in ("test_loss", "test_accuracy"):
        agrees("classify", metric, 2, run)
    way = recipe("classify", "fit_seconds", 2, 1)
    seconds = compute(way.formula, [Store().fetch(run.id, way.artifacts[0])], way.select, 1).value
    assert seconds == dict(run.history("fit_seconds"))[2]
    assert measured("classify", "seconds", 2, run) == seconds
    assert measured("classify", "parameters", None, run) == run.info.data.metrics["parameters"] > 1000
    way = recipe("classify", "best_test_f1", 3, 1)
    file = Store().fetch(run.id, way.artifacts[0])
    said = load(file)
    expected = f1_score(said["targets"], said["labels"], average="macro")
    assert compute(way.formula, [file], "", 1).value == pytest.approx(expected)
    truth, predicted = said["targets"], said["labels"]
    names = json.loads(Store().fetch(run.id, "classes.json"))
    table = confusion_matrix(truth, predicted, labels=range(10))
    each = dict(
        zip(
            ("precision", "recall", "f1"),
            precision_recall_fscore_support(truth, predicted, labels=range(10), zero_division=0.0),
            strict=False,
        )
    )
    for label, name in enumerate(names):
        for measure, values in each.items():
            assert measured("classify", f"best_test_{measure}[{name}]", 3, run) == pytest.approx(values[label])
        for other, taken in enumerate(names):
            assert measured("classify", f"best_test_confusion[{name}, {taken}]", 3, run) == table[label, other]
    with pytest.raises(TrackdlError, match="there is no 'tie'; there are T-shirt/top, "):
        measured("classify", "test_recall[tie]", 2, run)
    for metric in (*classify.KEPT, "val_loss_dropout", "val_accuracy_dropout"):
        agrees("classify", metric, 3, run)


@pytest.mark.usefixtures("tracking", "tiny_mnist")
def test_mnist_and_transfer(tmp_path: Path) -> None:
    run = classify.run(spec.load(FILES / "mnist.yaml", ClassifySpec, {"training.epochs": 2})).run
    for epoch in (0, 1, 2):
        for metric in ("test_loss", "test_accuracy"):
            agrees("classify", metric, epoch, run)
    agrees("classify", "train_loss", 2, run)
    curve_agrees("classify", "batch_losses", 2, run)
    for name, box in {"bar": (60, 20, 72, 110), "dash": (20, 60, 110, 72)}.items():
        (tmp_path / "letters" / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("L", (133, 133), 240)
            ImageDraw.Draw(picture).rectangle([edge + 3 * number - 5 for edge in box], fill=20)
            picture.save(tmp_path / "letters" / name / f"{number}.png")
    given = {"training.epochs": 3, "data.folds": 2, "data.folder": str(tmp_path / "letters")}
    run = transfer.run(spec.load(FILES / "transfer.yaml", TransferSpec, given)).run
    for epoch in range(4):
        for metric in ("train_loss", "train_accuracy"):
            agrees("transfer", metric, epoch, run)
    curve_agrees("transfer", "batch_losses", 3, run)
    for metric in ("val_accuracy", "val_accuracy_random_features", "val_accuracy_all_layers_trained"):
        agrees("transfer", metric, 3, run)


@pytest.mark.usefixtures("tracking")
def test_heart() -> None:
    short = {"training.epochs": 2, "ablation": [], "seeds": 2, "folds": 3, "repeats": 1}
    short |= {"networks": [{"name": "architecture-1", "hidden": [10]}]}
    result = table.run(spec.load(FILES / "heart.yaml", TableSpec, short))
    run = result.run
    for seed in (47, 48):
        agrees("table", "as-reported/architecture-1/test_accuracy", None, run, seed)
    agrees("table", "improved/architecture-1/cv_accuracy", None, run, 47)
    agrees("table", "baselines/logistic-regression/test_accuracy", None, run, 47)
    curve_agrees("table", "as-reported/architecture-1/batch_losses", 2, run, 47)
    model = Run(models_below(run)["as-reported/architecture-1"])
    for metric in ("train_loss", "train_accuracy"):
        last = dict(model.history(metric))[2]
        assert measured("table", f"as-reported/architecture-1/{metric}", None, run, 47) == pytest.approx(last)
    model = Run(models_below(run)["baselines/logistic-regression"])
    said = pd.read_csv(io.BytesIO(Store().fetch(model.id, "predictions/test.csv"))).query("seed == 48")
    names = json.loads(Store().fetch(model.id, "classes.json"))
    found = measured("table", f"baselines/logistic-regression/test_recall[{names[1]}]", None, run, 48)
    assert found == (said.label[said.target == 1] == 1).mean()
    way = recipe("table", "as-reported/architecture-1/test_loss", None, 47)
    files = [Store().fetch(models_below(run)[way.model], path) for path in way.artifacts]
    said = pd.read_csv(io.BytesIO(files[0])).query("seed == 47")
    batches = [said.iloc[place : place + 10] for place in range(0, len(said), 10)]
    by_hand = sum(
        float(np.mean([(a - b) ** 2 for a in batch.probability for b in batch.target])) for batch in batches
    ) / len(said)
    assert compute(way.formula, files, "", 47).value == pytest.approx(by_hand)
    way = recipe("table", "as-reported/architecture-1/batch_loss", None, 47)
    content = Store().fetch(models_below(run)[way.model], way.artifacts[0])
    found = compute(way.formula, [content], way.select, 47)
    assert found.value == pytest.approx(result.metrics["as-reported/architecture-1"]["batch_loss"])
    facts = facts_of(Store(), models_below(run)[way.model])
    assert (facts.model, facts.seed) == ("as-reported/architecture-1", None)
    assert facts.data_digest == run.info.data.tags["trackdl.data_digest"], "the run above knows the data"
    other = compute(way.formula, [content], way.select, 48)
    assert other.value != found.value


def test_cross_entropy_is_torchs_of_logits_and_of_log_probabilities() -> None:
    outputs, targets = torch.randn(50, 10, generator=torch.Generator().manual_seed(1)), torch.arange(50) % 10
    for made in (outputs, outputs.log_softmax(1)):
        file = save({"outputs": made.numpy(), "targets": targets.numpy()})
        expected = F.cross_entropy(outputs.double(), targets).item()
        kept = condensed("predictions/test.safetensors", file)
        assert compute("cross-entropy", [kept], "", 0).value == pytest.approx(expected, rel=1e-4)
        assert len(kept) < len(file) / 5
        assert condensed("history/epoch-00001.safetensors", file) is file


def test_of_equal_epochs_the_first_is_the_best() -> None:
    targets = np.array([0, 1])
    first = np.array([[1.0, 0], [0, 1]])
    outputs = (first[::-1].copy(), first, 2 * first)
    files = [condensed("predictions/val.safetensors", save({"outputs": made, "targets": targets})) for made in outputs]
    found = compute("cross-entropy of the best epoch", files, "", 0).value
    assert found == compute("cross-entropy", [files[1]], "", 0).value
    assert compute("accuracy of the best epoch", files, "", 0).value == 1


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("content", [b"", b"{}", b"a,b\n1,2\n", save({"x": np.zeros(2)})])
def test_artifacts_that_a_formula_does_not_read_are_told(formula: str, content: bytes) -> None:
    with pytest.raises(TrackdlError, match="the artifacts are not what"):
        compute(formula, [content], "0", 1)


@pytest.mark.parametrize("formula", CURVES)
@pytest.mark.parametrize("content", [b"", b"{}", b"a,b\n1,2\n", save({"x": np.zeros(2)})])
def test_artifacts_that_a_curve_does_not_read_are_told(formula: str, content: bytes) -> None:
    with pytest.raises(TrackdlError, match="the artifacts are not what"):
        compute_curve(formula, [content], 1, [(1, 0)])


def test_what_no_run_keeps_is_refused() -> None:
    for kind, metric in (("classify", "auc"), ("table", "x/y/rmse"), ("grid", "train_loss"), ("transfer", "bleu")):
        with pytest.raises(InputError, match=f"{metric.rpartition('/')[2]}.*its metrics are .*accuracy"):
            recipe(kind, metric, 1, 1)
    with pytest.raises(TrackdlError, match="no formula is called"):
        compute("guess", [json.dumps({}).encode()], "", 1)
