"""Figures of what happens inside a network, from arrays: layers, filters, feature maps, deciding pixels, features."""

from collections.abc import Mapping, Sequence
from math import log, prod
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trackdl.plots.common import BLUE, GREY, NamesFigure, new_axes, new_panels

Array = NDArray[Any]

_SIGNED = "PuOr_r"  # negative values are violet, positive ones orange
_IN_A_ROW = 8  # maps
_MOST_DRAWN = 24  # layers
_PAIRS = 3  # filters in a row, each with its map
_STRIP = 64  # values in a row


def shape_words(shape: Sequence[int]) -> str:
    """Return the shape of one example in words."""
    if len(shape) == 3:
        return f"{shape[0]} map{'s' * (shape[0] != 1)} of {shape[1]}×{shape[2]}"
    return f"{prod(shape):,} value{'s' * (prod(shape) != 1)}"


def network_diagram(layers: Sequence[tuple[str, tuple[int, ...], int]], title: str) -> Figure:
    """Draw a network from top to bottom, a box for each layer: the wider, the more values it passes on.

    `layers` has names, shapes and numbers of parameters; the first is the input.
    """
    shown, left = layers[:_MOST_DRAWN], len(layers[_MOST_DRAWN:])
    figure, axes = new_axes(6.4, 0.6 * len(shown) + 0.7, title + (f" (without the last {left} layers)" if left else ""))
    most = max(log(prod(shape) + 1) for _, shape, _ in shown)
    for place, (name, shape, parameters) in enumerate(shown):
        width = 0.4 + 0.55 * log(prod(shape) + 1) / most
        colour = BLUE if parameters else GREY
        axes.barh(-place, width, 0.66, left=(1 - width) / 2, color=colour, alpha=0.18, edgecolor=colour)
        words = f"{name}\n{shape_words(shape)}" + (f", {parameters:,} parameters" if parameters else "")
        axes.text(0.5, -place, words, ha="center", va="center", fontsize=8)
        if place:
            axes.annotate("", (0.5, 0.34 - place), (0.5, 0.66 - place), arrowprops={"arrowstyle": "->", "color": GREY})
    axes.set(xlim=(0, 1), ylim=(0.5 - len(shown), 0.5))
    axes.set_axis_off()
    return figure


def filters(weights: Array, maps: Array, title: str) -> Figure:
    """Draw a convolution's filters, [n, channels, k, k], each beside its map of one image, [n, height, width]."""
    figure, panels = new_panels(2 * len(weights), min(2 * _PAIRS, 2 * len(weights)), 1.3, 1.45, title)
    most, strongest = (max(float(np.abs(values).max()), 1e-12) for values in (weights, maps))
    for number, (each, seen) in enumerate(zip(weights, maps, strict=True)):
        first, second = panels[2 * number : 2 * number + 2]
        if len(each) == 3:
            first.imshow(0.5 + each.transpose(1, 2, 0) / (2 * most), interpolation="none")
        else:
            first.imshow(each.mean(axis=0), cmap=_SIGNED, vmin=-most, vmax=most, interpolation="none")
        second.imshow(seen, cmap=_SIGNED, vmin=-strongest, vmax=strongest, interpolation="none")
        first.set_title(f"filter {number + 1}", fontsize=8)
        second.set_title("its effect", fontsize=8)
    for axes in panels:
        axes.set_axis_off()
    return figure


def feature_maps(layers: Sequence[tuple[str, Array]], title: str) -> Figure:
    """Draw what layers make of one image, from the first: maps, [n, height, width], side by side, or values, [n]."""
    tiled = [(name, _tiles(values)) for name, values in layers]
    flat = [values.ndim == 1 for _, values in layers]
    heights = [
        (0.35 if one else 7.6 / tiles.shape[1]) * len(tiles) for one, (_, tiles) in zip(flat, tiled, strict=True)
    ]
    figure = NamesFigure(figsize=(8, sum(heights) + 0.45 * len(tiled) + 0.4), layout="constrained")
    figure.suptitle(title)
    every = figure.subplots(len(tiled), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, one, (name, tiles) in zip(every, flat, tiled, strict=True):
        axes.imshow(tiles, cmap="viridis", interpolation="none", aspect="auto" if one else "equal")
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_axis_off()
    return figure


def _tiles(values: Array) -> Array:
    """Return maps as one picture, with gaps between them; values as rows."""
    if values.ndim == 1:
        values, columns, gap = values[:, None, None], min(len(values), _STRIP), 0
    else:
        columns, gap = min(len(values), _IN_A_ROW), 1
    rows, (height, width) = -(-len(values) // columns), values.shape[1:]
    tiles = np.full((rows * (height + gap), columns * (width + gap)), np.nan)
    for place, each in enumerate(values):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        tiles[top : top + height, left : left + width] = each
    return tiles[: tiles.shape[0] - gap, : tiles.shape[1] - gap]


def deciding_pixels(picture: Array, shares: Array, title: str) -> Figure:
    """Draw an image and, beside it, how much each of its pixels speaks for one class or against it."""
    figure, panels = new_panels(2, 2, 3, 3, title)
    panels[0].imshow(picture, cmap="gray", interpolation="none")
    most = max(float(np.abs(shares).max()), 1e-12)
    panels[1].imshow(shares, cmap=_SIGNED, vmin=-most, vmax=most, interpolation="none")
    for axes in panels:
        axes.set_axis_off()
    return figure


def scatter(places: Mapping[str, Array], labels: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Draw examples as points, [n, 2], coloured by their class, whose name is where the middle of its points is.

    There is a panel for each way to place them.
    """
    figure, panels = new_panels(len(places), len(places), 5, 5, title)
    colours = mpl.colormaps["tab20" if len(classes) <= 20 else "hsv"].resampled(max(len(classes), 2))
    for axes, (way, points) in zip(panels, places.items(), strict=True):
        axes.scatter(
            points[:, 0], points[:, 1], c=colours(labels), s=9 if len(points) > 200 else 40, linewidths=0, alpha=0.8
        )
        for label in np.unique(labels):
            middle = np.median(points[labels == label], axis=0)
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": colours(label), "pad": 1.5}
            axes.text(middle[0], middle[1], classes[label], ha="center", va="center", fontsize=8, bbox=box)
        axes.set_title(way, fontsize=10)
        axes.set(xticks=[], yticks=[])
    return figure


def importances(names: Sequence[str], means: Array, spreads: Array, title: str) -> Figure:
    """Draw how much accuracy is lost when a column is shuffled, the most important column on top."""
    figure, axes = new_axes(7, 0.32 * len(names) + 1.2, title, grid="x")
    places = np.arange(len(names))[::-1]
    axes.barh(places, 100 * means, xerr=100 * spreads, color=BLUE, alpha=0.7, ecolor=GREY)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_xlabel("Accuracy lost, percentage points")
    return figure


def dependences(columns: Mapping[str, tuple[Sequence[Any], Array]], of: str, title: str) -> Figure:
    """Draw the mean probability of the class `of` by the values of columns, on one scale."""
    figure, panels = new_panels(len(columns), min(3, len(columns)), 3.2, 2.7, title)
    for axes, (name, (values, means)) in zip(panels, columns.items(), strict=True):
        axes.plot(values, means, "o" if isinstance(values[0], str) else "o-", color=BLUE, markersize=4)
        axes.set(xlabel=name, ylim=(0, 1), ylabel=f"Probability of {of}" if axes is panels[0] else "")
        axes.grid(alpha=0.3)
    return figure
