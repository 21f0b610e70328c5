from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import t

from support.grids import DIMENSIONS, EFFECTS, VALUES, made_table, without_padding
from trackdl.analysis import contrasts
from trackdl.analysis.contrasts import compare, compare_within, matched
from trackdl.analysis.hypotheses import contrast_rows, contrast_words
from trackdl.analysis.stats import corrected_estimate, holm
from trackdl.plots.grid import interaction

TABLE = made_table()
FOUND = compare(TABLE, 0.25)
BINARY = [name for name in DIMENSIONS if len(VALUES[name]) == 2]


def by_values(found: list[contrasts.Contrast]) -> dict[tuple[object, ...], contrasts.Contrast]:
    return {(one.dimension, one.low, one.high): one for one in found}


def test_every_contrast_of_the_grid_with_its_pairs() -> None:
    found = by_values(FOUND)
    assert {key[0]: 48 for key in found if key[0] in BINARY} == dict.fromkeys(BINARY, 48)
    assert {key: one.pairs for key, one in found.items() if key[0] not in BINARY} == {
        ("activation", "relu", "sigmoid"): 32,
        ("activation", "relu", "tanh"): 32,
        ("activation", "sigmoid", "tanh"): 32,
        ("pool_size", 2, 3): 8,
    }
    assert [one.dimension for one in found.values() if one.ours] == ["pool_size"]


def test_known_effects_lie_in_their_intervals_and_large_ones_are_found() -> None:
    for (dimension, low, high), one in by_values(FOUND).items():
        truth = EFFECTS[dimension].get(high, 0.0) - EFFECTS[dimension].get(low, 0.0)
        assert one.accuracy.low < truth < one.accuracy.high
        assert (one.p_holm < 0.05) == (abs(truth) > 0.1)
        assert (one.p_equal < 0.05) == (abs(truth) < 0.1)
        assert one.ahead / one.pairs == pytest.approx(float(truth > 0), abs=0.5)


def test_training_time_is_the_pairs_ratio() -> None:
    found = by_values(FOUND)
    assert found["filters", 16, 32].seconds.mean == pytest.approx(1.8, rel=0.02)
    assert found["dropout", 0.1, 0.3].seconds.mean == pytest.approx(1, rel=0.02)
    ratio = found["filters", 16, 32].seconds
    assert ratio.low < 1.8 < ratio.high
    assert ratio.high / ratio.mean == pytest.approx(ratio.mean / ratio.low)


def test_overfitting_is_the_gap_of_the_losses() -> None:
    wider = TABLE.assign(val_loss_10=TABLE["val_loss_10"] + 0.05 * (TABLE["dense_nodes"] == 256))
    before, after = (by_values(rows)["dense_nodes", 128, 256].overfitting for rows in (FOUND, compare(wider, 0.25)))
    assert after.mean - before.mean == pytest.approx(0.05)
    assert after.low > 0


def test_matched_pairs_by_hand() -> None:
    report = TABLE[TABLE["grid"] == "report"]
    found = matched(report, "filters", 16, 32, report["val_accuracy_10"])
    assert found.shape == (48, 3)
    one = {"filter_size": 3, "dense_nodes": 128, "dropout": 0.1, "conv_layers": 2, "activation": "relu", "fold": 0}
    rows = report.loc[(report[list(one)] == pd.Series(one)).all(axis=1)].set_index("filters")["val_accuracy_10"]
    assert np.isclose(found[:, 0], rows[32] - rows[16]).any()


