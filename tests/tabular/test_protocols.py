"""Task 4's networks under protocols, the report's faults among them, and their comparison."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT
from support.tables import load_heart
from trackdl import spec
from trackdl.analysis.scores import Scores, score
from trackdl.data.tables.table import Table
from trackdl.errors import InputError
from trackdl.networks.heart import HeartNet, HeartNets
from trackdl.spec.table import EarlyStopping
from trackdl.tabular.baselines import BASELINES, BaselineCandidate
from trackdl.tabular.comparison import CrossValidated, cross_validate, fit_seeds, folds
from trackdl.tabular.faults import argmax_over_one_column, broadcast_mse
from trackdl.tabular.protocols import NetworkCandidate, Predictions

EXPERIMENT = spec.load(ROOT / "experiments" / "heart.yaml", spec.TableSpec)
SCHEMA = load_heart().schema


@pytest.fixture(scope="module")
def report() -> Table:
    return load_heart()


def candidate(protocol: str, epochs: int = 2, network: int = 0, **changes: Any) -> NetworkCandidate:
    chosen = EXPERIMENT.protocols[protocol].model_copy(update=changes)
    sized = EXPERIMENT.networks[network].model_copy(update={"epochs": epochs})
    return NetworkCandidate(sized, chosen, EXPERIMENT.training, SCHEMA)


def test_networks_print_as_the_report_prints_them() -> None:
    assert str(HeartNet([10]).layers) == (
        "Sequential(\n"
        "  (0): Linear(in_features=11, out_features=10, bias=True)\n"
        "  (1): ReLU()\n"
        "  (2): Linear(in_features=10, out_features=1, bias=True)\n"
        "  (3): Sigmoid()\n"
        ")"
    )
    lines = str(HeartNet([15, 20, 30, 40]).layers).splitlines()
    assert lines[1] == "  (0): Linear(in_features=11, out_features=15, bias=True)"
    assert lines[-3:-1] == ["  (8): Linear(in_features=40, out_features=1, bias=True)", "  (9): Sigmoid()"]


@given(st.lists(st.integers(1, 8), max_size=4), st.integers(1, 3), st.booleans())
def test_networks_of_any_widths_are_built_again_from_their_arguments(
    hidden: list[int], members: int, logits: bool
) -> None:
    model = HeartNets(members, hidden, inputs=5, dropout=0.5, logits=logits).eval()
    again = HeartNets(**model.arguments).eval()
    again.load_state_dict(model.state_dict())
    rows = torch.randn(4, 5)
    probabilities = model(rows)
    assert probabilities.shape == (4,)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert torch.equal(again(rows), probabilities)


def test_the_reports_loss_holds_every_output_against_every_target() -> None:
    outputs, targets = torch.rand(10, 1), torch.rand(10).round()
    pairs = [(output - target) ** 2 for output in outputs[:, 0] for target in targets]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert broadcast_mse(outputs, targets) == pytest.approx(torch.stack(pairs).mean())
    assert argmax_over_one_column(outputs).tolist() == [0] * 10


@pytest.mark.parametrize("network", [0, 1])
def test_as_reported_predicts_class_0_for_every_row(report: Table, network: int) -> None:
    predicted = candidate("as-reported", network=network).fit_predict(report.train_rows, report.test_rows, 47)
    assert not predicted.labels.any()
    assert (predicted.labels == report.targets[report.test]).sum() == 95


def test_as_reported_ends_at_the_printed_loss(report: Table) -> None:
    predicted = candidate("as-reported", epochs=20).fit_predict(report.train_rows, report.test_rows, 47)
    examples, loss = predicted.fitted.learning_curves[0].epochs[-1].batch_losses[-1]
    assert examples == 19 * 718 + 700
    assert loss == pytest.approx(0.2325, abs=5e-4)


def test_mended_networks_tell_the_classes_apart(report: Table) -> None:
    targets = report.targets[report.test]
    scaled = candidate("scaled", epochs=20).fit_predict(report.train_rows, report.test_rows, 47)
    improved = candidate("improved", epochs=20).fit_predict(report.train_rows, report.test_rows, 47)
    assert scores(targets, scaled).accuracy >= 0.84
    assert scores(targets, improved).auc > 0.9


def scores(targets: np.ndarray, made: Predictions) -> Scores:
    return score(targets, made.labels, made.probabilities)


def weights(predictions: Predictions) -> list[np.ndarray]:
    return list(predictions.fitted.state.values())


@pytest.mark.parametrize("protocol", ["as-reported", "corrected", "scaled", "improved"])
def test_what_is_judged_changes_nothing_in_the_model(report: Table, protocol: str) -> None:
    train = report.train_rows
    one = candidate(protocol).fit_predict(train, report.test_rows, 3)
    strange = report.test_rows.assign(Age=120, MaxHR=30, Cholesterol=0, Sex="F", HeartDisease=1)
    two = candidate(protocol).fit_predict(train, strange, 3)
    assert one.fitted.preparation == two.fitted.preparation
    assert all(np.array_equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    other = candidate(protocol).fit_predict(train, report.test_rows, 4)
    assert not all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_early_stopping_keeps_the_best_epoch_and_stops_when_patience_ends(report: Table) -> None:
    stopping = EarlyStopping(share=0.1, patience=3)
    predicted = candidate("improved", epochs=200, early_stopping=stopping, members=2).fit_predict(
        report.train_rows, report.test_rows, 1
    )
    for curve in predicted.fitted.learning_curves:
        losses = curve.val_losses
        assert curve.kept_epoch == 1 + int(np.argmin(losses))
        assert len(losses) == len(curve.epochs) == curve.kept_epoch + 3
        assert curve.epochs[0].examples == 646  # a tenth of the 718 is set aside


def test_members_are_other_networks_and_their_mean_is_predicted(report: Table) -> None:
    predicted = candidate("improved", members=3).fit_predict(report.train_rows, report.test_rows, 1)
    rows = torch.from_numpy(predicted.fitted.preparation.apply(report.test_rows))
    each = [member(rows).sigmoid()[:, 0] for member in predicted.fitted.model.members]
    assert not torch.equal(each[0], each[1])
    np.testing.assert_allclose(predicted.probabilities, torch.stack(each).mean(dim=0).detach(), atol=1e-6)


def test_class_weights_raise_the_rarer_class(report: Table) -> None:
    train = pd.concat(
        [report.train_rows.query("HeartDisease == 0"), report.train_rows.query("HeartDisease == 1").head(40)]
    )
    plain, weighted = (
        candidate("improved", epochs=10, class_weights=on).fit_predict(train, report.test_rows, 1) for on in (0, 1)
    )
    assert weighted.labels.sum() > plain.labels.sum()


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_judge_as_networks_do(report: Table, name: str) -> None:
    predicted = BaselineCandidate(name, SCHEMA).fit_predict(report.train_rows, report.test_rows, 1)
    found = scores(report.targets[report.test], predicted)
    if name == "majority-class":
        assert predicted.labels.all()
        assert (found.accuracy, found.auc) == (0.525, 0.5)
    else:
        assert found.accuracy > 0.75


def test_cross_validation_holds_every_row_out_once_a_repeat(report: Table) -> None:
    parts = folds(report.targets, 4, 2, 7)
    models = {"logistic": BaselineCandidate("logistic-regression", SCHEMA), "scaled": candidate("scaled", epochs=1)}
    calls: list[str] = []
    crossed = cross_validate(models, report.frame, parts, 1, calls.append)
    assert calls == ["logistic"] * 8 + ["scaled"] * 8
    rows = crossed["scaled"].table()
    assert rows.groupby(rows["fold"] // 4)["row"].apply(sorted).tolist() == [list(range(918))] * 2
    assert (rows["target"].to_numpy() == report.targets[rows["row"]]).all()
    # A fold's answers are those of a model fitted to the other rows, in this process as in another.
    learn, held = parts[3]
    alone = models["scaled"].fit_predict(report.frame.iloc[learn], report.frame.iloc[held], 1)
    np.testing.assert_array_equal(rows.query("fold == 3")["probability"], alone.probabilities)
    nothing = crossed["scaled"].minus(crossed["scaled"], "accuracy")
    assert (nothing.mean, nothing.low, nothing.high, nothing.p) == (0, 0, 0, 1)
    there, back = (
        crossed[a].minus(crossed[b], "auc").mean for a, b in (("scaled", "logistic"), ("logistic", "scaled"))
    )
    assert there == pytest.approx(-back)


def test_other_folds_cannot_be_paired(report: Table) -> None:
    made = {seed: CrossValidated(report.targets, folds(report.targets, 3, 1, seed), []) for seed in (1, 2)}
    with pytest.raises(ValueError, match="different folds"):
        made[1].minus(made[2], "accuracy")
    with pytest.raises(ValueError, match="too few for 3 folds"):
        folds(np.array([0, 0, 1, 1, 1]), 3, 1, 0)


def test_seeds_are_fits_of_their_own(report: Table) -> None:
    predicted = fit_seeds(
        {"forest": BaselineCandidate("random-forest", SCHEMA)}, report.train_rows, report.test_rows, [1, 2]
    )
    one, two = predicted["forest"]
    assert not np.array_equal(one.probabilities, two.probabilities)
    again = BaselineCandidate("random-forest", SCHEMA).fit_predict(report.train_rows, report.test_rows, 2)
    np.testing.assert_array_equal(two.probabilities, again.probabilities)


TEXT = (ROOT / "experiments" / "heart.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("{inputs.variance: null}", "{inputs.varianz: null}", "ablation 'without PCA', key 'inputs.varianz'"),
        ("{dropout: 0.0}", "{droput: 0.0}", "droput"),
        ("faults: true", "faults: true\n    loss: bce", "faults needs the loss mse"),
        ("hidden: [10]", "hidden: [0]", "greater than or equal to 1"),
        ("  improved:", "  better:", "subject is 'improved'; it may be one of as-reported, corrected, scaled, better"),
        ("subject: improved", "subject: as-reported", "has faults"),
        ("data: {dataset: heart}", "data: {sklearn: wine}", "protocols.as-reported: faults are those of one report"),
        ("data: {dataset: heart}", "data: {dataset: heart, test_csv: x.csv}", "the table to train on"),
    ],
)
def test_a_wrong_experiment_is_refused(old: str, new: str, words: str) -> None:
    assert old in TEXT
    with pytest.raises(InputError, match=r"x\.yaml") as caught:
        spec.parse(TEXT.replace(old, new, 1), "x.yaml", spec.TableSpec)
    assert words in str(caught.value)


def test_the_ablation_varies_improved_by_one_step() -> None:
    improved = EXPERIMENT.protocols["improved"].model_dump()
    for name, variant in EXPERIMENT.variants().items():
        changed = [key for key, value in variant.model_dump().items() if value != improved[key]]
        assert len(changed) == 1, name
