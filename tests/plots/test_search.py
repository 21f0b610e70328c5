"""The search's pictures show what they are given: every epoch of a lone trial, every trial of a front."""

import io
from itertools import pairwise

import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from trackdl.plots import common
from trackdl.plots import search as plots_search

pytestmark = pytest.mark.draws

LONE = [0.5, 0.7, 0.8]


@pytest.mark.parametrize("complete", [False, True])
def test_a_lone_trial_is_drawn_whole(complete: bool) -> None:
    low, high = plots_search.learning_curves([(3, LONE, complete)], "Trial 3").axes[0].get_ylim()
    assert low < min(LONE)
    assert high > max(LONE)


def test_of_several_the_best_is_drawn_whole_and_one_that_learnt_nothing_does_not_press_them_together() -> None:
    trials = [(0, [0.1, 0.1], False), (1, [0.6, 0.8], True), (2, [0.7, 0.9], True)]
    low, _ = plots_search.learning_curves(trials, "study").axes[0].get_ylim()
    assert low == pytest.approx(0.7 - 0.02)
    low, _ = (
        plots_search.learning_curves([(0, [0.1], False), (1, [0.6, 0.8], False), (2, [0.7], False)], "study")
        .axes[0]
        .get_ylim()
    )
    assert low == pytest.approx(0.7 - 0.02)


def test_a_trial_that_learnt_nothing_leaves_no_room_above_either() -> None:
    trials = [(0, [0.1, 0.1], False), (1, [0.86, 0.92], True), (2, [0.85, 0.925], True)]
    low, high = plots_search.learning_curves(trials, "study").axes[0].get_ylim()
    assert 0.925 < high < 0.925 + 0.1 * (high - low)


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png")
    return figure


def hides_nothing(figure: Figure) -> bool:
    """Say whether no legend lies over axes."""
    legends = [child for part in (figure, *figure.axes) for child in part.get_children() if isinstance(child, Legend)]
    boxes = [legend.get_window_extent() for legend in legends]
    return bool(boxes) and not any(axes.bbox.overlaps(box) for axes in figure.axes for box in boxes)


def test_no_legend_lies_over_trials() -> None:
    trials = [(0, [0.8, 0.9, 0.91], True), (1, [0.8, 0.82, 0.8], True), (2, [0.5], False)]
    assert hides_nothing(drawn(plots_search.learning_curves(trials, "study")))
    assert hides_nothing(drawn(plots_search.pareto([(30, 0.9), (80, 0.8)], [(30, 0.9)], "study")))


FRONT = [(90.0, 0.92), (31.0, 0.88), (40.0, 0.9)]
BEATEN = [(95.0, 0.87), (45.0, 0.9), (60.0, 0.89)]


def test_every_trial_and_the_front_as_a_line_are_drawn_in_units() -> None:
    figure = plots_search.pareto(BEATEN + FRONT, FRONT, "study")
    (axes,) = figure.axes
    (trials,) = axes.collections
    assert trials.get_offsets().tolist() == [list(point) for point in BEATEN + FRONT]
    (line,) = axes.lines
    assert line.get_xydata().tolist() == [list(point) for point in sorted(FRONT)]
    assert line.get_linestyle() == "-"
    low, high = axes.get_ylim()
    assert low < 0.87 < 0.92 < high
    low, high = axes.get_xlim()
    assert low < 31 < 95 < high
    assert axes.get_xlabel() == "Training time, processor seconds"
    assert axes.get_ylabel() == "Validation accuracy, %"


@pytest.mark.parametrize("last", [33.0, 90.0, 250.0, 3100.0, 31_000.0])
def test_seconds_are_labelled_in_plain_numbers_few_enough_to_read(last: float) -> None:
    (axes,) = drawn(plots_search.pareto([(31.0, 0.9), (last, 0.91)], [(31.0, 0.9), (last, 0.91)], "study")).axes
    low, high = axes.get_xlim()
    texts = [*axes.get_xticklabels(), *axes.get_xticklabels(minor=True)]
    seen = [text for text in texts if text.get_text() and low <= text.get_position()[0] <= high]
    assert 2 <= len(seen) <= 12
    for text in seen:
        assert float(text.get_text()) == pytest.approx(text.get_position()[0])
    boxes = sorted((text.get_window_extent() for text in seen), key=lambda box: float(box.x0))
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_accuracies_a_quarter_of_a_point_apart_are_labelled_as_they_are() -> None:
    points = [(30.0, 0.92), (60.0, 0.9275)]
    (axes,) = drawn(plots_search.pareto(points, points, "study")).axes
    for text in axes.get_yticklabels():
        assert float(text.get_text()) == pytest.approx(100 * text.get_position()[1])


def test_a_single_epoch_is_a_whole_number_on_its_axis() -> None:
    (axes,) = drawn(plots_search.learning_curves([(3, [0.5], False)], "Trial 3")).axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_a_legend_names_no_pruned_trials_where_there_are_none() -> None:
    whole, cut = (0, [0.8, 0.9], True), (1, [0.7], False)
    for trials, said in (([whole, whole], False), ([whole, cut], True)):
        (legend,) = plots_search.learning_curves(trials, "study").legends
        assert ("pruned, failed or stopped" in [text.get_text() for text in legend.get_texts()]) is said


@pytest.mark.parametrize("name", [r"costs $1 and $2", r"$\frac$", "50 % $x_$"])
def test_a_name_is_no_formula(name: str) -> None:
    figure = common.accuracy_bars([name], [0.5], [(0.4, 0.6)], name, name)
    figure.savefig(file := io.BytesIO(), format="svg")
    drawn = file.getvalue().decode()
    assert f"<!-- {name} -->" in drawn
