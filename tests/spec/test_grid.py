"""A grid's file: spaces over any keys of an experiment, cells, judges; and what is wrong is named."""

from pathlib import Path
from typing import Any

import pytest

from trackdl import spec
from trackdl.errors import InputError
from trackdl.spec import GridSpec
from trackdl.spec.cells import reported_cells

SIGNS = """
task: classify
title: The signs
data: {sklearn: digits, validation: 0.2}
network:
  layers: [{conv: maps, size: 3, padding: same}, relu, {pool: pool}, flatten, {dense: hidden}, relu, {dense: classes}]
  with: {maps: 4, hidden: 32, pool: 2}
training: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: 0.1}, seed: 1}
unknown: the seed
"""
GRID = """
task: grid
of: signs
space: {network.with.hidden: [32, 50], training.epochs: [2, 3], training.optimizer.lr: [0.1, 0.01]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a report's folder with an experiment to vary."""
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    (tmp_path / "signs.yaml").write_text(SIGNS)
    return tmp_path


def read(text: str, **overrides: Any) -> GridSpec:
    return spec.parse(text, "grid.yaml", GridSpec, {key.replace("__", "."): value for key, value in overrides.items()})


def said(text: str, **overrides: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(text, **overrides)
    return str(caught.value)


def test_a_space_is_over_keys_of_another_experiment_by_their_short_names() -> None:
    grid = read(GRID + "set: {training.batch_size: 64}\n")
    assert list(grid.names) == ["hidden", "epochs", "lr"]
    cells = grid.cells("report")
    assert (len(cells), cells[0], cells[1]["lr"]) == (8, {"hidden": 32, "epochs": 2, "lr": 0.1}, 0.01)
    cell = grid.of_cell({"hidden": 50, "epochs": 3, "lr": 0.01})
    assert cell.network.model_dump()["with"] == {"maps": 4, "hidden": 50, "pool": 2}
    assert (cell.training.epochs, cell.training.batch_size, cell.training.optimizer.lr) == (3, 64, 0.01)
    assert (cell.name, cell.title) == ("signs", "The signs")


def test_a_resolved_file_is_whole_and_options_change_its_experiment(folder: Path) -> None:
    grid = read(GRID, training__batch_size=16)
    assert grid.experiment.training.batch_size == 16
    text = spec.to_yaml(grid)
    (folder / "signs.yaml").unlink()
    again = read(text)
    assert again == grid
    assert again.study("report") == grid.study("report")
    assert read(text, training__batch_size=8).experiment.training.batch_size == 8
    assert "the seed" not in text  # the numbers and gaps of the report's own training are not the grid's


def test_a_study_is_named_for_what_makes_its_cells_comparable() -> None:
    name = read(GRID).study("report")
    for same in ({"training__seed": 5}, {"training__device": "cpu"}, {"training__epochs": 9}, {"margin": 1.0}):
        assert read(GRID, **same).study("report") == name
    for other in (
        {"training__batch_size": 5},
        {"judge": "test"},
        {"data__validation": 0.3},
        {"strategy": "one_at_a_time"},
    ):
        assert read(GRID, **other).study("report") != name


def test_one_at_a_time_varies_a_base_cell() -> None:
    grid = read(GRID + "strategy: one_at_a_time\nbase: {network.with.hidden: 50}\n")
    base = {"hidden": 50, "epochs": 2, "lr": 0.1}  # what base leaves out is the experiment's
    assert grid.cells("report") == [base, base | {"hidden": 32}, base | {"epochs": 3}, base | {"lr": 0.01}]


def test_a_base_cell_outside_of_the_space_is_refused() -> None:
    assert said(GRID + "strategy: one_at_a_time\nbase: {training.epochs: 7}\n") == (
        "grid.yaml: space: training.epochs: the base cell's 7 is not in [2, 3]"
    )
    assert "training.optimizer.lr: the base cell's 0.5 is not in" in said(
        GRID + "strategy: one_at_a_time\nset: {training.optimizer.lr: 0.5}\n"
    )
    assert "base: training.epoch: no dimension of the space; did you mean 'training.epochs'?" in said(
        GRID + "strategy: one_at_a_time\nbase: {training.epoch: 2}\n"
    )
    assert "base is a key of the strategy one_at_a_time" in said(GRID + "base: {training.epochs: 2}\n")


def test_cells_that_are_no_networks_are_counted_with_the_reason() -> None:
    grid = read("task: grid\nof: signs\nspace: {network.with.pool: [2, 8, 9], training.batch_size: [16, 32]}\n")
    assert len(grid.cells("report")) == 4
    assert [cell for cell, _ in grid.impossible("report")] == [{"pool": 9, "batch_size": size} for size in (16, 32)]
    words = "layer 3 (pool: pool) gets 4 channels of 8×8 pixels: "
    assert all(reason.startswith(words) for _, reason in grid.impossible("report"))
    assert "every combination of report is impossible; the first fails at layer 3" in said(
        "task: grid\nof: signs\nspace: {network.with.pool: [9]}\n"
    )


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (
            "{network.with.hiden: [1]}",
            "space: network.with.hiden: unknown key; did you mean 'hidden'? The keys here are",
        ),
        ("{training.epoch: [1]}", "space: training.epoch: unknown key; did you mean 'epochs'?"),
        (
            "{network.filters: [1]}",
            "space: network.filters: unknown key; did you mean 'layers'? The keys here are layers, with",
        ),
        ("{training.epochs: [1, 2.5]}", "space: training.epochs: input should be a valid integer, but is 2.5"),
        ("{training.epochs: [1, two]}", "space: training.epochs: input should be a valid integer, but is 'two'"),
        ("{training.optimizer.name: [sgd, sdg]}", "space: training.optimizer.name: input should be 'sgd', 'adam'"),
        ("{training.epochs: [1, 2, 1]}", "space: training.epochs lists a value twice: [1, 2, 1]"),
        ("{data.sklearn: [digits]}", "space: data.sklearn: must be a key of network or training, and not the seed"),
        ("{training.seed: [1]}", "must be a key of network or training, and not the seed"),
        ("{training.epochs: []}", "key 'space.training.epochs'"),
        ("{training.epochs: [[1]]}", "must be one value: a number, a word, true or false"),
        ("{training.epochs: [1, .nan]}", "must be one value"),
        ("{}", "key 'space'"),
    ],
)
def test_a_wrong_space_is_named(space: str, words: str) -> None:
    assert words in said(f"task: grid\nof: signs\nspace: {space}\n")


