"""The ledger put together: published numbers, ours computed from what runs keep, verdicts, faults and what is beyond.

The same function makes a ledger and checks one: making it, `pick` finds runs in the store; checking, it gives back
those that the ledger names, and what is built must be the ledger.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trackdl.analysis.stats import exact_interval, mean_interval
from trackdl.errors import TrackdlError
from trackdl.ledger.formulas import Computed, ComputedCurve, compute, compute_curve
from trackdl.ledger.model import (
    Beyond,
    CurveEntry,
    CurveEvidence,
    Entry,
    Evidence,
    Fault,
    Figure,
    Headline,
    HypothesisEntry,
    IntervalOf,
    KnownSpread,
    Ledger,
    Published,
    VerdictName,
)
from trackdl.ledger.recipes import COMMANDS, Recipe, recipe
from trackdl.ledger.rule import (
    DIGITS,
    FEWEST,
    Claim,
    Spread,
    form_difference,
    judge,
    judge_curve,
    of_another,
    parts_of,
    rounded,
)
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources, Stamp
from trackdl.spec.base import Comparable, Curve, Reported, TrainedSpec, Unit
from trackdl.spec.ledger import BeyondItem, LedgerSpec

__all__ = ["build", "key_of"]

SHOWN = 5  # digits of a curve's points, which are only drawn


def key_of(task: str, metric: str, epoch: int | None, series: str = "") -> str:
    """Return the name of a published number: unique in the ledger."""
    after = "" if epoch is None else f" after epoch {epoch}"
    return f"{task} {metric}{after}" + (f", {series}" if series else "")


def build(
    experiment: LedgerSpec,
    tasks: Mapping[str, TrainedSpec],
    sources: Sources,
    hypotheses: Sequence[HypothesisEntry],
    known: Mapping[str, Spread],
    stamp: Stamp,
) -> Ledger:
    """Put the ledger together.

    Args:
        experiment: What leads, and what goes beyond.
        tasks: The experiments whose published numbers are in it, by task.
        sources: Where ours come from.
        hypotheses: The report's, judged or open.
        known: Spreads between seeds by `key_of`, for verdicts on fewer seeds than tell their own.
        stamp: What it says of itself.

    Raises:
        InputError: The ledger's file names a number that no experiment file has.
    """
    published = [(task, item, *item.protocol(spec.unknown)) for task, spec in tasks.items() for item in spec.numbers]
    published += [(item.task, item, *item.protocol()) for item in experiment.reported]
    changes: dict[str, dict[str, object]] = {str(task): keys for task, keys in experiment.as_reported.items()}
    entries = [
        _entry(task, item, how, unknown, sources, known, changes.get(task, {}))
        for task, item, how, unknown in published
    ]
    drawn = [(task, item, *item.protocol(spec.unknown)) for task, spec in tasks.items() for item in spec.curves]
    curves = [_curve(task, item, how, unknown, sources, changes.get(task, {})) for task, item, how, unknown in drawn]
    places = {key_of(e.task, e.metric, e.epoch, e.published.series): index for index, e in enumerate(entries)}
    head = [
        Headline(title=item.title, entry=_place(places, key_of(**item.of.model_dump()))) for item in experiment.head
    ]
    beyond = []
    for extra in experiment.beyond:
        against = extra.against and entries[_place(places, key_of(**extra.against.model_dump()))]
        beyond.append(_beyond(extra, against or None, sources))
    return Ledger(
        version=stamp.version,
        commit=stamp.commit,
        made=stamp.made,
        seeds=stamp.seeds,
        head=head,
        entries=entries,
        curves=curves,
        hypotheses=list(hypotheses),
        faults=_faults(entries, curves),
        beyond=beyond,
        runs=sources.runs,
    )


def _place(places: Mapping[str, int], key: str) -> int:
    if key not in places:
        raise TrackdlError(f"experiments/ledger.yaml names '{key}', but no experiment file has published it")
    return places[key]


def _entry(
    task: str,
    item: Reported,
    comparable: Comparable,
    unknown: str,
    sources: Sources,
    spreads: Mapping[str, Spread],
    changes: Mapping[str, object],
) -> Entry:
    key = key_of(task, item.metric, item.epoch, item.series)
    known = spreads.get(key)
    want = FigureQuery(key, task, item.metric, item.epoch, changes, or_own=True)
    figure, missing = _figure(want, item.unit, sources)
    comparable, unknown = _as_run(want, figure.evidence if figure else [], sources, comparable, unknown)
    name: VerdictName | None = None
    words, spread = missing, None
    if figure:
        claim = Claim(item.value, item.unit, comparable, unknown, item.fault)
        verdict = judge(claim, [one.value for one in figure.evidence], known)
        name, words = verdict.name, verdict.words
        if known and len(figure.evidence) < FEWEST:
            spread = KnownSpread(deviation=known.deviation, seeds=known.seeds)
    return Entry(
        task=task,
        metric=item.metric,
        epoch=item.epoch,
        published=_published(item, item.value, item.quote, comparable, unknown),
        figure=figure,
        spread=spread,
        verdict=name,
        words=words,
    )


def _published(item: Reported | Curve, value: float, quote: str, comparable: Comparable, unknown: str) -> Published:
    return Published(
        value=rounded(value),
        unit=item.unit,
        quote=quote,
        comparable=comparable,
        unknown=unknown,
        fault=item.fault,
        series=item.series,
    )


def _as_run(
    want: FigureQuery,
    evidence: Sequence[Evidence | CurveEvidence],
    sources: Sources,
    comparable: Comparable,
    unknown: str,
) -> tuple[Comparable, str]:
    """Return how far ours can be compared: less, where the runs do not start from the network that the report had."""
    source = want.set.get("source")
    if source is None or all(sources.facts(item.run).source == source for item in evidence):
        return comparable, unknown
    started = f"ours starts from our own network; `trackdl transfer --source {source}` starts from the report's"
    return "protocol unknown in part", f"{unknown}; {started}" if unknown else started


def _curve(
    task: str, item: Curve, comparable: Comparable, unknown: str, sources: Sources, changes: Mapping[str, object]
) -> CurveEntry:
    points = item.points(task)
    printed = [loss for *_, loss in points]
    last = max(epoch for epoch, *_ in points)
    want = FigureQuery(key_of(task, item.metric, last, item.series), task, item.metric, last, changes, or_own=True)
    evidence, found, missing = _curves(want, [(epoch, seen) for epoch, seen, _ in points], sources)
    comparable, unknown = _as_run(want, evidence, sources, comparable, unknown)
    claim = Claim(float(np.mean(printed)), item.unit, comparable, unknown, item.fault)
    quote = f"notebook cell {item.cell}, {item.what.replace('_', ' ')}"
    ours = np.array([one.losses for one in found])
    verdict = judge_curve(claim, printed, ours.tolist()) if found else None
    low, high = of_another(ours) if len(found) >= FEWEST else (np.empty(0), np.empty(0))
    inside = float(((low <= printed) & (printed <= high)).mean()) if len(low) else None
    words = verdict.words if verdict else missing
    if inside is not None:
        words += (
            f" Of the {len(printed)} points {inside:.0%} lie where a further training of ours lies in 95 % of cases."
        )
        apart = np.abs(ours - printed).mean(axis=1)
        seed, gap = evidence[int(apart.argmin())].seed, float(apart.min())
        words += f" The nearest of ours, seed {seed}, differs by {form_difference(item.unit, gap)} a point on average."
    return CurveEntry(
        task=task,
        metric=item.metric,
        published=_published(item, claim.value, quote, comparable, unknown),
        epochs=[epoch for epoch, *_ in points],
        seen=[seen for _, seen, _ in points],
        size=found[0].size if found else None,
        printed=printed,
        mean=_rounded(ours.mean(axis=0), SHOWN) if found else [],
        low=_rounded(low, SHOWN),
        high=_rounded(high, SHOWN),
        inside=None if inside is None else rounded(inside),
        parts=_rounded(parts_of(printed)),
        evidence=evidence,
        verdict=verdict.name if verdict else None,
        words=words,
    )


def _curves(
    want: FigureQuery, places: Sequence[tuple[int, int]], sources: Sources
) -> tuple[list[CurveEvidence], list[ComputedCurve], str]:
    """Return each seed's curve with its evidence, or none and what to do about it."""
    seed_runs = sources.pick(want)
    if not seed_runs:
        return [], [], _not_run(want)
    evidence, found = [], []
    try:
        for seed_run in seed_runs:
            way, files = _read(want, seed_run, sources)
            curve = compute_curve(way.formula, files, seed_run.seed, places)
            kept = {"mean": rounded(float(curve.losses.mean())), "parts": _rounded(parts_of(curve.losses.tolist()))}
            where = {
                "run": seed_run.run,
                "seed": seed_run.seed,
                "artifacts": list(way.artifacts),
                "formula": way.formula,
            }
            evidence.append(CurveEvidence.model_validate(where | kept))
            found.append(curve)
    except TrackdlError as error:
        return [], [], f"no evidence: {error}"
    return evidence, found, ""


