"""The report's seven hypotheses in the ledger: judged on the grid's committed table, each with a figure."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from trackdl.analysis import grid_table
from trackdl.analysis.contrasts import compare, compare_within
from trackdl.analysis.hypotheses import LABELS, HypothesisVerdict, judge
from trackdl.ledger.model import HypothesisEntry
from trackdl.ledger.recipes import COMMANDS
from trackdl.plots import grid as plots_grid
from trackdl.spec import GridSpec
from trackdl.spec.hypotheses import Hypothesis


def judged(experiment: GridSpec, table: Path, padded: GridSpec, padded_table: Path) -> list[HypothesisEntry]:
    """Return the hypotheses with their verdicts, or open ones that say what is missing if the table is not complete.

    Args:
        experiment: The protocol of the report's grid, which holds the hypotheses.
        table: That grid's table (`grid_table`).
        padded: The protocol of our grid with padding.
        padded_table: Its table. Its verdicts are added to the words and decide nothing.
    """
    try:
        verdicts = _judged(experiment, table, experiment.hypotheses)
    except FileNotFoundError:
        return _open(experiment, f"not run yet: {COMMANDS[experiment.task]}")
    except ValueError as error:
        return _open(experiment, f"not judged: {error}")
    try:
        others = _judged(padded, padded_table, experiment.hypotheses)
        with_padding = [_padded_words(*pair, padded_table.name) for pair in zip(verdicts, others, strict=True)]
    except (FileNotFoundError, ValueError):
        lacking = f"With padding, our variant, it is not judged: {padded_table.name} is not a complete table."
        with_padding = [lacking] * len(verdicts)
    return [
        HypothesisEntry(
            dimension=LABELS[verdict.hypothesis.dimension],
            quote=verdict.hypothesis.quote,
            verdict=verdict.decision,
            words=f"{verdict.words} {words}",
            margin=experiment.margin,
            figure=_inline(plots_grid.effects_chart(verdict.contrasts, experiment.margin, ""))
            if verdict.contrasts
            else "",
        )
        for verdict, words in zip(verdicts, with_padding, strict=True)
    ]


def _judged(experiment: GridSpec, table: Path, hypotheses: Sequence[Hypothesis]) -> list[HypothesisVerdict]:
    """Return the verdicts on hypotheses by a grid's table.

    Raises:
        FileNotFoundError: There is no table.
        ValueError: It is not the complete table of the experiment.
    """
    try:
        fits, impossible = grid_table.read(table)
        grid_table.check_whole(experiment, fits, impossible)
        contrasts = compare(fits, experiment.margin)
        within = compare_within(fits, "activation", experiment.margin)
    except FileNotFoundError:
        raise
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{table.name} is not the complete table of a grid ({error})") from error
    return [judge(one, contrasts, experiment.margin, within) for one in hypotheses]


def _padded_words(verdict: HypothesisVerdict, padded: HypothesisVerdict, table: str) -> str:
    """Return the verdict of the grid with padding in a sentence."""
    decision = "the same" if padded.decision == verdict.decision else padded.decision
    effects = "; ".join(
        f"{one.high} against {one.low} {one.accuracy.mean:+.2f} points "
        f"({one.accuracy.low:+.2f} to {one.accuracy.high:+.2f})"
        for one in padded.contrasts
    )
    return f"With padding ({table}, our variant) the verdict is {decision}{': ' if effects else ''}{effects}."


def _open(experiment: GridSpec, words: str) -> list[HypothesisEntry]:
    return [
        HypothesisEntry(
            dimension=LABELS[one.dimension],
            quote=one.quote,
            verdict=None,
            words=words,
            margin=experiment.margin,
            figure="",
        )
        for one in experiment.hypotheses
    ]


def _inline(figure: Figure) -> str:
    """Return a figure as a data URI without the version that PNG files carry, so that the bytes can be compared."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
