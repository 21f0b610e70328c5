"""Builds the ledger: published numbers, ours as computed from what runs keep, verdicts, faults, and what goes beyond.

The same function makes a ledger and checks one. To make it, `pick` finds runs in the store; to check it, `pick` gives
the runs that the ledger names, and what is built must be the ledger.
"""

import difflib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from trackdl.analysis.stats import exact_interval, mean_interval
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger.folder import TABLE, command_of
from trackdl.ledger.formulas import CONFUSION, Computed, compute, compute_confusion, compute_curve
from trackdl.ledger.hypotheses import judged
from trackdl.ledger.model import (
    Beyond,
    Confusion,
    CurveEntry,
    CurveEvidence,
    Entry,
    Evidence,
    ExperimentFacts,
    Fault,
    Figure,
    Headline,
    IntervalOf,
    Ledger,
    Published,
    Recovered,
    SeedEvidence,
    Spread,
    Stamp,
    key_of,
)
from trackdl.ledger.recipes import CLASSES, Recipe, recipe
from trackdl.ledger.recovery import FORMULA, recovered
from trackdl.ledger.rule import (
    FEWEST,
    Claim,
    all_rounded,
    form_difference,
    judge,
    judge_curve,
    of_another,
    parts_of,
    rounded,
)
from trackdl.ledger.sources import FigureQuery, Sources
from trackdl.ledger.words import cell_of, cell_words, metric_words
from trackdl.spec import ClassifySpec, Experiment, GridSpec, RecoverSpec, report
from trackdl.spec.base import Comparable, Curve, Reported, TrainedSpec, Unit, unit_of
from trackdl.spec.cells import reported_cells
from trackdl.spec.ledger import BeyondItem, LedgerSpec, Number

DRAWN = 5  # digits of a curve's points, which are only drawn
LEADING = 3  # numbers of an experiment that a ledger leads with if its file does not say
NO_EVIDENCE = "no evidence"

T = TypeVar("T")
# How far a number can be compared with ours, and what the report leaves out of its protocol.
Protocol = tuple[Comparable, str]


def build(
    experiment: LedgerSpec,
    experiments: Mapping[str, Experiment],
    sources: Sources,
    known: Mapping[str, Spread],
    stamp: Stamp,
) -> Ledger:
    """Build the ledger of the report's experiments, by name, from what runs keep, and what `stamp` says of its making.

    `known` are spreads between seeds by `Entry.key`, for verdicts on too few seeds.

    Raises:
        InputError: The ledger's file names an experiment that there is not, or a number that no file has.
    """
    if wrong := experiment.unknown_names(list(experiments)):
        raise InputError("\n".join(f"{experiment.name}.yaml: {words}" for words in wrong))
    entries: list[Entry] = []
    curves: list[CurveEntry] = []
    for name, one in experiments.items():
        how = _How(one, sources, experiment.as_reported.get(name, {}))
        of_all = one.unknown_words if isinstance(one, TrainedSpec) else ""
        entries += [_entry(how, item, item.protocol(of_all), known) for item in numbers_of(one)]
        curves += [_curve(how, item, item.protocol(of_all)) for item in curves_of(one)]
    for claimed in experiment.reported:
        how = _How(experiments[claimed.task], sources, experiment.as_reported.get(claimed.task, {}))
        entries.append(_entry(how, claimed, claimed.protocol(), known))
    places = {entry.key: index for index, entry in enumerate(entries)}
    if len(places) < len(entries):
        ((twice, _),) = Counter(entry.key for entry in entries).most_common(1)
        raise InputError(f"a number is published twice: {twice}; `series` tells two trainings apart")
    beyond = []
    for item in experiment.beyond:
        against = item.against and entries[_place(places, item.against, f"{experiment.name}.yaml")]
        beyond.append(_beyond(_How(experiments[item.task], sources, item.set), item, against or None))
    hypotheses = judged(experiments, experiment.beside, sources)
    found = _recovered(experiments, sources)
    head = [
        Headline(title=item.title, entry=_place(places, item.of, f"{experiment.name}.yaml")) for item in experiment.head
    ] or _head(experiments, entries)
    confusions = _confusions(experiments, [(item.entry, entries[item.entry]) for item in head], sources)
    claims: list[Entry | CurveEntry | Beyond] = [*entries, *curves, *beyond]
    used = [item for one in claims for item in one.evidence]
    used += [item for one in hypotheses for item in one.evidence.values()]
    used += [one.evidence for one in found if one.evidence]
    used += [item for one in confusions for item in one.evidence]
    return Ledger(
        **dict(stamp),
        experiments={
            name: ExperimentFacts(kind=one.task, title=one.label, command=command_of(one))
            for name, one in experiments.items()
        },
        head=head,
        entries=entries,
        curves=curves,
        confusions=confusions,
        hypotheses=hypotheses,
        recovered=found,
        faults=[*_faults([*entries, *curves]), *_remarks(experiments, entries)],
        beyond=beyond,
        runs=sources.runs_of(used),
    )