def test_one_contrast_alone_is_nadeau_and_bengios() -> None:
    # With nothing to pool, and folds that differ by more than their pairs do, only their means are left.
    table = made_table(noise=0.01, common=0.5)
    table = table[
        (table[["activation", "filter_size", "dense_nodes", "dropout", "filters"]] == ["relu", 3, 128, 0.1, 16]).all(
            axis=1
        )
        & (table["grid"] == "report")
    ]
    (one,) = compare(table, 0.25)
    differences = 100 * matched(table, "conv_layers", 2, 3, table["val_accuracy_10"])[0]
    expected = corrected_estimate(differences, 1 / 2)
    assert (one.pairs, one.accuracy.mean) == (1, pytest.approx(expected.mean))
    assert (one.accuracy.low, one.accuracy.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert one.p_holm == pytest.approx(expected.p)
    assert (one.ratio, one.factor) == (None, 1)
    assert (one.seconds.low, one.seconds.high > 1e300) == (0, True)  # one pair says nothing of its error


def test_equivalence_is_two_one_sided_tests() -> None:
    # At the 5 % level the two tests pass where the 90 % interval lies within the margin.
    for mean in (-0.2, -0.05, 0.0, 0.13, 0.15, 0.3):
        half = float(t.ppf(0.95, 16)) * 0.06
        inside = abs(mean) + half < 0.25
        assert (contrasts._equivalence(mean, 0.06, 16, 0.25) < 0.05) == inside
    assert contrasts._equivalence(0.0, 0.0, 16, 0.25) == 0
    assert contrasts._equivalence(0.3, 0.0, 16, 0.25) == 1


@pytest.mark.parametrize("common", [0.0, 0.06, 0.15])
def test_intervals_hold_the_truth_as_often_as_they_say(common: float) -> None:
    """Nine contrasts by 150 grids; the folds' common parts correlate by 1/3, as Nadeau and Bengio assume."""
    random = np.random.default_rng(3)
    held = []
    for _ in range(150):
        part = np.sqrt(1 / 3) * random.normal(size=(9, 1)) + np.sqrt(2 / 3) * random.normal(size=(9, 3))
        grids = common * part[:, None] + random.normal(0, 0.4, (9, 48, 3))
        held += [one.low < 0 < one.high for one, *_ in contrasts._estimates(list(grids), 9)]
    assert np.mean(held) > 0.95


def test_where_folds_differ_unlike_the_largest_is_too_sure_and_the_small_ones_are_not() -> None:
    """As the module's text says of ratios that are as far apart as the report's grid's."""
    random = np.random.default_rng(3)
    ratios = np.array([10, 7, 1, 1, 1, 1, 1, 3.5, 1])
    common = 0.4 * np.sqrt((ratios - 1) * 1.5 / 48)  # two thirds of a common part's variance show between folds
    held = []
    for _ in range(300):
        part = np.sqrt(1 / 3) * random.normal(size=(9, 1)) + np.sqrt(2 / 3) * random.normal(size=(9, 3))
        grids = (common[:, None] * part)[:, None] + random.normal(0, 0.4, (9, 48, 3))
        held.append([one.low < 0 < one.high for one, *_ in contrasts._estimates(list(grids), 9)])
    shares = np.mean(held, axis=0)
    assert 0.84 < shares[0] < 0.94
    assert shares[ratios == 1].min() > 0.98


def test_each_contrast_tells_its_own_folds_and_what_was_pooled() -> None:
    report = TABLE[TABLE["grid"] == "report"]
    one = by_values(FOUND)["filters", 16, 32]
    folds = 100 * matched(report, "filters", 16, 32, report["val_accuracy_10"]).mean(axis=0)
    expected = corrected_estimate(folds, 1 / 2)
    assert (one.alone.low, one.alone.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    factor = max(1, np.mean([found.ratio for found in FOUND]))
    assert [found.factor for found in FOUND] == pytest.approx([factor] * len(FOUND))


def test_what_all_pairs_have_in_common_is_told() -> None:
    shared = {one.dimension: one.shared for one in FOUND}
    assert shared.pop("pool_size") == {"activation": "relu", "dense_nodes": 128, "dropout": 0.1}
    assert list(shared.values()) == [{}] * len(shared)


def test_in_a_grid_with_holes_only_twins_are_compared_and_what_they_share_is_told() -> None:
    holed = by_values(compare(without_padding(TABLE), 0.25))
    assert {key: one.shared for key, one in holed.items() if one.shared} == {
        ("conv_layers", 2, 3): {"filter_size": 3},
        ("filter_size", 3, 5): {"conv_layers": 2},
        ("pool_size", 2, 3): {"activation": "relu", "dense_nodes": 128, "dropout": 0.1, "conv_layers": 2},
    }
    pairs = {dimension: one.pairs for (dimension, *_), one in holed.items()}
    assert pairs == {"conv_layers": 24, "filter_size": 24, "pool_size": 4, "activation": 24} | dict.fromkeys(
        ("dense_nodes", "dropout", "filters"), 36
    )
    both = TABLE[(TABLE["grid"] == "report") & (TABLE["filter_size"] == 3)]
    layers = 100 * matched(both, "conv_layers", 2, 3, both["val_accuracy_10"]).mean()
    assert holed["conv_layers", 2, 3].accuracy.mean == pytest.approx(layers)


def test_pairs_as_units_would_hold_it_less_often() -> None:
    """Why the folds are the units: the same grids, by a t interval over the pairs."""
    random = np.random.default_rng(4)
    part = 0.06 * (np.sqrt(1 / 3) * random.normal(size=(2000, 1)) + np.sqrt(2 / 3) * random.normal(size=(2000, 3)))
    pairs = (part[:, None] + random.normal(0, 0.4, (2000, 48, 3))).mean(axis=2)
    error = pairs.std(axis=1, ddof=1) / 48**0.5
    assert np.mean(np.abs(pairs.mean(axis=1)) < 2.01 * error) < 0.85


def test_the_order_of_rows_does_not_matter() -> None:
    for one, other in zip(FOUND, compare(TABLE.sample(frac=1, random_state=1), 0.25), strict=True):
        assert (one.dimension, one.low, one.high, one.pairs) == (other.dimension, other.low, other.high, other.pairs)
        assert one.accuracy.low == pytest.approx(other.accuracy.low)
        assert one.p_equal == pytest.approx(other.p_equal)


differences = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-2, 2))


