"""Every file in experiments/ is whole, and its numbers are those that the report prints."""

import re
from pathlib import Path

import pytest

from trackdl import spec

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
KINDS = {spec.task_of(kind): kind for kind in spec.Experiment.__args__}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_file_is_valid_and_named_for_its_task(path: Path) -> None:
    kind = KINDS[path.stem.partition("-")[0]]
    experiment = spec.load(path, kind)
    assert experiment.task == path.stem.partition("-")[0]
    assert path.read_text().startswith("# ")
    assert spec.parse(spec.to_yaml(experiment), path.name, kind) == experiment


@pytest.mark.parametrize("task", [task for task, kind in KINDS.items() if issubclass(kind, spec.TrainedSpec)])
def test_published_numbers_are_in_their_quotes(task: str) -> None:
    reported = spec.load(FOLDER / f"{task}.yaml", KINDS[task]).reported
    assert reported
    for item in reported:
        counts = re.search(r"(\d+)/(\d+)", item.quote)
        if not item.metric.endswith("accuracy"):
            assert f"{item.value:.4f}" in item.quote
        elif counts and "Epoch [" not in item.quote:
            right, total = map(int, counts.groups())
            assert item.value == pytest.approx(right / total, abs=5e-5)
        else:
            assert f"{item.value * 100:.2f}%" in item.quote


def test_the_reports_table_of_task_2_is_whole_and_each_number_from_its_own_column() -> None:
    table = [item for item in spec.load(FOLDER / "fashion.yaml", spec.FashionSpec).reported if "Epoch [" in item.quote]
    columns = {
        "train_loss": "Train Loss",
        "train_accuracy": "Train Acc",
        "val_loss": "Val Loss",
        "val_accuracy": "Val Acc",
    }
    assert {(item.metric, item.epoch) for item in table} == {
        (name, epoch) for name in columns for epoch in range(1, 21)
    }
    assert len(table) == 80
    for item in table:
        assert item.quote.startswith(f"Epoch [{item.epoch}/20] ")
        (printed,) = re.findall(rf"{columns[item.metric]}: ([\d.]+)", item.quote)
        shown = f"{item.value * 100:.2f}" if item.metric.endswith("accuracy") else f"{item.value:.4f}"
        assert printed == shown


def test_all_numbers_of_the_report_are_there() -> None:
    """Each task's points, as the report's text and notebooks print them."""

    def points(task: str, **where: object) -> set[tuple[str, int | None]]:
        items = spec.load(FOLDER / f"{task}.yaml", KINDS[task]).reported
        chosen = [item for item in items if all(getattr(item, key) == value for key, value in where.items())]
        assert len({(item.metric, item.epoch) for item in chosen}) == len(chosen)
        return {(item.metric, item.epoch) for item in chosen}

    def pairs(part: str, *epochs: int) -> set[tuple[str, int | None]]:
        return {(f"{part}_{kind}", epoch) for kind in ("loss", "accuracy") for epoch in epochs}

    assert points("mnist") == pairs("test", *range(9))
    assert points("transfer", series="") == pairs("train", 0, 1, 3, 5, 10, 168, 169, 170)
    assert points("transfer", series="the text's") == pairs("train", 3, 10)
    best = {("test_accuracy", 10), ("best_val_accuracy", 20), ("best_val_loss", 20)}
    assert best < points("fashion", series="")
    assert points("fashion", series="called test") == {("best_test_accuracy", 20)}
    assert len(points("heart")) == 3


def test_every_fault_says_what_it_is_and_every_doubt_what_is_unknown() -> None:
    faults = set()
    for kind in KINDS.values():
        if issubclass(kind, spec.TrainedSpec):
            experiment = spec.load(FOLDER / f"{spec.task_of(kind)}.yaml", kind)
            for item in experiment.reported:
                comparable, unknown = experiment.protocol_of(item)
                assert (comparable == "protocol unknown in part") == bool(unknown)
            faults |= {item.fault for item in experiment.reported if item.fault}
    assert len(faults) == 4


def test_every_step_of_main_reads_its_own_file() -> None:
    for step in spec.load(FOLDER / "main.yaml", spec.MainSpec).steps:
        spec.load(FOLDER / f"{step.task}.yaml", KINDS[step.task], step.set)
