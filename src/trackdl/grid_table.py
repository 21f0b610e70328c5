"""The grid's table: a row for each fold of each configuration, as it stands in `experiments/results/grid.csv`."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from trackdl.spec_grid import DIMENSIONS

__all__ = ["best_cells", "fold_rows", "scores"]

HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


def fold_rows(
    grid: str, cell: dict[str, Any], folds: dict[int, dict[str, Any]], batch_ms: float
) -> Iterable[dict[str, Any]]:
    """Return a finished cell's rows: its grid and parameters, then each fold's result, each epoch a column.

    Args:
        grid: Which of the experiment's grids.
        cell: The parameters.
        folds: `crossfit.FoldResult` of each fold, as JSON values.
        batch_ms: What a training step takes, timed beside the other cells: `grid_after.time_cells`.
    """
    for fold, result in sorted(folds.items()):
        kept = {key: result[key] for key in ("seed", "precision", "parameters")}
        times = {key: round(result[key], 3) for key in ("fit_seconds", "cpu_seconds", "seconds")}
        times["batch_ms"] = round(batch_ms, 3)
        course = {
            f"{name}_{epoch}": value for name in HISTORY for epoch, value in enumerate(result["history"][name], 1)
        }
        yield {"grid": grid, **{name: cell[name] for name in DIMENSIONS}, "fold": fold, **kept, **times, **course}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a configuration: its score, the mean of its folds' last validation accuracy, as GridSearchCV scores.

    Columns: grid, the seven dimensions, parameters, score, spread (the folds' standard deviation), batch_ms.
    """
    last = table.filter(regex=r"^val_accuracy_\d+$").columns[-1]
    groups = table.groupby(["grid", *DIMENSIONS], sort=False)
    return groups.agg(
        parameters=("parameters", "first"),
        score=(last, "mean"),
        spread=(last, "std"),
        batch_ms=("batch_ms", "first"),
    ).reset_index()


def best_cells(table: pd.DataFrame, grid: str) -> pd.DataFrame:
    """Return the configurations of one grid, the best score first; of equals the one that stands first."""
    of_grid = scores(table[table.grid == grid])
    return of_grid.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)
