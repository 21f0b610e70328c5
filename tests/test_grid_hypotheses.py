"""The hypotheses as the ledger tells them: judged where the table is whole, named as open where it is not."""

import base64
from pathlib import Path

import pandas as pd
import pytest

from conftest import ROOT
from grids import made_table
from trackdl import spec
from trackdl.grid_hypotheses import told
from trackdl.spec import GridSpec

GRID = spec.load(ROOT / "experiments" / "grid.yaml", GridSpec)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return made_table()


def test_each_has_a_verdict_and_a_picture_and_twice_the_same(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "grid.csv", index=False)
    found = told(GRID, tmp_path / "grid.csv")
    assert len(found) == 7
    assert all(one.verdict for one in found)
    assert all(base64.b64decode(one.figure.partition(",")[2])[1:4] == b"PNG" for one in found)
    assert found == told(GRID, tmp_path / "grid.csv")


def test_without_a_table_they_are_open_and_say_what_to_run(tmp_path: Path) -> None:
    found = told(GRID, tmp_path / "grid.csv")
    assert {(one.verdict, one.words, one.figure) for one in found} == {
        (None, "not run yet: `trackdl grid --export experiments/results`", "")
    }


def test_a_table_that_lacks_a_fold_judges_nothing(table: pd.DataFrame, tmp_path: Path) -> None:
    table.iloc[:-1].to_csv(tmp_path / "grid.csv", index=False)
    found = told(GRID, tmp_path / "grid.csv")
    assert {one.verdict for one in found} == {None}
    assert all("no whole grid's table" in one.words for one in found)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ("activation != 'tanh'", "96 are missing, and 0 are none of them"),
        ("grid == 'report'", "24 are missing"),
        ("fold < 2", "104 are missing"),
        ("not (filters == 32 and dropout == 0.3 and filter_size == 5 and activation == 'relu')", "12 are missing"),
    ],
)
def test_a_table_of_whole_cells_that_lacks_some_judges_nothing(
    kept: str, words: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.query(kept).to_csv(tmp_path / "grid.csv", index=False)
    found = told(GRID, tmp_path / "grid.csv")
    assert {one.verdict for one in found} == {None}
    assert all(words in one.words for one in found)


def test_cells_that_nobody_asked_for_judge_nothing_either(table: pd.DataFrame, tmp_path: Path) -> None:
    more = table[table["filters"] == 32].assign(filters=64)
    pd.concat([table, more]).to_csv(tmp_path / "grid.csv", index=False)
    assert all("0 are missing, and 156 are none of them" in one.words for one in told(GRID, tmp_path / "grid.csv"))


def test_what_each_activation_says_stands_beside(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "grid.csv", index=False)
    words = {one.dimension: one.words for one in told(GRID, tmp_path / "grid.csv")}
    assert [name for name, said in words.items() if "By activation: relu" not in said] == ["Pool size", "Activation"]
    assert "all of them with activation relu, dense nodes 128, dropout 0.1." in words["Pool size"]


def test_claims_are_of_accuracy_alone() -> None:
    assert not [one.claim for one in GRID.hypotheses if "overfit" in one.claim]
