"""Charts of the ledger's page: inline SVG, coloured by the page's style sheet so that they follow light and dark."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from trackdl.ledger.model import Recovered
from trackdl.ledger.rule import form
from trackdl.ledger.words import METRICS, form_share, key_words, value_words
from trackdl.spec.base import Unit

WIDTH, HEIGHT = 400, 215
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34
FEWEST_POINTS = 4  # of a metric in the picture of a recovery
MANY = 60  # epochs, whose marks would hide the line

Places = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """An epoch's value: the report's, or ours with its interval."""

    epoch: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DotRow:
    """A row of a dot chart: the report's value, if any, and ours with its interval."""

    name: str
    report: float | None
    value: float
    low: float | None
    high: float | None


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Return round numbers within [low, high], about `count` of them."""
    locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def curves(title: str, report: Sequence[Point], ours: Sequence[Point], unit: Unit, *, even: bool) -> str:
    """Draw a number over the epochs: ours, if any, as a line with its interval as a band, the report's as rings.

    With `even` the epochs are spaced evenly, whatever lies between them.
    """
    epochs = sorted({point.epoch for point in (*report, *ours)})
    values = [v for p in (*report, *ours) for v in (p.value, p.low, p.high) if v is not None]
    low, high = min(values), max(values)
    pad = max((high - low or abs(high) or 1) * 0.06, 1e-9)
    low, high = max(low - pad, 0), high + pad
    if unit == "fraction":
        high = min(high, 1.0)

    def x(epoch: int) -> float:
        place, last = (epochs.index(epoch), len(epochs) - 1) if even else (epoch - epochs[0], epochs[-1] - epochs[0])
        return _x(place / max(last, 1))

    y = _y_scale(low, high)
    parts = [_y_axis(low, high, unit), _x_axis(epochs, x, even=even)]
    banded = [(p.epoch, p.low, p.high) for p in ours if p.low is not None and p.high is not None]
    if len(banded) > 1:
        parts.append(_band([(x(e), y(a)) for e, a, _ in banded], [(x(e), y(b)) for e, _, b in banded]))
    if ours:
        parts.append(_line("ours", [(x(p.epoch), y(p.value)) for p in ours]))
    for point, kind, who in [*((p, "dot", "trackdl") for p in ours), *((p, "ring", "report") for p in report)]:
        size = (2 if kind == "dot" else 3.2) * (1 if len(epochs) <= MANY else 0.5)
        parts.append(
            f'<circle class="{kind}" cx="{x(point.epoch):.1f}" cy="{y(point.value):.1f}" r="{size}">'
            f"<title>epoch {point.epoch}, {who}: {form(unit, point.value)}</title></circle>"
        )
    return _svg(title, WIDTH, HEIGHT, parts)


def dense(
    title: str,
    places: Sequence[float],
    report: Sequence[float],
    ours: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> str:
    """Draw a curve of many losses at `places`, in epochs: the report's as dots, our mean as a line with a band.

    `ours`, and the ends of the band, `low` and `high`, may be empty.
    """
    # The band's highest hundredth may be cut off: a few batches would flatten the curve of all others.
    top = max([*report, *ours, *sorted(high)[: max(1, len(high) * 99 // 100)], 1e-6]) * 1.04
    first, last = math.floor(places[0]), math.ceil(places[-1])

    def x(place: float) -> float:
        return _x((place - first) / max(last - first, 1))

    y = _y_scale(0.0, top)

    def placed(values: Sequence[float]) -> Places:
        return [(x(place), y(value)) for place, value in zip(places, values, strict=True)]

    epochs = [int(tick) for tick in ticks(first, last, 8, whole=True)]
    parts = [_y_axis(0.0, top, "loss"), _x_axis(epochs, x, even=True)]
    if low and high:
        parts.append(_band(placed(low), placed(high)))
    if ours:
        parts.append(_line("ours thin", placed(ours)))
    # One path for all: a zero-length stroke with round ends is a dot.
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in placed(report))
    parts.append(f'<path class="dots" d="{dots}"/>')
    return _svg(title, WIDTH, HEIGHT, parts)


def rows(title: str, lines: Sequence[DotRow]) -> str:
    """Draw accuracies, fractions, a row each: the report's as a ring, ours as a dot with its interval."""
    step, top, width = 46, 8, 640
    height = top + step * len(lines) + 26

    def x(value: float) -> float:
        return 14 + value * (width - 94)  # the number is to the right of its mark

    def across(kind: str, start: float, end: float, y: float) -> str:
        return f'<line class="{kind}" x1="{x(start):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}"/>'

    def mark(kind: str, value: float, y: float) -> str:
        return f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y}" r="5"/>'

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{height - 22}"/>')
        parts.append(_text("tick", x(tick), height - 6, "middle" if tick else "start", f"{tick:.0%}"))
    for index, line in enumerate(lines):
        y = top + step * index + 30
        parts.append(_text("name", 14, y - 16, "start", line.name))
        if line.report is not None:
            parts += [across("gain", line.report, line.value, y), mark("ring", line.report, y)]
            parts.append(_text("value", x(line.report) - 10, y + 4, "end", form("fraction", line.report)))
        if line.low is not None and line.high is not None:
            parts.append(across("interval", line.low, line.high, y))
        end = line.value if line.high is None else max(line.value, line.high)
        parts.append(mark("dot", line.value, y))
        parts.append(_text("value", x(end) + 10, y + 4, "start", form("fraction", line.value)))
    return _svg(title, width, height, parts)


