"""Checks a ledger: builds it again from what its runs keep, and compares the result with the file digit by digit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from trackdl.errors import InputError, TrackdlError, one_line
from trackdl.ledger import labels
from trackdl.ledger.archive import Archive, Only, parsed
from trackdl.ledger.build import NO_EVIDENCE, build
from trackdl.ledger.finder import Finder
from trackdl.ledger.folder import COMMITTED
from trackdl.ledger.hypotheses import query_of
from trackdl.ledger.model import Ledger, ReportFacts, Spread, Stamp, key_of
from trackdl.ledger.rule import FEWEST, rounded
from trackdl.ledger.sources import Sources
from trackdl.spec import Experiment
from trackdl.spec.ledger import LedgerSpec
from trackdl.system.paths import read_bounded

MAX_BYTES = 50_000_000


def load(file: Path) -> Ledger:
    """Read a ledger.

    Raises:
        InputError: The file cannot be read, or is not a complete ledger; names the first place that is wrong.
    """
    return parse(read_bounded(file, MAX_BYTES), str(file))


def parse(content: bytes, file: str) -> Ledger:
    """Read a ledger from its JSON text, which messages call `file`; the rest is as in `load`."""
    try:
        parsed(content)
        return Ledger.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "the whole"
        raise InputError(
            f"{file}: not a ledger of this version (docs/ledger/schema.json): {place}: {problem['msg']}; "
            "`trackdl ledger` writes one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not a ledger: {one_line(error, 200)}; `trackdl ledger` writes one") from error


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
    archive: Archive,
    known: Mapping[str, Spread],
) -> list[str]:
    """Build a ledger again from the runs that it names, and return each difference in words, the ledger's side first.

    Which of the runs count is decided by the rule that made the ledger (`finder.Finder`), with the data and code that
    it states. Why a number had no evidence when the ledger was made is taken from the ledger, as long as it has none.
    """
    try:
        only = Only(archive, [run for run in ledger.runs if not run.startswith(COMMITTED)])
        finder = Finder(experiments, only, ledger.seeds, ledger)
        sources = Sources(finder.pick, finder.facts, finder.fetch, _lacking(ledger))
        stamp = Stamp(**{name: getattr(ledger, name) for name in Stamp.model_fields} | {"report": report})
        rebuilt = build(experiment, experiments, sources, known, stamp)
        wrong_labels = labels.differences(rebuilt, experiments, sources)
    except TrackdlError as error:
        return [str(error)]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Evidence comes from anybody, and may have any form.
        return [f"the evidence cannot be read: {type(error).__name__}: {one_line(error, 200)}"]
    given, found = (one.model_dump(mode="json") for one in (ledger, rebuilt))
    stated = ledger.current_code == finder.current_code
    return [
        *_walk(given, found, ""),
        *([] if stated else ["current_code: it does not agree with the ledger's `code`"]),
        *wrong_labels,
        *_fewer_seeds(ledger),
    ]


def _lacking(ledger: Ledger) -> dict[str, str]:
    """Return why figures and hypotheses had no evidence, by their keys."""
    found = {one.key: one.words for one in ledger.claims}
    found |= {query_of(one.task).key: one.words for one in ledger.hypotheses if not one.evidence}
    return {key: words for key, words in found.items() if words.startswith((NO_EVIDENCE, "not judged"))}


def _fewer_seeds(ledger: Ledger) -> list[str]:
    """Return the numbers that have evidence of fewer seeds than the ledger says it has."""
    return [
        f"{one.key}: {len(one.evidence)} of {ledger.seeds} seeds"
        for one in ledger.entries
        if ledger.seeds and one.figure and one.figure.interval != "folds"
        if len(one.evidence) < ledger.seeds and not one.evidence[0].run.startswith(COMMITTED)
    ]


def unproven(ledger: Ledger) -> list[str]:
    """Return the numbers, curves and hypotheses that the ledger says nothing of ours about, each with the reason."""
    claims = [f"{one.key}: {one.words}" for one in ledger.claims if not one.evidence]
    return [*claims, *(f"{one.dimension}: {one.words}" for one in ledger.hypotheses if one.verdict is None)]


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
