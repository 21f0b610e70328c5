"""Figures of a grid, from its table: effects, interactions, accuracy against time, learning curves, importances."""

from collections.abc import Mapping, Sequence
from itertools import combinations, cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from trackdl.analysis.contrasts import Contrast
from trackdl.analysis.grid_table import dimensions, history, is_cell, scores
from trackdl.analysis.hypotheses import UNKNOWN, label
from trackdl.analysis.stats import Estimate
from trackdl.plots.common import (
    BLUE,
    GREEN,
    GREY,
    PALETTE,
    NamesFigure,
    label_epochs,
    legend_below,
    new_axes,
    new_panels,
)
from trackdl.spec.grid import REPORT

# Colours come with markers and lines, for prints in grey. 6 colours, 7 markers and 5 lines: the numbers have no common
# factor, so a colour is used again with another marker and another line.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.", (0, (8, 2)))
INK = "#222222"
MOST_ROWS, MOST_CURVES = 80, 1000  # in one figure
FINDINGS = {
    "different": (BLUE, "o", "different"),
    "alike": (GREEN, "s", "no practical difference"),
    "open": (GREY, "D", "not decidable"),
}


def effects_chart(contrasts: Sequence[Contrast], margin: float, title: str) -> Figure:
    """Draw each contrast's effect on accuracy and on training time, with 95 % intervals.

    The contrasts are those of `contrasts.compare` for `margin`, in points of accuracy, which is drawn as a band; of
    very many, the largest. An interval that is not known is not drawn.
    """
    if len(contrasts) > MOST_ROWS:
        contrasts = sorted(contrasts, key=lambda one: -abs(one.accuracy.mean))[:MOST_ROWS]
    rows = len(contrasts)
    figure = NamesFigure(figsize=(11, 0.45 * rows + 2.1), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(rows)[::-1]
    left.axvspan(-margin, margin, color=GREY, alpha=0.18, linewidth=0, label=f"margin, ±{margin:g} points")
    left.axvline(0, color=GREY, linewidth=1)
    right.axvline(1, color=GREY, linewidth=1)
    for contrast, place in zip(contrasts, places, strict=True):
        colour, marker, _ = FINDINGS[contrast.finding]
        _interval(left, contrast.accuracy, place, colour, marker)
        _interval(right, contrast.seconds, place, INK, "o")
    for colour, marker, words in FINDINGS.values():
        left.plot([], [], marker, color=colour, label=words)
    left.set_yticks(places, [_label(one) for one in contrasts])
    left.set_ylim(-0.6, rows - 0.4)
    left.set_xlabel("Accuracy: difference in points, with 95 % intervals")
    right.set_xlabel("Training time: ratio of processor seconds")
    right.xaxis.set_major_formatter("{x:g}×")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="y", length=0)
    legend_below(figure, 4, left)
    return figure


def _interval(axes: Axes, found: Estimate, place: int, colour: str, marker: str) -> None:
    if found.high < UNKNOWN:
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot(found.mean, place, marker, color=colour, markersize=7)


def _label(contrast: Contrast) -> str:
    ours = " (ours)" if contrast.ours else ""
    return f"{label(contrast.dimension)}{ours}: {contrast.high} against {contrast.low}"


def interaction(table: pd.DataFrame, first: str, second: str) -> tuple[pd.DataFrame, float]:
    """Return the interaction of two dimensions in the report's grid.

    Settings of the other dimensions count only if they are in the grid with every combination of the two; otherwise
    the means would be over different configurations, whose effects would be mistaken for those of the two.

    Returns:
        The mean scores, with a row for each value of `first` and a column for each of `second`; and the strength of
        the interaction: the root mean square of that table without its rows' and columns' means, in points. Both are
        NaN where no settings of the other dimensions count.
    """
    report = scores(table[table["grid"] == REPORT])
    others = [name for name in dimensions(report) if name not in (first, second)] or [""]
    wide = report.assign(**{"": 0}).pivot(index=others, columns=[first, second], values="score")
    every = pd.MultiIndex.from_product([sorted(report[name].unique()) for name in (first, second)])
    means = wide.reindex(columns=every).dropna().mean().unstack()
    grid = means.to_numpy()
    rest = grid - grid.mean(axis=0) - grid.mean(axis=1, keepdims=True) + grid.mean()
    return means, float(100 * np.sqrt((rest**2).mean()))


