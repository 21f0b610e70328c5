"""Figures of the search: how its trials went, and what accuracy costs in time."""

from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from trackdl.plots.common import BLUE, GREY, ORANGE

__all__ = ["learning_curves", "pareto"]


def learning_curves(trials: Sequence[tuple[int, Sequence[float], bool]], title: str) -> Figure:
    """Draw each trial's validation accuracy over its epochs: complete ones strong, the best in a colour of its own.

    Args:
        trials: (number, accuracy of each epoch as a fraction, whether it was trained to the end).
        title: The figure's title.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
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
        axes.plot([], [], color=GREY, label="pruned, failed or stopped")
    # The best one's curve fills the figure: one trial that learnt nothing would press all others together.
    whole = best or (shown[0] if len(shown) == 1 else None)
    least = min(whole[1]) if whole else median(values[-1] for _, values, _ in shown)
    most = max(max(values) for _, values, _ in shown)
    axes.set_ylim(max(0.0, least - 0.02), most + 0.05 * (most - least) + 0.002)
    axes.set_title(title)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Validation accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def pareto(points: Sequence[tuple[float, float]], front: Sequence[tuple[float, float]], title: str) -> Figure:
    """Draw trials by what they took and what they reached, and the front that none beats.

    Args:
        points: (processor seconds of training, validation accuracy as a fraction) of every complete trial.
        front: Those of the points that none is better and as quick as, or as good and quicker than.
        title: The figure's title.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    seconds, accuracies = zip(*points, strict=True)
    axes.scatter(seconds, accuracies, color=GREY, s=25, label="complete trials")
    # In steps: so much time buys the accuracy of the front's last trial before it, and none between two.
    (line,) = axes.plot(*zip(*sorted(front), strict=True), "o-", drawstyle="steps-post", color=ORANGE)
    line.set_label("Pareto front: no trial is better and as quick, or as good and quicker")
    axes.set_xscale("log")
    axes.set_xlabel("Training time, processor seconds")
    axes.set_ylabel("Validation accuracy, %")
    # Of less than a decade minor ticks would be labelled too, as powers of ten.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, scatteryoffsets=[0.5])
    return figure