@given(st.lists(differences, min_size=1, max_size=5))
def test_estimates_have_two_sides(grids: list[np.ndarray]) -> None:
    for (one, error, freedom), (turned, other, _) in zip(
        contrasts._estimates(grids, len(grids)),
        contrasts._estimates([-grid for grid in grids], len(grids)),
        strict=True,
    ):
        assert (turned.low, turned.high) == (pytest.approx(-one.high), pytest.approx(-one.low))
        assert (turned.p, other) == (pytest.approx(one.p), pytest.approx(error))
        assert one.low <= one.mean <= one.high
        assert freedom == 2 * len(grids)


@given(st.floats(-2, 2), st.floats(0.001, 1), st.integers(1, 100))
def test_a_larger_margin_makes_equivalence_no_less_certain(mean: float, error: float, freedom: int) -> None:
    found = [contrasts._equivalence(mean, error, freedom, margin) for margin in (0.1, 0.25, 0.5, 1, 3)]
    assert all(one >= other for one, other in pairwise(found))


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_lies_between_each_and_bonferroni(values: list[float]) -> None:
    found = holm(values)
    assert len(found) == len(values)
    for p, adjusted in zip(values, found, strict=True):
        assert p <= adjusted <= min(1, len(values) * p) or adjusted == max(found)
    assert sorted(found) == [found[place] for place in np.argsort(values, kind="stable")]


def test_of_one_pair_and_one_training_no_interval_is_told() -> None:
    own = ["conv_layers"]
    pair = TABLE[(TABLE["fold"] == 0)]
    for name in ("activation", "dense_nodes", "dropout", "filter_size", "filters", "pool_size"):
        pair = pair[pair[name] == pair[name].iloc[0]]
    (contrast,) = [one for one in compare(pair, 0.25) if one.dimension in own]
    assert contrast.pairs == 1
    words = contrast_words(contrast, 0.25)
    assert "(interval unknown)" in words
    assert len(words) < 250
    assert all(len(cell) < 40 for row in contrast_rows([contrast])[1] for cell in row)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's own steps


def test_within_a_value_an_effect_may_turn_around() -> None:
    turned = (TABLE["conv_layers"] == 3) & (TABLE["activation"] == "sigmoid")
    table = TABLE.assign(val_accuracy_10=TABLE["val_accuracy_10"] - 0.02 * turned)
    found = {value: by_values(own) for value, own in compare_within(table, "activation", 0.25).items()}
    layers = {value: own["conv_layers", 2, 3] for value, own in found.items()}
    assert {value: (one.accuracy.mean > 0, one.pairs) for value, one in layers.items()} == {
        "relu": (True, 16),
        "sigmoid": (False, 16),
        "tanh": (True, 16),
    }
    assert ("pool_size", 2, 3) in found["relu"]
    assert ("pool_size", 2, 3) not in found["tanh"]


def test_a_table_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ValueError, match=r"relu, 3, 128, 0\.1, 16, 2, 2 has the folds \[1, 2\]; each of \[0, 1, 2\]"):
        compare(TABLE.drop(index=0), 0.25)
    with pytest.raises(ValueError, match=r"has the folds \[0, 0, 1, 2\]"):
        compare(pd.concat([TABLE, TABLE.head(1)]), 0.25)
    with pytest.raises(ValueError, match="not finite"):
        compare(TABLE.assign(val_loss_3=np.nan), 0.25)
    with pytest.raises(ValueError, match="margin"):
        compare(TABLE, 0.0)


def test_an_interaction_in_a_grid_with_holes_is_of_balanced_configurations() -> None:
    # Layers cost much here, and only filters of 3×3 have three: their mean must not be of these.
    table = without_padding(made_table(noise=0, common=0, effects=EFFECTS | {"conv_layers": {3: -5.0}}))
    means, strength = interaction(table, "filter_size", "activation")
    assert means.shape == (2, 3)
    assert strength == pytest.approx(0, abs=1e-9)
    two = table[(table["grid"] == "report") & (table["conv_layers"] == 2)]
    expected = two.groupby(["filter_size", "activation"])["val_accuracy_10"].mean().unstack()
    assert means.to_numpy() == pytest.approx(expected.to_numpy())
    means, strength = interaction(table, "filter_size", "conv_layers")
    assert means.shape == (2, 2)
    assert means.isna().all(axis=None)
    assert np.isnan(strength)


def test_an_interaction_is_what_goes_beyond_both_effects() -> None:
    assert interaction(made_table(noise=0, common=0), "filters", "filter_size")[1] == pytest.approx(0, abs=1e-9)
    table = made_table(noise=0, common=0)
    both = (table["filters"] == 32) & (table["activation"] == "sigmoid")
    means, strength = interaction(
        table.assign(val_accuracy_10=table["val_accuracy_10"] + 0.03 * both), "filters", "activation"
    )
    assert means.shape == (2, 3)
    # 3 points in one of six cells: the rest is ±1, ±0.5 and ±0.5 points.
    assert strength == pytest.approx((np.mean([1, 0.25, 0.25])) ** 0.5)
