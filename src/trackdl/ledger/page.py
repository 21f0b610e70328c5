"""The ledger as a page: one self-contained HTML file, made of what `ledger.json` holds and nothing else."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trackdl.analysis.hypotheses import SCOPE
from trackdl.ledger import charts
from trackdl.ledger.model import CurveEntry, Entry, Figure, HypothesisEntry, Ledger
from trackdl.ledger.rule import form

__all__ = ["counts", "head_table", "render", "settled"]

ORDER = ("reproduced", "differs", "fault in the report", "not comparable", "inconclusive", "not run yet")
SIGNS = dict(zip(ORDER, "✓≠✕–?…", strict=True))
SIGNS |= {
    "supported": "✓",
    "contradicted": "✕",
    "no practical difference": "≈",
    "not decidable": "?",
    "not judged": "…",
}
# Points of accuracy; `margin` in experiments/grid.yaml.
GRID_MARGIN = 0.25
TITLES = {
    "mnist": "Task 1, MNIST",
    "fashion": "Task 2, Fashion-MNIST",
    "grid": "Task 2, the grid",
    "search": "Task 2, the search",
    "transfer": "Task 3, Greek letters",
    "heart": "Task 4, heart disease",
}
METRICS = {
    "train_loss": "training loss",
    "train_accuracy": "training accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
    "best_val_loss": "validation loss of the best epoch",
    "best_val_accuracy": "validation accuracy of the best epoch",
    "best_test_accuracy": "test accuracy of the weights kept",
    "batch_loss": "loss of the last batch",
    "batch_losses": "batches' losses",
    "rank_of_choice": "place of the \u201cbest\u201d among the grid's networks",
    "failed_fits": "fits of the report's grid search that failed",
    "networks": "configurations of the report's grid, all of which it takes for networks",
}
# Of letters that were trained on, "training" is what the report calls test; held out they are validated.
HELD_OUT = {("transfer", "val_accuracy"): "accuracy on letters held out"}
# Enough points to be a curve.
CURVE = 4


def counts(ledger: Ledger, *, points: bool = False) -> dict[str, int]:
    """Return how many published numbers have each verdict, those that occur, in the page's order.

    Args:
        ledger: The ledger.
        points: Count the points of curves too, each with its curve's verdict.
    """
    told = dict(_tally(ledger.entries))
    for curve in ledger.curves if points else ():
        told[_verdict(curve)] = told.get(_verdict(curve), 0) + len(curve.printed)
    return {name: told[name] for name in ORDER if name in told}


def settled(told: Mapping[str, int]) -> float:
    """Return the share of numbers that are reproduced, or explained by a fault that is shown."""
    return (told.get("reproduced", 0) + told.get("fault in the report", 0)) / max(sum(told.values()), 1)


def _tally(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    found = [_verdict(entry) for entry in entries]
    return [(name, found.count(name)) for name in ORDER if name in found]


def head_table(ledger: Ledger) -> tuple[list[str], list[list[str]]]:
    """Return the ledger's head as a table's columns and rows: what it leads with."""
    rows = []
    for item in ledger.head:
        entry = ledger.entries[item.entry]
        ours, interval = _ours(entry.figure)
        rows.append([item.title, form(entry.published.unit, entry.published.value), ours, interval, _verdict(entry)])
    return ["published number", "report", "trackdl", "95 % interval", "verdict"], rows


def render(ledger: Ledger, ui: str) -> str:
    """Return the page.

    Args:
        ledger: What it shows.
        ui: The address of an MLflow UI on the same store; runs are linked to it.
    """
    environment = Environment(
        loader=PackageLoader("trackdl.ledger", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(form=form, signs=SIGNS, titles=TITLES, verdict=_verdict, ours=_ours, tally=_tally)
    environment.globals.update(standing=_standing, some=_some, margin=GRID_MARGIN, scope=SCOPE)
    environment.globals.update(run_link=lambda run: _link(ledger, ui, run), short=lambda run: _short(ledger, run))
    told, every = counts(ledger), counts(ledger, points=True)
    return environment.get_template("page.html.j2").render(
        ledger=ledger,
        counts=told,
        share_settled=settled(told),
        every_number=sum(every.values()),
        every_settled=settled(every),
        standings=Counter(_standing(item) for item in ledger.hypotheses),
        head=[(item.title, ledger.entries[item.entry]) for item in ledger.head],
        share=Markup(charts.shares("Verdicts on all numbers", list(told.items()))),  # noqa: S704 - made here, escaped there
        charts=_charts(ledger),
        curves=_curves(ledger),
        beyond_chart=_beyond_chart(ledger),
        groups=_groups(ledger.entries),
        seeds=_seeds(ledger),
    )


def _link(ledger: Ledger, ui: str, run: str) -> str:
    """Return where a run is shown: in the MLflow UI; what is no run, among the page's own."""
    experiment = ledger.runs[run].experiment_id
    return f"{ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}" if experiment else f"#run-{run}"


