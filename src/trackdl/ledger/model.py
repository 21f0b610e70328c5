"""What `ledger.json` holds: every published number, ours with its evidence, and what follows from both.

The page is rendered from this alone. `docs/ledger/schema.json` is its JSON schema.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trackdl.spec.base import Comparable, Strict, Unit
from trackdl.spec.grid import GridSpec

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


VerdictName = Literal["reproduced", "differs", "fault in the report", "not comparable", "inconclusive"]
IntervalOf = Literal["seeds", "examples", "folds", "none"]


def key_of(task: str, metric: str, epoch: int | None, series: str = "") -> str:
    """Return the name of a published number: unique in the ledger."""
    after = "" if epoch is None else f" after epoch {epoch}"
    return f"{task} {metric}{after}" + (f", {series}" if series else "")


class ReportFacts(Strict):
    """Whose numbers these are: what `report.yaml` says; what it does not say is empty or null."""

    title: str
    authors: str
    source: str
    year: int | None
    slug: str


class ExperimentFacts(Strict):
    """One of the report's experiments: its kind, what people call it, and the command that runs it."""

    kind: str
    title: str
    command: str


class RunFacts(Strict):
    """A run that the ledger rests on: where it is, what it ran, and the SHA-256 of each artifact that is read.

    `task` is the experiment's name; `model` names the model if the experiment judges several, each in its own run;
    `seed` is the training's, null if the run has several; `source` is the registered network that it starts from, if
    any. A committed table that stands for hours of runs is listed here too, without an experiment; what is not known of
    its making is empty or null.
    """

    task: str
    name: str
    model: str = ""
    seed: int | None = None
    source: str = ""
    experiment_id: str = ""
    started: str = ""
    version: str
    commit: str | None = None
    uncommitted: bool = False
    spec_digest: Sha256 | None = None
    data_digest: Sha256 | None
    code_digest: Sha256 | None
    command: str
    artifacts: dict[str, Sha256] = Field(default_factory=dict)


class SeedEvidence(Strict):
    """What one seed is computed from: `formula` reads `artifacts` of `run`."""

    run: str
    seed: int
    artifacts: list[str] = Field(min_length=1)
    formula: str


class Evidence(SeedEvidence):
    """One seed's value; `select` is the formula's argument."""

    select: str
    value: float


class Figure(Strict):
    """A number of ours: the mean over seeds and its 95 % interval.

    `interval` is over seeds (Student's t, of their mean), examples (exact, of the accuracy on so many), or folds
    (corrected for the training rows that they share). `low` and `high` are null if there is none.
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
    """What the report prints; as in the experiment's file. `link` is the address of `quote`, if it has one."""

    value: float
    unit: Unit
    quote: str
    comparable: Comparable
    unknown: str
    fault: str
    series: str
    link: str = ""


class Spread(Strict):
    """A number's standard deviation between seeds, and from how many seeds it is known."""

    deviation: float = Field(ge=0)
    seeds: int = Field(ge=2)


class Entry(Strict):
    """A published number and ours. Without ours `verdict` is null, and `words` say what to run.

    `spread` is the spread between seeds that a verdict on too few seeds borrowed from the committed ledger.
    """

    task: str
    metric: str
    epoch: int | None
    published: Published
    figure: Figure | None
    spread: Spread | None
    verdict: VerdictName | None
    words: str

    @property
    def key(self) -> str:
        """Its name."""
        return key_of(self.task, self.metric, self.epoch, self.published.series)

    @property
    def evidence(self) -> Sequence[SeedEvidence]:
        """That of its figure."""
        return self.figure.evidence if self.figure else []


class CurveEvidence(SeedEvidence):
    """One seed's curve: its mean and the means of its parts (`CurveEntry.parts`)."""

    mean: float
    parts: list[float]


class CurveEntry(Strict):
    """A printed curve of losses per batch and ours, judged as a whole by docs/ledger.md's rule for curves.

    The value of `published` is the mean over the points. Each point has its epoch, how many of the epoch's examples
    were `seen` before its batch, the report's loss (`printed`), and our `mean` over seeds. `low` and `high` are the
    ends of the 95 % interval of one more run of ours, empty with fewer than three seeds; `inside` is the share
    of printed points within them. `size` is how many examples an epoch has; `parts` are the printed curve's means over
    equal parts. Without runs `verdict` is null, and `words` say what to run.
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

    @property
    def key(self) -> str:
        """Its name."""
        return key_of(self.task, self.metric, max(self.epochs), self.published.series)


class Headline(Strict):
    """One of the numbers that the ledger leads with: its title, and its index among the entries."""

    title: str
    entry: int = Field(ge=0)


class Confusion(Strict):
    """For which classes a network takes the examples of each class: [true class][predicted], over all seeds.

    It is of the same predictions as the number `entry`, an index among the entries.
    """

    entry: int = Field(ge=0)
    classes: list[str] = Field(min_length=2)
    counts: list[list[int]]
    evidence: list[SeedEvidence] = Field(min_length=1)


class ContrastFacts(Strict):
    """How much more of the pictures, in points, `high` gets right than `low`, another value of the same dimension.

    `least` and `most` are the ends of the 95 % interval, for other draws of pictures and other seeds; null if unknown.
    """

    high: str
    low: str
    mean: float
    least: float | None
    most: float | None


class HypothesisEntry(Strict):
    """One of the report's hypotheses, of the grid `task`.

    `verdict` is null without the grid's whole table, and `words` say what to run. `margin` is the difference in points
    of accuracy below which two configurations are alike in practice. It is judged by `contrasts`. `evidence` has the
    tables that they are of: the grid's, and those of variants that are quoted beside it.
    """

    task: str
    dimension: str
    quote: str
    verdict: Literal["supported", "contradicted", "no practical difference", "not decidable"] | None
    words: str
    margin: float = Field(GridSpec.model_fields["margin"].default, gt=0)
    contrasts: list[ContrastFacts] = Field(default_factory=list)
    evidence: dict[str, SeedEvidence] = Field(default_factory=dict)


class PrintedPoint(Strict):
    """A printed number by which candidates are judged, and which of the report's trainings it is of (`series`)."""

    metric: str
    epoch: int
    series: str
    value: float


