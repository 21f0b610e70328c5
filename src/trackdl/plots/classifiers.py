"""Figures of a table's classifiers, from their results: loss and ROC curves, calibration, confusion, ablation."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_curve

from trackdl.analysis.stats import Estimate, calibration_curve
from trackdl.plots.common import BLUE, GREY, ORANGE, PALETTE, THOUSANDS, new_panels

STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1)), (0, (1, 1)))

Points = Sequence[tuple[int, float]]
Labels = NDArray[np.int64]
Judged = tuple[Labels, NDArray[np.float64]]
"""Targets and probabilities, [n] each."""


def loss_panels(batches: Mapping[str, Points], means: Mapping[str, Sequence[Points]], title: str, loss: str) -> Figure:
    """Draw the training loss against the training examples seen, a panel for each network (report, Task 4).

    By network, `batches` has (examples seen, loss of one batch), as the report draws them, or nothing; `means` has
    (examples seen, mean loss of an epoch) for each of the network's members. `loss` is the loss's name.
    """
    figure, panels = new_panels(len(means), 3, 4.2, 3.4, title)
    for axes, (name, members) in zip(panels, means.items(), strict=True):
        if batches[name]:
            axes.plot(*zip(*batches[name], strict=True), color=BLUE, linewidth=0.7, alpha=0.7, label="Loss per batch")
        for index, points in enumerate(members):
            several = f", {len(members)} members" if len(members) > 1 else ""
            label = None if index else f"Mean per epoch{several}"
            axes.plot(*zip(*points, strict=True), color=ORANGE, linewidth=1.2, label=label)
        axes.legend(fontsize=7, loc="lower left")
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="Training examples seen", ylabel=loss, ylim=(0, None))
        axes.xaxis.set_major_formatter(THOUSANDS)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(alpha=0.3)
    return figure


def _unit_squares(groups: Mapping[str, Any], title: str, across: str, up: str) -> tuple[Figure, list[Axes]]:
    """Return a panel for each group, with a diagonal from (0, 0) to (1, 1)."""
    figure, panels = new_panels(len(groups), 3, 4.2, 4.2, title)
    for axes, group in zip(panels, groups, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        axes.set_title(group, fontsize=10)
        axes.set(xlabel=across, ylabel=up, aspect="equal")
        axes.grid(alpha=0.3)
    return figure, panels


def roc_panels(groups: Mapping[str, Mapping[str, Judged]], title: str) -> Figure:
    """Draw every model's ROC curve, a panel for each group, with the area under it in the legend."""
    figure, panels = _unit_squares(groups, title, "False positive rate", "True positive rate")
    for axes, models in zip(panels, groups.values(), strict=True):
        for (name, (targets, probabilities)), colour, style in zip(models.items(), cycle(PALETTE), cycle(STYLES)):
            false, true, _ = roc_curve(targets, probabilities)
            axes.plot(false, true, color=colour, linestyle=style, label=f"{name}, {np.trapezoid(true, false):.3f}")
        axes.legend(title="Area under the curve", loc="lower right", fontsize=7, title_fontsize=7)
    return figure


def calibration_panels(groups: Mapping[str, Mapping[str, Judged]], title: str, positive: str) -> Figure:
    """Draw observed frequencies against predicted probabilities, a panel for each group; a point is of many rows.

    `positive` is the class whose probabilities they are.
    """
    figure, panels = _unit_squares(groups, title, f"Predicted probability of {positive}", f"Fraction of {positive}")
    for axes, models in zip(panels, groups.values(), strict=True):
        least = max(len(targets) for targets, _ in models.values())
        for (name, (targets, probabilities)), colour, style in zip(models.items(), cycle(PALETTE), cycle(STYLES)):
            bins = calibration_curve(targets, probabilities)
            least = min(least, *(item.count for item in bins))
            points = [item.predicted for item in bins], [item.observed for item in bins]
            axes.plot(*points, "o", color=colour, linestyle=style, linewidth=1, markersize=4, label=name)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        title = f"Each point is of {least} rows or more"
        axes.legend(title=title, loc="upper left", fontsize=7, title_fontsize=7)
    return figure


def confusion_grid(
    judged: Mapping[str, tuple[Labels, Labels]], classes: Sequence[str], title: str, columns: int
) -> Figure:
    """Draw every model's confusion matrix: a row for each target, a column for each predicted class.

    `judged` has targets and predicted classes, [n] each, by model; a row of the figure has `columns` matrices.
    """
    places = range(len(classes))
    side = max(2.3, 0.45 * len(classes))
    figure, panels = new_panels(len(judged), columns, side, side + 0.2, title)
    for index, (axes, (name, (targets, labels))) in enumerate(zip(panels, judged.items(), strict=True)):
        counts = confusion_matrix(targets, labels, labels=places)
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum() * 0.6)
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts.sum() * 0.35
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
        axes.set_title(f"{name}\n{np.trace(counts)} of {counts.sum()}", fontsize=8)
        axes.set_xticks(places, classes, fontsize=7, rotation=90 if len(classes) > 2 else 0)
        names = classes if index % columns == 0 else [""] * len(classes)
        axes.set_yticks(places, names, fontsize=7, rotation=0 if len(classes) > 2 else 90, va="center")
    figure.supxlabel("Answer", fontsize=10)
    figure.supylabel("True class", fontsize=10)
    return figure


def difference_chart(differences: Mapping[str, Mapping[str, Estimate]], title: str, reference: str) -> Figure:
    """Draw an ablation's differences from the model `reference`, with intervals.

    `differences` is by score, then by step: the figure has a panel for each score and a row for each step.
    """
    steps = list(next(iter(differences.values())))
    figure, panels = new_panels(len(differences), len(differences), 4.4, 0.42 * len(steps) + 1.3, title)
    places = np.arange(len(steps))[::-1]
    for index, (axes, (metric, estimates)) in enumerate(zip(panels, differences.items(), strict=True)):
        found = [estimates[step] for step in steps]
        means: NDArray[Any] = np.array([item.mean for item in found])
        reach = np.abs(np.array([[item.low, item.high] for item in found]).T - means)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.errorbar(means, places, xerr=reach, fmt="o", color=BLUE, ecolor=GREY, capsize=4)
        axes.set_yticks(places, steps if index == 0 else [""] * len(steps))
        axes.set(xlabel=f"{metric}: difference from {reference}", ylim=(-0.6, len(steps) - 0.4))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", alpha=0.3)
    return figure
