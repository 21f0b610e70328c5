"""Builds the ledger: published numbers, ours as computed from what runs keep, verdicts, faults, and what goes beyond.

The same function makes a ledger and checks one. To make it, `pick` finds runs in the store; to check it, `pick` gives
the runs that the ledger names, and what is built must be the ledger.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackdl.analysis.stats import exact_interval, mean_interval
from trackdl.errors import TrackdlError
from trackdl.ledger.formulas import Computed, compute, compute_curve
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
    Ledger,
    Published,
    SeedEvidence,
    Spread,
)
from trackdl.ledger.recipes import COMMANDS, Recipe, recipe
from trackdl.ledger.rule import (
    DIGITS,
    FEWEST,
    Claim,
    form_difference,
    judge,
    judge_curve,
    of_another,
    parts_of,
    rounded,
)
from trackdl.ledger.sources import FigureQuery, Sources, Stamp
from trackdl.spec.base import Comparable, Curve, Reported, TrainedSpec, Unit
from trackdl.spec.ledger import BeyondItem, LedgerSpec

DRAWN = 5  # digits of a curve's points, which are only drawn

T = TypeVar("T")
# How far a number can be compared with ours, and what the report leaves out of its protocol.
Protocol = tuple[Comparable, str]


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
    """Build the ledger.

    Args:
        experiment: The headline numbers, and what goes beyond the report.
        tasks: The experiments whose published numbers are in it, by task.
        sources: Where ours come from.
        hypotheses: The report's, judged or open.
        known: Spreads between seeds by `key_of`, for verdicts on too few seeds.
        stamp: How the ledger is made.

    Raises:
        TrackdlError: The ledger's file names a number that no experiment file has.
    """
    as_reported: dict[str, dict[str, object]] = {str(task): keys for task, keys in experiment.as_reported.items()}
    entries, curves = [], []
    for task, spec in tasks.items():
        changes = as_reported.get(task, {})
        entries += [_entry(task, item, item.protocol(spec.unknown), sources, known, changes) for item in spec.numbers]
        curves += [_curve(task, item, item.protocol(spec.unknown), sources, changes) for item in spec.curves]
    entries += [
        _entry(item.task, item, item.protocol(), sources, known, as_reported.get(item.task, {}))
        for item in experiment.reported
    ]
    places = {key_of(e.task, e.metric, e.epoch, e.published.series): index for index, e in enumerate(entries)}
    head = [
        Headline(title=item.title, entry=_place(places, key_of(**item.of.model_dump()))) for item in experiment.head
    ]
    beyond = []
    for item in experiment.beyond:
        against = item.against and entries[_place(places, key_of(**item.against.model_dump()))]
        beyond.append(_beyond(item, against or None, sources))
    return Ledger(
        **asdict(stamp),
        head=head,
        entries=entries,
        curves=curves,
        hypotheses=list(hypotheses),
        faults=_faults([*entries, *curves]),
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
    protocol: Protocol,
    sources: Sources,
    spreads: Mapping[str, Spread],
    changes: Mapping[str, object],
) -> Entry:
    key = key_of(task, item.metric, item.epoch, item.series)
    query = FigureQuery(key, task, item.metric, item.epoch, changes, or_own=True)
    figure, missing = _figure(query, item.unit, sources)
    comparable, unknown = _as_run(query, figure.evidence if figure else [], sources, protocol)
    verdict, spread = None, None
    if figure:
        claim = Claim(item.value, item.unit, comparable, unknown, item.fault)
        verdict = judge(claim, [seed.value for seed in figure.evidence], spreads.get(key))
        spread = spreads.get(key) if len(figure.evidence) < FEWEST else None
    return Entry(
        task=task,
        metric=item.metric,
        epoch=item.epoch,
        published=_published(item, item.value, item.quote, (comparable, unknown)),
        figure=figure,
        spread=spread,
        verdict=verdict.name if verdict else None,
        words=verdict.words if verdict else missing,
    )


def _published(item: Reported | Curve, value: float, quote: str, protocol: Protocol) -> Published:
    kept = item.model_dump(include={"unit", "fault", "series"})
    return Published(value=rounded(value), quote=quote, comparable=protocol[0], unknown=protocol[1], **kept)


def _as_run(query: FigureQuery, evidence: Sequence[SeedEvidence], sources: Sources, protocol: Protocol) -> Protocol:
    """Return how far ours can be compared: less if the runs do not start from the network that the report had."""
    source = query.set.get("source")
    if source is None or all(sources.facts(item.run).source == source for item in evidence):
        return protocol
    unknown = f"ours starts from our own network; `trackdl transfer --source {source}` starts from the report's"
    return "protocol unknown in part", "; ".join(filter(None, (protocol[1], unknown)))


def _curve(task: str, item: Curve, protocol: Protocol, sources: Sources, changes: Mapping[str, object]) -> CurveEntry:
    epochs, seen, printed = (list(column) for column in zip(*item.points(task), strict=True))
    key = key_of(task, item.metric, max(epochs), item.series)
    query = FigureQuery(key, task, item.metric, max(epochs), changes, or_own=True)
    places = list(zip(epochs, seen, strict=True))
    found, missing = _by_seed(query, sources, lambda how, files, seed: compute_curve(how.formula, files, seed, places))
    evidence = [
        CurveEvidence(
            mean=rounded(float(curve.losses.mean())), parts=_rounded(parts_of(curve.losses.tolist())), **traced
        )
        for traced, _, curve in found
    ]
    comparable, unknown = _as_run(query, evidence, sources, protocol)
    claim = Claim(float(np.mean(printed)), item.unit, comparable, unknown, item.fault)
    ours = np.array([curve.losses for *_, curve in found])
    verdict = judge_curve(claim, printed, ours.tolist()) if found else None
    words = verdict.words if verdict else missing
    quote = f"notebook cell {item.cell}, {item.what.replace('_', ' ')}"
    low, high, inside = np.empty(0), np.empty(0), None
    if len(found) >= FEWEST:
        low, high = of_another(ours)
        inside = float(((low <= printed) & (printed <= high)).mean())
        gaps = np.abs(ours - printed).mean(axis=1)
        nearest = int(gaps.argmin())
        words += (
            f" Of the {len(printed)} points {inside:.0%} lie where a further training of ours lies in 95 % of cases."
            f" The nearest of ours, seed {evidence[nearest].seed}, differs by "
            f"{form_difference(item.unit, float(gaps[nearest]))} a point on average."
        )
    return CurveEntry(
        task=task,
        metric=item.metric,
        published=_published(item, claim.value, quote, (comparable, unknown)),
        epochs=epochs,
        seen=seen,
        size=found[0][2].size if found else None,
        printed=printed,
        mean=_rounded(ours.mean(axis=0), DRAWN) if found else [],
        low=_rounded(low, DRAWN),
        high=_rounded(high, DRAWN),
        inside=None if inside is None else rounded(inside),
        parts=_rounded(parts_of(printed)),
        evidence=evidence,
        verdict=verdict.name if verdict else None,
        words=words,
    )


def _by_seed(
    query: FigureQuery, sources: Sources, compute_seed: Callable[[Recipe, list[bytes], int], T]
) -> tuple[list[tuple[dict[str, Any], Recipe, T]], str]:
    """Return what is computed from each seed's run, with the fields of its `SeedEvidence`; or none, and why."""
    found, seed_runs = [], sources.pick(query)
    try:
        for picked in seed_runs:
            how = recipe(query.task, query.metric, query.epoch, picked.seed)
            computed = compute_seed(how, sources.read(picked.run, how.artifacts), picked.seed)
            traced = {**asdict(picked), "artifacts": list(how.artifacts), "formula": how.formula}
            found.append((traced, how, computed))
    except TrackdlError as error:
        return [], f"no evidence: {error}"
    return found, "" if found else _not_run(query)