def _confusions(
    experiments: Mapping[str, Experiment], leading: Sequence[tuple[int, Entry]], sources: Sources
) -> list[Confusion]:
    """Return the confusions of the first accuracy of each image experiment that the ledger leads with."""
    found: dict[str, Confusion] = {}
    for place, entry in leading:
        evidence = [item for item in entry.evidence if item.formula == "accuracy"]
        if not evidence or entry.task in found or not isinstance(experiments[entry.task], ClassifySpec):
            continue
        traced = [
            SeedEvidence(run=one.run, seed=one.seed, artifacts=[*one.artifacts, CLASSES], formula=CONFUSION)
            for one in evidence
        ]
        try:
            made = [compute_confusion(*sources.read(one.run, one.artifacts)) for one in traced]
        except TrackdlError:
            continue  # a run of older code does not keep the classes' names
        counts = np.sum([own for _, own in made], axis=0)
        found[entry.task] = Confusion(entry=place, classes=made[0][0], counts=counts.tolist(), evidence=traced)
    return list(found.values())


def _recovered(experiments: Mapping[str, Experiment], sources: Sources) -> list[Recovered]:
    """Return what experiments' reports leave out, where the trainings of all candidates are done."""
    found = []
    for one in experiments.values():
        named = experiments.get(one.experiment.name) if isinstance(one, RecoverSpec) else None
        if not isinstance(one, RecoverSpec) or not isinstance(named, ClassifySpec):
            continue
        picked = sources.pick(FigureQuery(one.name, one.name, one.task, "", None))
        if picked:
            (content,) = sources.read(picked[0].run, (TABLE,))
            evidence = SeedEvidence(**asdict(picked[0]), artifacts=[TABLE], formula=FORMULA)
            try:
                found.append(recovered(named, one, content, evidence))
            except (ValueError, TypeError, KeyError) as error:
                raise TrackdlError(f"{one.name}: its table cannot be judged: {error}") from error
    return found


def numbers_of(experiment: Experiment) -> Sequence[Reported]:
    """Return the numbers that the report prints for an experiment and that are judged one by one."""
    if isinstance(experiment, TrainedSpec):
        return experiment.numbers
    if not isinstance(experiment, GridSpec):
        return []
    of_cells = [
        Reported(
            metric=f"{cell_words(one.cell)}/{one.metric}",
            epoch=None,
            value=one.value,
            quote=f"{experiment.reported_table}, line {one.row}: {one.text}",
        )
        for one in reported_cells(experiment)
    ]
    return [*experiment.reported, *of_cells]


def curves_of(experiment: Experiment) -> Sequence[Curve]:
    """Return the curves that the report prints for an experiment."""
    return experiment.curves if isinstance(experiment, TrainedSpec) else []


@dataclass(frozen=True)
class _How:
    """An experiment, where its figures come from, and its keys that are set otherwise for them."""

    experiment: Experiment
    sources: Sources
    changes: Mapping[str, object]

    @property
    def name(self) -> str:
        return self.experiment.name

    @property
    def remark(self) -> str:
        """What is wrong with every figure of the experiment: a grid that was judged on test images."""
        return self.experiment.remark if isinstance(self.experiment, GridSpec) else ""

    def query(self, key: str, metric: str, epoch: int | None, **more: Any) -> FigureQuery:
        """Return the query of a figure; without an epoch, a figure of a training is of the last one."""
        if epoch is None and isinstance(self.experiment, TrainedSpec) and self.experiment.task != "table":
            epoch = int(str(self.changes.get("training.epochs", self.experiment.training.epochs)))
        choice = self.experiment.choice_cell if isinstance(self.experiment, GridSpec) else None
        chosen = json.dumps(choice, sort_keys=True) if choice else ""
        return FigureQuery(key, self.name, self.experiment.task, metric, epoch, self.changes, choice=chosen, **more)


def _place(places: Mapping[str, int], number: Number, file: str) -> int:
    key = key_of(**number.model_dump())
    if key not in places:
        close = difflib.get_close_matches(key, places, n=1)
        meant = f"; did you mean '{close[0]}'?" if close else ""
        raise InputError(f"{file} names '{key}', but no experiment file has published it{meant}")
    return places[key]


