"""Figures, from results alone: nothing here trains, loads or logs.

Colours are those of Okabe and Ito (2008), which people with colour blindness tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

__all__ = ["accuracy_bars", "epoch_curves", "fold_curves", "loss_curves", "picture_grid"]

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
FOLD_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")

Points = Sequence[tuple[int, float]]


def picture_grid(pictures: NDArray[Any], captions: Sequence[str], title: str, columns: int) -> Figure:
    """Draw grey pictures, [n, height, width], in rows of `columns`, a caption over each (report, Task 1)."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture, cmap="gray", interpolation="none")
        axes.set_title(caption, fontsize=9)
        axes.set_axis_off()
    return figure


def loss_curves(train: Points, test: Points, title: str, test_label: str = "Test loss") -> Figure:
    """Draw the training loss a batch and the test loss an epoch over the training examples seen (report, Task 1).

    Args:
        train: (examples seen, loss of one batch).
        test: (examples seen, loss of a whole set); may be empty.
        title: The figure's title.
        test_label: What `test` is called.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*train, strict=True), color=BLUE, linewidth=0.8, alpha=0.8, label="Training loss, one batch")
    if test:
        axes.plot(*zip(*test, strict=True), "o", color=ORANGE, label=test_label)
    axes.set_title(title)
    axes.set_xlabel("Training examples seen")
    axes.set_ylabel("Negative log likelihood")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def epoch_curves(ours: Mapping[str, Points], reports: Mapping[str, Points], kept: int | None, title: str) -> Figure:
    """Draw loss and accuracy an epoch, ours as lines, the report's as points (report, Task 2).

    Args:
        ours: (epoch, value) points of `train_loss`, `val_loss`, `train_accuracy` and `val_accuracy`, as fractions.
        reports: The report's points of the same metrics; may lack any.
        kept: The epoch whose weights were kept, if it is one.
        title: The figure's title.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    for place, kind in enumerate(("loss", "accuracy"), 1):
        axes = figure.add_subplot(1, 2, place)
        for part, words, colour in (("train", "training", BLUE), ("val", "validation", ORANGE)):
            name = f"{part}_{kind}"
            axes.plot(*zip(*ours[name], strict=True), color=colour, label=f"{words}, trackdl")
            if reports.get(name):
                axes.plot(
                    *zip(*reports[name], strict=True), "o", color=colour, fillstyle="none", label=f"{words}, report"
                )
        if kept is not None:
            axes.axvline(kept, color=GREY, linestyle=":", label=f"weights kept: epoch {kept}")
        _label_epochs(axes, kind)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    return figure


def _label_epochs(axes: Axes, kind: str) -> None:
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Cross-entropy" if kind == "loss" else "Accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def fold_curves(folds: Sequence[Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Draw loss and accuracy an epoch of each fold of a cross-validation: training thin, held out strong.

    Args:
        folds: Of each fold `train_loss`, `val_loss`, `train_accuracy` and `val_accuracy`, a value an epoch.
        title: The figure's title.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    for place, kind in enumerate(("loss", "accuracy"), 1):
        axes = figure.add_subplot(1, 2, place)
        for number, fold in enumerate(folds):
            epochs = range(1, len(fold[f"val_{kind}"]) + 1)
            colour = FOLD_COLOURS[number % len(FOLD_COLOURS)]
            axes.plot(epochs, fold[f"train_{kind}"], ":", color=colour, linewidth=1)
            axes.plot(epochs, fold[f"val_{kind}"], "o-", color=colour, markersize=4, label=f"fold {number}, held out")
        axes.plot([], [], ":", color=GREY, label="training")
        _label_epochs(axes, kind)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    return figure


def accuracy_bars(
    names: Sequence[str], values: Sequence[float], bounds: Sequence[tuple[float, float]], title: str
) -> Figure:
    """Draw accuracies, fractions, with their 95 % intervals, a row each, the first one as the subject."""
    figure = Figure(figsize=(8, 0.7 * len(names) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(names))[::-1]
    low, high = np.array(bounds).T
    colours = [BLUE, *[GREY] * (len(names) - 1)]
    axes.errorbar(values, places, xerr=[values - low, high - values], fmt="none", ecolor=GREY, capsize=4, linewidth=2)
    axes.scatter(values, places, color=colours, s=60, zorder=3)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:.1%}", (value, place), xytext=(0, 8), textcoords="offset points", ha="center")
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.3)
    axes.set_xlim(0, 1.03)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_title(title)
    axes.set_xlabel("Accuracy on letters held out, with exact 95 % intervals")
    axes.grid(axis="x", alpha=0.3)
    return figure
