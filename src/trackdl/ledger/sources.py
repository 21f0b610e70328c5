"""Where a ledger's figures come from: runs, what is known of them, and their artifacts, handed in as functions."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from trackdl.ledger.model import RunFacts

__all__ = ["FigureQuery", "SeedRun", "Sources", "Stamp"]


@dataclass(frozen=True)
class SeedRun:
    """One seed of a figure: the run that keeps what it is computed from."""

    run: str
    seed: int


@dataclass(frozen=True)
class FigureQuery:
    """What is looked for: the runs of a figure.

    `key` is the place in the ledger that they are for; `set`, `tags` and `command` are as in `BeyondItem`. With
    `or_own` the task's own experiment counts where no run is there of the one with the keys of `set`.
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
    """What a ledger says of itself."""

    version: str
    commit: str | None
    made: str
    seeds: int | None


class Sources:
    """What is known of runs, and their artifacts; remembers what was asked for.

    Args:
        pick: Returns the runs of a figure, or none.
        facts: Returns what is known of a run, its artifacts left empty.
        fetch: Returns an artifact of a run; raises TrackdlError where it cannot be had.
    """

    def __init__(
        self,
        pick: Callable[[FigureQuery], Sequence[SeedRun]],
        facts: Callable[[str], RunFacts],
        fetch: Callable[[str, str], bytes],
    ) -> None:
        self._pick = pick
        self._fetch = lru_cache(maxsize=128)(fetch)
        self._facts = lru_cache(maxsize=None)(facts)
        self._read: dict[str, dict[str, str]] = {}
        self.picked: list[tuple[FigureQuery, Sequence[SeedRun]]] = []

    def pick(self, want: FigureQuery) -> Sequence[SeedRun]:
        """Return the runs of a figure, or none, and remember which were picked."""
        seed_runs = self._pick(want)
        self.picked.append((want, seed_runs))
        return seed_runs

    def content(self, run: str, path: str) -> bytes:
        """Return an artifact and remember its SHA-256."""
        content = self._fetch(run, path)
        self._read.setdefault(run, {})[path] = hashlib.sha256(content).hexdigest()
        return content

    def facts(self, run: str) -> RunFacts:
        """Return what is known of a run."""
        found = self._facts(run)
        self._read.setdefault(run, {})
        return found

    @property
    def runs(self) -> dict[str, RunFacts]:
        """All runs that were asked about, with the artifacts that were read."""
        return {
            run: self._facts(run).model_copy(update={"artifacts": dict(sorted(paths.items()))})
            for run, paths in sorted(self._read.items())
        }
