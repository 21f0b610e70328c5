"""Charts of the ledger's page: inline SVG, coloured by the page's style sheet so that they follow light and dark."""

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from trackdl.ledger.model import Confusion, ContrastFacts, HypothesisEntry, Recovered
from trackdl.ledger.rule import form
from trackdl.ledger.words import METRICS, form_share, key_words, value_words
from trackdl.spec.base import Unit

WIDTH, HEIGHT = 400, 215
SLIM = 360  # the width of charts whose labels stand above their marks, for telephones
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 34
FEWEST_POINTS = 4  # of a metric in the picture of a recovery
OURS, REPORT = ("dot", "trackdl, the mean; shaded: its 95 % interval, over seeds"), ("ring", "the report")
PRINTED = (("ring", "printed, within the prediction interval"), ("out", "printed, outside of it"))
LOG = ", on a logarithmic axis"
FOREST = "points of accuracy, the first value less the second"
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
    """A row of a dot chart: the report's value, if any, and ours with its interval, and what that is over."""

    name: str
    report: float | None
    value: float
    low: float | None
    high: float | None
    over: str


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Return round numbers within [low, high], about `count` of them."""
    locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def curves(title: str, report: Sequence[Point], ours: Sequence[Point], unit: Unit, *, log: bool) -> str:
    """Draw a number over the epochs: ours, if any, as a line with its interval as a band, the report's as rings.

    With `log` the axis of epochs is logarithmic; if there is an epoch 0, it is of 1 more than each.
    """
    epochs = sorted({point.epoch for point in (*report, *ours)})
    values = [v for p in (*report, *ours) for v in (p.value, p.low, p.high) if v is not None]
    low, high = min(values), max(values)
    pad = max((high - low or abs(high) or 1) * 0.06, 1e-9)
    low, high = max(low - pad, 0), high + pad
    if unit == "fraction":
        high = min(high, 1.0)

    ends = epochs[0], epochs[-1]

    def x(epoch: int) -> float:
        first, last, place = (math.log(one + (epochs[0] < 1)) if log else one for one in (*ends, epoch))
        return _x((place - first) / ((last - first) or 1))

    y = _y_scale(low, high)
    parts = [_y_axis(low, high, unit), _x_axis(epochs if log or len(epochs) < 10 else _rounds(*ends), x, log=log)]
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

    parts = [_y_axis(0.0, top, "loss"), _x_axis(_rounds(first, last), x)]
    if low and high:
        parts.append(_band(placed(low), placed(high)))
    if ours:
        parts.append(_line("ours thin", placed(ours)))
    # One path for all: a zero-length stroke with round ends is a dot.
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in placed(report))
    parts.append(f'<path class="dots" d="{dots}"/>')
    return _svg(title, WIDTH, HEIGHT, parts)


def rows(title: str, lines: Sequence[DotRow], *, ladder: bool) -> str:
    """Draw accuracies, fractions, a row each: the report's as a ring, ours as a dot with its interval.

    In a ladder, the first row is the report's number, and each of ours is a step from the one above it.
    """
    known = [one for line in lines for one in (line.report, line.value, line.low, line.high) if one is not None]
    pad = max(0.04 * (max(known) - min(known)), 1e-4)
    low, high = max(min(known) - pad, 0.0), min(max(known) + pad, 1.0)
    low = 0.0 if low < high / 4 else low
    x = _across(low, high)
    links, parts, y, before = [], [], 2, None
    if ladder and (report := lines[0].report) is not None:
        parts += [_text("name", 2, 16, "start", "What the report prints"), _mark("ring", x(report), 44)]
        parts.append(_text("value", 2, 33, "start", form("fraction", report)))
        y, before = 52, report
    for line in lines:
        for words in textwrap.wrap(line.name, 50):
            y += 14
            parts.append(_text("name", 2, y, "start", words))
        ours = form("fraction", line.value)
        if before:
            ours += f" ({100 * (line.value - before):+.2f})"
        elif line.report is not None:
            ours = f"{form('fraction', line.report)} \u2192 {ours}"
        y += 17
        parts.append(_text("value", 2, y, "start", ours))
        y += 11
        if before:
            links.append(_bar("gain", x(before), x(line.value), y))
        elif line.report is not None:
            links.append(_bar("gain", x(line.report), x(line.value), y))
            parts.append(_mark("ring", x(line.report), y))
        if line.low is not None and line.high is not None:
            bounds = f"{form('fraction', line.low)} to {form('fraction', line.high)} ({line.over})"
            parts += [_text("tick", SLIM - 2, y - 11, "end", bounds), _bar("interval", x(line.low), x(line.high), y)]
        parts.append(_mark("dot", x(line.value), y))
        before = line.value if ladder else None
        y += 12
    axis = _axis(ticks(low, high), x, y, lambda tick: f"{100 * tick:g} %")
    note = [_text("tick", SLIM / 2, y + 30, "middle", "the axis does not begin at 0")] if low else []
    return _svg(title, SLIM, y + 34, [*axis, *links, *parts, *note])


def effect_words(one: ContrastFacts) -> str:
    """Return an effect on accuracy, in points, as text with its interval, if it is known."""
    known = f" ({one.least:+.2f} to {one.most:+.2f})" if one.least is not None else ""
    return f"{one.high} against {one.low}: {one.mean:+.2f}{known}"


def forest(title: str, hypotheses: Sequence[HypothesisEntry]) -> str:
    """Draw every contrast of hypotheses with one margin, the effect with its interval, all on one scale."""
    margin = hypotheses[0].margin
    effects = [one for item in hypotheses for one in item.contrasts]
    ends = [end for one in effects for end in (one.least, one.mean, one.most) if end is not None]
    x = _across(min(-margin, *ends), max(margin, *ends))
    parts, y = [], 4
    for item in (item for item in hypotheses if item.contrasts):
        y += 18
        parts.append(_text("name", 2, y, "start", item.dimension))
        parts.append(_text("tick", SLIM - 2, y, "end", item.verdict or ""))
        for one in item.contrasts:
            values, _, points = effect_words(one).partition(": ")
            parts.append(_text("value", 2, y + 18, "start", values))
            parts.append(_text("value", SLIM - 2, y + 18, "end", points))
            y += 29
            if one.least is not None and one.most is not None:
                parts.append(_bar("interval", x(one.least), x(one.most), y))
            parts.append(_mark("dot", x(one.mean), y))
            y += 9
        y += 3
    band = f'<rect class="margin" x="{x(-margin):.1f}" y="0" width="{x(margin) - x(-margin):.1f}" height="{y}"/>'
    axis = _axis(ticks(min(ends), max(ends)), x, y, lambda tick: f"{tick:+g}" if tick else "0")
    return _svg(title, SLIM, y + 34, [band, *axis, *parts, _text("tick", SLIM / 2, y + 30, "middle", FOREST)])


PANEL, ROW, NAME = 150, 74, 172  # of the picture of a recovery: the width and height of a panel, and of the names


def recovery(found: Recovered, title: str) -> str:
    """Draw the printed numbers over each candidate's trainings: a row for each candidate, a column for each metric.

    A panel has the printed numbers less our mean, by epoch: points within the band are like one more run of
    ours. All panels of a metric have one scale.
    """
    by_metric: dict[str, list[int]] = {}
    for place, point in enumerate(found.points):
        by_metric.setdefault(point.metric, []).append(place)
    columns = {metric: places for metric, places in by_metric.items() if len(places) >= FEWEST_POINTS}
    epochs = [found.points[place].epoch for places in columns.values() for place in places] or [1]
    width, bottom = NAME + PANEL * len(columns) + 10, 34 + ROW * len(found.candidates)
    parts = []
    for row, one in enumerate(found.candidates):
        y = 34 + ROW * row
        words = [f"{name}: {value_words(one.values[key])}" for key, name in key_words(list(one.values)).items()]
        parts.append(f'<line class="grid" x1="0" x2="{width}" y1="{y}" y2="{y}"/>')
        parts.append(
            _text("value" if row else "name", 4, y + 18, "start", f"{form_share(one.weight)} of the likelihood")
        )
        parts += [_text("tick", 4, y + 33 + 14 * line, "start", text) for line, text in enumerate(words[:3])]
    for column, (metric, places) in enumerate(columns.items()):
        left = NAME + PANEL * column
        unit: Unit = "fraction" if "accuracy" in metric else "loss"
        # The scale: every candidate's gaps, and the likeliest one's band.
        best = found.candidates[0]
        gaps = [abs(found.points[place].value - one.mean[place]) for one in found.candidates for place in places]
        most = 1.05 * max(*gaps, *(best.high[place] - best.mean[place] for place in places)) or 1.0

        def x(epoch: int, left: int = left) -> float:
            return left + 10 + (PANEL - 20) * (epoch - min(epochs)) / max(max(epochs) - min(epochs), 1)

        words_of_scale = f"\u00b1{100 * most:.1f} points" if unit == "fraction" else f"\u00b1{most:.3f}"
        parts.append(_text("name", left + PANEL / 2, 12, "middle", METRICS.get(metric, metric)))
        parts.append(_text("tick", left + PANEL / 2, 27, "middle", words_of_scale))
        for epoch, anchor in ((min(epochs), "start"), (max(epochs), "end")):
            parts.append(_text("tick", x(epoch), bottom + 14, anchor, f"epoch {epoch}"))
        for row, one in enumerate(found.candidates):

            def y_of(value: float, middle: float = 34 + ROW * (row + 0.5), most: float = most) -> float:
                return middle - max(-1.0, min(1.0, value / most)) * (ROW / 2 - 6)

            by_epoch = sorted({found.points[place].epoch: place for place in places}.items())
            lower = [(x(epoch), y_of(one.low[place] - one.mean[place])) for epoch, place in by_epoch]
            upper = [(x(epoch), y_of(one.high[place] - one.mean[place])) for epoch, place in by_epoch]
            parts.append(_band(lower, upper))
            parts.append(_line("ours thin", [(x(epoch), y_of(0)) for epoch, _ in by_epoch]))
            drawn = {"ring": "", "out": ""}
            for place in places:
                printed = found.points[place].value
                kind = "ring" if one.low[place] <= printed <= one.high[place] else "out"
                start = x(found.points[place].epoch) - 2.3, y_of(printed - one.mean[place])
                drawn[kind] += f"M{start[0]:.1f} {start[1]:.1f}a2.3 2.3 0 1 0 4.6 0a2.3 2.3 0 1 0-4.6 0"
            # One path for all points of a kind: a candidate has a hundred.
            parts += [f'<path class="{kind}" d="{path}"/>' for kind, path in drawn.items() if path]
    return _svg(f"{title}: printed numbers over each candidate's trainings", width, bottom + 20, parts)


def confusion(found: Confusion, title: str) -> str:
    """Draw for which classes the examples of each are taken: a row for each true class, in per cent of it."""
    names = [textwrap.shorten(name, 14, placeholder="\u2026") for name in found.classes]
    left, reach, count = 96, round(4.5 * max(map(len, names))), len(names)  # names above the columns lean to the right
    top, side = 22 + reach, (SLIM - left - reach) / count
    parts = [_text("tick", left - 5, top - 8, "end", "is \u2193  taken for \u2192")]
    for row, (name, counts) in enumerate(zip(names, found.counts, strict=True)):
        y, x = top + side * row, left + side * (row + 0.5)
        parts.append(_text("tick", left - 5, y + side / 2 + 4, "end", name))
        parts.append(f'<text class="tick" transform="translate({x:.1f} {top - 6}) rotate(-45)">{escape(name)}</text>')
        for column, number in enumerate(counts):
            share = number / max(sum(counts), 1)
            if share < 0.0005:
                continue
            kind, strength = ("cell", share) if row == column else ("cell wrong", min(4 * share, 1))
            at = left + side * column
            parts.append(
                f'<rect class="{kind}" x="{at:.1f}" y="{y:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}" '
                f'fill-opacity="{0.1 + 0.7 * strength:.2f}"><title>{escape(name)} taken for {escape(names[column])}: '
                f"{form('fraction', share)}</title></rect>"
            )
            if side > 20 and share > 0.005:
                parts.append(_text("tick", at + side / 2 - 0.5, y + side / 2 + 4, "middle", f"{100 * share:.0f}"))
    return _svg(title, SLIM, round(top + side * count + 4), parts)


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


def standalone(chart: str, keys: Sequence[tuple[str, str]] = ()) -> str:
    """Return a chart as a file of its own, with its style, in light and dark, under its title and its marks' meanings.

    `keys` are the marks' classes and what they mean.
    """
    attributes, _, drawn = chart.partition(">")
    width, height = (int(size) for size in attributes.partition('viewBox="0 0 ')[2].partition('"')[0].split())
    title = unescape(attributes.partition('aria-label="')[2].partition('"')[0])
    parts, y = [], 10
    for line in textwrap.wrap(title, width // 7):
        y += 15
        parts.append(_text("name", 2, y, "start", line))
    for kind, words in keys:
        y += 17
        parts += [_mark(kind, 8, y - 4), _text("value", 20, y, "start", words)]
    y += 14
    style = (Path(__file__).parent / "chart.css").read_text(encoding="utf-8")
    whole = width + 24, height + y + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole[0]}" height="{whole[1]}" '
        f'viewBox="-12 0 {whole[0]} {whole[1]}" role="img" aria-label="{escape(title, quote=True)}">'
        f'<style>{style}</style><rect x="-12" width="100%" height="100%" fill="var(--paper)"/>'
        f'{"".join(parts)}<g transform="translate(0 {y})">{drawn.removesuffix("</svg>")}</g></svg>\n'
    )


def _x(share: float) -> float:
    """Return the place of a share, 0 to 1, of the horizontal axis."""
    return LEFT + 6 + share * (WIDTH - LEFT - RIGHT - 12)


def _y_scale(low: float, high: float) -> Callable[[float], float]:
    """Return the function from a value, cut to [low, high], to its place on the vertical axis."""
    return lambda value: HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _y_axis(low: float, high: float, unit: Unit) -> str:
    parts, y = [], _y_scale(low, high)
    for tick in ticks(low, high, 6):
        words = f"{100 * tick:g} %" if unit == "fraction" else f"{tick:g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text("tick", LEFT - 5, y(tick) + 3.5, "end", words))
    return "".join(parts)


def _rounds(first: int, last: int) -> list[int]:
    """Return round numbers of epochs, and the first."""
    return sorted({first, *(int(tick) for tick in ticks(first, last, 8, whole=True))})


def _x_axis(epochs: Sequence[int], x: Callable[[int], float], *, log: bool = False) -> str:
    labelled: list[int] = []
    for epoch in epochs:
        # Numbers that would touch the one before them are left out; the last one stays, and they go.
        room = 9 + 6 * len(str(epoch))
        while labelled and epoch == epochs[-1] and x(epoch) - x(labelled[-1]) < room:
            labelled.pop()
        if not labelled or x(epoch) - x(labelled[-1]) >= room:
            labelled.append(epoch)
    parts = [_text("tick", x(epoch), HEIGHT - 18, "middle", str(epoch)) for epoch in labelled]
    parts.append(_text("tick", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", f"epoch{LOG if log else ''}"))
    return "".join(parts)


def _across(low: float, high: float) -> Callable[[float], float]:
    """Return the function from a value in [low, high] to its place in a slim chart."""
    return lambda value: 8 + (value - low) / ((high - low) or 1) * (SLIM - 16)


def _axis(
    values: Sequence[float], x: Callable[[float], float], y: float, words: Callable[[float], str]
) -> Sequence[str]:
    """Return the grid lines of a slim chart, from its top to y, with their labels below."""
    lines = [f'<line class="grid" x1="{x(one):.1f}" x2="{x(one):.1f}" y1="0" y2="{y}"/>' for one in values]
    return [*lines, *(_text("tick", min(max(x(one), 12), SLIM - 19), y + 15, "middle", words(one)) for one in values)]


def _bar(kind: str, start: float, end: float, y: float) -> str:
    return f'<line class="{kind}" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>'


def _mark(kind: str, x: float, y: float) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="4.5"/>'


def _text(kind: str, x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _band(lower: Places, upper: Places) -> str:
    return f'<polygon class="band" points="{_points([*upper, *reversed(lower)])}"/>'


def _line(kind: str, places: Places) -> str:
    return f'<polyline class="{kind}" points="{_points(places)}"/>'


def _points(places: Places) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
