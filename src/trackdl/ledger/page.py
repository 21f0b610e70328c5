"""The ledger as a page: one self-contained HTML file, rendered from what `ledger.json` holds and nothing else."""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trackdl.analysis.hypotheses import SCOPE
from trackdl.ledger import charts, recovery
from trackdl.ledger.folder import shown_option
from trackdl.ledger.model import CurveEntry, Entry, Figure, HypothesisEntry, Ledger, RunFacts, SeedEvidence, VerdictName
from trackdl.ledger.rule import form
from trackdl.ledger.words import cell_of, form_share, key_words, metric_words, value_words

# What a number without figures of ours is: its words begin so.
OPEN = ("not run yet", "no evidence", "no formula")
ORDER = (*get_args(VerdictName), *OPEN)
SIGNS = {
    "reproduced": "✓",
    "differs": "≠",
    "fault in the report": "✕",
    "not comparable": "–",
    "inconclusive": "?",
    **dict.fromkeys(OPEN, "…"),
    "supported": "✓",
    "contradicted": "✕",
    "no practical difference": "≈",
    "not decidable": "?",
    "not judged": "…",
}
# The fewest points that make a learning curve.
CURVE = 4


def counts(ledger: Ledger, *, points: bool = False) -> dict[str, int]:
    """Return how many published numbers have each verdict that occurs, in the page's order; times are not judged.

    With `points`, those of curves count too, each with its curve's verdict.
    """
    found = Counter(_verdict(entry) for entry in ledger.entries if entry.published.unit != "seconds")
    for curve in ledger.curves if points else ():
        found[_verdict(curve)] += len(curve.printed)
    return _ordered(found)


def settled(counts: Mapping[str, int]) -> float:
    """Return the share of numbers that are reproduced, or explained by a fault of the report."""
    return (counts.get("reproduced", 0) + counts.get("fault in the report", 0)) / max(sum(counts.values()), 1)


def head_table(ledger: Ledger) -> tuple[list[str], list[list[str]]]:
    """Return the numbers that the ledger leads with as a table's columns and rows."""
    rows = []
    for item in ledger.head:
        entry = ledger.entries[item.entry]
        rows.append(
            [item.title, form(entry.published.unit, entry.published.value), *_ours(entry.figure), _verdict(entry)]
        )
        if entry.figure and rows[-1][3]:
            rows[-1][3] += f" ({_over(entry.figure)})"
    return ["published number", "report", "trackdl", "95 % interval of our mean", "verdict"], rows


def of_other_code(ledger: Ledger) -> list[tuple[RunFacts, str]]:
    """Return the runs that were made by other code than the ledger, each with that code in words."""
    return [(run, _code(ledger, run)) for run in ledger.runs.values() if _is_of_other_code(ledger, run)]


