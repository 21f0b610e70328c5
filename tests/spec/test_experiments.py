"""Every file in experiments/ is whole, and its numbers are those that the report prints."""

import re
from pathlib import Path

import pytest

from support import ROOT
from trackdl import spec
from trackdl.errors import InputError

FOLDER = ROOT / "experiments"
TRAINED = ("mnist", "fashion", "transfer", "heart")


def load(name: str) -> spec.TrainedSpec:
    found = spec.named(name)
    assert isinstance(found, spec.TrainedSpec)
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_file_is_valid_and_the_experiment_has_its_name(path: Path) -> None:
    experiment = spec.load(path, spec.ReportSpec) if path.stem == "report" else spec.load_any(path)
    assert experiment.name == {"report": "main"}.get(path.stem, path.stem)
    assert path.read_text().startswith("# ")
    assert spec.parse(spec.to_yaml(experiment), path.name, type(experiment)) == experiment


@pytest.mark.parametrize("task", TRAINED)
def test_published_numbers_are_in_their_quotes(task: str) -> None:
    numbers = load(task).numbers
    assert numbers
    for item in numbers:
        if item.quote.startswith("notebook cell"):
            continue  # made from the table's row
        counts = re.search(r"(\d+)/(\d+)", item.quote)
        if not item.metric.endswith("accuracy"):
            assert f"{item.value:.4f}" in item.quote
        elif counts and "Epoch [" not in item.quote:
            right, total = map(int, counts.groups())
            assert item.value == pytest.approx(right / total, abs=5e-5)
        else:
            assert f"{item.value * 100:.2f}%" in item.quote


def test_the_table_is_what_the_reports_text_prints_too() -> None:
    """The text has epochs of Task 2's and Task 3's notebooks; a few of each, typed from it."""
    fashion = load("fashion").numbers
    found = {(item.metric, item.epoch, item.series): item.value for item in fashion}
    for epoch, values in {1: (0.6557, 0.76, 0.4652, 0.8299), 20: (0.1689, 0.9364, 0.3091, 0.8972)}.items():
        for name, value in zip(("train_loss", "train_accuracy", "val_loss", "val_accuracy"), values, strict=True):
            assert found[name, epoch, ""] == pytest.approx(value)
    assert found["train_loss", 1, "the first training"] == 0.637946
    assert found["test_accuracy", 10, ""] == pytest.approx(0.8981)
    transfer = load("transfer").numbers
    found = {(item.metric, item.epoch, item.series): (item.value, item.quote) for item in transfer}
    assert found["train_loss", 170, ""] == (0.1336, "notebook cell 15, epoch 170: test loss 0.1336")
    assert found["train_accuracy", 168, ""] == (26 / 27, "notebook cell 15, epoch 168: 26 of 27 right")


def test_all_numbers_of_the_report_are_there() -> None:
    """Each row of the table of what its notebooks print is a number or a point of a curve, once."""

    def points(task: str, **where: object) -> set[tuple[str, int | None]]:
        items = load(task).numbers
        chosen = [item for item in items if all(getattr(item, key) == value for key, value in where.items())]
        assert len({(item.metric, item.epoch) for item in chosen}) == len(chosen)
        return {(item.metric, item.epoch) for item in chosen}

    def pairs(part: str, *epochs: int) -> set[tuple[str, int | None]]:
        return {(f"{part}_{kind}", epoch) for kind in ("loss", "accuracy") for epoch in epochs}

    assert points("mnist", series="") == pairs("test", *range(9))
    assert points("transfer", series="") == pairs("train", *range(171))
    assert points("transfer", series="the text's") == pairs("train", 3, 10)
    best = {("test_accuracy", 10), ("best_val_accuracy", 20), ("best_val_loss", 20)}
    assert points("fashion", series="") == best | pairs("train", *range(1, 21)) | pairs("val", *range(1, 21))
    assert points("fashion", series="the first training") == {
        (f"{part}_loss", epoch) for part in ("train", "val") for epoch in range(1, 11)
    }
    assert points("fashion", series="called test") == {("best_test_accuracy", 20)}
    assert len(points("heart")) == 5
    experiments = [load(task) for task in TRAINED]
    numbers = sum(len(item.numbers(mine.name)) for mine in experiments for item in mine.printed)
    curves = [item.points(mine.name) for mine in experiments for item in mine.curves]
    assert [len(points) for points in curves] == [282, 470, 340, 160, 800]
    assert numbers + sum(map(len, curves)) == 2519


@pytest.mark.parametrize("key", ["cell", "what"])
def test_a_row_that_the_table_has_not_is_told(key: str) -> None:
    given = {"cell": 13, "what": "right", "metric": "test_accuracy"} | {key: 99 if key == "cell" else "wrong"}
    with pytest.raises(InputError, match=r"report_printed\.csv: no row of task mnist, cell"):
        spec.Printed.model_validate(given).numbers("mnist")


@pytest.mark.parametrize("key", ["printed", "curves"])
def test_a_cell_that_the_table_has_not_is_told_before_anything_is_trained(key: str) -> None:
    text = (
        (FOLDER / "mnist.yaml")
        .read_text()
        .replace(
            "cell: 13, what: batch_loss" if key == "curves" else "cell: 13, what: test_loss", "cell: 99, what: right"
        )
    )
    with pytest.raises(InputError, match=rf"mine\.yaml: key '{key}\.0': .*cell 99"):
        spec.parse(text, "mine.yaml", spec.ClassifySpec, name="mnist")


def test_every_fault_says_what_it_is_and_every_doubt_what_is_unknown() -> None:
    faults = set()
    for task in TRAINED:
        experiment = load(task)
        items = [*experiment.numbers, *experiment.curves]
        for item in items:
            comparable, unknown = item.protocol(experiment.unknown_words)
            assert (comparable == "protocol unknown in part") == bool(unknown)
        faults |= {item.fault for item in items if item.fault}
    assert len(faults) == 6


def test_every_step_of_main_reads_its_own_file() -> None:
    for step in spec.load(FOLDER / "report.yaml", spec.ReportSpec).steps:
        assert spec.named(step.task, step.set).name == step.task
