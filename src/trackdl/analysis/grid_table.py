"""The grid's table, the format of `experiments/results/grid.csv`: a row for each fold of each configuration.

Combinations that cannot be built as a network follow, a row each: the grid, the seven dimensions, and the reason in the
column `impossible`, which is empty for fits.
"""

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from trackdl.spec.grid import DIMENSIONS, GridSpec

HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
IMPOSSIBLE = "impossible"
CELL = ["grid", *DIMENSIONS]
# Columns of whole numbers, which are empty for an impossible combination.
WHOLE = ("fold", "seed", "parameters")


def to_csv(experiment: GridSpec, fits: pd.DataFrame) -> str:
    """Return the whole table as CSV: the fits, then the experiment's impossible combinations."""
    columns = [*fits.columns, IMPOSSIBLE]
    reasons = [
        {"grid": grid, **cell, IMPOSSIBLE: reason}
        for grid in experiment.grids
        for cell, reason in experiment.impossible(grid)
    ]
    rows = pd.DataFrame(reasons, columns=columns)
    head = fits.assign(impossible="").to_csv(index=False, lineterminator="\n")
    return head + rows.to_csv(index=False, header=False, lineterminator="\n")


def read(table: Path | bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table; older ones have no column `impossible`.

    Args:
        table: The file, or its content.

    Returns:
        The fits, without the column `impossible`; and the impossible combinations: grid, dimensions, `impossible`.

    Raises:
        ValueError, TypeError, KeyError: It is not such a table.
    """
    source = io.BytesIO(table) if isinstance(table, bytes) else table
    frame = pd.read_csv(source, dtype=dict.fromkeys(WHOLE, "Int64"))
    if IMPOSSIBLE not in frame:
        frame[IMPOSSIBLE] = None
    is_fit = frame[IMPOSSIBLE].isna()
    fits = frame[is_fit].drop(columns=IMPOSSIBLE)
    fits = fits.astype({name: "int64" for name in WHOLE if name in fits})
    return fits.reset_index(drop=True), frame.loc[~is_fit, [*CELL, IMPOSSIBLE]].reset_index(drop=True)


def check_whole(experiment: GridSpec, fits: pd.DataFrame, impossible: pd.DataFrame) -> None:
    """Check that a table, as `read` returned it, has exactly the experiment's rows.

    Raises:
        ValueError: A fold of a configuration is missing or occurs twice, an impossible combination is missing or has
            another reason, or the experiment has no such row.
    """
    wanted: Counter[tuple[Any, ...]] = Counter(
        (grid, *(cell[name] for name in DIMENSIONS), last)
        for grid in experiment.grids
        for cell, last in [
            *((cell, fold) for cell in experiment.cells(grid) for fold in range(experiment.folds)),
            *experiment.impossible(grid),
        ]
    )
    found: Counter[tuple[Any, ...]] = Counter(fits[[*CELL, "fold"]].itertuples(index=False, name=None))
    found += Counter(impossible[[*CELL, IMPOSSIBLE]].itertuples(index=False, name=None))
    lacking, foreign = wanted - found, found - wanted
    if lacking or foreign:
        words = ", ".join(map(str, next(iter(lacking or foreign))))
        raise ValueError(f"{lacking.total()} rows are missing, and {foreign.total()} are unknown; the first is {words}")


def fold_rows(
    grid: str, cell: dict[str, Any], folds: dict[int, dict[str, Any]], batch_ms: float
) -> Iterable[dict[str, Any]]:
    """Yield a finished cell's rows, one per fold: its grid, parameters and results, with a column per epoch.

    Args:
        grid: The name of one of the experiment's grids.
        cell: The parameters.
        folds: `fits.FoldResult` of each fold, as JSON values.
        batch_ms: Milliseconds per training step, from `measurements.time_cells`.
    """
    for fold, result in sorted(folds.items()):
        kept = {key: result[key] for key in ("seed", "precision", "parameters")}
        times = {key: round(result[key], 3) for key in ("fit_seconds", "cpu_seconds", "seconds")}
        times["batch_ms"] = round(batch_ms, 3)
        curves = {
            f"{name}_{epoch}": value for name in HISTORY for epoch, value in enumerate(result["history"][name], 1)
        }
        yield {"grid": grid, **{name: cell[name] for name in DIMENSIONS}, "fold": fold, **kept, **times, **curves}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per configuration; its score is its folds' mean last validation accuracy, as in GridSearchCV.

    Columns: grid, the seven dimensions, parameters, score, spread (the folds' standard deviation), batch_ms.
    """
    last = table.filter(regex=r"^val_accuracy_\d+$").columns[-1]
    groups = table.groupby(CELL, sort=False)
    return groups.agg(
        parameters=("parameters", "first"),
        score=(last, "mean"),
        spread=(last, "std"),
        batch_ms=("batch_ms", "first"),
    ).reset_index()


def best_cells(table: pd.DataFrame, grid: str) -> pd.DataFrame:
    """Return the configurations of one grid by falling score; equals stay in the table's order."""
    of_grid = scores(table[table.grid == grid])
    return of_grid.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
