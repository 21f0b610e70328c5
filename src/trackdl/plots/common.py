"""Figures of trainings, and what all figures share; nothing here trains, loads or logs.

The colours are those of Okabe and Ito (2008), which people with colour blindness can tell apart.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from trackdl.analysis.stats import mean_interval

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
THOUSANDS = "{x:,.0f}"
LABELS = {"loss": "Cross-entropy", "accuracy": "Accuracy"}

_TICK = r"$\mathdefault"  # how matplotlib's own powers of ten begin

Points = Sequence[tuple[int, float]]


class NamesFigure(Figure):
    """A figure that shows texts as they are: names come from anybody, and a `$` in them begins no formula."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure."""
        for text in self.findobj(Text):
            if isinstance(text, Text) and not text.get_text().startswith(_TICK):
                text.set_parse_math(False)
        super().draw(renderer)


def new_axes(width: float, height: float, title: str, grid: Literal["both", "x", "y"] = "both") -> tuple[Figure, Axes]:
    """Return a figure with one set of axes; sizes in inches."""
    figure = NamesFigure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(axis=grid, alpha=0.3)
    return figure, axes


def new_panels(count: int, columns: int, width: float, height: float, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` axes in rows of `columns`; the size of one in inches."""
    rows = -(-count // columns)
    figure = NamesFigure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def label_epochs(axes: Axes, label: str, *, percent: bool) -> None:
    """Label a learning curve's axes; `percent` shows a fraction as a percentage."""
    axes.set(xlabel="Epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # a single epoch has a single tick
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)


def legend_below(figure: Figure, columns: int, axes: Axes | None = None, **options: Any) -> None:
    """Put a legend below the axes, where it hides nothing; of all axes' labels, or those of `axes`."""
    labelled = axes.get_legend_handles_labels() if axes else ()
    figure.legend(*labelled, loc="outside lower center", ncols=columns, frameon=False, **options)


def short(name: str) -> str:
    """Return a name of at most 30 characters; what is cut off is marked."""
    return name if len(name) <= 30 else f"{name[:29]}…"


def image_grid(
    pictures: NDArray[Any], captions: Sequence[str], title: str, columns: int, wrong: Collection[int] = ()
) -> Figure:
    """Draw images, [n, height, width] or in colour [n, height, width, 3], in rows of `columns`, each with a caption.

    Those whose places are in `wrong` are framed.
    """
    figure, panels = new_panels(len(pictures), columns, 1.5, 1.75, title)
    for place, (axes, picture, caption) in enumerate(zip(panels, pictures, captions, strict=True)):
        axes.imshow(picture, cmap="gray", interpolation="none")
        axes.set_title(caption, fontsize=9, color=ORANGE if place in wrong else "black")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=place in wrong, color=ORANGE, linewidth=2.5)
    return figure


def loss_curves(train: Points, test: Points, title: str, test_label: str = "Test loss") -> Figure:
    """Draw the training loss per batch and the test loss against the training examples seen (report, Task 1).

    `train` and `test` hold (examples seen, loss); `test` may be empty and is called `test_label` in the legend.
    """
    figure, axes = new_axes(8, 4.5, title)
    axes.plot(*zip(*train, strict=True), color=BLUE, linewidth=0.8, alpha=0.8, label="Training loss per batch")
    if test:
        axes.plot(*zip(*test, strict=True), "o", color=ORANGE, label=test_label)
    axes.set(xlabel="Training examples seen", ylabel="Negative log likelihood", ylim=(0, None))
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.legend()
    return figure


def epoch_curves(ours: Mapping[str, Points], reports: Mapping[str, Points], kept: int | None, title: str) -> Figure:
    """Draw loss and accuracy per epoch, ours as lines, the report's as points (report, Task 2).

    The keys are `train_loss`, `val_loss`, `train_accuracy` and `val_accuracy`, any of which the report's may lack; the
    points are (epoch, value), accuracies as fractions. `kept` is the epoch whose weights were kept.
    """
    figure, panels = new_panels(2, 2, 5.5, 4, title)
    for axes, kind in zip(panels, LABELS, strict=True):
        for part, words, colour in (("train", "training", BLUE), ("val", "validation", ORANGE)):
            name = f"{part}_{kind}"
            axes.plot(*zip(*ours[name], strict=True), "o-", color=colour, markersize=3, label=f"{words}, trackdl")
            if points := reports.get(name):
                axes.plot(*zip(*points, strict=True), "o", color=colour, fillstyle="none", label=f"{words}, report")
        if kept is not None:
            axes.axvline(kept, color=GREY, linestyle=":", label=f"weights kept: epoch {kept}")
        label_epochs(axes, LABELS[kind], percent=kind == "accuracy")
        axes.legend()
    return figure


def fold_curves(folds: Sequence[Mapping[str, Sequence[float]]], title: str, part: str = "val") -> Figure:
    """Draw loss and accuracy per epoch of each fit of a cell, judged by its fold (`val`) or on the `test` images.

    A fit has `train_loss`, `train_accuracy`, and the same of `part`, a value per epoch each; accuracies are fractions.
    """
    words = "fit {}, test" if part == "test" else "fold {}, held out"
    figure, panels = new_panels(2, 2, 5.5, 4, title)
    for axes, kind in zip(panels, LABELS, strict=True):
        for number, fold in enumerate(folds):
            epochs = range(1, len(fold[f"{part}_{kind}"]) + 1)
            colour = PALETTE[number % len(PALETTE)]
            axes.plot(epochs, fold[f"train_{kind}"], ":", color=colour, linewidth=1)
            axes.plot(epochs, fold[f"{part}_{kind}"], "o-", color=colour, markersize=4, label=words.format(number))
        axes.plot([], [], ":", color=GREY, label="training")
        label_epochs(axes, LABELS[kind], percent=kind == "accuracy")
        axes.legend()
    return figure


def seed_curves(panels: Mapping[str, Mapping[str, Sequence[Points]]]) -> Figure:
    """Draw metrics over the epochs: the mean of each run's seeds as a line, its 95 % interval as a band.

    `panels` holds, by metric and run, the (epoch, value) points of each seed. The mean is drawn where all have a value.
    """
    figure, axes_of = new_panels(len(panels), min(len(panels), 2), 5.5, 3.4, "")
    colours = {
        name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(n for p in panels.values() for n in p))
    }
    for axes, (metric, of_runs) in zip(axes_of, panels.items(), strict=True):
        for name, seeds in of_runs.items():
            of_seed = [dict(points) for points in seeds]
            epochs = sorted(set.intersection(*map(set, of_seed)))
            values = [[one[epoch] for one in of_seed] for epoch in epochs]
            marker = "o" if len(epochs) == 1 else ""
            axes.plot(epochs, np.mean(values, axis=1), marker=marker, color=colours[name], label=name)
            if len(seeds) > 1:
                low, high = zip(*map(mean_interval, values), strict=True)
                axes.fill_between(epochs, low, high, color=colours[name], alpha=0.2, linewidth=0)
        label_epochs(axes, metric, percent="accuracy" in metric)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 3), frameon=False)
    return figure


def accuracy_bars(
    names: Sequence[str],
    values: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    title: str,
    of: str,
    chosen: int = 0,
) -> Figure:
    """Draw accuracies of examples, called `of`, as fractions, with their exact 95 % intervals, a row for each.

    The one at the place `chosen` is highlighted.
    """
    figure, axes = new_axes(8, 0.7 * len(names) + 1.4, title, grid="x")
    places = np.arange(len(names))[::-1]
    low, high = np.array(bounds).T
    colours = [BLUE if place == chosen else GREY for place in range(len(names))]
    axes.errorbar(values, places, xerr=[values - low, high - values], fmt="none", ecolor=GREY, capsize=4, linewidth=2)
    axes.scatter(values, places, color=colours, s=60, zorder=3)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:.1%}", (value, place), xytext=(0, 8), textcoords="offset points", ha="center")
    axes.set_yticks(places, names)
    axes.set(ylim=(-0.6, len(names) - 0.3), xlim=(0, 1.03))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"Accuracy on {of}, with exact 95 % intervals")
    return figure