def _head(experiments: Mapping[str, Experiment], entries: Sequence[Entry]) -> list[Headline]:
    """Return what a ledger leads with if its file does not say: of each experiment, the last of its first numbers.

    Times are not judged, and of a grid's cells the report's choice matters: the others are left to the page.
    """
    last: dict[str, dict[tuple[str, str], int]] = {}
    for index, entry in enumerate(entries):
        one = experiments[entry.task]
        cell = cell_of(entry.metric)
        chosen = isinstance(one, GridSpec) and one.choice_cell and cell == cell_words(one.choice_cell)
        if entry.published.unit != "seconds" and (chosen or not cell):
            last.setdefault(entry.task, {})[entry.metric, entry.published.series] = index
    found = []
    for index in (index for of_one in last.values() for index in list(of_one.values())[:LEADING]):
        entry, one = entries[index], experiments[entries[index].task]
        after = "" if entry.epoch is None else f" after epoch {entry.epoch}"
        words = metric_words(one.task, entry.metric, entry.published.series)
        of = f", {cell}" if (cell := cell_of(entry.metric)) else ""
        found.append(Headline(title=f"{one.label}: {words}{after}{of}", entry=index))
    return found


def _entry(how: _How, item: Reported, protocol: Protocol, spreads: Mapping[str, Spread]) -> Entry:
    key = key_of(how.name, item.metric, item.epoch, item.series)
    figure, missing = _figure(how, how.query(key, item.metric, item.epoch, or_own=True), item.unit)
    comparable, unknown = _as_run(how, figure.evidence if figure else [], protocol)
    verdict, spread = None, None
    if figure:
        claim = Claim(item.value, item.unit, comparable, unknown, item.fault)
        verdict = judge(claim, [seed.value for seed in figure.evidence], spreads.get(key))
        spread = spreads.get(key) if len(figure.evidence) < FEWEST else None
    return Entry(
        task=how.name,
        metric=item.metric,
        epoch=item.epoch,
        published=_published(how.name, item, item.value, item.quote, (comparable, unknown)),
        figure=figure,
        spread=spread,
        verdict=verdict.name if verdict else None,
        words=" ".join(filter(None, (verdict.words, _sentence(how.remark)))) if verdict else missing,
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _published(task: str, item: Reported | Curve, value: float, quote: str, protocol: Protocol) -> Published:
    kept = item.model_dump(include={"unit", "fault", "series"})
    link = report().pages.get(task, "")
    return Published(value=rounded(value), quote=quote, link=link, comparable=protocol[0], unknown=protocol[1], **kept)


def _as_run(how: _How, evidence: Sequence[SeedEvidence], protocol: Protocol) -> Protocol:
    """Return how far ours can be compared: less if the runs do not start from the network that the report had."""
    source = how.changes.get("source")
    if source is None or all(how.sources.facts(item.run).source == source for item in evidence):
        return protocol
    command = f"{command_of(how.experiment)} --set source={source}"
    unknown = f"ours starts from our own network; `{command}` starts from the report's"
    return "protocol unknown in part", "; ".join(filter(None, (protocol[1], unknown)))


def _curve(how: _How, item: Curve, protocol: Protocol) -> CurveEntry:
    epochs, seen, printed = (list(column) for column in zip(*item.points(how.name), strict=True))
    key = key_of(how.name, item.metric, max(epochs), item.series)
    query = how.query(key, item.metric, max(epochs), or_own=True)
    places = list(zip(epochs, seen, strict=True))
    found, missing = _by_seed(how, query, lambda one, files, seed: compute_curve(one.formula, files, seed, places))
    evidence = [
        CurveEvidence(
            mean=rounded(float(curve.losses.mean())), parts=all_rounded(parts_of(curve.losses.tolist())), **traced
        )
        for traced, _, curve in found
    ]
    comparable, unknown = _as_run(how, evidence, protocol)
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
            f" {100 * inside:.0f} % of the {len(printed)} points lie in the 95 % prediction interval for one more run."
            f" The nearest of ours, seed {evidence[nearest].seed}, differs by "
            f"{form_difference(item.unit, float(gaps[nearest]))} a point on average."
        )
    return CurveEntry(
        task=how.name,
        metric=item.metric,
        published=_published(how.name, item, claim.value, quote, (comparable, unknown)),
        epochs=epochs,
        seen=seen,
        size=found[0][2].size if found else None,
        printed=printed,
        mean=all_rounded(ours.mean(axis=0), DRAWN) if found else [],
        low=all_rounded(low, DRAWN),
        high=all_rounded(high, DRAWN),
        inside=None if inside is None else rounded(inside),
        parts=all_rounded(parts_of(printed)),
        evidence=evidence,
        verdict=verdict.name if verdict else None,
        words=words,
    )


