import numpy as np
import pandas as pd
import pytest

from support.grids import DIMENSIONS, EFFECTS, VALUES, made_table, without_padding
from trackdl.analysis import winners_curse
from trackdl.analysis.winners_curse import Optimism, best_cell, curse, expected_maximum
from trackdl.analysis.winners_curse import optimism as of_group


def optimism(table: pd.DataFrame) -> Optimism:
    """Return the optimism of a table whose errors are of each activation by itself."""
    found = of_group(table, "activation")
    assert found is not None
    return found


FIRST = {name: VALUES[name][0] for name in DIMENSIONS}
EQUAL = {name: {} for name in EFFECTS}


def test_the_largest_of_normal_numbers() -> None:
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(np.pi**-0.5)  # known in closed form
    assert expected_maximum(96) == pytest.approx(
        np.random.default_rng(0).normal(size=(20_000, 96)).max(axis=1).mean(), abs=0.02
    )


# Folds share half of their training pictures: then, as Nadeau and Bengio assume, a third of a fit's error lasts.
LASTING = 1 / 3
ERROR = 0.3 * (1 / 3 + 2 / 9) ** 0.5  # of a score, of which that third is not averaged away


def test_of_equals_the_best_flatters_itself_by_the_order_statistic() -> None:
    found = [optimism(made_table(seed, effects=EQUAL, common=0, lasting=LASTING)) for seed in range(12)]
    assert {one.peers for one in found} == {32}
    assert np.mean([one.noise for one in found]) == pytest.approx(ERROR, rel=0.12)
    assert np.mean([one.most for one in found]) == pytest.approx(expected_maximum(32) * ERROR, rel=0.12)
    # The best is of 96, not of its 32 peers; but the scores' own scatter passes in part for worth.
    assert 0.75 < np.mean([one.expected / one.most for one in found]) <= expected_maximum(96) / expected_maximum(32)


def test_an_activation_that_errs_more_leaves_the_winners_error_alone() -> None:
    quiet, loud = (
        np.mean([optimism(made_table(seed, common=0, lasting=LASTING, louder=louder)).noise for seed in range(8)])
        for louder in ({}, {"sigmoid": 4.0})
    )
    assert loud == pytest.approx(quiet)  # the winner is relu's


def test_a_configuration_that_is_far_from_its_model_hardly_is_drawn_in_where_others_are_quiet() -> None:
    """The loud ones' errors do not pass for the quiet ones'."""
    table = made_table(noise=0.05, common=0, louder={"sigmoid": 10.0})
    best = (table["activation"] == "relu") & (table["dropout"] == 0.3) & (table["filters"] == 16)
    best &= (table["filter_size"] == 3) & (table["dense_nodes"] == 128) & (table["conv_layers"] == 2)
    lifted = table.assign(val_accuracy_10=table["val_accuracy_10"] + 0.025 * best)
    found = optimism(lifted)
    assert (found.right, found.expected) == (pytest.approx(1, abs=0.05), pytest.approx(0, abs=0.05))


def test_the_expected_optimism_is_that_of_grids_whose_worth_is_known() -> None:
    truth = made_table(noise=0, common=0)
    worth = 100 * truth[truth["grid"] == "report"].groupby(list(DIMENSIONS))["val_accuracy_10"].mean()
    said, was = [], []
    for seed in range(40):
        table = made_table(seed, common=0, lasting=LASTING, louder={"sigmoid": 2.0})
        winner, score = best_cell(table)
        was.append(100 * score - worth[tuple(winner.values())])
        if seed < 8:
            said.append(optimism(table).expected)
    assert np.mean(said) == pytest.approx(np.mean(was), abs=0.07)


def test_a_grid_with_holes_flatters_itself_by_what_it_has() -> None:
    found = [
        optimism(without_padding(made_table(seed, effects=EQUAL, common=0, lasting=LASTING))) for seed in range(12)
    ]
    assert {one.peers for one in found} == {24}
    assert np.mean([one.noise for one in found]) == pytest.approx(ERROR, rel=0.15)
    assert np.mean([one.most for one in found]) == pytest.approx(expected_maximum(24) * ERROR, rel=0.15)
    exact = optimism(without_padding(made_table(noise=0, common=0)))
    assert (exact.expected, exact.right) == (pytest.approx(0, abs=1e-9), 1)


def test_without_error_there_is_no_luck() -> None:
    found = optimism(made_table(noise=0, common=0))
    assert (found.noise, found.expected) == pytest.approx((0, 0), abs=1e-9)
    assert found.right == 1


def test_the_winner_beside_the_reports_choice() -> None:
    table = made_table(noise=0, common=0)
    found = curse(table, FIRST, [0.91, 0.912, 0.914], [0.90, 0.901, 0.902], "activation")
    assert found.difference is not None
    assert found.winner == FIRST | {"filter_size": 5, "dense_nodes": 256, "filters": 32, "conv_layers": 3}
    assert (found.score, found.report_score) == (pytest.approx(0.9127), pytest.approx(0.9))
    better = table[(table["grid"] == "report") & (table["fold"] == 0)]["val_accuracy_10"] > 0.9 + 1e-9
    assert (found.report_rank, found.configurations) == (1 + better.sum(), 96)
    assert found.difference.mean == pytest.approx(1.1)
    assert found.difference.low < 1.1 < found.difference.high
    assert "91.20% (3 seeds" in found.words
    assert "was 1.27 points where it was selected and is +1.10 on the test images" in found.words
    assert "): it is better. Leads" in found.words
    assert "and tested, the winner has 91.20%" in found.words
    assert "were all 32 with relu equally good" in found.words


def test_where_the_winner_is_the_reports_choice_nothing_is_compared_with_itself() -> None:
    table = made_table(noise=0, common=0, effects=EQUAL)
    again = [0.91, 0.912, 0.914]
    found = curse(table, FIRST, again, again)
    assert (found.winner, found.report_rank) == (FIRST, 1)
    assert found.words.endswith("It is the report's choice as well, so there is no lead to compare.")
    assert "not shown to differ" not in found.words


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="occurs 0 times"):
        curse(made_table(), FIRST | {"filters": 64}, [0.9, 0.9], [0.9, 0.9])
    with pytest.raises(ValueError, match="two seeds"):
        curse(made_table(), FIRST, [0.9], [0.9, 0.9])


def test_without_a_choice_of_the_report_the_winner_stands_alone() -> None:
    found = curse(made_table(), None, [0.91, 0.912], [])
    assert "choice" not in found.words
    assert "were all 96 equally good" in found.words
    assert (found.report_score, found.report_rank, found.difference) == (None, None, None)


def test_what_was_trained_once_says_nothing_of_its_luck() -> None:
    once = made_table()
    once = once[once["fold"] == 0]
    assert of_group(once) is None
    assert (
        "how much of that is luck is not decidable, since each was trained once"
        in curse(once, FIRST, [0.91, 0.912], [0.9, 0.901]).words
    )


def test_seeds_without_any_spread_are_no_error() -> None:
    assert winners_curse._welch([0.5, 0.5], [0.5, 0.5]).p == 1
    apart = winners_curse._welch([0.6, 0.6], [0.5, 0.5])
    assert (apart.mean, apart.low, apart.high) == pytest.approx((10, 10, 10))
