"""The replay of searches on the grid's table: what it counts, and that it counts the same each time."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from support import ROOT
from support.grids import made_table
from trackdl import spec
from trackdl.analysis import grid_table

sys.path.insert(0, str(ROOT / "benchmarks"))

import search

TABLE = search.Table.of(made_table(noise=0.2))
SEARCHES = search.searches(least=1, factor=3, epochs=10)
optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_the_table_is_the_reports_grid() -> None:
    assert (len(TABLE.curves), len(TABLE.scores)) == (96, 96)
    assert TABLE.images == 96 * 3 * 10 * 32_000
    assert TABLE.values["pool_size"] == [2]
    rows = made_table(noise=0.2)
    own = rows[rows["grid"] == "report"].head(3)
    cell = tuple(own.iloc[0][list(TABLE.values)])
    assert TABLE.curves[cell].tolist() == own.iloc[0][[f"val_accuracy_{e}" for e in range(1, 11)]].tolist()
    assert TABLE.scores[cell] == pytest.approx(own["val_accuracy_10"].mean())


@pytest.mark.parametrize("name", SEARCHES)
def test_a_replay_is_the_seeds_own_and_arrives(name: str) -> None:
    one, again = (search.replay(TABLE, SEARCHES[name], 3) for _ in range(2))
    assert one == again
    assert one["arrived"]
    assert one["images"] <= one["trials"] * 320_000
    assert (one["images"] == one["trials"] * 320_000) == (one["pruned"] == 0)


def test_without_pruning_a_trial_costs_all_epochs_and_with_it_some_cost_less() -> None:
    assert search.replay(TABLE, SEARCHES["tpe"], 1)["pruned"] == 0
    found = [search.replay(TABLE, SEARCHES["tpe, halving"], seed, within=0.01) for seed in range(2)]
    assert all(one["pruned"] > 0 for one in found)


def test_what_is_near_enough_at_once_costs_one_trial() -> None:
    assert search.replay(TABLE, SEARCHES["random"], 0, within=50)["images"] == 320_000


def test_a_search_that_never_arrives_costs_the_whole_grid() -> None:
    # On the split that it sees, the best configuration is another than by the folds' mean, and it stays there.
    first = max(TABLE.scores, key=lambda cell: TABLE.scores[cell])
    misled = search.Table(
        TABLE.values, TABLE.curves | {first: np.zeros(10)}, TABLE.scores | {first: 0.99}, 20 * 320_000
    )
    found = search.replay(misled, SEARCHES["random"], 0)
    assert not found["arrived"]
    assert found["images"] == misled.images


def test_it_prints_one_json_object_or_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grid.csv"
    made_table(noise=0.2).to_csv(path, index=False)
    search.main(["--table", str(path), "--seeds", "3", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["searches"].keys() == SEARCHES.keys()
    for one in said["searches"].values():
        images = [seed["images"] for seed in one["seeds"]]
        assert one["median_images"] == sorted(images)[1]
        assert one["median_share"] == pytest.approx(sorted(images)[1] / said["grid_images"])
    search.main(["--table", str(path), "--seeds", "2"])
    assert f"{said['default']} (default)" in " ".join(capsys.readouterr().out.split())
    assert said["default"] in SEARCHES


def test_the_default_search_comes_near_the_grids_best_with_a_tenth_of_its_images() -> None:
    told = spec.load(ROOT / "experiments" / "search.yaml", spec.SearchSpec).study
    fits, _ = grid_table.read(ROOT / "experiments" / "results" / "grid-padded.csv")
    table = search.Table.of(fits)
    assert (len(table.scores), table.images) == (96, 96 * 3 * 10 * 32_000)
    found = search.measure(table, told, seeds=10)
    assert 0 < found["near"] < 96  # there is something to miss
    default = found["searches"][found["default"]]
    assert default["arrived"] == 10
    assert default["median_share"] <= search.WANTED
    assert search.WANTED == 0.1


@pytest.mark.parametrize("how", ["combined", "in turn", "until nothing changes"])
def test_one_key_at_a_time_finds_the_best_unless_keys_depend_on_each_other(how: str) -> None:
    values: list[list[Any]] = [[0, 1, 2], [0, 1]]
    alone = {(a, b): a + b / 10 for a in values[0] for b in values[1]}
    found, trained = search.one_at_a_time(alone, values, (0, 0), how)
    assert found == (2, 1)
    assert len(trained) == {"combined": 4, "in turn": 4, "until nothing changes": 6}[how]
    # The first key should be 2, but only beside a second key of 1.
    together = alone | {(2, 0): -1.0, (1, 0): -1.0, (0, 1): -1.0}
    assert search.one_at_a_time(together, values, (0, 0), how)[0] == (0, 0)


def test_the_strategies_are_judged_by_the_scores_that_they_do_not_see() -> None:
    found = search.strategies(TABLE)
    assert found["all combinations"]["median_trained"] == 96
    assert found["all combinations"]["median_share"] == pytest.approx(1 / 3)  # one fold of three
    best = max(TABLE.scores.values())
    seen = max(TABLE.curves, key=lambda cell: TABLE.curves[cell][-1])
    assert found["all combinations"]["median_points_lost"] == pytest.approx(100 * (best - TABLE.scores[seen]))
    assert {one["starts"] for name, one in found.items() if name != "all combinations"} == {96}
