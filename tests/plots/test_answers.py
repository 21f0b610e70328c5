"""The figures of answers show every count and every mistake that they are given."""

import io

import numpy as np
import pytest

from trackdl.plots import answers

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
