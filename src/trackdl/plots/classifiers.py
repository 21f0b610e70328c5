"""Figures of models that tell two classes apart, from results alone: curves, calibration, confusion, ablation."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_curve

from trackdl.analysis.stats import Estimate, reliability
from trackdl.plots.common import BLUE, GREEN, GREY, ORANGE

__all__ = ["calibration_panels", "confusion_grid", "difference_chart", "loss_panels", "roc_panels"]

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1)), (0, (1, 1)))

Points = Sequence[tuple[int, float]]
Labels = NDArray[np.int64]
Judged = tuple[Labels, NDArray[np.float64]]
"""Targets and probabilities, [n] each."""


def _panels(count: int, columns: int, width: float, height: float, title: str) -> tuple[Figure, list[Axes]]:
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def loss_panels(batches: Mapping[str, Points], means: Mapping[str, Sequence[Points]], title: str, loss: str) -> Figure:
    """Draw the training loss over the training examples seen, a panel a network (report, Task 4).

    Args:
        batches: By network's name, (examples seen, loss of one batch), as the report draws them; may be empty.
        means: By network's name, (examples seen, mean loss of an epoch) of each of its members.
        title: The figure's title.
        loss: What the loss is called.
    """
    figure, panels = _panels(len(means), 3, 4.2, 3.4, title)
    for axes, (name, members) in zip(panels, means.items(), strict=True):
        if batches[name]:
            axes.plot(*zip(*batches[name], strict=True), color=BLUE, linewidth=0.7, alpha=0.7, label="One batch")
        for index, points in enumerate(members):
            label = "Mean of an epoch" if index == 0 else None
            axes.plot(*zip(*points, strict=True), color=ORANGE, linewidth=1.2, label=label)
        axes.legend(fontsize=7, loc="lower left")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("Training examples seen")
        axes.set_ylabel(loss)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.grid(alpha=0.3)
    return figure


def roc_panels(groups: Mapping[str, Mapping[str, Judged]], title: str) -> Figure:
    """Draw the receiver operating characteristic of every model, a panel a group, with the area in the legend."""
    figure, panels = _panels(len(groups), 3, 4.2, 4.2, title)
    for axes, (group, models) in zip(panels, groups.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for index, (name, (targets, probabilities)) in enumerate(models.items()):
            false, true, _ = roc_curve(targets, probabilities)
            area = np.trapezoid(true, false)
            axes.plot(false, true, color=COLOURS[index % 6], linestyle=STYLES[index % 6], label=f"{name}, {area:.3f}")
        axes.set_title(group, fontsize=10)
        axes.set_xlabel("False positive rate")
        axes.set_ylabel("True positive rate")
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
        axes.legend(title="Area under the curve", loc="lower right", fontsize=7, title_fontsize=7)
    return figure


def calibration_panels(groups: Mapping[str, Mapping[str, Judged]], title: str) -> Figure:
    """Draw how often what was predicted came true, a panel a group; larger points stand for more rows."""
    figure, panels = _panels(len(groups), 3, 4.2, 4.2, title)
    for axes, (group, models) in zip(panels, groups.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        for index, (name, (targets, probabilities)) in enumerate(models.items()):
            table = reliability(targets, probabilities)
            across, up = [item.predicted for item in table], [item.observed for item in table]
            sizes = [250 * item.count / len(targets) for item in table]
            colour = COLOURS[index % 6]
            axes.plot(across, up, color=colour, linestyle=STYLES[index % 6], linewidth=1, label=name)
            axes.scatter(across, up, s=sizes, color=colour, alpha=0.5, linewidths=0)
        axes.set_title(group, fontsize=10)
        axes.set_xlabel("Predicted probability of heart disease")
        axes.set_ylabel("Fraction with heart disease")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", fontsize=7)
    return figure


def confusion_grid(
    judged: Mapping[str, tuple[Labels, Labels]], classes: Sequence[str], title: str, columns: int
) -> Figure:
    """Draw a confusion matrix for every model: targets down, what the model said across.

    Args:
        judged: Targets and labels, [n] each, by model.
        classes: The classes' names.
        title: The figure's title.
        columns: Matrices in a row.
    """
    figure, panels = _panels(len(judged), columns, 2.3, 2.5, title)
    for index, (axes, (name, (targets, labels))) in enumerate(zip(panels, judged.items(), strict=True)):
        counts = confusion_matrix(targets, labels, labels=[0, 1])
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum() * 0.6)
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts.sum() * 0.35
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
        axes.set_title(f"{name}\n{np.trace(counts)} of {counts.sum()}", fontsize=8)
        axes.set_xticks([0, 1], classes, fontsize=7)
        axes.set_yticks([0, 1], classes if index % columns == 0 else ["", ""], fontsize=7, rotation=90, va="center")
    return figure


def difference_chart(differences: Mapping[str, Mapping[str, Estimate]], title: str, reference: str) -> Figure:
    """Draw differences to one model with their intervals, a panel a score, a row a step of the ablation.

    Args:
        differences: By score's name, by step's name.
        title: The figure's title.
        reference: What the differences are to; the line at 0.
    """
    steps = list(next(iter(differences.values())))
    figure, panels = _panels(len(differences), len(differences), 4.4, 0.42 * len(steps) + 1.3, title)
    places = np.arange(len(steps))[::-1]
    for index, (axes, (metric, estimates)) in enumerate(zip(panels, differences.items(), strict=True)):
        found = [estimates[step] for step in steps]
        means: NDArray[Any] = np.array([item.mean for item in found])
        reach = np.abs(np.array([[item.low, item.high] for item in found]).T - means)
        axes.axvline(0, color=GREY, linewidth=1)
        axes.errorbar(means, places, xerr=reach, fmt="o", color=BLUE, ecolor=GREY, capsize=4)
        axes.set_yticks(places, steps if index == 0 else [""] * len(steps))
        axes.set_ylim(-0.6, len(steps) - 0.4)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.set_xlabel(f"{metric}: difference to {reference}")
        axes.grid(axis="x", alpha=0.3)
    return figure
