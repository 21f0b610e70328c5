"""Grids of a user's own experiment: other keys, other judges, and no report's choice."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.grid_fits import afresh, made_up, never, timed
from support.grid_runs import SPACE, calls, experiment, here, stands_once
from trackdl.analysis import grid_table
from trackdl.errors import InputError
from trackdl.spec import GridSpec
from trackdl.studies.grid import work
from trackdl.tasks import grid

pytestmark = pytest.mark.usefixtures("own_studies", "tracking")

HYPOTHESES = [
    {"dimension": "network.dropout", "quote": "q", "claim": "more dropout is better", "accuracy": "higher"},
    {"dimension": "dropout", "quote": "q", "claim": "0.3 is best", "accuracy": {"best": 0.3}},
]
PICTURES = {"accuracy_against_time", "learning_curves", "effects", "importances", "interactions"}


def run(told: GridSpec, export: Path | None = None) -> grid.Result:
    return grid.run(told, 1, export, made_up, afresh, timed, here)


def verdicts(result: grid.Result, folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(result.run.fetch("verdicts.json", folder).read_text())
    return content


def test_a_grid_without_a_choice_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(experiment(choice=None, title="Signs"), tmp_path / "results")
    said = grid.show(result) + capsys.readouterr().out
    assert "choice" not in said
    assert "Signs" in said
    origin = json.loads((tmp_path / "results" / "grid.json").read_text())
    assert "choice" not in origin["fresh"]
    assert "report_failures" not in origin
    assert len((tmp_path / "tested").read_text().splitlines()) == 5  # the best alone


def test_another_choice_has_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    cell = {name: values[-1] for name, values in SPACE.items()}
    result = run(experiment(choice=cell, choice_words="the authors' favourite"))
    summary = grid.show(result)
    assert "the authors' favourite 32.00%, place 2" not in summary
    assert "; the authors' favourite 4" in summary
    assert "The authors' favourite came out number 2 with" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.draws
@pytest.mark.parametrize(("judge", "part"), [("test", "test"), ("validation", "val")])
def test_with_one_fit_each_all_is_drawn_and_nothing_decided(
    judge: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(experiment(judge=judge, hypotheses=HYPOTHESES), tmp_path / "results")
    stands_once(result, folds=1)
    assert f"{part}_accuracy_2" in result.table.columns
    assert f"best_{part}_accuracy" in result.run.info.data.metrics
    assert set(result.run.artifacts("pictures")) == {f"pictures/{name}.png" for name in PICTURES}
    found = verdicts(result, tmp_path)
    assert {one["verdict"] for one in found["hypotheses"]} == {"not decidable"}
    assert found["contrasts"][0]["accuracy"]["low"] is None
    assert found["winner"]["optimism"] is None
    grid.show(result)
    said = " ".join(capsys.readouterr().out.split())
    assert "is not decidable, since each was trained once" in said
    assert ("Every figure above was judged on the test images" in said) == (judge == "test")
    assert bool(found["remark"]) == (judge == "test")
    fits, impossible = grid_table.read(tmp_path / "results" / "grid.csv")
    grid_table.check_whole(result.experiment, fits, impossible)


@pytest.mark.slow
def test_several_seeds_take_the_folds_place(tmp_path: Path) -> None:
    result = run(experiment(judge="test", seeds=3, hypotheses=HYPOTHESES))
    stands_once(result, folds=3)
    assert sorted(result.table["seed"].unique()) == [1, 2, 3]
    found = verdicts(result, tmp_path)
    assert [one["verdict"] for one in found["hypotheses"]] == ["supported", "supported"]
    assert found["winner"]["optimism"]["peers"] == 4


@pytest.mark.slow
@pytest.mark.draws
def test_one_at_a_time_trains_the_base_cell_and_its_neighbours(tmp_path: Path) -> None:
    space = SPACE | {"training.batch_size": [10, 20, 30]}
    told = experiment(strategy="one_at_a_time", space=space, hypotheses=HYPOTHESES)
    result = run(told)
    stands_once(result, cells=5)
    assert len(calls(tmp_path)) == 15 - 6  # the stand-ins do not see the batch size
    found = {one.dimension: one.pairs for one in result.conclusions.contrasts}
    assert found == {"activation": 1, "dropout": 1, "batch_size": 1}
    assert {"pictures/interactions.png", "pictures/effects.png"} <= set(result.run.artifacts("pictures"))
    assert grid.show(result)


@pytest.mark.slow
def test_epochs_may_be_a_dimension_and_each_cell_ends_with_its_own(tmp_path: Path) -> None:
    space = {"network.dropout": [0.1, 0.3], "training.epochs": [1, 3]}
    result = run(experiment(space=space), tmp_path / "results")
    stands_once(result)
    fits, impossible = grid_table.read(tmp_path / "results" / "grid.csv")
    grid_table.check_whole(result.experiment, fits, impossible)
    assert fits.groupby("epochs")["val_accuracy_3"].count().to_dict() == {1: 0, 3: 6}
    best = grid_table.best_cells(fits, "report")
    assert best["score"].max() == pytest.approx(0.3 + 0.2 + 0.01)
    assert best["epochs"][0] == 3
    assert grid.run(result.experiment, 1, None, never, afresh, timed, here).run.id == result.run.id


@pytest.mark.slow
def test_a_dimension_of_words_and_numbers_is_read_back(tmp_path: Path) -> None:
    space = {"network.padding": ["none", "same", 3], "network.dropout": [0.1, 0.3]}
    result = run(experiment({"data.size": 28}, space=space), tmp_path / "results")
    stands_once(result, cells=6)
    fits, impossible = grid_table.read(tmp_path / "results" / "grid.csv")
    grid_table.check_whole(result.experiment, fits, impossible)
    assert {(one.low, one.high) for one in result.conclusions.contrasts if one.dimension == "padding"} == {
        ("3", "none"),
        ("3", "same"),
        ("none", "same"),
    }


def test_images_whose_size_only_the_files_tell_are_read_before_cells_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    random = np.random.default_rng(0)
    parts = {
        f"x_{part}": random.integers(0, 256, (count, 12, 12), np.uint8) for part, count in (("train", 60), ("test", 9))
    }
    labels = {f"y_{part}": np.arange(count) % 3 for part, count in (("train", 60), ("test", 9))}
    np.savez(tmp_path / "signs.npz", **parts, **labels)
    told = experiment(space={"network.pool_size": [2, 4]}, choice=None)
    content = told.model_dump() | {"experiment": told.experiment.model_dump() | {"data": {"npz": "signs.npz"}}}
    result = run(GridSpec.model_validate(content))
    assert [cell for cell, _ in result.experiment.impossible("report")] == [{"pool_size": 4}]
    stands_once(result, cells=1)


def test_real_fits_of_scikit_learns_digits(tmp_path: Path) -> None:
    layers = [
        {"conv": 4, "size": 3},
        "relu",
        {"pool": "pool"},
        "flatten",
        {"dense": "hidden"},
        "relu",
        {"dense": "classes"},
    ]
    content = experiment().model_dump() | {
        "name": "tiny",
        "judge": {"by": "folds", "folds": 2},
        "space": {"network.with.hidden": [8, 16], "network.with.pool": [2, 7], "training.epochs": [1, 2]},
        "choice": None,
        "timing": {"batches": 2, "repeats": 1},
        "fresh_seeds": 2,
    }
    content["experiment"] |= {
        "data": {"sklearn": "digits", "per_class": 20},
        "network": {"layers": layers, "with": {"hidden": 8, "pool": 2}},
    }
    result = grid.run(GridSpec.model_validate(content), 1, tmp_path / "results", engine=here)
    stands_once(result, cells=4, folds=2)
    assert len(result.experiment.impossible("report")) == 4
    assert result.table.groupby("hidden")["parameters"].first().to_dict() == {
        8: 40 + 36 * 8 + 8 + 90,
        16: 40 + 36 * 16 + 16 + 170,
    }
    assert (tmp_path / "results" / "tiny.csv").is_file()
    assert "tiny, 4 of the grid's 8 configurations are possible: best " in grid.show(result)


def test_a_grid_of_a_class_too_small_for_its_folds_says_so() -> None:
    told = experiment({"data.per_class": 2, "data.validation": None})
    with pytest.raises(InputError, match="judge: 3 folds: a class has 2 images"):
        grid.run(told, 1, engine=here)


@pytest.mark.slow
def test_a_study_is_not_continued_on_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    run(experiment())
    run(experiment())
    monkeypatch.setattr(work, "digest_of", lambda _: "of other images")
    with pytest.raises(InputError, match=r"the images are not those that the study grid-report-.* began with"):
        run(experiment())
