"""Charts of the ledger's page: inline SVG, coloured by the page's style sheet so that they follow light and dark."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["DotRow", "Point", "curves", "dense", "rows", "shares"]

WIDTH, HEIGHT = 400, 215
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34
MANY = 60  # epochs, whose marks would hide the line


@dataclass(frozen=True)
class Point:
    """An epoch's value: the report's, or ours with its interval."""

    epoch: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DotRow:
    """A line of a dot chart: the report's value, if any, and ours with its interval."""

    name: str
    report: float | None
    value: float
    low: float | None
    high: float | None


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers within [low, high], about `count` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round((first + n) * step, 12) for n in range(int((high - first * step) / step + 1e-9) + 1)]


def curves(title: str, report: Sequence[Point], ours: Sequence[Point], *, percent: bool, even: bool) -> str:
    """Draw a number over the epochs: ours as a line with its interval as a band, the report's as rings.

    Args:
        title: What it is.
        report: The report's points.
        ours: Our points; may be empty.
        percent: The values are fractions.
        even: Space the epochs evenly, whatever lies between them.
    """
    epochs = sorted({point.epoch for point in (*report, *ours)})
    values = [v for p in (*report, *ours) for v in (p.value, p.low, p.high) if v is not None]
    low, high = min(values), max(values)
    pad = max((high - low or abs(high) or 1) * 0.06, 1e-9)
    low, high = max(low - pad, 0), high + pad
    if percent:
        high = min(high, 1.0) if max(values) <= 1 else 1.0

    def x(epoch: int) -> float:
        place = epochs.index(epoch) / max(len(epochs) - 1, 1)
        span = (epoch - epochs[0]) / max(epochs[-1] - epochs[0], 1)
        return LEFT + 6 + (place if even else span) * (WIDTH - LEFT - RIGHT - 12)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [_y_axis(ticks(low, high), y, percent=percent), _x_axis(epochs, x, even=even)]
    banded = [p for p in ours if p.low is not None and p.high is not None]
    if len(banded) > 1:
        upper = [(x(p.epoch), y(p.high or 0)) for p in banded]
        lower = [(x(p.epoch), y(p.low or 0)) for p in reversed(banded)]
        parts.append(f'<polygon class="band" points="{_points([*upper, *lower])}"/>')
    if ours:
        parts.append(f'<polyline class="ours" points="{_points([(x(p.epoch), y(p.value)) for p in ours])}"/>')
    for point, kind, who in [*((p, "dot", "trackdl") for p in ours), *((p, "ring", "report") for p in report)]:
        told = f"epoch {point.epoch}, {who}: {_form(point.value, percent=percent)}"
        size = (2 if kind == "dot" else 3.2) * (1 if len(epochs) <= MANY else 0.5)
        parts.append(
            f'<circle class="{kind}" cx="{x(point.epoch):.1f}" cy="{y(point.value):.1f}" r="{size}">'
            f"<title>{told}</title></circle>"
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
    """Draw a curve of many points over the epochs: the report's as dots, ours as a line with a band.

    Args:
        title: What it is.
        places: Each point's place, in epochs.
        report: The report's values, [points].
        ours: Our mean; may be empty.
        low: The band's lower end; may be empty.
        high: Its upper end; may be empty.
    """
    # The band's highest hundredth may be cut off: a few batches would press all others into a flat line.
    bottom, top = 0.0, max([*report, *ours, *sorted(high)[: max(1, len(high) * 99 // 100)], 1e-6]) * 1.04
    ends = (math.floor(places[0]), math.ceil(places[-1]))

    def x(place: float) -> float:
        return LEFT + 6 + (place - ends[0]) / max(ends[1] - ends[0], 1) * (WIDTH - LEFT - RIGHT - 12)

    def y(value: float) -> float:
        share = (min(max(value, bottom), top) - bottom) / (top - bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    epochs = [int(tick) for tick in ticks(*ends, 8) if tick == int(tick)]
    parts = [_y_axis(ticks(bottom, top), y, percent=False), _x_axis(epochs, x, even=True)]
    if low and high:
        upper = [(x(place), y(value)) for place, value in zip(places, high, strict=True)]
        lower = [(x(place), y(value)) for place, value in zip(places, low, strict=True)]
        parts.append(f'<polygon class="band" points="{_points([*upper, *reversed(lower)])}"/>')
    if ours:
        line = _points([(x(place), y(value)) for place, value in zip(places, ours, strict=True)])
        parts.append(f'<polyline class="ours thin" points="{line}"/>')
    # One path for all: a zero-length stroke with round ends is a dot.
    dots = "".join(f"M{x(place):.1f} {y(value):.1f}h0" for place, value in zip(places, report, strict=True))
    parts.append(f'<path class="dots" d="{dots}"/>')
    return _svg(title, WIDTH, HEIGHT, parts)


def rows(title: str, lines: Sequence[DotRow]) -> str:
    """Draw accuracies, fractions, a row each: the report's as a ring, ours as a dot with its interval."""
    step, top, width = 46, 8, 640
    height = top + step * len(lines) + 26

    def x(value: float) -> float:
        return 14 + value * (width - 94)  # the number stands to the right of its mark

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{height - 22}"/>')
        anchor = "middle" if tick else "start"
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{height - 6}" text-anchor="{anchor}">{tick:.0%}</text>')
    for index, line in enumerate(lines):
        words, place = top + step * index + 14, top + step * index + 30
        parts.append(f'<text class="name" x="14" y="{words}">{escape(line.name)}</text>')
        if line.report is not None:
            ends = f'x1="{x(line.report):.1f}" x2="{x(line.value):.1f}"'
            parts.append(f'<line class="gain" {ends} y1="{place}" y2="{place}"/>')
            parts.append(f'<circle class="ring" cx="{x(line.report):.1f}" cy="{place}" r="5"/>')
            parts.append(_beside(line.report, x(line.report) - 10, place, "end"))
        if line.low is not None and line.high is not None:
            ends = f'x1="{x(line.low):.1f}" x2="{x(line.high):.1f}"'
            parts.append(f'<line class="interval" {ends} y1="{place}" y2="{place}"/>')
        parts.append(f'<circle class="dot" cx="{x(line.value):.1f}" cy="{place}" r="5"/>')
        end = line.value if line.high is None else max(line.value, line.high)
        parts.append(_beside(line.value, x(end) + 10, place, "start"))
    return _svg(title, width, height, parts)


def _beside(value: float, x: float, y: float, anchor: str) -> str:
    told = _form(value, percent=True)
    return f'<text class="value" x="{x:.1f}" y="{y + 4}" text-anchor="{anchor}">{told}</text>'


def shares(title: str, counts: Sequence[tuple[str, int]]) -> str:
    """Draw how many of all there are of each kind, as one bar; the kinds are classes of the style sheet."""
    total, place, parts = sum(count for _, count in counts), 0.0, []
    for name, count in counts:
        wide = 640 * count / max(total, 1)
        kind = name.replace(" ", "-")
        parts.append(
            f'<rect class="share {kind}" x="{place:.2f}" y="0" width="{max(wide - 2, 0.5):.2f}" height="16" rx="2">'
            f"<title>{count} {escape(name)}</title></rect>"
        )
        place += wide
    return _svg(title, 640, 16, parts, stretch=True)


def _svg(title: str, width: int, height: int, parts: Sequence[str], *, stretch: bool = False) -> str:
    how = ' preserveAspectRatio="none"' if stretch else ""
    name = escape(title, quote=True)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}"{how}>{"".join(parts)}</svg>'


def _y_axis(marks: Sequence[float], y: Callable[[float], float], *, percent: bool) -> str:
    parts = []
    for mark in marks:
        told = f"{100 * mark:g} %" if percent else f"{mark:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y(mark) + 3.5:.1f}" text-anchor="end">{told}</text>')
    return "".join(parts)


def _x_axis(epochs: Sequence[int], x: Callable[[int], float], *, even: bool) -> str:
    shown = epochs if even or len(epochs) < 10 else [epoch for epoch in epochs if epoch == epochs[0] or epoch % 5 == 0]
    parts, last = [], -math.inf
    for epoch in shown:
        # Numbers that would touch the one before them are left out.
        if x(epoch) - last >= 9 + 6 * len(str(epoch)):
            parts.append(f'<text class="tick" x="{x(epoch):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{epoch}</text>')
            last = x(epoch)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">epoch</text>')
    return "".join(parts)


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in places)


def _form(value: float, *, percent: bool) -> str:
    return f"{100 * value:.2f} %" if percent else f"{value:.4f}"
