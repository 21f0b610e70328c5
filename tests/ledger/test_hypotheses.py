"""The hypotheses as the ledger tells them: judged where the table is whole, named as open where it is not."""

import pandas as pd
import pytest

from support import ROOT
from support.grids import EFFECTS, made_table, without_padding
from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.ledger.hypotheses import judged
from trackdl.ledger.model import HypothesisEntry
from trackdl.ledger.sources import SeedRun, Sources
from trackdl.spec import GridSpec
from trackdl.spec.ledger import Beside

GRID, PADDED = (spec.load(ROOT / "experiments" / f"{name}.yaml", GridSpec) for name in ("grid", "grid-padded"))


@pytest.fixture(scope="module")
def padded() -> pd.DataFrame:
    return made_table()


@pytest.fixture(scope="module")
def fits(padded: pd.DataFrame) -> pd.DataFrame:
    return without_padding(padded)


def ask(text: str | None, padded: pd.DataFrame | None = None) -> list[HypothesisEntry]:
    """Ask with these tables, or without."""
    tables = {} if text is None else {"grid": text}
    tables |= {} if padded is None else {"grid-padded": grid_table.to_csv(PADDED, padded)}
    sources = Sources(
        lambda query: [SeedRun(query.task, 0)] if query.task in tables else [],
        lambda _: None,  # type: ignore[arg-type, return-value]
        lambda run, _: tables[run].encode(),
    )
    beside = {"grid-padded": Beside(of="grid", words="With padding")}
    return judged({"grid": GRID, "grid-padded": PADDED}, beside, sources)


@pytest.mark.slow
def test_each_has_a_verdict_and_its_contrasts_and_twice_the_same(fits: pd.DataFrame, padded: pd.DataFrame) -> None:
    found = ask(grid_table.to_csv(GRID, fits), padded)
    assert len(found) == 7
    assert all(one.verdict for one in found)
    assert [len(one.contrasts) for one in found] == [1, 1, 1, 1, 1, 1, 3]
    for item in found:
        for one in item.contrasts:
            assert one.least < one.mean < one.most
            assert f"{one.high} against {one.low}: {one.mean:+.2f} points" in item.words
            assert f"(95 % interval {one.least:+.2f} to {one.most:+.2f}" in item.words
    assert found == ask(grid_table.to_csv(GRID, fits), padded)


def test_without_a_table_they_are_open_and_say_what_to_run(padded: pd.DataFrame) -> None:
    assert {(one.verdict, one.words, len(one.contrasts)) for one in ask(None, padded)} == {
        (None, "not run yet: `trackdl grid --file experiments/grid.yaml --export experiments/results`", 0)
    }


def open_words(found: list[HypothesisEntry]) -> str:
    """Return the words of hypotheses that are all open, for one reason."""
    ((verdict, words),) = {(one.verdict, one.words) for one in found}
    assert verdict is None
    return words


def test_a_table_that_lacks_a_fold_judges_nothing(fits: pd.DataFrame) -> None:
    assert "not judged: grid has no complete table" in open_words(ask(grid_table.to_csv(GRID, fits.iloc[:-1])))


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ("activation != 'tanh'", "72 rows are missing, and 0 are unknown"),
        ("grid == 'report'", "12 rows are missing"),
        ("fold < 2", "76 rows are missing"),
        ("not (filters == 32 and dropout == 0.3 and filter_size == 5 and activation == 'relu')", "6 rows are missing"),
    ],
)
def test_a_table_of_whole_cells_that_lacks_some_judges_nothing(kept: str, words: str, fits: pd.DataFrame) -> None:
    assert words in open_words(ask(grid_table.to_csv(GRID, fits.query(kept))))


def test_cells_that_nobody_asked_for_judge_nothing_either(fits: pd.DataFrame, padded: pd.DataFrame) -> None:
    more = fits[fits["filters"] == 32].assign(filters=64)
    found = ask(grid_table.to_csv(GRID, pd.concat([fits, more])))
    assert "0 rows are missing, and 114 are unknown" in open_words(found)
    assert "0 rows are missing, and 84 are unknown" in open_words(ask(grid_table.to_csv(GRID, padded)))


def test_a_table_without_its_impossible_combinations_judges_nothing(fits: pd.DataFrame) -> None:
    assert "28 rows are missing" in open_words(ask(fits.to_csv(index=False)))


def test_what_each_activation_says_and_what_pairs_share_stands_beside(fits: pd.DataFrame, padded: pd.DataFrame) -> None:
    words = {one.dimension: one.words for one in ask(grid_table.to_csv(GRID, fits), padded)}
    assert [name for name, said in words.items() if "By activation: relu" not in said] == ["Pool size", "Activation"]
    assert "all of them with activation relu, dense nodes 128, dropout 0.1, conv layers 2." in words["Pool size"]
    assert "This rests on 24 pairs, all of them with filter size 3." in words["Conv layers"]
    assert "This rests on 24 pairs, all of them with conv layers 2." in words["Filter size"]
    assert not [name for name in ("Filters", "Dropout", "Activation") if "rests on" in words[name]]


def test_the_grid_with_padding_has_a_sentence_and_decides_nothing(fits: pd.DataFrame) -> None:
    text = grid_table.to_csv(GRID, fits)
    turned = made_table(effects=EFFECTS | {"conv_layers": {3: -0.6}})
    alone, beside = ask(text), ask(text, turned)
    assert [one.verdict for one in beside] == [one.verdict for one in alone]
    last = {one.dimension: one.words.partition(" With padding (grid-padded, our variant) ")[2] for one in beside}
    assert last["Conv layers"].startswith("the verdict is contradicted: 3 against 2 -0.")
    assert last["Filters"].startswith("the verdict is the same: 32 against 16 +0.")
    assert last["Filters"].endswith(").")
    assert last["Activation"].count(" against ") == 3
    said = " With padding, our variant, it is not judged: grid-padded has no complete table."
    assert all(one.words.endswith(said) for one in alone)
    assert all(one.words.endswith(said) for one in ask(text, turned.iloc[:-1]))


def test_claims_are_of_accuracy_alone() -> None:
    assert not [one.claim for one in GRID.hypotheses if "overfit" in one.claim]
