"""What the printed numbers say of candidates: from a table of trainings to an order and to words."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trackdl.analysis import grid_table
from trackdl.errors import InputError
from trackdl.ledger import charts
from trackdl.ledger import recovery as judge
from trackdl.ledger.model import Recovered
from trackdl.spec import ClassifySpec, RecoverSpec

EPOCHS = 3
BASE: dict[str, Any] = {
    "task": "classify",
    "name": "signs",
    "data": {"sklearn": "digits", "validation": 0.2},
    "network": {"family": "mlp", "hidden": [8]},
    "training": {"epochs": EPOCHS, "batch_size": 10, "optimizer": {"name": "adam", "lr": 0.001}, "seed": 1},
}
METRICS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "val_loss", "val_accuracy")
SIZES = {"training.batch_size": [10, 20]}


def printing(*numbers: dict[str, Any]) -> ClassifySpec:
    return ClassifySpec.model_validate(BASE | {"reported": [{"quote": "q", **one} for one in numbers]})


def recovery(space: dict[str, list[Any]], seeds: int = 5, **changes: Any) -> RecoverSpec:
    content = {"task": "recover", "name": "recover-signs", "experiment": BASE | changes, "seeds": seeds}
    return RecoverSpec.model_validate({**content, "space": space})


Curve = Callable[[dict[str, Any], str, int], float]


def table(told: RecoverSpec, curve: Curve, spread: float = 0.001) -> bytes:
    """Return the table of trainings whose means `curve` says, by cell, metric and epoch."""
    rng, rows = np.random.default_rng(1), []
    for cell in told.grid.cells("report"):
        for fold in range(told.seeds):
            row = {"grid": "report", **cell, "fold": fold, "seed": fold, "precision": "float32", "parameters": 1}
            for metric in [*METRICS, "val_loss_dropout", "val_accuracy_dropout"]:
                for epoch in range(1, cell.get("epochs", EPOCHS) + 1):
                    row[f"{metric}_{epoch}"] = curve(cell, metric, epoch) + spread * rng.normal()
            rows.append(row)
    return grid_table.to_csv(told.grid, pd.DataFrame(rows)).encode()


def apart(by: float) -> Curve:
    """Return curves of two batch sizes that differ by so many of the seeds' standard deviations."""
    return lambda cell, _, epoch: 0.5 + epoch / 10 + (0.001 * by if cell["batch_size"] == 20 else 0)


def found(curve: Curve, *numbers: dict[str, Any], space: dict[str, list[Any]] | None = None) -> Recovered:
    told = recovery(space or SIZES)
    return judge.recovered(printing(*numbers), told, table(told, curve))


def test_the_likeliest_candidate_is_first_and_its_words_say_so() -> None:
    said = found(apart(40), {"metric": "test_accuracy", "epoch": 3, "value": 0.8403})
    assert [one.values for one in said.candidates] == [{"training.batch_size": 20}, {"training.batch_size": 10}]
    first, second = said.candidates
    assert first.weight + second.weight == pytest.approx(1)
    assert (first.below, first.inside, second.inside) == (0, 1, 0)
    assert second.below > 3
    assert second.gaps["test_accuracy"] == pytest.approx(-0.04, abs=0.002)
    assert first.low[0] < 0.8403 < first.high[0]
    assert "Batch size: `20` fits best; `10` is " in said.words
    assert "(strong evidence)" in said.words
    assert "The report fits the best candidate as well as that candidate's own runs do" in said.words
    assert "All of this rests on a single printed number. Tried on each of our own 10 runs" in said.words
    columns, rows = judge.table(said)
    assert columns[0] == "batch size"
    assert rows[1][0] == "10"
    assert rows[1][-1].endswith("points")