def _short(ledger: Ledger, run: str) -> str:
    return f"run {run[:7]}" if ledger.runs[run].experiment_id else ledger.runs[run].name


def _verdict(entry: Entry | CurveEntry) -> str:
    return entry.verdict or "not run yet"


def _standing(item: HypothesisEntry) -> str:
    """Return a hypothesis's verdict, or why it has none: its words begin with that."""
    return item.verdict or item.words.partition(":")[0]


def _some(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _ours(figure: Figure | None) -> tuple[str, str]:
    """Return a figure and its interval as people read them."""
    if figure is None:
        return "not run yet", ""
    if figure.low is None or figure.high is None:
        return form(figure.unit, figure.mean), ""
    return form(figure.unit, figure.mean), f"{form(figure.unit, figure.low)} to {form(figure.unit, figure.high)}"


def _name(task: str, metric: str) -> str:
    """Return what a metric is in words, the model's name before it where there are several."""
    model, _, last = metric.rpartition("/")
    words = HELD_OUT.get((task, last)) or METRICS.get(last, last.replace("_", " "))
    return f"{model.replace('/', ', ')}: {words}" if model else words


def _seeds(ledger: Ledger) -> str:
    """Return of how many seeds the figures are, from the fewest to the most."""
    found = sorted({len(entry.figure.evidence) for entry in ledger.entries if entry.figure})
    if not found:
        return "no runs yet"
    return f"{found[0]} seed{'s' * (found[0] > 1)}" if len(found) == 1 else f"{found[0]} to {found[-1]} seeds"


def _groups(entries: Sequence[Entry]) -> list[tuple[str, list[tuple[str, list[Entry]]]]]:
    """Return the entries by task, in it by what they are a number of."""
    grouped = []
    for task, mine in groupby(entries, key=lambda entry: entry.task):
        found: dict[str, list[Entry]] = {}
        for entry in mine:
            series = f" ({entry.published.series})" if entry.published.series else ""
            found.setdefault(f"{_name(task, entry.metric)}{series}", []).append(entry)
        grouped.append((task, list(found.items())))
    return grouped


def _charts(ledger: Ledger) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """Return the curves by task: every metric that the report prints at several epochs."""
    drawn: dict[str, list[tuple[str, Markup]]] = {}
    found: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in ledger.entries:
        if entry.epoch is not None:
            found.setdefault((entry.task, entry.metric, entry.published.series), []).append(entry)
    for (task, metric, series), mine in found.items():
        if len(mine) < CURVE:
            continue
        words = _name(task, metric) + (f", {series}" if series else "")
        if _hides_the_rest(mine):
            mine, words = mine[1:], f"{words}, from epoch {mine[1].epoch}"
        report = [charts.Point(_epoch(entry), entry.published.value) for entry in mine]
        ours = [_point(entry) for entry in mine if entry.figure]
        epochs = [point.epoch for point in report]
        uneven = max(epochs) - min(epochs) >= 2 * len(epochs)
        percent = mine[0].published.unit == "fraction"
        svg = charts.curves(f"{TITLES[task]}: {words}", report, ours, percent=percent, even=uneven)
        drawn.setdefault(task, []).append((words, Markup(svg)))  # noqa: S704 - escaped in charts
    return list(drawn.items())


def _curves(ledger: Ledger) -> list[tuple[str, CurveEntry, Markup]]:
    """Return the curves of batches' losses, each with its name and its picture."""
    drawn = []
    for curve in ledger.curves:
        series = f", {curve.published.series}" if curve.published.series else ""
        name = f"{TITLES[curve.task]}: {_name(curve.task, curve.metric)}{series}"
        size = curve.size or max(curve.seen) + 1
        places = [epoch - 1 + seen / size for epoch, seen in zip(curve.epochs, curve.seen, strict=True)]
        svg = charts.dense(name, places, curve.printed, curve.mean, curve.low, curve.high)
        drawn.append((name, curve, Markup(svg)))  # noqa: S704 - escaped in charts
    return drawn


def _hides_the_rest(entries: Sequence[Entry]) -> bool:
    """Return whether the untrained network's number presses all others into a flat line."""
    values = [entry.published.value for entry in entries]
    later = max(values[1:]) - min(values[1:])
    return entries[0].epoch == 0 and max(values) - min(values) > 5 * later


def _point(entry: Entry) -> charts.Point:
    figure: Any = entry.figure
    seeds = figure.interval == "seeds"
    return charts.Point(_epoch(entry), figure.mean, figure.low if seeds else None, figure.high if seeds else None)


def _epoch(entry: Entry) -> int:
    return entry.epoch or 0


def _beyond_chart(ledger: Ledger) -> Markup | None:
    lines = [
        charts.DotRow(item.title, item.published, item.figure.mean, item.figure.low, item.figure.high)
        for item in ledger.beyond
        if item.figure and item.figure.unit == "fraction"
    ]
    return Markup(charts.rows("What goes beyond the report, as accuracies", lines)) if lines else None  # noqa: S704