def _rounded(values: NDArray[np.float64], digits: int = DIGITS) -> list[float]:
    return [rounded(float(value), digits) for value in values]


def _not_run(query: FigureQuery) -> str:
    letters = " on the report's letters (`TRACKDL_GREEK_DIR`)" if query.task == "transfer" else ""
    return f"not run yet{letters}: {query.command or COMMANDS.get(query.task, f'`trackdl {query.task}`')}"


def _figure(
    query: FigureQuery, unit: Unit, sources: Sources, *, over_examples: bool = False
) -> tuple[Figure | None, str]:
    """Return a figure of ours, or None and what to do about it; `over_examples` as in `_interval`."""
    found, missing = _by_seed(query, sources, lambda how, files, seed: compute(how.formula, files, how.select, seed))
    if not found:
        return None, missing
    first = found[0][2]
    if first.bounds:
        # A cross-validation has one seed, whatever else its run holds.
        found = found[:1]
    values = [computed.value for *_, computed in found]
    bounds, interval = _interval(values, unit, first, over_examples=over_examples)
    return Figure(
        task=query.task,
        metric=query.metric,
        epoch=query.epoch,
        unit=unit,
        examples=first.examples,
        mean=rounded(sum(values) / len(values)),
        low=bounds and rounded(bounds[0]),
        high=bounds and rounded(bounds[1]),
        interval=interval,
        evidence=[Evidence(select=how.select, value=rounded(one.value), **traced) for traced, how, one in found],
    ), ""


