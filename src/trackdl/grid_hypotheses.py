"""The report's seven hypotheses as the ledger tells them: judged on the grid's committed table, each with a picture."""

import base64
import io
from collections import Counter
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from trackdl import plots_grid
from trackdl.contrasts import compare, compare_within
from trackdl.ledger.model import Hypothesis
from trackdl.ledger.recipes import COMMANDS
from trackdl.spec import GridSpec
from trackdl.spec_grid import DIMENSIONS
from trackdl.verdicts import LABELS, judge

__all__ = ["told"]


def told(experiment: GridSpec, table: Path) -> list[Hypothesis]:
    """Return the hypotheses with their verdicts; without a whole table, what is missing.

    Args:
        experiment: The grid's protocol, which holds the hypotheses.
        table: The grid's table (`grid_table`).
    """
    if not table.is_file():
        return _open(experiment, f"not run yet: {COMMANDS[experiment.task]}")
    try:
        rows = pd.read_csv(table)
        _check_whole(experiment, rows)
        contrasts = compare(rows, experiment.margin)
        within = compare_within(rows, "activation", experiment.margin)
    except (ValueError, KeyError, OSError) as error:
        return _open(experiment, f"not judged: {table.name} is no whole grid's table ({error})")
    verdicts = [judge(hypothesis, contrasts, experiment.margin, within) for hypothesis in experiment.hypotheses]
    return [
        Hypothesis(
            dimension=LABELS[verdict.hypothesis.dimension],
            quote=verdict.hypothesis.quote,
            verdict=verdict.decision,
            words=verdict.words,
            figure=_inline(plots_grid.effects_chart(verdict.contrasts, experiment.margin, ""))
            if verdict.contrasts
            else "",
        )
        for verdict in verdicts
    ]


def _check_whole(experiment: GridSpec, rows: pd.DataFrame) -> None:
    """Raise ValueError unless the table has each of the experiment's cells, each fold of it once, and nothing else."""
    wanted = Counter(
        (grid, *(cell[name] for name in DIMENSIONS), fold)
        for grid in experiment.grids
        for cell in experiment.cells(grid)
        for fold in range(experiment.folds)
    )
    found = Counter(rows[["grid", *DIMENSIONS, "fold"]].itertuples(index=False, name=None))
    lacking, foreign = wanted - found, found - wanted
    if lacking or foreign:
        words = ", ".join(map(str, next(iter(lacking or foreign))))
        raise ValueError(
            f"of the experiment's fits {lacking.total()} are missing, and {foreign.total()} are none of them; "
            f"the first is {words}"
        )


def _open(experiment: GridSpec, words: str) -> list[Hypothesis]:
    said = {"verdict": None, "words": words, "figure": ""}
    return [
        Hypothesis.model_validate({"dimension": LABELS[one.dimension], "quote": one.quote, **said})
        for one in experiment.hypotheses
    ]


def _inline(figure: Figure) -> str:
    """Return a figure as a data URI; without the date and version that PNG files carry, so that it can be compared."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
