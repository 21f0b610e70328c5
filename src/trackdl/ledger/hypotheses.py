"""The report's hypotheses in the ledger: judged on the tables of its grids, each with a figure."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from matplotlib.figure import Figure

from trackdl.analysis import grid_table
from trackdl.analysis.hypotheses import HypothesisVerdict, judge_table, label
from trackdl.errors import TrackdlError
from trackdl.ledger.folder import TABLE, command_of
from trackdl.ledger.model import HypothesisEntry, SeedEvidence
from trackdl.ledger.sources import FigureQuery, Sources
from trackdl.plots import grid as plots_grid
from trackdl.spec import Experiment, GridSpec
from trackdl.spec.hypotheses import Hypothesis
from trackdl.spec.ledger import Beside

FORMULA = "verdicts on hypotheses"


def judged(
    experiments: Mapping[str, Experiment], beside: Mapping[str, Beside], sources: Sources
) -> list[HypothesisEntry]:
    """Return the hypotheses of all grids with their verdicts; open ones, that say why, if a grid has no whole table.

    Args:
        experiments: The report's, by name.
        beside: Grids of ours whose verdicts are added to the words of others, and decide nothing; by their names.
        sources: Where the tables come from.
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
        verdicts = _judged(grid, _table(grid, sources, evidence), grid.hypotheses)
    except FileNotFoundError:
        why = sources.lacking.get(query_of(grid.name).key) or f"not run yet: `{command_of(grid)}`"
        return _open(grid, why, evidence)
    except ValueError as error:
        return _open(grid, f"not judged: {error}", evidence)
    words = [verdict.words for verdict in verdicts]
    for other, said in others:
        try:
            found = _judged(other, _table(other, sources, evidence), grid.hypotheses)
            more = [_words_beside(*pair, f"{said} ({other.name}") for pair in zip(verdicts, found, strict=True)]
        except (FileNotFoundError, ValueError):
            more = [f"{said}, our variant, it is not judged: {other.name} has no complete table."] * len(verdicts)
        words = [" ".join(pair) for pair in zip(words, more, strict=True)]
    return [
        HypothesisEntry(
            task=grid.name,
            dimension=label(verdict.hypothesis.dimension),
            quote=verdict.hypothesis.quote,
            verdict=verdict.decision,
            words=said,
            margin=grid.margin,
            figure=_inline(plots_grid.effects_chart(verdict.contrasts, grid.margin, "")) if verdict.contrasts else "",
            evidence=evidence,
        )
        for verdict, said in zip(verdicts, words, strict=True)
    ]


def query_of(grid: str) -> FigureQuery:
    """Return the query for a grid's table."""
    return FigureQuery(f"{grid}, its hypotheses", grid, "grid", "networks", None)


def _table(grid: GridSpec, sources: Sources, evidence: dict[str, SeedEvidence]) -> bytes:
    """Return a grid's table, and add where it comes from to `evidence`.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be read.
    """
    try:
        picked = sources.pick(query_of(grid.name))
        if not picked:
            raise FileNotFoundError(grid.name)
        (content,) = sources.read(picked[0].run, (TABLE,))
    except TrackdlError as error:
        raise ValueError(str(error)) from error
    evidence[grid.name] = SeedEvidence(**asdict(picked[0]), artifacts=[TABLE], formula=FORMULA)
    return content


def _judged(experiment: GridSpec, table: bytes, hypotheses: Sequence[Hypothesis]) -> list[HypothesisVerdict]:
    """Return the verdicts on hypotheses by a grid's table.

    Raises:
        ValueError: It is not the complete table of the experiment.
    """
    try:
        fits, impossible = grid_table.read(table)
        grid_table.check_whole(experiment, fits, impossible)
        return judge_table(fits, experiment, hypotheses)[-1]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{experiment.name} has no complete table ({error})") from error


def _words_beside(verdict: HypothesisVerdict, other: HypothesisVerdict, said: str) -> str:
    """Return the verdict of a variant of the grid in a sentence."""
    decision = "the same" if other.decision == verdict.decision else other.decision
    effects = "; ".join(
        f"{one.high} against {one.low} {one.accuracy.mean:+.2f} points "
        f"({one.accuracy.low:+.2f} to {one.accuracy.high:+.2f})"
        for one in other.contrasts
    )
    return f"{said}, our variant) the verdict is {decision}{': ' if effects else ''}{effects}."


def _open(grid: GridSpec, words: str, evidence: dict[str, SeedEvidence]) -> list[HypothesisEntry]:
    return [
        HypothesisEntry(
            task=grid.name,
            dimension=label(grid.short(one.dimension)),
            quote=one.quote,
            verdict=None,
            words=words,
            margin=grid.margin,
            figure="",
            evidence=evidence,
        )
        for one in grid.hypotheses
    ]


def _inline(figure: Figure) -> str:
    """Return a figure as a data URI without the version that PNG files carry, so that the bytes can be compared."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