def render(ledger: Ledger, ui: str | None) -> str:
    """Return the page; runs are linked to `ui`, the address of an MLflow UI on the same store.

    Without one the page is part of a bundle of evidence, and they are linked to the files beside it.
    """
    environment = Environment(
        loader=PackageLoader("trackdl.ledger", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def code(evidence: Sequence[SeedEvidence]) -> str:
        return ", ".join(dict.fromkeys(_code(ledger, ledger.runs[item.run]) for item in evidence))

    def short(run: str) -> str:
        return f"run {run[:7]}" if ledger.runs[run].experiment_id else ledger.runs[run].name

    numbered: list[Entry | CurveEntry] = [*ledger.entries, *ledger.curves]
    environment.globals |= {
        "code": code,
        "form": form,
        "by_task": lambda verdict: _by_task(ledger, verdict).items(),
        "ours": _ours,
        "effect": charts.effect_words,
        "over": _over,
        "links": {one.published.quote: one.published.link for one in numbered},
        "run_link": lambda run: _link(ledger, ui, run),
        "short": short,
        "sentence": lambda words: re.split(r"(?<=\.) ", words, maxsplit=1)[0],
        "signs": SIGNS,
        "some": lambda count, one, several: f"{count} {one if count == 1 else several}",
        "standing": _standing,
        "tally": lambda entries: _ordered(Counter(map(_verdict, entries))).items(),
        "place": _place,
        "title": lambda task: ledger.experiments[task].title,
        "verdict": _verdict,
    }
    numbers, with_points, numbers_of = counts(ledger), counts(ledger, points=True), _groups(ledger)
    return environment.get_template("page.html.j2").render(
        ledger=ledger,
        bundled=ui is None,
        report_option=shown_option(),
        counts=numbers,
        judged=sum(numbers.values()),
        share_settled=settled(numbers),
        every_number=sum(with_points.values()),
        every_settled=settled(with_points),
        standings=Counter(map(_standing, ledger.hypotheses)),
        head=[(item.title, ledger.entries[item.entry]) for item in ledger.head],
        share=_svg(charts.shares("Verdicts on all numbers", list(numbers.items()))),
        charts=_charts(ledger, numbers_of),
        curves=_curves(ledger),
        confusions=_confusions(ledger),
        beyond_charts=_beyond_charts(ledger),
        leading_faults=_leading_faults(ledger),
        recovered=[
            (one, recovery.table(one), _svg(charts.recovery(one, ledger.experiments[one.task].title)))
            for one in ledger.recovered
        ],
        forests=_forests(ledger),
        groups=numbers_of,
        seeds=_seeds(ledger),
        scope=SCOPE,
        other_code=of_other_code(ledger),
    )


def pictures(ledger: Ledger) -> dict[str, str]:
    """Return the page's main charts as SVG files of their own, by name; of the curves those of one experiment."""
    numbers, by_task = counts(ledger), _charts(ledger, _groups(ledger))
    keys = [(f"share {name.replace(' ', '-')}", f"{name}: {count}") for name, count in numbers.items()]
    made = {
        "verdicts": charts.standalone(charts.shares("Verdicts on the printed numbers", list(numbers.items())), keys)
    }
    task = max(by_task, key=lambda name: len(by_task[name]), default="")
    for title, svg in by_task.get(task, []):
        made[_slug("curve", task, title)] = charts.standalone(svg, [charts.OURS, charts.REPORT])
    for task, _, svg in _confusions(ledger):
        made[_slug("confusion", task)] = charts.standalone(svg)
    for found in ledger.recovered:
        chart = charts.recovery(found, ledger.experiments[found.task].title)
        made[_slug("left-out", found.task)] = charts.standalone(chart, charts.PRINTED)
    for task, caption, svg in _forests(ledger):
        made[_slug("hypotheses", task)] = charts.standalone(svg, [("margin", caption.rpartition("shaded: ")[2])])
    for task, _, svg in _beyond_charts(ledger):
        made[_slug("beyond", task)] = charts.standalone(
            svg, [("dot", "trackdl, with its 95 % interval"), charts.REPORT]
        )
    return made


def _slug(*words: str) -> str:
    return re.sub("[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def markdown(ledger: Ledger) -> str:
    """Return the ledger's head as Markdown, for the folder that holds the page, the data and `pictures`."""
    environment = Environment(  # noqa: S701 - Markdown: `plain` escapes
        loader=PackageLoader("trackdl.ledger", "."), undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"plain": _plain, "share": form_share}
    environment.globals |= {"key_words": key_words, "value_words": value_words, "table": table, "settled": settled}
    return environment.get_template("page.md.j2").render(
        ledger=ledger,
        numbers=counts(ledger),
        every=counts(ledger, points=True),
        head=table(*head_table(ledger)),
        hypotheses=[
            [item.dimension, item.quote, _standing(item), "; ".join(map(charts.effect_words, item.contrasts))]
            for item in ledger.hypotheses
        ],
        pictures=list(pictures(ledger)),
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is: no elements, no cells, no lines of its own."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("\n", " ")


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in ORDER if name in counts}


def _svg(chart: str) -> Markup:
    return Markup(chart)  # noqa: S704 - made and escaped in charts


def _link(ledger: Ledger, ui: str | None, run: str) -> str:
    """Return the address of a run: in the MLflow UI, or in the bundle; of a committed table, its row on the page."""
    experiment = ledger.runs[run].experiment_id
    if ui is None:
        return f"runs/{run}.zip" if experiment else f"{ledger.files}/results/{ledger.runs[run].task}.csv"
    return f"{ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}" if experiment else f"#run-{run}"


def _is_of_other_code(ledger: Ledger, run: RunFacts) -> bool:
    return ledger.current_code.get(run.task, run.code_digest) != run.code_digest


def _code(ledger: Ledger, run: RunFacts) -> str:
    """Return which code made a run, by the first digits of its digest."""
    words = f"by code {run.code_digest[:8]}" if run.code_digest else "by code that is not known"
    if not _is_of_other_code(ledger, run):
        return words
    command = ledger.experiments[run.task].command
    return f"{words}, not today's {ledger.current_code[run.task][:8]}; `{command}` renews it"


def _verdict(entry: Entry | CurveEntry) -> str:
    return entry.verdict or next(name for name in OPEN if entry.words.startswith(name))


def _standing(item: HypothesisEntry) -> str:
    """Return a hypothesis's verdict, or why it has none: its words begin with that."""
    return item.verdict or item.words.partition(":")[0]


def _ours(figure: Figure | None) -> tuple[str, str]:
    """Return a figure and its interval as text."""
    if figure is None:
        return "none", ""
    if figure.low is None or figure.high is None:
        return form(figure.unit, figure.mean), ""
    return form(figure.unit, figure.mean), f"{form(figure.unit, figure.low)} to {form(figure.unit, figure.high)}"


def _place(entry: Entry) -> str:
    """Return which of several numbers of a kind this is: of which cell or epoch."""
    if cell := cell_of(entry.metric):
        return cell
    if entry.epoch is None:
        return "last" if entry.metric.endswith("loss") else "–"
    return f"epoch {entry.epoch}"


def _seeds(ledger: Ledger) -> str:
    """Return how many seeds the figures have, from the fewest to the most."""
    found = sorted({len(entry.figure.evidence) for entry in ledger.entries if entry.figure})
    if not found:
        return "no runs yet"
    return f"{found[0]} seed{'s' * (found[0] > 1)}" if len(found) == 1 else f"{found[0]} to {found[-1]} seeds"


def _words(ledger: Ledger, one: Entry | CurveEntry) -> str:
    return metric_words(ledger.experiments[one.task].kind, one.metric, one.published.series)


def _groups(ledger: Ledger) -> dict[str, dict[str, list[Entry]]]:
    """Return the entries by experiment, and within one by what they measure."""
    grouped: dict[str, dict[str, list[Entry]]] = {}
    for entry in ledger.entries:
        grouped.setdefault(entry.task, {}).setdefault(_words(ledger, entry), []).append(entry)
    return grouped


def _charts(ledger: Ledger, groups: Mapping[str, Mapping[str, Sequence[Entry]]]) -> dict[str, list[tuple[str, Markup]]]:
    """Return the learning curves by experiment: every metric that the report prints at several epochs."""
    drawn: dict[str, list[tuple[str, Markup]]] = {}
    for task, by_name in groups.items():
        for name, group in by_name.items():
            entries = [(entry.epoch, entry) for entry in group if entry.epoch is not None]
            if len(entries) < CURVE:
                continue
            title = name
            if _hides_the_rest(entries):
                entries, title = entries[1:], f"{name}, from epoch {entries[1][0]}"
            report = [charts.Point(epoch, entry.published.value) for epoch, entry in entries]
            ours = [_point(epoch, entry.figure) for epoch, entry in entries if entry.figure]
            epochs = [epoch for epoch, _ in entries]
            uneven = max(epochs) - min(epochs) >= 2 * len(epochs)
            title += charts.LOG if uneven else ""
            whole = f"{ledger.experiments[task].title}: {title}"
            chart = charts.curves(whole, report, ours, group[0].published.unit, log=uneven)
            drawn.setdefault(task, []).append((title, _svg(chart)))
    return drawn


def _curves(ledger: Ledger) -> list[tuple[str, CurveEntry, Markup]]:
    """Return the curves of losses per batch, each with its name and its chart."""
    drawn = []
    for curve in ledger.curves:
        name = f"{ledger.experiments[curve.task].title}: {_words(ledger, curve)}"
        size = curve.size or max(curve.seen) + 1
        places = [epoch - 1 + seen / size for epoch, seen in zip(curve.epochs, curve.seen, strict=True)]
        chart = charts.dense(name, places, curve.printed, curve.mean, curve.low, curve.high)
        drawn.append((name, curve, _svg(chart)))
    return drawn


def _confusions(ledger: Ledger) -> list[tuple[str, str, Markup]]:
    """Return a chart of the mistakes of each network of which the ledger has them, with its experiment and title."""
    drawn = []
    for one in ledger.confusions:
        entry = ledger.entries[one.entry]
        title = (
            f"{ledger.experiments[entry.task].title}, {_words(ledger, entry)}, {_place(entry)}: per cent of each class"
        )
        drawn.append((entry.task, title, _svg(charts.confusion(one, title))))
    return drawn


def _forests(ledger: Ledger) -> list[tuple[str, str, Markup]]:
    """Return a chart for each grid whose hypotheses are judged: all its contrasts on one scale."""
    drawn = []
    for task in dict.fromkeys(item.task for item in ledger.hypotheses if item.contrasts):
        items = [item for item in ledger.hypotheses if item.task == task]
        title = f"{ledger.experiments[task].title}: what each value does, with 95 % intervals over pictures and seeds"
        shaded = f"{title}; shaded: less than {items[0].margin:g} points, no practical difference"
        drawn.append((task, shaded, _svg(charts.forest(title, items))))
    return drawn


def _hides_the_rest(entries: Sequence[tuple[int, Entry]]) -> bool:
    """Return whether the untrained network's number would flatten the curve of all others."""
    values = [entry.published.value for _, entry in entries]
    return entries[0][0] == 0 and max(values) - min(values) > 5 * (max(values[1:]) - min(values[1:]))


def _point(epoch: int, figure: Figure) -> charts.Point:
    interval = (figure.low, figure.high) if figure.interval == "seeds" else (None, None)
    return charts.Point(epoch, figure.mean, *interval)


def _beyond_charts(ledger: Ledger) -> list[tuple[str, str, Markup]]:
    """Return the accuracies beyond the report, a chart for each experiment: as a ladder where each adds to the last."""
    drawn = []
    measured = [(item, item.figure) for item in ledger.beyond if item.figure and item.figure.unit == "fraction"]
    for task in dict.fromkeys(item.task for item, _ in measured):
        lines = [
            charts.DotRow(item.title, item.published, one.mean, one.low, one.high, _over(one))
            for item, one in measured
            if item.task == task
        ]
        first, reports = lines[0].report, {line.report for line in lines} - {None}
        steps = [first or 0.0, *(line.value for line in lines)]
        ladder = len(lines) > 1 and first is not None and len(reports) == 1 and steps == sorted(steps)
        title = f"{ledger.experiments[task].title}{': step by step' if ladder else ''}"
        drawn.append((task, title, _svg(charts.rows(f"{title}, accuracies", lines, ladder=ladder))))
    return drawn


def _by_task(ledger: Ledger, verdict: str) -> dict[str, tuple[list[str], str]]:
    """Return what has a verdict, by experiment: of which numbers how many, and what is unknown of their protocol.

    What the ledger leads with anyway is left out, and of what is reproduced what is no curve, or mostly is not.
    """
    leading = {ledger.entries[item.entry].key for item in ledger.head}
    found: dict[str, tuple[list[str], str]] = {}
    for task, by_name in _groups(ledger).items():
        for name, entries in by_name.items():
            same = [one for one in entries if one.verdict == verdict]
            if not {one.key for one in same} <= leading and (
                verdict != "reproduced" or len(same) >= max(CURVE, len(entries) / 2)
            ):
                words, _ = found.setdefault(ledger.experiments[task].title, ([], same[0].published.unknown))
                words.append(f"{name}, {len(same)} of {len(entries)}")
    return found


def _leading_faults(ledger: Ledger) -> list[str]:
    """Return the titles of the faults of the numbers that the ledger leads with; of all, if those have none."""
    titles = [ledger.entries[item.entry].published.fault.partition(": ")[0].lower() for item in ledger.head]
    leading = [fault.title for fault in ledger.faults if fault.title.lower() in titles]
    return leading or [fault.title for fault in ledger.faults]


def _over(figure: Figure) -> str:
    """Return what a figure's interval is over."""
    return f"{figure.examples:,} examples" if figure.interval == "examples" else figure.interval
