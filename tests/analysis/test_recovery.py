"""Candidates judged by printed numbers: a report is assigned to the candidate that it was drawn from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackdl.analysis.recovery import EXACT, Recovery, reach, recover

Values = NDArray[np.float64]
SEEDS, POINTS, SPREAD = 5, 12, 0.01


def trainings(rng: np.random.Generator, mean: float, count: int = SEEDS, shared: float = 0.7) -> Values:
    """Return trainings whose numbers move together: `shared` is the share of the variance that a training's has."""
    own = rng.normal(size=(count, POINTS)) * (1 - shared) ** 0.5
    return mean + SPREAD * (own + rng.normal(size=(count, 1)) * shared**0.5)


def judged(rng: np.random.Generator, truth: float, *means: float, shared: float = 0.7) -> Recovery:
    printed = trainings(rng, truth, 1, shared)[0]
    return recover(printed, [trainings(rng, mean, shared=shared) for mean in means], [0] * POINTS)


def test_a_report_is_assigned_to_the_candidate_that_it_is_of() -> None:
    rng = np.random.default_rng(1)
    for truth, means in ((0.5, (0.5, 0.53)), (0.53, (0.5, 0.53))):
        right = [judged(rng, truth, *means).log_likelihoods.argmax() == means.index(truth) for _ in range(100)]
        assert sum(right) >= 85


def test_candidates_that_do_not_differ_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(2)
    ratios = [np.ptp(judged(rng, 0.5, 0.5, 0.5).log_likelihoods) for _ in range(200)]
    assert np.mean(np.array(ratios) > np.log(32)) < 0.05  # Royall: 1/32 at most, were the likelihoods exact


@pytest.mark.parametrize(("shared", "least", "most"), [(1.0, 1.0, 1.001), (0.0, 7.5, 12.0), (0.9, 1.0, 2.0)])
def test_numbers_count_as_many_as_are_independent(shared: float, least: float, most: float) -> None:
    rng = np.random.default_rng(3)
    found = recover(np.full(POINTS, 0.5), [trainings(rng, 0.5, 20, shared) for _ in range(2)], [0] * POINTS)
    assert least <= found.effective[0] <= most


def test_independent_numbers_count_no_more_than_there_are_residuals() -> None:
    rng = np.random.default_rng(4)
    values = [rng.normal(size=(3, 500)) for _ in range(2)]  # 2 × (3 - 1) residuals
    assert recover(np.zeros(500), values, [0] * 500).effective[0] <= 4.5


def test_numbers_that_no_seed_changes_count_as_one() -> None:
    rng = np.random.default_rng(5)
    values = np.hstack([np.ones((SEEDS, 30)), rng.normal(0.5, SPREAD, (SEEDS, 1))])
    found = recover(np.ones(31), [values, values], [0] * 31)
    assert found.effective[0] == pytest.approx(31**2 / (30**2 + 1))
    assert np.isfinite(found.log_likelihoods).all()


def test_seeds_that_are_all_equal_are_judged_by_the_printed_digits() -> None:
    found = recover(np.array([0.9]), [np.full((3, 1), 0.9), np.full((3, 1), 0.91)], [0])
    assert found.weights[0] > 0.99
    rough = recover(np.array([0.9]), [np.full((3, 1), 0.9), np.full((3, 1), 0.91)], [0], exact=0.05)
    assert 0.5 < rough.weights[0] < 0.55
    assert rough.fit >= rough.own_fit[0] - 1e-9  # what is ours is printed as coarsely


