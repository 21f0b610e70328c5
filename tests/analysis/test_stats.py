import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, ttest_1samp

from trackdl.analysis.stats import (
    calibration_curve,
    calibration_error,
    corrected_estimate,
    exact_interval,
    mean_interval,
    reliability,
)


def test_known_interval() -> None:
    # 95 of 200, the report's Task 4: by the beta quantiles that define the interval.
    low, high = exact_interval(95, 200)
    assert low == pytest.approx(beta.ppf(0.025, 95, 106))
    assert high == pytest.approx(beta.ppf(0.975, 96, 105))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_fraction_and_mirrors(counts: tuple[int, int]) -> None:
    right, total = counts
    low, high = exact_interval(right, total)
    assert 0 <= low <= right / total <= high <= 1
    mirrored = exact_interval(total - right, total)
    assert mirrored == (pytest.approx(1 - high, abs=1e-9), pytest.approx(1 - low, abs=1e-9))


def test_counts_that_do_not_fit_have_no_interval() -> None:
    try:
        bounds = exact_interval(5, 4)
    except ValueError:
        return  # SciPy before 1.18, as Python 3.11 has it
    assert np.isnan(bounds).all()


def test_the_interval_of_a_mean_is_that_of_the_t_test() -> None:
    values = [0.9064, 0.9101, 0.9088, 0.9079, 0.9112]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((expected.low, expected.high))
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([0.9])


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    intervals = [mean_interval(sample.tolist()) for sample in random.normal(0.9, 0.01, (2000, 5))]
    assert np.mean([low <= 0.9 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.015)


values = st.lists(st.floats(-1, 1), min_size=2, max_size=40)


def test_the_corrected_interval_is_nadeau_and_bengios() -> None:
    differences = [0.01, 0.03, -0.02, 0.04, 0.02]
    found = corrected_estimate(differences, 1 / 4)
    # By hand: s² = 0.00053, so the error is sqrt((1/5 + 1/4) · 0.00053), and t of 4 degrees at 97.5 % is 2.776445.
    error = ((1 / 5 + 1 / 4) * 0.00053) ** 0.5
    assert found.mean == pytest.approx(0.016)
    assert found.low == pytest.approx(0.016 - 2.776445 * error)
    assert found.high == pytest.approx(0.016 + 2.776445 * error)
    assert found.p > 0.05
    # The usual paired t test is the limit of no overlap.
    assert corrected_estimate(differences, 1e-12).p == pytest.approx(ttest_1samp(differences, 0).pvalue, rel=1e-6)


@given(values, st.floats(0.01, 1))
def test_a_difference_has_two_sides(differences: list[float], share: float) -> None:
    found, turned = corrected_estimate(differences, share), corrected_estimate([-v for v in differences], share)
    assert found.low <= found.mean <= found.high
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert turned.p == pytest.approx(found.p)
    if found.high > found.low:
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0) or found.p == pytest.approx(0.05)


def test_equal_results_leave_no_doubt() -> None:
    assert corrected_estimate([0.0] * 5, 0.1).p == 1
    assert corrected_estimate([0.5] * 5, 0.1).p == 0
    with pytest.raises(ValueError, match="two values"):
        corrected_estimate([0.1], 0.1)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60))
def test_the_reliability_table_holds_every_row_once(pairs: list[tuple[int, float]]) -> None:
    targets, probabilities = (np.array(column) for column in zip(*pairs, strict=True))
    table = reliability(targets, probabilities)
    assert sum(item.count for item in table) == len(pairs)
    assert sum(item.observed * item.count for item in table) == pytest.approx(targets.sum())
    assert 0 <= calibration_error(targets, probabilities) <= 1


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=130))
def test_a_calibration_curve_has_every_row_once_and_enough_in_each_bin(pairs: list[tuple[int, float]]) -> None:
    targets, probabilities = (np.array(column) for column in zip(*pairs, strict=True))
    curve = calibration_curve(targets, probabilities)
    assert sum(item.count for item in curve) == len(pairs)
    assert sum(item.observed * item.count for item in curve) == pytest.approx(targets.sum())
    assert sum(item.predicted * item.count for item in curve) == pytest.approx(probabilities.sum())
    assert min(item.count for item in curve) >= min(10, len(pairs))
    assert [item.predicted for item in curve] == sorted(item.predicted for item in curve)


def test_rows_of_one_probability_are_one_point_of_a_calibration_curve() -> None:
    targets = np.arange(200) % 2
    assert [item.count for item in calibration_curve(targets, np.linspace(0, 1, 200))] == [20] * 10
    assert [item.count for item in calibration_curve(targets, np.full(200, 0.5))] == [200]
    sure = np.repeat([0.0, 0.4, 1.0], [95, 10, 95])
    assert [item.count for item in calibration_curve(targets, sure)] == [95, 105]  # ten rows are too few of 200


def test_calibration_by_cases() -> None:
    targets = np.array([0, 1, 1, 1])
    assert calibration_error(targets, targets.astype(float)) == 0
    assert calibration_error(targets, np.full(4, 0.75)) == 0
    assert calibration_error(targets, 1.0 - targets) == 1