def _by_seed(
    how: _How, query: FigureQuery, compute_seed: Callable[[Recipe, list[bytes], int], T]
) -> tuple[list[tuple[dict[str, Any], Recipe, T]], str]:
    """Return what is computed from each seed's run, with the fields of its `SeedEvidence`; or none, and why."""
    found = []
    try:
        recipe(query.kind, query.metric, query.epoch, 0)
    except InputError as error:
        return [], str(error)
    if "choice" in query.metric and query.kind == "grid" and not query.choice:
        return [], f"no formula: {query.metric!r} needs `choice` in the grid's file, the cell that the report chose"
    try:
        for picked in how.sources.pick(query):
            one = recipe(query.kind, query.metric, query.epoch, picked.seed, query.choice)
            computed = compute_seed(one, how.sources.read(picked.run, one.artifacts), picked.seed)
            traced = {**asdict(picked), "artifacts": list(one.artifacts), "formula": one.formula}
            found.append((traced, one, computed))
    except TrackdlError as error:
        return [], how.sources.lacking.get(query.key) or f"{NO_EVIDENCE}: {error}"
    return found, "" if found else how.sources.lacking.get(query.key) or _not_run(how, query)


def _not_run(how: _How, query: FigureQuery) -> str:
    data = getattr(how.experiment, "data", None)
    greek = getattr(data, "dataset", None) == "greek" and not getattr(data, "folder", None)
    letters = " on the report's letters, which `TRACKDL_GREEK_DIR` names (synthetic ones do not count)" if greek else ""
    return f"not run yet{letters}: {query.command or f'`{command_of(how.experiment)}`'}"


def _figure(how: _How, query: FigureQuery, unit: Unit, *, over_examples: bool = False) -> tuple[Figure | None, str]:
    """Return a figure of ours, or None and what to do about it; `over_examples` as in `_interval`."""
    found, missing = _by_seed(how, query, lambda one, files, seed: compute(one.formula, files, one.select, seed))
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
        evidence=[Evidence(select=one.select, value=rounded(made.value), **traced) for traced, one, made in found],
    ), ""


def _interval(
    values: Sequence[float], unit: Unit, first: Computed, *, over_examples: bool
) -> tuple[tuple[float, float] | None, IntervalOf]:
    """Return a figure's 95 % interval and what it is over.

    It is over seeds where the report's number is of the same examples. What is claimed beyond the report is to hold for
    other examples too: there, and with one seed or seeds that agree, it is over examples.
    """
    if first.bounds:
        return first.bounds, "folds"
    # Seeds that agree to the last example do not make the mean certain: what is left is the choice of examples.
    agree = len(set(values)) == 1
    if first.examples and (over_examples or agree):
        return exact_interval(round(sum(values) / len(values) * first.examples), first.examples), "examples"
    if agree:
        return None, "none"
    return mean_interval(values, share=unit == "fraction"), "seeds"


def _faults(claims: Sequence[Entry | CurveEntry]) -> list[Fault]:
    """Return the faults of numbers and curves, each once."""
    by_fault: dict[str, list[Entry | CurveEntry]] = {}
    for one in claims:
        if one.published.fault:
            by_fault.setdefault(one.published.fault, []).append(one)
    return [_fault(fault, same, f" ({same[0].words})") for fault, same in by_fault.items()]


def _remarks(experiments: Mapping[str, Experiment], entries: Sequence[Entry]) -> list[Fault]:
    """Return the remarks on all figures of a grid as faults."""
    remarks = {name: one.remark for name, one in experiments.items() if isinstance(one, GridSpec) and one.remark}
    own = {name: [entry for entry in entries if entry.task == name] for name in remarks}
    return [_fault(remark, own[name]) for name, remark in remarks.items() if own[name]]


def _fault(text: str, claims: Sequence[Entry | CurveEntry], without_runs: str = "") -> Fault:
    """Return a fault with the runs that show it; `text` is its title and, after a colon, the rest."""
    runs = list(dict.fromkeys(item.run for one in claims for item in one.evidence))
    title, _, rest = text.partition(": ")
    return Fault(
        title=_sentence(title)[:-1],
        task=claims[0].task,
        quote=claims[0].published.quote,
        words=_sentence(rest) + ("" if runs else without_runs),
        runs=runs,
    )


def _beyond(how: _How, item: BeyondItem, against: Entry | None) -> Beyond:
    unit = unit_of(item.metric)
    query = how.query(item.title, item.metric, item.epoch, tags=item.tags, command=item.command)
    figure, missing = _figure(how, query, unit, over_examples=True)
    words = item.words if figure else missing
    published = against.published.value if against else None
    if figure and published is not None:
        gain = form_difference(unit, abs(figure.mean - published))
        side = "above" if figure.mean > published else "below"
        words = "; ".join(filter(None, (f"{gain} {side} the report's number", words)))
    return Beyond(
        title=item.title, task=item.task, unit=unit, published=published, figure=figure, words=words, lead=item.lead
    )