PANEL, ROW, NAME = 150, 74, 168  # of the picture of a recovery: the width and height of a panel, and of the names


def recovery(found: Recovered, title: str) -> str:
    """Draw the printed numbers over each candidate's trainings: a row for each candidate, a column for each metric.

    A panel has the printed numbers less our mean, by epoch: points within the band are like one further training of
    ours. All panels of a metric have one scale.
    """
    by_metric: dict[str, list[int]] = {}
    for place, point in enumerate(found.points):
        by_metric.setdefault(point.metric, []).append(place)
    columns = {metric: places for metric, places in by_metric.items() if len(places) >= FEWEST_POINTS}
    series = list(dict.fromkeys(point.series for point in found.points))
    epochs = max(point.epoch for point in found.points)
    width, top = NAME + PANEL * len(columns) + 10, 30
    parts = [
        _text("name", NAME + PANEL * (column + 0.5), 14, "middle", METRICS.get(metric, metric))
        for column, metric in enumerate(columns)
    ]
    for row, one in enumerate(found.candidates):
        y = top + ROW * row
        words = [f"{name}: {value_words(one.values[key])}" for key, name in key_words(list(one.values)).items()]
        parts.append(_text("value", 4, y + 12, "start", f"{form_share(one.weight)} of the likelihood"))
        parts += [_text("tick", 4, y + 26 + 13 * line, "start", text) for line, text in enumerate(words[:4])]
        for column, (metric, places) in enumerate(columns.items()):
            most = 1.05 * max(
                max(abs(found.points[place].value - each.mean[place]) for each in found.candidates for place in places),
                max(each.high[place] - each.mean[place] for each in found.candidates[:1] for place in places),
            )
            left = NAME + PANEL * column

            def x(epoch: int, left: int = left) -> float:
                return left + 10 + (PANEL - 20) * (epoch - 1) / max(epochs - 1, 1)

            def across(value: float, y: int = y, most: float = most) -> float:
                return y + ROW / 2 - 4 - max(-1.0, min(1.0, value / most)) * (ROW / 2 - 8)

            for kind in dict.fromkeys(found.points[place].series for place in places):
                own = [place for place in places if found.points[place].series == kind]
                if kind == series[0] or len(series) == 1:
                    upper = [(x(found.points[place].epoch), across(one.high[place] - one.mean[place])) for place in own]
                    lower = [(x(found.points[place].epoch), across(one.low[place] - one.mean[place])) for place in own]
                    parts.append(_band(lower, upper))
            parts.append(
                f'<line class="grid" x1="{x(1):.1f}" x2="{x(epochs):.1f}" y1="{across(0):.1f}" y2="{across(0):.1f}"/>'
            )
            for place in places:
                point = found.points[place]
                unit: Unit = "fraction" if "accuracy" in metric else "loss"
                inside = one.low[place] <= point.value <= one.high[place]
                label = (
                    f"epoch {point.epoch}{', ' if point.series else ''}{point.series}: report {form(unit, point.value)}"
                )
                size = 1.7 if series.index(point.series) else 2.2
                parts.append(
                    f'<circle class="{"ring" if inside else "out"}" cx="{x(point.epoch):.1f}" '
                    f'cy="{across(point.value - one.mean[place]):.1f}" r="{size}">'
                    f"<title>{escape(label)}, ours {form(unit, one.mean[place])}</title></circle>"
                )
            if row == 0:
                text = f"±{100 * most:.1f} points" if "accuracy" in metric else f"±{most:.3f}"
                parts.append(_text("tick", left + PANEL / 2, 27, "middle", text))
    height = top + ROW * len(found.candidates) + 18
    parts.append(_text("tick", NAME, height - 5, "start", f"epochs 1 to {epochs} in each panel; grid line: our mean"))
    return _svg(f"{title}: printed numbers over each candidate's trainings", width, height, parts)


