"""The figures of answers show every count and every mistake that they are given."""

import io

import numpy as np
import pytest

from trackdl.plots import answers, classifiers
from trackdl.plots.common import image_grid

pytestmark = pytest.mark.draws


def test_each_count_is_written_and_a_rare_class_is_coloured_like_a_frequent_one() -> None:
    counts = np.array([[90, 10, 0], [0, 0, 0], [0, 0, 1]])
    figure = answers.confusion(counts, ["alpha", "beta", "gamma"], "Answers")
    figure.savefig(io.BytesIO())
    (axes,) = figure.axes
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "90"),
        ((1, 0), "10"),
        ((2, 2), "1"),
    }
    assert np.asarray(axes.images[0].get_array()).tolist() == [[0.9, 0.1, 0], [0, 0, 0], [0, 0, 1]]


def test_each_mistake_says_what_it_is_and_what_the_network_said() -> None:
    said = [("alpha", "beta", 0.98), ("gamma", "alpha", 0.5)]
    figure = answers.mistakes(np.zeros((2, 28, 28)), said, "Mistakes")
    figure.savefig(io.BytesIO())
    assert [axes.get_title() for axes in figure.axes] == ["alpha, not\nbeta (98%)", "gamma, not\nalpha (50%)"]


def test_wrong_images_alone_are_framed() -> None:
    figure = image_grid(np.zeros((3, 28, 28)), ["a", "b, not\nc", "d"], "Images", 3, [1])
    framed = [axes.spines["left"].get_visible() for axes in figure.axes]
    assert framed == [False, True, False]


def test_a_points_rows_are_counted_and_the_sides_of_a_confusion_matrix_are_named() -> None:
    targets, probabilities = np.arange(95) % 2, np.linspace(0, 1, 95)
    figure = classifiers.calibration_panels({"all": {"a model": (targets, probabilities)}}, "Calibration", "1")
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == "Each point is of 10 rows or more"
    judged = {"a model": (targets, targets)}
    figure = classifiers.confusion_grid(judged, ["no", "yes"], "Test rows", 6)
    assert (figure.get_supylabel(), figure.get_supxlabel()) == ("True class", "Answer")


def test_a_class_is_drawn_as_it_is_named() -> None:
    targets = np.arange(10) % 2
    figure = classifiers.confusion_grid({"a model": (targets, targets)}, [r"$\frac$", "b$x"], "Test rows", 6)
    figure.savefig(file := io.BytesIO(), format="svg")
    drawn = file.getvalue().decode()
    assert r"<!-- $\frac$ -->" in drawn
    assert "<!-- b$x -->" in drawn
