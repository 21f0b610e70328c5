"""Every file in experiments/ is whole, and its numbers are those that the report prints."""

import re
from pathlib import Path

import pytest

from trackdl import spec

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
KINDS = {spec.task_of(kind): kind for kind in spec.Experiment.__args__}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_file_is_valid_and_named_for_its_task(path: Path) -> None:
    experiment = spec.load(path, KINDS[path.stem])
    assert experiment.task == path.stem
    assert path.read_text().startswith("# ")
    assert spec.parse(spec.to_yaml(experiment), path.name, KINDS[path.stem]) == experiment


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


def test_every_step_of_main_reads_its_own_file() -> None:
    for step in spec.load(FOLDER / "main.yaml", spec.MainSpec).steps:
        spec.load(FOLDER / f"{step.task}.yaml", KINDS[step.task], step.set)
