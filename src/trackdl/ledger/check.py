"""Checks a ledger: builds it again from what its runs keep, and compares the result with the file digit by digit."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from trackdl.errors import InputError, TrackdlError
from trackdl.ledger.build import NO_EVIDENCE, build
from trackdl.ledger.hypotheses import query_of
from trackdl.ledger.model import Ledger, ReportFacts, RunFacts, SeedEvidence, Spread, key_of
from trackdl.ledger.recipes import recipe
from trackdl.ledger.rule import FEWEST, rounded
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources, Stamp
from trackdl.spec import Experiment
from trackdl.spec.ledger import LedgerSpec
from trackdl.system.paths import read_bounded

MAX_BYTES = 50_000_000


def load(file: Path) -> Ledger:
    """Read a ledger.

    Raises:
        InputError: The file cannot be read, or is not a complete ledger; names the first place that is wrong.
    """
    content = read_bounded(file, MAX_BYTES)
    try:
        return Ledger.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise InputError(
            f"{file}: not a ledger of this version (docs/ledger/schema.json): {place}: {problem['msg']}; "
            "`trackdl ledger` writes one"
        ) from error


def spreads(ledger: Ledger) -> dict[str, Spread]:
    """Return the spread between seeds, by `Entry.key`, of every number that has enough seeds in the ledger."""
    found = {}
    for entry in ledger.entries:
        values = [item.value for item in entry.figure.evidence] if entry.figure else []
        if len(values) >= FEWEST:
            deviation = rounded(float(np.std(values, ddof=1)))
            found[entry.key] = Spread(deviation=deviation, seeds=len(values))
    return found


def borrowed(ledger: Ledger) -> dict[str, Spread]:
    """Return the spreads between seeds, by `Entry.key`, that a ledger took from another one."""
    return {entry.key: entry.spread for entry in ledger.entries if entry.spread}


def differences(
    ledger: Ledger,
    experiment: LedgerSpec,
    experiments: Mapping[str, Experiment],
    report: ReportFacts,
    facts: Callable[[str], RunFacts],
    fetch: Callable[[str, str], bytes],
    known: Mapping[str, Spread],
    digests: Callable[[FigureQuery, int], Collection[str]],
) -> list[str]:
    """Build a ledger again from the runs that it names, and return each difference in words, the ledger's side first.

    Why a number had no evidence when the ledger was made is taken from the ledger. `digests` returns the digests of the
    experiments that a figure's run with a seed may have run, or none for any; the rest is as in `build` and `Sources`.
    """
    named = _named(ledger)
    sources = Sources(lambda query: named.get(query.key, []), facts, fetch, _lacking(ledger))
    stamp = Stamp(report, ledger.version, ledger.commit, ledger.made, ledger.seeds, ledger.current_code)
    try:
        rebuilt = build(experiment, experiments, sources, known, stamp)
    except TrackdlError as error:
        return [str(error)]
    # A plot's bytes depend on the fonts and versions of a machine; the data it is drawn from are compared.
    plots = {"hypotheses": {"__all__": {"figure"}}}
    given, found = (one.model_dump(mode="json", exclude=plots) for one in (ledger, rebuilt))
    return [*_walk(given, found, ""), *_strangers(rebuilt, sources, digests)]


def _named(ledger: Ledger) -> dict[str, list[SeedRun]]:
    """Return the runs that a ledger names, by the key of their figure."""
    named: dict[str, Sequence[SeedEvidence]] = {one.key: one.evidence for one in ledger.claims}
    for one in ledger.hypotheses:
        named |= {query_of(grid).key: [item] for grid, item in one.evidence.items()}
    return {key: [SeedRun(item.run, item.seed) for item in evidence] for key, evidence in named.items()}


def _lacking(ledger: Ledger) -> dict[str, str]:
    """Return why figures and hypotheses had no evidence, by their keys."""
    found = {one.key: one.words for one in ledger.claims}
    found |= {query_of(one.task).key: one.words for one in ledger.hypotheses if not one.evidence}
    return {key: words for key, words in found.items() if words.startswith((NO_EVIDENCE, "not judged"))}


def _strangers(ledger: Ledger, sources: Sources, digests: Callable[[FigureQuery, int], Collection[str]]) -> list[str]:
    """Return where a figure's run is not of its task, its experiment, its model or its seed."""
    found = []
    for query, seed_runs in sources.picked:
        seeds = [seed_run.seed for seed_run in seed_runs]
        if len(set(seeds)) != len(seeds):
            found.append(f"{query.key}: a seed occurs twice: {', '.join(map(str, seeds))}")
        for run_id, seed in ((seed_run.run, seed_run.seed) for seed_run in seed_runs):
            run = ledger.runs.get(run_id)
            if run is None:
                continue  # It could not be read: that is a difference already.
            is_of = (run.task, run.model, seed if run.seed is None else run.seed)
            wanted = (query.task, recipe(query.kind, query.metric, query.epoch, seed).model, seed)
            if is_of != wanted:
                found.append(f"{query.key}: run {run_id} is of {is_of}, not of {wanted}")
            if (allowed := digests(query, seed)) and run.spec_digest not in allowed:
                found.append(f"{query.key}: run {run_id} ran another experiment, by its digest")
    return found


def _walk(given: Any, found: Any, place: str) -> list[str]:
    """Return where two JSON values differ."""
    if isinstance(given, dict) and isinstance(found, dict):
        keys = dict.fromkeys([*given, *found])
        return [words for key in keys for words in _walk(given.get(key), found.get(key), f"{place}.{key}".strip("."))]
    if isinstance(given, list) and isinstance(found, list) and len(given) == len(found):
        pairs = enumerate(zip(given, found, strict=True))
        return [words for index, (a, b) in pairs for words in _walk(a, b, f"{place}[{_name(a, index)}]")]
    if given == found:
        return []
    return [f"{place}: the ledger says {_short(given)}, computed again it is {_short(found)}"]


def _name(item: Any, index: int) -> str:
    """Return the name of a list's item: a number's or a figure's title, or its index."""
    if not isinstance(item, dict):
        return str(index)
    if "published" in item and "metric" in item:
        epoch = item["epoch"] if "epoch" in item else max(item["epochs"], default=None)
        return key_of(item["task"], item["metric"], epoch, item["published"]["series"])
    return f"seed {item['seed']}" if "seed" in item else item.get("title", str(index))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
