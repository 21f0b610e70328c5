"""The grid's table: fits and impossible combinations, written and read back; whole or refused."""

from pathlib import Path

import pandas as pd
import pytest

from support import ROOT
from support.grids import made_table, without_padding
from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.spec import GridSpec

EXPERIMENTS = {name: spec.load(ROOT / "experiments" / f"{name}.yaml", GridSpec) for name in ("grid", "grid-padded")}
GRID = EXPERIMENTS["grid"]
FITS = without_padding(made_table(noise=0.1))
THIRD = "layer 3 of 3: 4×4 pixels are left, a filter without padding takes 5×5"


def test_what_is_written_is_read_back_with_its_types(tmp_path: Path) -> None:
    fits = FITS.assign(seed=2**62 + FITS["fold"])  # no floating-point number holds it
    text = grid_table.to_csv(GRID, fits)
    (tmp_path / "grid.csv").write_text(text, encoding="utf-8")
    for source in (tmp_path / "grid.csv", text.encode()):
        found, impossible = grid_table.read(source)
        pd.testing.assert_frame_equal(found, fits)
        assert impossible["grid"].value_counts().to_dict() == {"report": 24, "pool": 4}
        report = impossible[impossible["grid"] == "report"]
        assert set(report["impossible"]) == {THIRD}
        assert (report[["filter_size", "conv_layers"]] == [5, 3]).all(axis=None)
        grid_table.check_whole(GRID, found, impossible)


def test_a_row_of_an_impossible_combination_says_nothing_else() -> None:
    lines = grid_table.to_csv(GRID, FITS).splitlines()
    assert len(lines) == 1 + 228 + 28
    assert lines[0].endswith(",impossible")
    assert lines[1].endswith(",")
    assert lines[229] == f'report,relu,5,128,0.1,16,3,2{"," * (lines[0].count(",") - 7)}"{THIRD}"'


def test_a_table_from_before_there_were_impossible_combinations_is_read() -> None:
    padded = made_table(noise=0.1)
    found, impossible = grid_table.read(padded.to_csv(index=False).encode())
    pd.testing.assert_frame_equal(found, padded)
    assert impossible.empty
    grid_table.check_whole(EXPERIMENTS["grid-padded"], found, impossible)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_committed_tables_are_whole(name: str) -> None:
    found, impossible = grid_table.read(ROOT / "experiments" / "results" / f"{name}.csv")
    grid_table.check_whole(EXPERIMENTS[name], found, impossible)


def test_the_padded_grids_studies_keep_their_names() -> None:
    padded = EXPERIMENTS["grid-padded"]
    assert [padded.study(grid) for grid in padded.grids] == ["grid-report-6012540d", "grid-pool-335c3664"]
    assert padded.grids == GRID.grids
    assert [padded.impossible(grid) for grid in padded.grids] == [[], []]


def test_what_is_not_whole_is_refused() -> None:
    fits, impossible = grid_table.read(grid_table.to_csv(GRID, FITS).encode())
    other = impossible.assign(impossible=impossible["impossible"].mask(impossible.index == 0, "no reason"))
    for rows, holes, words in (
        (fits.iloc[1:], impossible, "1 rows are missing, and 0 are unknown; the first is report, relu, 3, 128, 0.1"),
        (pd.concat([fits, fits.tail(2)]), impossible, "0 rows are missing, and 2 are unknown"),
        (fits, impossible.iloc[1:], "1 rows are missing, and 0 are unknown; the first is report, relu, 5, 128, 0.1"),
        (fits, pd.concat([impossible, impossible.head(1)]), "0 rows are missing, and 1 are unknown"),
        (fits, other, "1 rows are missing, and 1 are unknown"),
    ):
        with pytest.raises(ValueError, match=words):
            grid_table.check_whole(GRID, rows, holes)
