"""Figures of a classifier's answers: which classes it takes for which, and its worst mistakes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trackdl.plots.common import image_grid, new_axes, short

_MOST_COUNTED, _MOST_NAMED = 30, 80  # classes: counts or names of more would be too small to read
_COLUMNS = 6


def confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix: a row for each true class, a column for each answer.

    A cell's colour is its share of the row, so that a rare class is seen as well as a frequent one.
    """
    side = min(12.0, max(3.2, 0.42 * len(classes) + 1.2))
    figure, axes = new_axes(side, side + 0.2, title)
    axes.grid(visible=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= _MOST_COUNTED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=7)
    if len(classes) <= _MOST_NAMED:
        names = [short(name) for name in classes]
        axes.set_xticks(range(len(classes)), names, fontsize=7, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(classes)), names, fontsize=7)
    axes.set(xlabel="Answer", ylabel="True class")
    return figure


def mistakes(pictures: NDArray[Any], said: Sequence[tuple[str, str, float]], title: str) -> Figure:
    """Draw images, as `image_grid` takes them, that were answered wrongly; of each its class, the answer and its share.

    The caller puts the worst one first: the mistake that the network was surest of.
    """
    captions = [f"{short(true)}, not\n{short(answer)} ({share:.0%})" for true, answer, share in said]
    return image_grid(pictures, captions, title, min(_COLUMNS, max(1, len(captions))))
