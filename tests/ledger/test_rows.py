import logging

import pytest

from trackdl import ledger, spec
from trackdl.spec import ClassifySpec, Reported


def item(metric: str, epoch: int | None, value: float) -> Reported:
    return Reported(metric=metric, epoch=epoch, value=value, quote="q")


def test_each_published_number_stands_beside_the_epochs_own() -> None:
    reported = [item("test_loss", 1, 0.2), item("test_accuracy", 1, 0.9), item("test_loss", 9, 0.1), item("x", None, 3)]
    recorded = {"test_loss": [(0, 2.3), (1, 0.25)], "test_accuracy": [(1, 0.91)], "x": [(4, 5.0), (7, 6.0)]}
    rows = ledger.compare(reported, lambda metric: recorded[metric])
    assert [(row.published, row.measured) for row in rows] == [(0.2, 0.25), (0.9, 0.91), (0.1, None), (3, 6.0)]
    columns, lines = ledger.table(rows[:3])
    assert columns == [
        "epoch", "test loss, report", "test loss, trackdl", "test accuracy, report", "test accuracy, trackdl",
    ]  # fmt: skip
    assert lines == [["1", "0.2000", "0.2500", "90.00%", "91.00%"], ["9", "0.1000", "not reached", "", ""]]


def test_lines_are_in_the_epochs_order_and_of_many_every_tenth_is_shown() -> None:
    few = [item("test_loss", epoch, 0.2) for epoch in (10, 1, 2)]
    assert [line[0] for line in ledger.table(ledger.compare(few, lambda _: []))[1]] == ["1", "2", "10"]
    many = [item("test_loss", epoch, 0.2) for epoch in range(1, 48)]
    columns, lines = ledger.table(ledger.compare(many, lambda _: []))
    assert [line[0] for line in lines] == ["1", "10", "20", "30", "40", "47"]
    assert columns[0] == "epoch, every 10th"
    assert ledger.table(ledger.compare([item("x", None, 3)], lambda _: []))[1] == [["last", "3.0000", "see the ledger"]]


def test_what_the_ledger_says_the_report_did_is_the_reports_protocol(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ledger.check_numbers(spec.named("transfer", {"source": "models:/mnist-cnn@report"}))
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        ledger.check_numbers(spec.named("transfer", {"source": "models:/mnist-cnn/7"}))
    assert "source: models:/mnist-cnn/7 instead of" in caplog.messages[0]


def test_a_metric_that_was_never_logged_was_not_reached() -> None:
    (row,) = ledger.compare([item("x", None, 3)], lambda _: [])
    assert row.measured is None


def mnist(**changed: object) -> ClassifySpec:
    made = spec.named("mnist", {key.replace("__", "."): value for key, value in changed.items()})
    assert isinstance(made, ClassifySpec)
    return made


def test_a_training_by_other_settings_is_said_before_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ledger.check_numbers(mnist(training__seed=7, training__device="cpu"))
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        ledger.check_numbers(mnist(training__optimizer__lr=0.02, training__epochs=2))
    protocol, later = caplog.messages
    assert "not the report's protocol" in protocol
    assert "training.optimizer.lr: 0.02 instead of 0.01" in protocol
    assert "this training has 2 epochs, so it will not reach test_loss of epoch 3" in later