class Candidate(Strict):
    """What a report may have left out, as `values` by key, and how well its trainings explain the printed numbers.

    `weight` is its share of all candidates' likelihood, `below` how much less its log-likelihood is than that of the
    best, `inside` the share of printed numbers in the 95 % interval of one more run. `gaps` are, by metric, the
    means of ours less the printed numbers. `mean`, `low` and `high` are ours at each of the points, with that interval.
    """

    values: dict[str, Any]
    weight: float
    below: float
    inside: float
    gaps: dict[str, float]
    mean: list[float]
    low: list[float]
    high: list[float]


class Recovered(Strict):
    """What the report of the experiment `task` leaves out, judged by what it prints; the likeliest candidate is first.

    `effective` is how many independent numbers those of each of the report's trainings count as. Each of our own
    trainings was taken for a report (`tried`), and its own candidate was the likeliest for `recognised` of them.
    `diverged` are the candidates that cannot be judged, because too few of their trainings have ended in numbers.
    """

    task: str
    seeds: int
    points: list[PrintedPoint]
    effective: list[float]
    recognised: int
    tried: int
    candidates: list[Candidate] = Field(min_length=1)
    diverged: list[dict[str, Any]] = Field(default_factory=list)
    words: str
    evidence: SeedEvidence | None


class Fault(Strict):
    """A fault of the report, and the runs that show it; without any, `words` say what to run."""

    title: str
    task: str
    quote: str
    words: str
    runs: list[str]


class Beyond(Strict):
    """A figure of ours that goes beyond the report, and the report's number for the same thing, if there is one.

    `lead`: the page leads with it.
    """

    title: str
    task: str
    unit: Unit
    published: float | None
    figure: Figure | None
    words: str
    lead: bool

    @property
    def key(self) -> str:
        """Its name."""
        return self.title

    @property
    def evidence(self) -> Sequence[SeedEvidence]:
        """That of its figure."""
        return self.figure.evidence if self.figure else []


class Stamp(Strict):
    """How a ledger was made, and of which report.

    `made` is UTC. `folder` is the report's, as commands name it. `environment` names Python, libraries and machine.
    `seeds` is how many were asked for, null if all existing ones were taken. `data` and `code` have the digests that
    runs must have to count: of each experiment's data, and of the code of each training. `current_code` has the code
    digest, when the ledger was made, of each experiment whose figures may rest on other code.
    """

    format: Literal[4] = 4
    report: ReportFacts
    folder: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f./\\]$")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+_-]{1,40}$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    environment: dict[str, str]
    made: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    seeds: int | None = Field(ge=1)
    data: dict[str, Sha256]
    code: dict[str, Sha256]
    current_code: dict[str, Sha256] = Field(default_factory=dict)


class Ledger(Stamp):
    """The whole ledger.

    `experiments` are those that the ledger speaks of, by the names that `task` has everywhere in it.
    """

    experiments: dict[str, ExperimentFacts]
    head: list[Headline]
    entries: list[Entry]
    curves: list[CurveEntry]
    recovered: list[Recovered] = Field(default_factory=list)
    confusions: list[Confusion] = Field(default_factory=list)
    hypotheses: list[HypothesisEntry]
    faults: list[Fault]
    beyond: list[Beyond]
    runs: dict[str, RunFacts]

    @model_validator(mode="after")
    def _names_what_it_has(self) -> "Ledger":
        used = [item for one in self.claims for item in one.evidence]
        used += [item for one in self.hypotheses for item in one.evidence.values()]
        used += [one.evidence for one in self.recovered if one.evidence]
        used += [item for one in self.confusions for item in one.evidence]
        if unknown := {item.run for item in used} - self.runs.keys():
            raise ValueError(f"its evidence names the run {min(unknown)!r:.80}, which is not among its runs")
        tasks = {one.task for one in (*self.claims, *self.hypotheses, *self.recovered, *self.faults)}
        if unknown := tasks - self.experiments.keys():
            raise ValueError(f"it speaks of {min(unknown)!r:.80}, which is not among its experiments")
        leading = [one.entry for one in self.head] + [one.entry for one in self.confusions]
        if any(place >= len(self.entries) for place in leading):
            raise ValueError("it leads with a number, or a confusion is of one, that it does not have")
        if any([len(row) for row in one.counts] != [len(one.classes)] * len(one.classes) for one in self.confusions):
            raise ValueError("a confusion is not a square of as many numbers as there are classes")
        return self

    @property
    def files(self) -> str:
        """The name of the report's folder in the ledger's bundle."""
        return PurePosixPath(self.folder).name

    @property
    def claims(self) -> list[Entry | CurveEntry | Beyond]:
        """Every number and curve that has evidence of its own, or may have."""
        return [*self.entries, *self.curves, *self.beyond]

    @property
    def figures(self) -> list[Figure]:
        """Every figure of ours."""
        items: list[Entry | Beyond] = [*self.entries, *self.beyond]
        return [item.figure for item in items if item.figure]