def interaction_maps(table: pd.DataFrame, title: str, maps: int = 2) -> Figure:
    """Draw the strength of all interactions in the report's grid, and the mean scores of the `maps` strongest."""
    report = table[table["grid"] == REPORT]
    names = [name for name in dimensions(report) if report[name].nunique() > 1]
    pairs = {pair: interaction(report, *pair) for pair in combinations(names, 2)}
    known = [pair for pair, (_, strength) in pairs.items() if np.isfinite(strength)]
    strongest = sorted(known, key=lambda pair: pairs[pair][1], reverse=True)[:maps]
    figure = NamesFigure(figsize=(5.2 + 3.6 * len(strongest), 4.8), layout="constrained")
    figure.suptitle(title)
    first, *others = np.atleast_1d(figure.subplots(1, 1 + len(strongest), width_ratios=[1.5, *[1] * len(strongest)]))
    strengths = np.full((len(names), len(names)), np.nan)
    for (a, b), (_, strength) in pairs.items():
        strengths[names.index(b), names.index(a)] = strength
        if (a, b) not in known:
            first.text(names.index(a), names.index(b) - 1, "no such\npairs", ha="center", va="center", fontsize=8)
    labels = [label(name) for name in names]
    _heat(first, strengths[1:, :-1], (labels[1:], labels[:-1]), "{:.2f}", "Strength of interaction, points (RMS)")
    first.tick_params(axis="x", rotation=35)
    for text in first.get_xticklabels():
        text.set_horizontalalignment("right")
    for axes, (a, b) in zip(others, strongest, strict=True):
        means = pairs[a, b][0]
        cells = 100 * means.to_numpy(np.float64)
        _heat(axes, cells, ([*map(str, means.index)], [*map(str, means.columns)]), "{:.2f}", "Mean score, %")
        axes.set(ylabel=label(a), xlabel=label(b))
    return figure


def _heat(axes: Axes, values: NDArray[np.float64], labels: tuple[list[str], list[str]], form: str, title: str) -> None:
    """Draw a heat map with its numbers; NaN is left empty."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    axes.imshow(np.ma.masked_invalid(values), cmap="cividis", aspect="auto", vmin=low, vmax=high)
    middle = (low + high) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value < middle else "black"
            axes.text(column, row, form.format(value), ha="center", va="center", color=colour, fontsize=10)
    axes.set_yticks(range(len(labels[0])), labels[0])
    axes.set_xticks(range(len(labels[1])), labels[1])
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10)
    axes.spines[:].set_visible(False)


def strongest(table: pd.DataFrame) -> str:
    """Return the dimension whose values' mean scores in the report's grid are the furthest apart, the first of equals.

    A dimension with more values than there are markers is chosen only if all dimensions have that many.
    """
    found = scores(table[table["grid"] == REPORT])
    means = {name: found.groupby(name)["score"].mean() for name in dimensions(found)}
    return max(means, key=lambda name: (len(means[name]) <= len(MARKERS), np.ptp(means[name].to_numpy())))


def accuracy_against_time(table: pd.DataFrame, choice: Mapping[str, Any] | None, title: str, words: str = "") -> Figure:
    """Draw the score of the report's configurations against their training time, and the Pareto front.

    `choice` has the dimensions of the configuration that the report chose, if any, which is marked and called `words`.
    """
    found, hue = scores(table[table["grid"] == REPORT]), strongest(table)
    seconds, score = found["cost"].to_numpy(), 100 * found["score"].to_numpy()
    alike = found["cost"].equals(found["batch_ms"])
    if not alike:
        seconds = seconds / seconds.min()
    figure, axes = new_axes(9.5, 6, title)
    front = _front(seconds, score)
    axes.plot(seconds[front], score[front], color=INK, linewidth=1, label="Pareto front", zorder=1)
    for value, colour, marker, _ in _styled(found[hue]):
        own = (found[hue] == value).to_numpy()
        name = _named(hue, value)
        axes.scatter(seconds[own], score[own], s=42, color=colour, marker=marker, alpha=0.8, linewidths=0, label=name)
    for places, name, marker in (
        ([int(score.argmax())], "best", "o"),
        (np.flatnonzero(is_cell(found, choice)), words, "s"),
    ):
        if len(places):
            (ring,) = axes.plot(seconds[places], score[places], marker, color=INK, fillstyle="none")
            ring.set(markersize=13, markeredgewidth=1.6, label=f"{name}, {score[places[0]]:.2f} %")
    axes.set_xlabel("Processor time per batch, ms" if alike else "Processor time of training, the shortest is 1")
    axes.set_ylabel(f"{_held(table)} accuracy, mean over the fits, %")
    legend_below(figure, 6)
    return figure


def _held(table: pd.DataFrame) -> str:
    return "Test" if "test_accuracy_1" in table else "Validation"


def _named(dimension: str, value: Any) -> str:
    """Return a value as a legend calls it: a word speaks for itself."""
    return value if isinstance(value, str) else f"{label(dimension).lower()} {value}"


def _styled(values: "pd.Series[Any]") -> list[tuple[Any, str, str, Any]]:
    """Return the distinct values, sorted, each with a colour, a marker and a line of its own."""
    return list(zip(sorted(values.unique().tolist()), cycle(PALETTE), cycle(MARKERS), cycle(LINES), strict=False))


def _front(costs: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of the Pareto front, the cheapest first."""
    order = np.lexsort((-values, costs))
    best = np.maximum.accumulate(values[order])
    front: NDArray[np.int64] = order[np.concatenate([[True], best[1:] > best[:-1]])]
    return front