def shares(title: str, counts: Sequence[tuple[str, int]]) -> str:
    """Draw the share of each kind, as one bar; the kinds are classes of the style sheet."""
    total, place, parts = sum(count for _, count in counts), 0.0, []
    for name, count in counts:
        width = 640 * count / max(total, 1)
        kind = name.replace(" ", "-")
        parts.append(
            f'<rect class="share {kind}" x="{place:.2f}" y="0" width="{max(width - 2, 0.5):.2f}" height="16" rx="2">'
            f"<title>{count} {escape(name)}</title></rect>"
        )
        place += width
    return _svg(title, 640, 16, parts, stretch=True)


def _svg(title: str, width: int, height: int, parts: Sequence[str], *, stretch: bool = False) -> str:
    ratio = ' preserveAspectRatio="none"' if stretch else ""
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}"{ratio}>{"".join(parts)}</svg>'


def standalone(chart: str) -> str:
    """Return a chart as a file of its own, with its style, in light and dark."""
    width, height = chart.partition('viewBox="0 0 ')[2].partition('"')[0].split()
    style = (Path(__file__).parent / "chart.css").read_text(encoding="utf-8")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    paper = '<rect width="100%" height="100%" fill="var(--card)"/>'
    return chart.replace("<svg", head, 1).replace(">", f"><style>{style}</style>{paper}", 1) + "\n"


def _x(share: float) -> float:
    """Return the place of a share, 0 to 1, of the horizontal axis."""
    return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)


def _y_scale(low: float, high: float) -> Callable[[float], float]:
    """Return the function from a value, cut to [low, high], to its place on the vertical axis."""
    return lambda value: HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _y_axis(low: float, high: float, unit: Unit) -> str:
    parts, y = [], _y_scale(low, high)
    for tick in ticks(low, high):
        words = f"{100 * tick:g} %" if unit == "fraction" else f"{tick:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text("tick", LEFT - 5, y(tick) + 3.5, "end", words))
    return "".join(parts)


def _x_axis(epochs: Sequence[int], x: Callable[[int], float], *, even: bool) -> str:
    labelled = epochs if even or len(epochs) < 10 else [e for e in epochs if e == epochs[0] or e % 5 == 0]
    parts, last = [], -math.inf
    for epoch in labelled:
        # Numbers that would touch the one before them are left out.
        if x(epoch) - last >= 9 + 6 * len(str(epoch)):
            last = x(epoch)
            parts.append(_text("tick", last, HEIGHT - 18, "middle", str(epoch)))
    parts.append(_text("tick", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", "epoch"))
    return "".join(parts)


def _text(kind: str, x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _band(lower: Places, upper: Places) -> str:
    return f'<polygon class="band" points="{_points([*upper, *reversed(lower)])}"/>'


def _line(kind: str, places: Places) -> str:
    return f'<polyline class="{kind}" points="{_points(places)}"/>'


def _points(places: Places) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