def _read(want: FigureQuery, seed_run: SeedRun, sources: Sources) -> tuple[Recipe, list[bytes]]:
    """Return how a figure comes from a seed's run, and the artifacts that it comes from."""
    way = recipe(want.task, want.metric, want.epoch, seed_run.seed)
    sources.facts(seed_run.run)
    return way, [sources.content(seed_run.run, path) for path in way.artifacts]


def _rounded(values: NDArray[np.float64], digits: int = DIGITS) -> list[float]:
    return [rounded(float(value), digits) for value in values]


def _not_run(want: FigureQuery) -> str:
    which = " on the report's letters (`TRACKDL_GREEK_DIR`)" if want.task == "transfer" else ""
    return f"not run yet{which}: {want.command or COMMANDS.get(want.task, f'`trackdl {want.task}`')}"


def _figure(
    want: FigureQuery, unit: Unit, sources: Sources, *, over_examples: bool = False
) -> tuple[Figure | None, str]:
    """Return a figure of ours, or None and what to do about it; `over_examples` as in `_interval`."""
    seed_runs = sources.pick(want)
    if not seed_runs:
        return None, _not_run(want)
    try:
        found = [_computed(want, seed_run, sources) for seed_run in seed_runs]
    except TrackdlError as error:
        return None, f"no evidence: {error}"
    if found[0][1].bounds:
        # A cross-validation has one seed, whatever its run holds besides.
        found = found[:1]
    values = [item.value for item, _ in found]
    bounds, kind = _interval(values, unit, found[0][1], over_examples=over_examples)
    return Figure(
        task=want.task,
        metric=want.metric,
        epoch=want.epoch,
        unit=unit,
        examples=found[0][1].examples,
        mean=rounded(sum(values) / len(values)),
        low=bounds and rounded(bounds[0]),
        high=bounds and rounded(bounds[1]),
        interval=kind,
        evidence=[item for item, _ in found],
    ), ""


