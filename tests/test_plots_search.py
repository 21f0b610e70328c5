"""The search's pictures show what they are given: every epoch of a lone trial, every trial of a front."""

import pytest

from trackdl import plots_search

LONE = [0.5, 0.7, 0.8]


@pytest.mark.parametrize("complete", [False, True])
def test_a_lone_trial_is_drawn_whole(complete: bool) -> None:
    low, high = plots_search.courses([(3, LONE, complete)], "Trial 3").axes[0].get_ylim()
    assert low < min(LONE)
    assert high > max(LONE)


def test_of_several_the_best_is_drawn_whole_and_one_that_learnt_nothing_does_not_press_them_together() -> None:
    trials = [(0, [0.1, 0.1], False), (1, [0.6, 0.8], True), (2, [0.7, 0.9], True)]
    low, _ = plots_search.courses(trials, "study").axes[0].get_ylim()
    assert low == pytest.approx(0.7 - 0.02)
    low, _ = (
        plots_search.courses([(0, [0.1], False), (1, [0.6, 0.8], False), (2, [0.7], False)], "study").axes[0].get_ylim()
    )
    assert low == pytest.approx(0.7 - 0.02)