def test_the_places_of_a_list_are_keys(folder: Path) -> None:
    mlp = SIGNS.replace("network:\n", "network: {family: mlp, hidden: [8, 4]}\n").splitlines()
    (folder / "signs.yaml").write_text("\n".join(line for line in mlp if not line.startswith("  ")))
    grid = read("task: grid\nof: signs\nspace: {network.hidden.0: [16, 32], training.epochs: [1, 2]}\n")
    assert [grid.of_cell(cell).network.hidden for cell in grid.cells("report")[::2]] == [[16, 4], [32, 4]]
    assert list(grid.names) == ["hidden.0", "epochs"]
    whole = said("task: grid\nof: signs\nspace: {network.hidden: [16, 32]}\n")
    assert "network.hidden is a list; name a place in it, e.g. network.hidden.0" in whole
    beyond = said("task: grid\nof: signs\nspace: {network.hidden.7: [16, 32]}\n")
    assert "network.hidden.7: unknown key; The keys here are 0, 1" in beyond


def test_too_many_cells_are_refused_before_any_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GridSpec, "_reason", lambda *_: pytest.fail("a cell was made"))
    values = list(range(1, 101))
    space = f"{{training.epochs: {values}, training.batch_size: {values}, network.with.hidden: {values}}}"
    assert said(f"task: grid\nof: signs\nspace: {space}\n") == (
        "grid.yaml: space: 1,000,000 cells; there may be 10,000"
    )


def test_eleven_dimensions_are_too_many() -> None:
    keys = ["epochs", "batch_size", "shuffle", "schedule", "label_smoothing", "precision", "optimizer.lr"]
    keys += ["optimizer.momentum", "optimizer.dampening", "optimizer.nesterov", "optimizer.l2"]
    space = {f"training.{key}": [1] for key in keys}
    assert "key 'space'" in said(f"task: grid\nof: signs\nspace: {space}\n")


def test_names_that_would_be_the_same_have_their_section_in_front() -> None:
    space = "{training.precision: [float32], network.with.pool: [2], training.optimizer.name: [sgd]}"
    grid = read(f"task: grid\nof: signs\nspace: {space}\n")
    assert list(grid.names) == ["training.precision", "pool", "name"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("judge: validations", "key 'judge': input should be 'folds', 'validation' or 'test', but is 'validations'"),
        ("judge: {folds: 1}", "judge.folds"),
        ("judge: validation\nset: {data.validation: null}", "judge: validation needs data.validation"),
        ("seeds: 3", "seeds: each fold has a seed of its own"),
        ("choice: last", "must be first, or the cell's values by key"),
        ("choice: {training.epochs: 3}", "must be a whole cell of the space"),
        ("choice: {hidden: 33, epochs: 2, lr: 0.1}", "must be a whole cell of the space"),
        ("group: activation", "group: activation: no dimension of the space"),
        ("faults: true", "faults: only a space over the dimensions activation, conv_layers"),
        ("further: {pool: {training.epochs: [1]}}", "further.pool: must have the keys of space"),
        ("hypotheses: [{dimension: epoch, quote: q, claim: c, accuracy: higher}]", "did you mean 'epochs'?"),
        ("hypotheses: [{dimension: lr, quote: q, claim: c, accuracy: {best: 1}}]", "best: 1 is not in the space"),
        ("hypotheses: [{dimension: lr, quote: q, claim: c, accuracy: {beste: 1}}]", "or {best: VALUE}"),
        ("hypotheses: [{dimension: lr, quote: q, claim: c, accuracy: best}]", "{best: VALUE}"),
        ("set: {training.epohcs: 3}", "set: key 'training.epohcs': unknown key; did you mean 'epochs'?"),
        ("set: {training.epochs.x: 3}", "set: 'epochs' is not a section"),
        ("experiment: {}", "key 'of'"),
    ],
)
def test_what_else_is_wrong_is_named(more: str, words: str) -> None:
    found = said(GRID + more + "\n")
    assert words in found
    assert found.startswith("grid.yaml: ")


