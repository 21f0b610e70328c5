import numpy as np
import pytest

from grids import EFFECTS, VALUES, made_table
from trackdl.selection import best_cell, curse, expected_maximum, optimism
from trackdl.spec_grid import DIMENSIONS

FIRST = {name: VALUES[name][0] for name in DIMENSIONS}
EQUAL = {name: {} for name in EFFECTS}


def test_the_largest_of_normal_numbers() -> None:
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(np.pi**-0.5)  # known in closed form
    assert expected_maximum(96) == pytest.approx(
        np.random.default_rng(0).normal(size=(20_000, 96)).max(axis=1).mean(), abs=0.02
    )


def test_of_equals_the_best_flatters_itself_by_the_order_statistic() -> None:
    found = [optimism(made_table(seed, effects=EQUAL, common=0)) for seed in range(6)]
    assert np.mean([one.noise for one in found]) == pytest.approx(0.3 / 3**0.5, rel=0.05)
    assert np.mean([one.most for one in found]) == pytest.approx(2.48 * 0.3 / 3**0.5, rel=0.05)
    # The scores' own scatter passes in part for worth, so it is less than the most, but not by much.
    assert 0.75 < np.mean([one.expected / one.most for one in found]) <= 1


def test_the_expected_optimism_is_that_of_grids_whose_worth_is_known() -> None:
    truth = made_table(noise=0, common=0)
    worth = 100 * truth[truth["grid"] == "report"].groupby(list(DIMENSIONS))["val_accuracy_10"].mean()
    said, was = [], []
    for seed in range(40):
        table = made_table(seed, common=0)
        winner, score = best_cell(table)
        was.append(100 * score - worth[tuple(winner.values())])
        if seed < 8:
            said.append(optimism(table).expected)
    assert np.mean(said) == pytest.approx(np.mean(was), abs=0.06)


def test_without_error_there_is_no_luck() -> None:
    found = optimism(made_table(noise=0, common=0))
    assert (found.noise, found.expected, found.regret) == pytest.approx((0, 0, 0), abs=1e-9)
    assert found.right == 1


def test_the_winner_beside_the_reports_choice() -> None:
    table = made_table(noise=0, common=0)
    found = curse(table, FIRST, [0.91, 0.912, 0.914], [0.90, 0.901, 0.902])
    assert found.winner == FIRST | {"filter_size": 5, "dense_nodes": 256, "filters": 32, "conv_layers": 3}
    assert (found.score, found.report_score) == (pytest.approx(0.9127), pytest.approx(0.9))
    better = table[(table["grid"] == "report") & (table["fold"] == 0)]["val_accuracy_10"] > 0.9 + 1e-9
    assert (found.report_rank, found.configurations) == (1 + better.sum(), 96)
    assert found.difference.mean == pytest.approx(1.1)
    assert found.difference.low < 1.1 < found.difference.high
    assert "91.20% (3 seeds" in found.words
    assert "was 1.27 points where it was selected and is +1.10 on the test pictures" in found.words
    assert "): it is better. Leads" in found.words


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="stands 0 times"):
        curse(made_table(), FIRST | {"filters": 64}, [0.9, 0.9], [0.9, 0.9])
    with pytest.raises(ValueError, match="two seeds"):
        curse(made_table(), FIRST, [0.9], [0.9, 0.9])
