"""A ledger checked: built anew from what its runs keep, and held against what it says, digit by digit."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from trackdl.errors import InputError, TrackdlError
from trackdl.ledger.build import build, key_of
from trackdl.ledger.model import Figure, HypothesisEntry, Ledger, RunFacts
from trackdl.ledger.recipes import recipe
from trackdl.ledger.rule import FEWEST, Spread, rounded
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources, Stamp
from trackdl.spec.base import TrainedSpec
from trackdl.spec.ledger import LedgerSpec

__all__ = ["borrowed", "differences", "load", "spreads"]

MAX_BYTES = 50_000_000


def load(file: Path) -> Ledger:
    """Read a ledger.

    Raises:
        InputError: The file cannot be read, or is no whole ledger; names the first place that is wrong.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file}: larger than {MAX_BYTES:,} bytes, so no ledger")
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return Ledger.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise InputError(
            f"{file}: no ledger of this version (docs/ledger/schema.json): {place}: {problem['msg']}; "
            "`trackdl ledger` writes one"
        ) from error


def spreads(ledger: Ledger) -> dict[str, Spread]:
    """Return how far seeds lie apart, by `key_of`, for every number of which the ledger has enough seeds."""
    found = {}
    for entry in ledger.entries:
        values = [item.value for item in entry.figure.evidence] if entry.figure else []
        if len(values) >= FEWEST:
            key = key_of(entry.task, entry.metric, entry.epoch, entry.published.series)
            found[key] = Spread(rounded(float(np.std(values, ddof=1))), len(values))
    return found


def borrowed(ledger: Ledger) -> dict[str, Spread]:
    """Return the spreads between seeds, by `key_of`, that a ledger says it took from another one."""
    return {
        key_of(entry.task, entry.metric, entry.epoch, entry.published.series): Spread(
            entry.spread.deviation, entry.spread.seeds
        )
        for entry in ledger.entries
        if entry.spread
    }


def differences(
    ledger: Ledger,
    experiment: LedgerSpec,
    tasks: Mapping[str, TrainedSpec],
    facts: Callable[[str], RunFacts],
    fetch: Callable[[str, str], bytes],
    hypotheses: Sequence[HypothesisEntry],
    known: Mapping[str, Spread],
    digests: Callable[[FigureQuery, int], Collection[str]],
) -> list[str]:
    """Build a ledger anew from the runs that it names, and say where it differs.

    Args:
        ledger: What is checked.
        experiment: As in `build`, as are the rest.
        tasks: The published numbers.
        facts: What is known of a run.
        fetch: An artifact's bytes.
        hypotheses: Judged anew.
        known: Spreads between seeds that are known.
        digests: The digests of the experiments one of which a figure's run by a seed must have run; none where it may
            have run any.

    Returns:
        Each difference in words, the ledger's side first.
    """
    named = _named(ledger)
    store = Sources(lambda want: named.get(want.key, []), facts, fetch)
    stamp = Stamp(version=ledger.version, commit=ledger.commit, made=ledger.made, seeds=ledger.seeds)
    try:
        made = build(experiment, tasks, store, hypotheses, known, stamp)
    except TrackdlError as error:
        return [str(error)]
    # Pictures' bytes depend on the fonts and versions of a machine; what they are drawn from is compared.
    said, found = (
        one.model_dump(mode="json", exclude={"hypotheses": {"__all__": {"figure"}}}) for one in (ledger, made)
    )
    return [*_walk(said, found, ""), *_strangers(made, store, digests)]


def _named(ledger: Ledger) -> dict[str, list[SeedRun]]:
    """Return the runs that a ledger names, by the key of what they are for."""
    named: dict[str, list[SeedRun]] = {}
    for entry in ledger.entries:
        named[key_of(entry.task, entry.metric, entry.epoch, entry.published.series)] = _members(entry.figure)
    for curve in ledger.curves:
        key = key_of(curve.task, curve.metric, max(curve.epochs), curve.published.series)
        named[key] = [SeedRun(item.run, item.seed) for item in curve.evidence]
    return named | {extra.title: _members(extra.figure) for extra in ledger.beyond}


def _members(figure: Figure | None) -> list[SeedRun]:
    return [SeedRun(item.run, item.seed) for item in figure.evidence] if figure else []


def _strangers(ledger: Ledger, store: Sources, digests: Callable[[FigureQuery, int], Collection[str]]) -> list[str]:
    """Return where a figure's run is not of its task, its experiment, its model or its seed."""
    found = []
    for want, seed_runs in store.picked:
        seeds = [seed_run.seed for seed_run in seed_runs]
        if len(set(seeds)) != len(seeds):
            found.append(f"{want.key}: a seed stands twice: {', '.join(map(str, seeds))}")
        for seed_run in seed_runs:
            run = ledger.runs.get(seed_run.run)
            if run is None:
                continue  # it could not be had: that is a difference already
            is_of = (run.task, run.model, seed_run.seed if run.seed is None else run.seed)
            named = (want.task, recipe(want.task, want.metric, want.epoch, seed_run.seed).model, seed_run.seed)
            if is_of != named:
                found.append(f"{want.key}: run {seed_run.run} is of {is_of}, not of {named}")
            if (allowed := digests(want, seed_run.seed)) and run.spec_digest not in allowed:
                found.append(f"{want.key}: run {seed_run.run} ran another experiment, by its digest")
    return found


def _walk(said: Any, found: Any, place: str) -> list[str]:
    """Return where two JSON values differ."""
    if isinstance(said, dict) and isinstance(found, dict):
        keys = list(dict.fromkeys([*said, *found]))
        return [words for key in keys for words in _walk(said.get(key), found.get(key), f"{place}.{key}".strip("."))]
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        pairs = enumerate(zip(said, found, strict=True))
        return [words for index, (a, b) in pairs for words in _walk(a, b, f"{place}[{_called(a, index)}]")]
    if said == found:
        return []
    return [f"{place}: the ledger says {_short(said)}, computed anew it is {_short(found)}"]


def _called(item: Any, index: int) -> str:
    """Return what a list's item is called in words: a number's name where it has one."""
    if isinstance(item, dict) and "published" in item and "metric" in item:
        epoch = item["epoch"] if "epoch" in item else max(item["epochs"], default=None)
        return key_of(item["task"], item["metric"], epoch, item["published"]["series"])
    if isinstance(item, dict) and "seed" in item:
        return f"seed {item['seed']}"
    return item["title"] if isinstance(item, dict) and "title" in item else str(index)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