def test_candidates_that_do_not_differ_are_not_told_apart() -> None:
    said = found(apart(0), {"metric": "train_loss", "epoch": 1, "value": 0.6001})
    assert "cannot be distinguished from it (a likelihood ratio of 1." in said.words
    assert "strong evidence" not in said.words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (7.99, "cannot be distinguished from it (a likelihood ratio of 8.0)"),
        (8, "is 8 times less likely (fairly strong evidence)"),
        (31.9, "is 32 times less likely (fairly strong evidence)"),
        (32, "is 32 times less likely (strong evidence)"),
        (1e7, "is more than a million times less likely (strong evidence)"),
    ],
)
def test_the_thresholds_are_royalls(ratio: float, words: str) -> None:
    assert judge._against(ratio) == words


def test_a_report_that_is_like_no_candidate_is_said_to_be_so() -> None:
    said = found(apart(3), *({"metric": "test_loss", "epoch": epoch, "value": 0.9} for epoch in (1, 2, 3)))
    assert "something else may differ too" in said.words


def noisy(cell: dict[str, Any], metric: str, epoch: int) -> float:
    """Return curves that dropout active during validation changes."""
    del cell
    return 0.5 + epoch / 10 - 0.1 * metric.endswith("_dropout")


@pytest.mark.parametrize(("value", "at_work"), [(0.8, False), (0.7, True)])
def test_dropout_while_validating_reads_other_columns_of_the_same_trainings(value: float, at_work: bool) -> None:
    space = {"dropout_while_validating": [False, True]}
    said = found(noisy, {"metric": "val_accuracy", "epoch": 3, "value": value}, space=space)
    assert said.candidates[0].values == {"dropout_while_validating": at_work}
    assert said.candidates[0].mean[0] == pytest.approx(value, abs=0.002)
    assert said.candidates[0].weight > 0.9
    assert f"Dropout while validating: `{'yes' if at_work else 'no'}` fits best; " in said.words
    tested = found(noisy, {"metric": "test_accuracy", "epoch": 3, "value": 0.8}, space=space)
    assert tested.candidates[0].weight == pytest.approx(0.5)


def peaked(cell: dict[str, Any], metric: str, epoch: int) -> float:
    """Return curves whose best validation epoch is 2, and with dropout active 1."""
    del cell
    if metric.startswith("val_accuracy"):
        return 0.9 if epoch == (1 if metric.endswith("_dropout") else 2) else 0.5
    return 0.1 * epoch


@pytest.mark.parametrize(("last", "plain", "dropped"), [(3, 0.2, 0.1), (1, 0.1, 0.1)])
def test_numbers_of_the_best_epoch_are_of_the_one_that_validation_chooses(
    last: int, plain: float, dropped: float
) -> None:
    space = {"dropout_while_validating": [False, True]}
    said = found(peaked, {"metric": "best_test_loss", "epoch": last, "value": plain}, space=space)
    means = {one.values["dropout_while_validating"]: one.mean[0] for one in said.candidates}
    assert means[False] == pytest.approx(plain, abs=0.002)
    assert means[True] == pytest.approx(dropped, abs=0.002)


def test_a_number_without_epoch_is_of_each_candidates_own_last() -> None:
    numbers = [{"metric": "train_loss", "value": 0.7}, {"metric": "train_loss", "epoch": 3, "value": 0.1}]
    said = found(lambda _, __, epoch: 0.5 + epoch / 10, *numbers, space={"training.epochs": [2, 3]})
    assert [point.epoch for point in said.points] == [3]  # what only some candidates measure, judges none
    assert {one.values["training.epochs"]: round(one.mean[0], 1) for one in said.candidates} == {2: 0.7, 3: 0.8}
    assert said.candidates[0].values == {"training.epochs": 2}


def test_numbers_that_judge_nothing_are_left_out() -> None:
    kept = {"metric": "val_loss", "epoch": 2, "value": 0.7, "series": "a second training"}
    others = [
        {"metric": "val_loss", "epoch": 2, "value": 0.1, "fault": "of other images"},
        {"metric": "val_loss", "epoch": 2, "value": 0.1, "comparable": "not measured in the report"},
        {"metric": "val_loss", "epoch": 9, "value": 0.1},
        {"metric": "val_loss", "epoch": 0, "value": 0.1},
        {"metric": "seconds", "value": 0.1},
    ]
    assert judge.measured(printing(*others, kept), recovery(SIZES)) == [printing(kept).numbers[0]]
    with pytest.raises(InputError, match=r"signs\.yaml: nothing to judge candidates by: .*train_loss.* by epoch 3"):
        judge.measured(printing(*others), recovery(SIZES))
    with pytest.raises(InputError, match="test_accuracy, test_loss, train_accuracy, train_loss, by"):
        judge.measured(printing(kept), recovery(SIZES, data={"sklearn": "digits"}))


