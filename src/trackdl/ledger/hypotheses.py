"""The report's hypotheses in the ledger: judged on the tables of its grids, each with its contrasts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from trackdl.analysis import grid_table
from trackdl.analysis.contrasts import Contrast
from trackdl.analysis.hypotheses import UNKNOWN, HypothesisVerdict, judge_table, label
from trackdl.errors import TrackdlError
from trackdl.ledger.folder import TABLE, command_of
from trackdl.ledger.model import ContrastFacts, HypothesisEntry, SeedEvidence
from trackdl.ledger.rule import rounded
from trackdl.ledger.sources import FigureQuery, Sources
from trackdl.spec import Experiment, GridSpec
from trackdl.spec.hypotheses import Hypothesis
from trackdl.spec.ledger import Beside

FORMULA = "verdicts on hypotheses"


def judged(
    experiments: Mapping[str, Experiment], beside: Mapping[str, Beside], sources: Sources
) -> list[HypothesisEntry]:
    """Return the hypotheses of all grids with their verdicts; open ones, that say why, if a grid has no whole table.

    The verdicts of grids of ours, `beside`, are added to the words of others, and decide nothing.
    """
    entries = []
    for name, grid in experiments.items():
        if isinstance(grid, GridSpec) and grid.hypotheses:
            others = [(experiments[other], one.words) for other, one in beside.items() if one.of == name]
            entries += _of_grid(grid, [(one, words) for one, words in others if isinstance(one, GridSpec)], sources)
    return entries


def _of_grid(grid: GridSpec, others: Sequence[tuple[GridSpec, str]], sources: Sources) -> list[HypothesisEntry]:
    evidence: dict[str, SeedEvidence] = {}
    try:
        verdicts = _judged(grid, grid.hypotheses, sources, evidence)
    except FileNotFoundError:
        why = sources.lacking.get(query_of(grid.name).key) or f"not run yet: `{command_of(grid)}`"
        return [_entry(grid, one, why, evidence) for one in grid.hypotheses]
    except ValueError as error:
        return [_entry(grid, one, f"not judged: {error}", evidence) for one in grid.hypotheses]
    words = [verdict.words for verdict in verdicts]
    for other, said in others:
        try:
            found = _judged(other, grid.hypotheses, sources, evidence)
            more = [_words_beside(*pair, f"{said} ({other.name}") for pair in zip(verdicts, found, strict=True)]
        except (FileNotFoundError, ValueError):
            more = [f"{said}, our variant, it is not judged: {other.name} has no complete table."] * len(verdicts)
        words = [" ".join(pair) for pair in zip(words, more, strict=True)]
    judged = zip(grid.hypotheses, words, verdicts, strict=True)
    return [_entry(grid, one, said, evidence, verdict) for one, said, verdict in judged]


def query_of(grid: str) -> FigureQuery:
    """Return the query for a grid's table."""
    return FigureQuery(f"{grid}, its hypotheses", grid, "grid", "networks", None)


def _judged(
    grid: GridSpec, hypotheses: Sequence[Hypothesis], sources: Sources, evidence: dict[str, SeedEvidence]
) -> list[HypothesisVerdict]:
    """Return the verdicts on hypotheses by a grid's table, and add where that comes from to `evidence`.

    Raises:
        FileNotFoundError: There is no table.
        ValueError: It cannot be read, or is not the complete table of the experiment.
    """
    try:
        picked = sources.pick(query_of(grid.name))
        if not picked:
            raise FileNotFoundError(grid.name)
        (content,) = sources.read(picked[0].run, (TABLE,))
    except TrackdlError as error:
        raise ValueError(str(error)) from error
    evidence[grid.name] = SeedEvidence(**asdict(picked[0]), artifacts=[TABLE], formula=FORMULA)
    try:
        fits, impossible = grid_table.read(content)
        grid_table.check_whole(grid, fits, impossible)
        return judge_table(fits, grid, hypotheses)[-1]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{grid.name} has no complete table ({error})") from error


def _words_beside(verdict: HypothesisVerdict, other: HypothesisVerdict, said: str) -> str:
    """Return the verdict of a variant of the grid in a sentence."""
    decision = "the same" if other.decision == verdict.decision else other.decision
    effects = "; ".join(
        f"{one.high} against {one.low} {one.accuracy.mean:+.2f} points "
        f"({one.accuracy.low:+.2f} to {one.accuracy.high:+.2f})"
        for one in other.contrasts
    )
    return f"{said}, our variant) the verdict is {decision}{': ' if effects else ''}{effects}."


def _entry(
    grid: GridSpec,
    hypothesis: Hypothesis,
    words: str,
    evidence: dict[str, SeedEvidence],
    verdict: HypothesisVerdict | None = None,
) -> HypothesisEntry:
    return HypothesisEntry(
        task=grid.name,
        dimension=label(grid.short(hypothesis.dimension)),
        quote=hypothesis.quote,
        verdict=verdict.decision if verdict else None,
        words=words,
        margin=grid.margin,
        contrasts=[_facts(one) for one in verdict.contrasts] if verdict else [],
        evidence=evidence,
    )


def _facts(contrast: Contrast) -> ContrastFacts:
    found, known = contrast.accuracy, contrast.accuracy.high < UNKNOWN
    return ContrastFacts(
        high=str(contrast.high),
        low=str(contrast.low),
        mean=rounded(found.mean),
        least=rounded(found.low) if known else None,
        most=rounded(found.high) if known else None,
    )
