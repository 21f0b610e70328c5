import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, ttest_1samp

from trackdl.stats import exact_interval, mean_interval


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


def test_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="k"):
        exact_interval(5, 4)


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
