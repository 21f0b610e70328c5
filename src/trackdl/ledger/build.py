"""The ledger put together: published numbers, ours computed from what runs keep, verdicts, faults and what is beyond.

The same function makes a ledger and checks one: making it, `pick` finds runs in the store; checking, it gives back
those that the ledger names, and what is built must be the ledger.
"""

from collections.abc import Mapping, Sequence

from trackdl.errors import TrackdlError
from trackdl.ledger.formulas import Computed, compute
from trackdl.ledger.model import (
    Beyond,
    Entry,
    Evidence,
    Fault,
    Figure,
    Headline,
    Hypothesis,
    IntervalOf,
    KnownSpread,
    Ledger,
    Published,
    VerdictName,
)
from trackdl.ledger.recipes import COMMANDS, recipe
from trackdl.ledger.store import Member, Stamp, Store, Want
from trackdl.ledger.verdict import FEWEST, Claim, Spread, form_difference, judge, rounded
from trackdl.spec_base import Comparable, Reported, TrainedSpec, Unit
from trackdl.spec_ledger import BeyondItem, LedgerSpec
from trackdl.stats import exact_interval, mean_interval

__all__ = ["build", "key_of"]


def key_of(task: str, metric: str, epoch: int | None, series: str = "") -> str:
    """Return the name of a published number: unique in the ledger."""
    after = "" if epoch is None else f" after epoch {epoch}"
    return f"{task} {metric}{after}" + (f", {series}" if series else "")


def build(
    experiment: LedgerSpec,
    tasks: Mapping[str, TrainedSpec],
    store: Store,
    hypotheses: Sequence[Hypothesis],
    known: Mapping[str, Spread],
    stamp: Stamp,
) -> Ledger:
    """Put the ledger together.

    Args:
        experiment: What leads, and what goes beyond.
        tasks: The experiments whose published numbers are in it, by task.
        store: Where ours come from.
        hypotheses: The report's, judged or open.
        known: Spreads between seeds by `key_of`, for verdicts on fewer seeds than tell their own.
        stamp: What it says of itself.

    Raises:
        InputError: The ledger's file names a number that no experiment file has.
    """
    published = [(task, item, *spec.protocol_of(item)) for task, spec in tasks.items() for item in spec.reported]
    published += [(item.task, item, item.comparable or "same protocol", item.unknown) for item in experiment.reported]
    entries = [_entry(task, item, how, unknown, store, known) for task, item, how, unknown in published]
    places = {key_of(e.task, e.metric, e.epoch, e.published.series): index for index, e in enumerate(entries)}
    head = [
        Headline(title=item.title, entry=_place(places, key_of(**item.of.model_dump()))) for item in experiment.head
    ]
    beyond = []
    for extra in experiment.beyond:
        against = extra.against and entries[_place(places, key_of(**extra.against.model_dump()))]
        beyond.append(_beyond(extra, against or None, store))
    return Ledger(
        version=stamp.version,
        commit=stamp.commit,
        made=stamp.made,
        seeds=stamp.seeds,
        head=head,
        entries=entries,
        hypotheses=list(hypotheses),
        faults=_faults(entries),
        beyond=beyond,
        runs=store.runs,
    )


def _place(places: Mapping[str, int], key: str) -> int:
    if key not in places:
        raise TrackdlError(f"experiments/ledger.yaml names '{key}', but no experiment file has published it")
    return places[key]


def _entry(
    task: str, item: Reported, comparable: Comparable, unknown: str, store: Store, spreads: Mapping[str, Spread]
) -> Entry:
    key = key_of(task, item.metric, item.epoch, item.series)
    known = spreads.get(key)
    published = Published(
        value=item.value,
        unit=item.unit,
        quote=item.quote,
        comparable=comparable,
        unknown=unknown,
        fault=item.fault,
        series=item.series,
    )
    want = Want(key, task, item.metric, item.epoch)
    figure, missing = _figure(want, item.unit, store)
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
        published=published,
        figure=figure,
        spread=spread,
        verdict=name,
        words=words,
    )


def _figure(want: Want, unit: Unit, store: Store, *, over_examples: bool = False) -> tuple[Figure | None, str]:
    """Return a figure of ours, or None and what to do about it; `over_examples` as in `_interval`."""
    members = store.pick(want)
    if not members:
        which = " on the report's letters (`TRACKDL_GREEK_DIR`)" if want.task == "transfer" else ""
        return None, f"not run yet{which}: {want.command or COMMANDS.get(want.task, f'`trackdl {want.task}`')}"
    try:
        found = [_computed(want, member, store) for member in members]
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


def _computed(want: Want, member: Member, store: Store) -> tuple[Evidence, Computed]:
    way = recipe(want.task, want.metric, want.epoch, member.seed)
    store.facts(member.run)
    files = [store.content(member.run, path) for path in way.artifacts]
    found = compute(way.formula, files, way.select, member.seed)
    evidence = Evidence(
        run=member.run,
        seed=member.seed,
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


def _faults(entries: Sequence[Entry]) -> list[Fault]:
    """Return the faults of numbers, each once, with the runs that show it."""
    faults = []
    for words in dict.fromkeys(entry.published.fault for entry in entries if entry.published.fault):
        of = [entry for entry in entries if entry.published.fault == words]
        runs = list(dict.fromkeys(item.run for entry in of if entry.figure for item in entry.figure.evidence))
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


def _beyond(item: BeyondItem, against: Entry | None, store: Store) -> Beyond:
    want = Want(item.title, item.task, item.metric, item.epoch, item.set, item.tags, item.command)
    unit: Unit = "fraction" if item.metric.endswith("accuracy") or "accuracy_" in item.metric else "nats"
    figure, missing = _figure(want, unit, store, over_examples=True)
    words = item.words if figure else missing
    published = against.published.value if against else None
    if figure and published is not None:
        gain = form_difference(unit, abs(figure.mean - published))
        side = "above" if figure.mean > published else "below"
        words = f"{gain} {side} the report's number" + (f"; {words}" if words else "")
    return Beyond(title=item.title, task=item.task, published=published, figure=figure, words=words, lead=item.lead)