def learning_curves(table: pd.DataFrame, choice: Mapping[str, Any] | None, title: str, words: str = "") -> Figure:
    """Draw the judged accuracy and loss per epoch of the report's configurations, means over the fits.

    `choice` has the dimensions of the configuration that the report chose, if any, which is marked and called `words`.
    """
    report, hue = table[table["grid"] == REPORT], strongest(table)
    found = report.groupby(dimensions(table), as_index=False).mean(numeric_only=True)
    best = int(history(found, "held_accuracy").ffill(axis=1).iloc[:, -1].to_numpy().argmax())
    marked = [(np.flatnonzero(is_cell(found, choice)), words, "-"), (np.array([best]), "best", "--")]
    figure, panels = new_panels(2, 2, 5.5, 4.3, title)
    metrics = (("held_accuracy", "accuracy"), ("held_loss", "loss, cross-entropy"))
    for axes, (name, kind) in zip(panels, metrics, strict=True):
        curves = history(found, name)
        for value, colour, _, line in _styled(found[hue]):
            own = curves[(found[hue] == value).to_numpy()]
            own = own.iloc[:: 1 + len(found) // MOST_CURVES]
            lines = axes.plot(curves.columns, own.T, color=colour, linestyle=line, linewidth=0.8, alpha=0.55)
            lines[0].set_label(_named(hue, value))
        for places, called, line in marked:
            for place in places:
                axes.plot(curves.columns, curves.iloc[place], color=INK, linestyle=line, linewidth=2, label=called)
        label_epochs(axes, f"{_held(table)} {kind}", percent=kind == "accuracy")
    legend_below(figure, 5, axes)
    for handle in figure.legends[0].legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure


def importance_bars(importances: Mapping[str, float], title: str) -> Figure:
    """Draw each dimension's importance, a fraction of the variance, the largest at the top."""
    ranked = sorted(importances.items(), key=lambda item: item[1])
    figure, axes = new_axes(8, 0.42 * len(ranked) + 1.3, title, grid="x")
    values = [value for _, value in ranked]
    bars = axes.barh([label(name) for name, _ in ranked], values, color=BLUE)
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=4)
    axes.set_xlim(0, 1.12 * max([*values, 1e-9]))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(
        "Share of the scores' variance that each dimension explains alone (fANOVA)\n"
        f"interactions, not drawn: {max(0.0, 1 - sum(values)):.1%}"
    )
    axes.set_axisbelow(True)
    return figure