def _interval(
    values: Sequence[float], unit: Unit, first: Computed, *, over_examples: bool
) -> tuple[tuple[float, float] | None, IntervalOf]:
    """Return a figure's 95 % interval and what it is over.

    It is over seeds where the report's number is of the same examples. What is claimed beyond the report is to hold for
    other examples too: there, and with one seed, it is over examples.
    """
    if first.bounds:
        return first.bounds, "folds"
    if first.examples and (over_examples or len(values) == 1):
        return exact_interval(round(sum(values) / len(values) * first.examples), first.examples), "examples"
    if len(values) == 1:
        return None, "none"
    low, high = mean_interval(values)
    return (max(low, 0.0), min(high, 1.0)) if unit == "fraction" else (low, high), "seeds"


def _faults(claims: Sequence[Entry | CurveEntry]) -> list[Fault]:
    """Return the faults of numbers and curves, each once, with the runs that show it."""
    faults = []
    for fault in dict.fromkeys(one.published.fault for one in claims if one.published.fault):
        same = [one for one in claims if one.published.fault == fault]
        runs = list(dict.fromkeys(item.run for one in same for item in _evidence(one)))
        title, _, rest = fault.partition(": ")
        faults.append(
            Fault(
                title=f"{title[:1].upper()}{title[1:]}",
                task=same[0].task,
                quote=same[0].published.quote,
                words=f"{rest[:1].upper()}{rest[1:]}." + ("" if runs else f" ({same[0].words})"),
                runs=runs,
            )
        )
    return faults


def _evidence(one: Entry | CurveEntry) -> Sequence[SeedEvidence]:
    if isinstance(one, CurveEntry):
        return one.evidence
    return one.figure.evidence if one.figure else []


def _beyond(item: BeyondItem, against: Entry | None, sources: Sources) -> Beyond:
    query = FigureQuery(item.title, item.task, item.metric, item.epoch, item.set, item.tags, item.command)
    unit: Unit = "fraction" if item.metric.endswith("accuracy") or "accuracy_" in item.metric else "nats"
    figure, missing = _figure(query, unit, sources, over_examples=True)
    words = item.words if figure else missing
    published = against.published.value if against else None
    if figure and published is not None:
        gain = form_difference(unit, abs(figure.mean - published))
        side = "above" if figure.mean > published else "below"
        words = "; ".join(filter(None, (f"{gain} {side} the report's number", words)))
    return Beyond(title=item.title, task=item.task, published=published, figure=figure, words=words, lead=item.lead)
