"""Where a ledger's figures come from: runs, what is known of them, and their artifacts, passed in as functions."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from trackdl.ledger.model import RunFacts


@dataclass(frozen=True)
class SeedRun:
    """One seed of a figure: the run that keeps what it is computed from."""

    run: str
    seed: int


@dataclass(frozen=True)
class FigureQuery:
    """A figure whose runs are looked for.

    `key` is its name in the ledger; `set`, `tags` and `command` are as in `BeyondItem`. With `or_own` the task's own
    experiment counts if the one with the keys of `set` has no run.
    """

    key: str
    task: str
    metric: str
    epoch: int | None
    set: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    or_own: bool = False


@dataclass(frozen=True)
class Stamp:
    """How a ledger was made; the fields are those of `model.Ledger`."""

    version: str
    commit: str | None
    made: str
    seeds: int | None
    current_code: Mapping[str, str]


class Sources:
    """Gives runs and their artifacts, and remembers which were asked for.

    Args:
        pick: Returns the runs of a figure; empty if there are none.
        facts: Returns what is known of a run, without its artifacts.
        fetch: Returns an artifact of a run; raises TrackdlError if it cannot be read.
    """

    def __init__(
        self,
        pick: Callable[[FigureQuery], Sequence[SeedRun]],
        facts: Callable[[str], RunFacts],
        fetch: Callable[[str, str], bytes],
    ) -> None:
        self._pick = pick
        self._fetch = lru_cache(maxsize=128)(fetch)
        self.facts = lru_cache(maxsize=None)(facts)
        self._digests: dict[str, dict[str, str]] = {}
        self.picked: list[tuple[FigureQuery, Sequence[SeedRun]]] = []

    def pick(self, query: FigureQuery) -> Sequence[SeedRun]:
        """Return the runs of a figure and remember them."""
        seed_runs = self._pick(query)
        self.picked.append((query, seed_runs))
        return seed_runs

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

    @property
    def runs(self) -> dict[str, RunFacts]:
        """All runs that were read, each with its artifacts."""
        return {
            run: self.facts(run).model_copy(update={"artifacts": dict(sorted(digests.items()))})
            for run, digests in sorted(self._digests.items())
        }
