"""Where a ledger's figures come from: runs, what is known of them, and their artifacts, passed in as functions."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from trackdl.ledger.model import RunFacts, SeedEvidence


@dataclass(frozen=True)
class SeedRun:
    """One seed of a figure: the run that keeps what it is computed from."""

    run: str
    seed: int


@dataclass(frozen=True)
class FigureQuery:
    """A figure whose runs are looked for.

    `key` is its name in the ledger, `task` the experiment's and `kind` its kind; `set`, `tags` and `command` are as in
    `BeyondItem`. With `or_own` the experiment's own runs count if the one with the keys of `set` has none. `choice` is
    as in `recipes.recipe`.
    """

    key: str
    task: str
    kind: str
    metric: str
    epoch: int | None
    set: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    or_own: bool = False
    choice: str = ""


class Sources:
    """Gives runs and their artifacts, and remembers what it has read.

    Args:
        pick: Returns the runs of a figure; empty if there are none.
        facts: Returns what is known of a run, without its artifacts.
        fetch: Returns an artifact of a run; raises TrackdlError if it cannot be read.
        lacking: Why figures without evidence had none when the ledger was made, by their keys.
    """

    def __init__(
        self,
        pick: Callable[[FigureQuery], Sequence[SeedRun]],
        facts: Callable[[str], RunFacts],
        fetch: Callable[[str, str], bytes],
        lacking: Mapping[str, str] | None = None,
    ) -> None:
        self.pick = pick
        self.lacking = lacking or {}
        self._fetch = lru_cache(maxsize=128)(fetch)
        self.facts = lru_cache(maxsize=None)(facts)
        self._digests: dict[str, dict[str, str]] = {}

    def read(self, run: str, paths: Sequence[str]) -> list[bytes]:
        """Return artifacts of a run and remember their SHA-256.

        Raises:
            TrackdlError: There is no such run, or an artifact cannot be read.
        """
        self.facts(run)
        digests = self._digests.setdefault(run, {})
        contents = []
        for path in paths:
            contents.append(self._fetch(run, path))
            digests[path] = hashlib.sha256(contents[-1]).hexdigest()
        return contents

    def runs_of(self, used: Iterable[SeedEvidence]) -> dict[str, RunFacts]:
        """Return the runs that evidence names, each with the digests of the artifacts that it names."""
        named: dict[str, set[str]] = {}
        for item in used:
            named.setdefault(item.run, set()).update(item.artifacts)
        return {
            run: self.facts(run).model_copy(update={"artifacts": {path: self._digests[run][path] for path in paths}})
            for run, paths in ((run, sorted(named[run])) for run in sorted(named))
        }