def test_fewer_epochs_than_the_report_has_leave_out_its_later_numbers() -> None:
    told = recovery(SIZES, training=BASE["training"] | {"epochs": 2})
    numbers = printing(
        {"metric": "train_loss", "epoch": 2, "value": 0.7}, {"metric": "train_loss", "epoch": 3, "value": 1}
    )
    assert [one.epoch for one in judge.measured(numbers, told)] == [2]


def test_a_report_that_prints_few_digits_says_less() -> None:
    few, many = (
        found(apart(4), {"metric": "test_accuracy", "epoch": 3, "value": 0.8}, *more)
        for more in ([], [{"metric": "test_accuracy", "epoch": 1, "value": 0.6001}])
    )
    assert few.candidates[0].high[0] - few.candidates[0].low[0] > 0.02  # 80 % may be 79.5 to 80.5
    assert many.candidates[0].high[0] - many.candidates[0].low[0] < 0.02


def test_values_of_every_type_are_found_again_in_the_table() -> None:
    space = {
        "training.shuffle": [False, True],
        "training.optimizer.lr": [1e-05, 0.1],
        "training.precision": ["auto", "float32"],
    }
    curve: Curve = lambda cell, _, __: 0.5 + 0.1 * cell["shuffle"] + 0.2 * (cell["lr"] == 0.1)  # noqa: E731
    said = found(curve, {"metric": "test_loss", "epoch": 1, "value": 0.8}, space=space)
    best = said.candidates[0]
    assert (best.values["training.shuffle"], best.values["training.optimizer.lr"]) == (True, 0.1)
    assert best.mean[0] == pytest.approx(0.8, abs=0.002)
    assert len(said.candidates) == 8


def test_a_candidate_that_diverges_is_named_and_the_others_are_judged() -> None:
    told = recovery({"training.batch_size": [10, 20, 30]})

    def curve(cell: dict[str, Any], _: str, epoch: int) -> float:
        return float("nan") if cell["batch_size"] == 30 else 0.5 + epoch / 10

    said = judge.recovered(printing({"metric": "test_loss", "epoch": 1, "value": 0.6}), told, table(told, curve))
    assert [one.values["training.batch_size"] for one in said.candidates] in ([10, 20], [20, 10])
    assert said.diverged == [{"training.batch_size": 30}]
    assert "Of batch size=30, 5 of 5 trainings have diverged; it is not judged." in said.words
    assert Recovered.model_validate_json(said.model_dump_json()) == said
    with pytest.raises(ValueError, match="three trainings"):
        judge.recovered(
            printing({"metric": "test_loss", "epoch": 1, "value": 0.6}), told, table(told, lambda *_: float("nan"))
        )


def test_a_table_that_is_not_whole_is_refused() -> None:
    told = recovery(SIZES)
    with pytest.raises(ValueError, match="rows are missing"):
        judge.recovered(printing({"metric": "test_loss", "value": 1}), recovery(SIZES, seeds=6), table(told, apart(1)))


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_picture_has_a_row_for_each_candidate_and_a_mark_for_each_number(count: int) -> None:
    numbers = [
        {"metric": "test_loss", "epoch": 1 + place % 3, "value": 0.6, "series": f"training {place // 3}"}
        for place in range(count)
    ]
    picture = charts.standalone(charts.recovery(found(apart(5), *numbers), "Signs & <others>"))
    assert picture.startswith("<svg xmlns=")
    assert picture.count("of the likelihood") == 2
    assert picture.count("0 1 0 4.6 0") == (2 * count if count >= 4 else 0)
    assert "Signs &amp; &lt;others&gt;" in picture
