"""Figures of a search: its trials' learning curves, and accuracy against training time."""

from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from trackdl.plots.common import BLUE, GREY, ORANGE, label_epochs, legend_below, new_axes


def learning_curves(trials: Sequence[tuple[int, Sequence[float], bool]], title: str) -> Figure:
    """Draw each trial's validation accuracy per epoch; the best trial has a colour of its own.

    A trial is (number, accuracy of each epoch as a fraction, whether it was trained to the end).
    """
    figure, axes = new_axes(8, 4.5, title)
    shown = [trial for trial in trials if trial[1]]
    ended = [trial for trial in shown if trial[2]]
    best = max(ended, key=lambda trial: trial[1][-1], default=None)
    for number, values, complete in shown:
        epochs = range(1, len(values) + 1)
        if best is not None and number == best[0]:
            style = {"color": ORANGE, "linewidth": 2.0, "zorder": 3, "label": f"trial {number}: {values[-1]:.2%}"}
        elif complete:
            style = {"color": BLUE, "linewidth": 1.2, "alpha": 0.7}
        else:
            style = {"color": GREY, "linewidth": 0.8, "alpha": 0.5}
        axes.plot(epochs, values, marker="o", markersize=2.5, **style)  # type: ignore[arg-type]
    if len(shown) > 1:
        axes.plot([], [], color=BLUE, label="trained to the end")
    if len(shown) > max(1, len(ended)):
        axes.plot([], [], color=GREY, label="pruned, failed or stopped")
    # The best trial's curve fills the figure: a trial that learnt nothing would squeeze the others together.
    whole = best or (shown[0] if len(shown) == 1 else None)
    least = min(whole[1]) if whole else median(values[-1] for _, values, _ in shown)
    most = max(max(values) for _, values, _ in shown)
    axes.set_ylim(max(0.0, least - 0.02), most + 0.05 * (most - least) + 0.002)
    label_epochs(axes, "Validation accuracy", percent=True)
    if axes.get_legend_handles_labels()[0]:
        legend_below(figure, 3)
    return figure


def pareto(points: Sequence[tuple[float, float]], front: Sequence[tuple[float, float]], title: str) -> Figure:
    """Draw the complete trials' accuracy against their training time, and the Pareto front, which is some of them.

    A point is (processor seconds of training, validation accuracy as a fraction).
    """
    figure, axes = new_axes(8, 5, title)
    seconds, accuracies = zip(*points, strict=True)
    axes.scatter(seconds, accuracies, color=GREY, s=25, label="complete trials")
    # Steps, because no trial has an accuracy between two of the front's.
    (line,) = axes.plot(*zip(*sorted(front), strict=True), "o-", drawstyle="steps-post", color=ORANGE)
    line.set_label("Pareto front: no trial is better and as quick, or as good and quicker")
    axes.set(xscale="log", xlabel="Training time, processor seconds", ylabel="Validation accuracy, %")
    # On an axis shorter than a decade, minor ticks would be labelled too, as powers of ten.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    legend_below(figure, 2, scatteryoffsets=[0.5])
    return figure
