"""Charts of the ledger's page: inline SVG, coloured by the page's style sheet so that they follow light and dark."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from matplotlib.ticker import MaxNLocator

from trackdl.ledger.rule import form
from trackdl.spec.base import Unit

WIDTH, HEIGHT = 400, 215
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34
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