def _computed(want: FigureQuery, seed_run: SeedRun, sources: Sources) -> tuple[Evidence, Computed]:
    way, files = _read(want, seed_run, sources)
    found = compute(way.formula, files, way.select, seed_run.seed)
    evidence = Evidence(
        run=seed_run.run,
        seed=seed_run.seed,
        artifacts=list(way.artifacts),
        formula=way.formula,
        select=way.select,
        value=rounded(found.value),
    )
    return evidence, found


def _interval(
    values: Sequence[float], unit: Unit, one: Computed, *, over_examples: bool
) -> tuple[tuple[float, float] | None, IntervalOf]:
    """Return a figure's 95 % interval and over what it is.

    Beside the report's number, which is of the same examples, it is over seeds. What is claimed beyond the report is
    to hold for other examples too: there, and where there is one seed only, it is over examples.
    """
    if one.bounds:
        return one.bounds, "folds"
    if one.examples and (over_examples or len(values) == 1):
        return exact_interval(round(sum(values) / len(values) * one.examples), one.examples), "examples"
    if len(values) == 1:
        return None, "none"
    low, high = mean_interval(values)
    return (max(low, 0.0), min(high, 1.0)) if unit == "fraction" else (low, high), "seeds"


def _faults(entries: Sequence[Entry], curves: Sequence[CurveEntry]) -> list[Fault]:
    """Return the faults of numbers and curves, each once, with the runs that show it."""
    faults = []
    every: list[Entry | CurveEntry] = [*entries, *curves]
    for words in dict.fromkeys(one.published.fault for one in every if one.published.fault):
        of = [one for one in every if one.published.fault == words]
        runs = list(dict.fromkeys(item.run for one in of for item in _evidence(one)))
        shown = "" if runs else f" ({of[0].words})"
        title, _, rest = words.partition(": ")
        faults.append(
            Fault(
                title=f"{title[:1].upper()}{title[1:]}",
                task=of[0].task,
                quote=of[0].published.quote,
                words=f"{rest[:1].upper()}{rest[1:]}.{shown}",
                runs=runs,
            )
        )
    return faults


def _evidence(one: Entry | CurveEntry) -> Sequence[Evidence | CurveEvidence]:
    if isinstance(one, CurveEntry):
        return one.evidence
    return one.figure.evidence if one.figure else []


def _beyond(item: BeyondItem, against: Entry | None, sources: Sources) -> Beyond:
    want = FigureQuery(item.title, item.task, item.metric, item.epoch, item.set, item.tags, item.command)
    unit: Unit = "fraction" if item.metric.endswith("accuracy") or "accuracy_" in item.metric else "nats"
    figure, missing = _figure(want, unit, sources, over_examples=True)
    words = item.words if figure else missing
    published = against.published.value if against else None
    if figure and published is not None:
        gain = form_difference(unit, abs(figure.mean - published))
        side = "above" if figure.mean > published else "below"
        words = f"{gain} {side} the report's number" + (f"; {words}" if words else "")
    return Beyond(title=item.title, task=item.task, published=published, figure=figure, words=words, lead=item.lead)