def test_trainings_of_the_report_are_independent() -> None:
    rng = np.random.default_rng(6)
    values = [np.tile(trainings(rng, mean, shared=1.0)[:, :1], 2) for mean in (0.5, 0.52)]
    printed = np.array([0.5, 0.5])
    once, twice = (recover(printed, values, groups) for groups in ([0, 0], [0, 1]))
    assert (once.effective, twice.effective) == ([pytest.approx(1)], [1.0, 1.0])
    assert np.ptp(twice.log_likelihoods) == pytest.approx(2 * np.ptp(once.log_likelihoods))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shift=st.floats(-50, 50),
    factor=st.floats(0.01, 100),
    candidates=st.integers(1, 4),
    worse=st.floats(0.1, 1),
)
def test_weights_are_shares_that_no_unit_changes_and_distance_lowers(
    seed: int, shift: float, factor: float, candidates: int, worse: float
) -> None:
    rng = np.random.default_rng(seed)
    values = [trainings(rng, 0.5 + 0.02 * place) for place in range(candidates)]
    printed = trainings(rng, 0.5, 1)[0]
    found = recover(printed, values, [0] * POINTS)
    assert found.weights.sum() == pytest.approx(1)
    assert ((found.inside >= 0) & (found.inside <= 1)).all()
    in_other_units = recover(
        shift + factor * printed, [shift + factor * own for own in values], [0] * POINTS, EXACT * factor
    )
    np.testing.assert_allclose(in_other_units.weights, found.weights, rtol=1e-4, atol=1e-9)
    assert in_other_units.effective == pytest.approx(found.effective)
    more = recover(printed, [*values, values[0] + worse], [0] * POINTS)
    assert more.weights[-1] < 0.5 * more.weights[0]
    assert more.log_likelihoods.argmax() != candidates


def test_of_further_trainings_95_percent_are_within_reach() -> None:
    rng = np.random.default_rng(7)
    inside = [abs(rng.normal() - (own := rng.normal(size=(5, 1))).mean()) <= reach(own)[0] for _ in range(3000)]
    assert 0.935 < np.mean(inside) < 0.965


def test_a_report_that_is_like_no_candidate_is_less_like_them_than_their_own() -> None:
    rng = np.random.default_rng(8)
    foreign, own = judged(rng, 0.8, 0.5, 0.52), judged(rng, 0.5, 0.5, 0.8)
    assert foreign.fit < foreign.own_fit[0]
    assert own.fit > own.own_fit[0] - 2
    assert own.recognised == (10, 10)
    assert foreign.weights.sum() == pytest.approx(1)


def test_a_candidate_that_diverges_is_not_judged_and_the_others_are_as_without_it() -> None:
    rng = np.random.default_rng(9)
    one, other = trainings(rng, 0.5), trainings(rng, 0.52)
    lost = trainings(rng, 0.5)
    lost[:3, -1] = [np.nan, np.inf, np.nan]
    printed = trainings(rng, 0.5, 1)[0]
    with_it, without = (recover(printed, values, [0] * POINTS) for values in ([lost, one, other], [one, other]))
    assert (with_it.weights[0], with_it.log_likelihoods[0]) == (0, -np.inf)
    assert np.isnan(with_it.inside[0])
    np.testing.assert_array_equal(with_it.weights[1:], without.weights)
    assert (with_it.effective, with_it.recognised) == (without.effective, without.recognised)


def test_a_training_that_diverges_lowers_its_candidates_likelihood_by_its_share() -> None:
    rng = np.random.default_rng(10)
    own, printed = trainings(rng, 0.5), trainings(rng, 0.5, 1)[0]
    more = np.vstack([own, np.full((1, POINTS), np.nan)])
    plain, lowered = (recover(printed, [values], [0] * POINTS).log_likelihoods[0] for values in (own, more))
    assert lowered == pytest.approx(plain + np.log(5 / 6))


@pytest.mark.parametrize("values", [np.zeros((2, 1)), np.full((5, 1), np.nan)])
def test_what_cannot_be_judged_is_refused(values: Values) -> None:
    with pytest.raises(ValueError, match="three trainings"):
        recover(np.zeros(1), [values], [0])
    with pytest.raises(ValueError, match="printed numbers"):
        recover(np.zeros(0), [np.zeros((3, 0))], [])


def test_no_training_of_ours_is_judged_by_itself() -> None:
    rng = np.random.default_rng(11)
    alike = [recover(np.zeros(8), list(rng.normal(size=(2, 3, 8))), [0] * 8).recognised for _ in range(60)]
    assert sum(right for right, _ in alike) < 0.58 * sum(tried for _, tried in alike)  # candidates do not differ


def test_a_training_of_ours_is_printed_as_coarsely_as_the_report() -> None:
    rng = np.random.default_rng(12)
    found = recover(np.array([0.9]), [0.945 + 1e-6 * rng.normal(size=(5, 1))], [0], exact=0.05)
    assert found.fit > found.own_fit[0]
