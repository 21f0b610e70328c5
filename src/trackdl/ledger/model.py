"""What `ledger.json` holds: every published number, ours beside it with its evidence, and what follows from both.

The page is made of this alone. `docs/ledger/schema.json` is its JSON schema.
"""

from typing import Annotated, Literal

from pydantic import Field

from trackdl.spec.base import Comparable, Strict, Unit

__all__ = [
    "Beyond",
    "CurveEntry",
    "CurveEvidence",
    "Entry",
    "Evidence",
    "Fault",
    "Figure",
    "Headline",
    "HypothesisEntry",
    "IntervalOf",
    "KnownSpread",
    "Ledger",
    "Published",
    "RunFacts",
    "VerdictName",
]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


VerdictName = Literal["reproduced", "differs", "fault in the report", "not comparable", "inconclusive"]
IntervalOf = Literal["seeds", "examples", "folds", "none"]


class RunFacts(Strict):
    """A run that the ledger rests on: where it is, what it ran, and the SHA-256 of each artifact that is read of it.

    `model` names it where a task judges several models, a run each; `seed` is the training's, null where it has more
    than one; `source` is the registered network that it starts from, if any. A table that lies in the checkout in place
    of hours of runs stands here too, with no experiment to it; what is not known of its making is empty or null.
    """

    task: str
    name: str
    model: str
    seed: int | None
    source: str
    experiment_id: str
    started: str
    version: str
    commit: str | None
    uncommitted: bool
    spec_digest: Sha256 | None
    data_digest: Sha256 | None
    code_digest: Sha256 | None
    command: str
    artifacts: dict[str, Sha256]


class Evidence(Strict):
    """One seed's value, and how it is computed: `formula` reads `artifacts` of `run`, told `select` besides."""

    run: str
    seed: int
    artifacts: list[str] = Field(min_length=1)
    formula: str
    select: str
    value: float


class Figure(Strict):
    """A number of ours: the mean over seeds and its 95 % interval.

    `interval` says over what it is: seeds (Student's t, of their mean), examples (exact, of the accuracy over so many),
    or folds (corrected for the training rows that they share). `low` and `high` are null where there is none.
    """

    task: str
    metric: str
    epoch: int | None
    unit: Unit
    examples: int | None
    mean: float
    low: float | None
    high: float | None
    interval: IntervalOf
    evidence: list[Evidence] = Field(min_length=1)


class Published(Strict):
    """What the report prints; as in the task's experiment file."""

    value: float
    unit: Unit
    quote: str
    comparable: Comparable
    unknown: str
    fault: str
    series: str


class KnownSpread(Strict):
    """The deviation between seeds that a verdict on too few seeds borrows, and from how many seeds it is known."""

    deviation: float = Field(ge=0)
    seeds: int = Field(ge=2)


class Entry(Strict):
    """A published number beside ours. `verdict` is null, and `words` say what to run, where ours is missing."""

    task: str
    metric: str
    epoch: int | None
    published: Published
    figure: Figure | None
    spread: KnownSpread | None
    verdict: VerdictName | None
    words: str


class CurveEvidence(Strict):
    """One seed's curve: its mean and the means of its parts (`CurveEntry.parts`); the rest is as in `Evidence`."""

    run: str
    seed: int
    artifacts: list[str] = Field(min_length=1)
    formula: str
    mean: float
    parts: list[float]


class CurveEntry(Strict):
    """A printed curve of batches' losses beside ours, judged as a whole.

    Attributes:
        task: Whose training it is.
        metric: As in `spec_base.Curve`.
        published: What the report says of it; its value is the mean over the points.
        epochs: Each point's epoch.
        seen: How many of the epoch's examples were seen before the point's batch.
        size: How many examples an epoch has; null without runs.
        printed: The report's losses.
        mean: Ours, the mean over seeds; empty without runs.
        low: The lower end, at each point, of the 95 % interval of one further training of ours; empty for fewer seeds
            than tell it.
        high: The upper end.
        inside: The share of printed points within these intervals.
        parts: The printed curve's means over equal parts.
        evidence: Each seed's.
        verdict: By docs/ledger.md's rule for curves; null, and `words` say what to run, without runs.
        words: The verdict's reason.
    """

    task: str
    metric: str
    published: Published
    epochs: list[int] = Field(min_length=1)
    seen: list[int]
    size: int | None
    printed: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    inside: float | None
    parts: list[float]
    evidence: list[CurveEvidence]
    verdict: VerdictName | None
    words: str


class Headline(Strict):
    """One of the numbers that the ledger leads with: its place among the entries, and what it is in words."""

    title: str
    entry: int = Field(ge=0)


class HypothesisEntry(Strict):
    """One of the report's hypotheses.

    `figure` is a picture as a data URI, or empty. `verdict` is null, and `words` say what to run, where it is open.
    """

    dimension: str
    quote: str
    verdict: Literal["supported", "contradicted", "no practical difference", "not decidable"] | None
    words: str
    figure: str = Field("", pattern=r"^(data:image/(png|svg\+xml);base64,[A-Za-z0-9+/]+=*)?$")


class Fault(Strict):
    """A fault of the report, and the runs that show it; without any, `words` say what to run."""

    title: str
    task: str
    quote: str
    words: str
    runs: list[str]


class Beyond(Strict):
    """What goes beyond the report: a figure of ours, beside the report's number for the same thing, if there is one.

    `lead`: it is among what the page leads with.
    """

    title: str
    task: str
    published: float | None
    figure: Figure | None
    words: str
    lead: bool


class Ledger(Strict):
    """The whole ledger; `made` is UTC. `seeds` is how many were asked for, null where those there were taken."""

    format: Literal[2] = 2
    version: str
    commit: str | None
    made: str
    seeds: int | None = Field(ge=1)
    head: list[Headline]
    entries: list[Entry]
    curves: list[CurveEntry]
    hypotheses: list[HypothesisEntry]
    faults: list[Fault]
    beyond: list[Beyond]
    runs: dict[str, RunFacts]

    @property
    def figures(self) -> list[Figure]:
        """Every figure of ours in it."""
        return [
            *(item.figure for item in self.entries if item.figure),
            *(item.figure for item in self.beyond if item.figure),
        ]