def test_an_experiment_that_is_not_there_or_of_another_kind_is_named(folder: Path) -> None:
    assert "grid.yaml: of: " in said(GRID.replace("signs", "sings"))
    assert "sings.yaml: cannot be read" in said(GRID.replace("signs", "sings"))
    (folder / "grid.yaml").write_text(GRID)
    assert "key 'task': must be 'classify', but is 'grid'" in said(GRID.replace("signs", "grid"))
    assert "key 'of': must be the name of an experiment in" in said(GRID.replace("of: signs", ""))


def test_hypotheses_are_on_keys_or_short_names_and_peaks_are_kept() -> None:
    text = "hypotheses: [{dimension: training.optimizer.lr, quote: q, claim: c, accuracy: {best: 0.1}}]\n"
    grid = read(GRID + text)
    assert (grid.hypotheses[0].best, grid.short(grid.hypotheses[0].dimension)) == (0.1, "lr")
    assert read(spec.to_yaml(grid)) == grid


def test_the_remark_is_of_grids_that_are_judged_on_test_images() -> None:
    grid = read(GRID + "judge: test\nseeds: 4\n")
    assert (grid.fits, grid.part) == (4, "test")
    assert grid.remark.startswith("judged on the test images that")
    assert (read(GRID).fits, read(GRID).part, read(GRID).remark) == (3, "val", "")
    assert (read(GRID + "judge: validation\n").fits, read(GRID + "judge: validation\n").part) == (1, "val")


CELLS = """\
run_id,lr,training.epochs,hidden,test_acc,test_loss,seconds
1,0.1,2,32,0.8612,0.39781,28.5
2,0.010,3,50,,0.5,
"""


def told(folder: Path, text: str) -> Any:
    (folder / "cells.csv").write_text(text, encoding="utf-8-sig")
    return reported_cells(read(GRID + "reported_table: cells.csv\n"))


def test_printed_numbers_are_matched_to_cells(folder: Path) -> None:
    found = [(one.row, one.cell["hidden"], one.metric, one.value, one.text) for one in told(folder, CELLS)]
    assert found == [
        (2, 32, "test_accuracy", 0.8612, "0.8612"),
        (2, 32, "test_loss", 0.39781, "0.39781"),
        (2, 32, "seconds", 28.5, "28.5"),
        (3, 50, "test_loss", 0.5, "0.5"),
    ]
    assert told(folder, CELLS)[3].cell == {"hidden": 50, "epochs": 3, "lr": 0.01}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.8612", "86.12", "line 2, column 'test_accuracy': must be a fraction, 0 to 1, but is '86.12'"),
        ("0.39781", "low", "line 2, column 'test_loss': must be a number, but is 'low'"),
        (
            "2,0.010,3,50",
            "2,0.02,3,50",
            "line 3: the grid has no such cell that is a network: hidden 50, epochs 3, lr 0.02",
        ),
        ("2,0.010,3,50", "2,0.1,2,32", "line 3: the same cell as line 2"),
        ("hidden,", "hiden,", "column 'hiden': did you mean 'hidden'?"),
        ("test_loss", "test_lost", "column 'test_lost': did you mean 'test_loss'?"),
        ("hidden,test_acc", "run,test_acc", "the column 'hidden' is missing"),
        ("test_loss", "test_acc", "column 'test_acc' is there twice"),
        (",28.5", "", "line 2: has 6 fields, and the header 7"),
    ],
)
def test_a_wrong_table_of_cells_is_named(old: str, new: str, words: str, folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        told(folder, CELLS.replace(old, new))
    assert words in str(caught.value)
    assert str(folder / "cells.csv") in str(caught.value)


def test_a_missing_table_of_cells_is_named_when_the_grid_is_read(folder: Path) -> None:
    (folder / "grid.yaml").write_text(GRID + "reported_table: cells.csv\n")
    with pytest.raises(InputError, match=r"cells\.csv: cannot be read"):
        spec.load(folder / "grid.yaml", GridSpec)
