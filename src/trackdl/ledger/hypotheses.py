"""The report's seven hypotheses as the ledger tells them: judged on the grid's committed table, each with a picture."""

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

__all__ = ["judged"]


def judged(experiment: GridSpec, table: Path, padded: GridSpec, padded_table: Path) -> list[HypothesisEntry]:
    """Return the hypotheses with their verdicts; without a whole table, what is missing.

    Args:
        experiment: The protocol of the report's grid, which holds the hypotheses.
        table: That grid's table (`grid_table`).
        padded: The protocol of our grid with padding.
        padded_table: Its table. What it says is judged beside each verdict and decides nothing.
    """
    try:
        verdicts = _judged(experiment, table, experiment.hypotheses)
    except FileNotFoundError:
        return _open(experiment, f"not run yet: {COMMANDS[experiment.task]}")
    except ValueError as error:
        return _open(experiment, f"not judged: {error}")
    try:
        others = _judged(padded, padded_table, experiment.hypotheses)
        beside = [_padded_words(*pair, padded_table.name) for pair in zip(verdicts, others, strict=True)]
    except (FileNotFoundError, ValueError):
        lacking = f"With padding, our variant, it is not judged: {padded_table.name} is no whole table."
        beside = [lacking] * len(verdicts)
    return [
        HypothesisEntry(
            dimension=LABELS[verdict.hypothesis.dimension],
            quote=verdict.hypothesis.quote,
            verdict=verdict.decision,
            words=f"{verdict.words} {words}",
            figure=_inline(plots_grid.effects_chart(verdict.contrasts, experiment.margin, ""))
            if verdict.contrasts
            else "",
        )
        for verdict, words in zip(verdicts, beside, strict=True)
    ]


def _judged(experiment: GridSpec, table: Path, hypotheses: Sequence[Hypothesis]) -> list[HypothesisVerdict]:
    """Return the verdicts on hypotheses by a grid's table.

    Raises:
        FileNotFoundError: There is no table.
        ValueError: It is not the experiment's whole one.
    """
    try:
        fits, impossible = grid_table.read(table)
        grid_table.check_whole(experiment, fits, impossible)
        contrasts = compare(fits, experiment.margin)
        within = compare_within(fits, "activation", experiment.margin)
    except FileNotFoundError:
        raise
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise ValueError(f"{table.name} is no whole grid's table ({error})") from error
    return [judge(one, contrasts, experiment.margin, within) for one in hypotheses]


def _padded_words(verdict: HypothesisVerdict, padded: HypothesisVerdict, table: str) -> str:
    """Return in a sentence what the grid with padding says of a hypothesis."""
    decision = "the same" if padded.decision == verdict.decision else padded.decision
    found = [(f"{one.high} against {one.low}", one.accuracy) for one in padded.contrasts]
    said = "; ".join(f"{values} {by.mean:+.2f} points ({by.low:+.2f} to {by.high:+.2f})" for values, by in found)
    return f"With padding ({table}, our variant) the verdict is {decision}{': ' if said else ''}{said}."


def _open(experiment: GridSpec, words: str) -> list[HypothesisEntry]:
    said = {"verdict": None, "words": words, "figure": ""}
    return [
        HypothesisEntry.model_validate({"dimension": LABELS[one.dimension], "quote": one.quote, **said})
        for one in experiment.hypotheses
    ]


def _inline(figure: Figure) -> str:
    """Return a figure as a data URI; without the date and version that PNG files carry, so that it can be compared."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
