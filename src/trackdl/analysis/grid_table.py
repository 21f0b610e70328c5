"""The grid's table, the format of `experiments/results/grid.csv`: a row for each fit of each configuration.

A fit's number is in the column `fold`: of the fold that it is judged on, or of its seed. Its history has a column for
each metric and epoch, from `train_loss_1` to `val_accuracy_10`, or `test_accuracy_10` if it is judged on the test
images; they are empty after its last epoch. All other columns are those of `COLUMNS` and the dimensions.

Combinations that cannot be built as a network follow, a row each: the grid, the dimensions, and the reason in the
column `impossible`, which is empty for fits.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trackdl.spec.grid import COLUMNS, TIMES, GridSpec

HISTORY = re.compile(r"((train|val|test)_(loss|accuracy)(_dropout)?)_(\d+)")
IMPOSSIBLE = "impossible"
# Columns of whole numbers, which are empty for an impossible combination.
WHOLE = ("fold", "seed", "parameters")


def dimensions(table: pd.DataFrame) -> list[str]:
    """Return the dimensions of a table, in its order."""
    return [name for name in table.columns if name not in (*COLUMNS, *TIMES) and not HISTORY.fullmatch(name)]


def history(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a metric's columns, by epoch; `held_loss` and `held_accuracy` are those that judge.

    Raises:
        ValueError: The table has none.
    """
    for part in ("val", "test") if metric.startswith("held_") else ("",):
        name = metric.replace("held", part)
        matches = [match for column in table.columns if (match := HISTORY.fullmatch(column)) and match[1] == name]
        if matches:
            epochs = sorted(int(match[5]) for match in matches)
            return table[[f"{name}_{epoch}" for epoch in epochs]].set_axis(epochs, axis=1)
    raise ValueError(f"the table has no column {metric.replace('held', 'val')}_1")


def last(table: pd.DataFrame, metric: str) -> "pd.Series[float]":
    """Return a metric of each fit after its own last epoch; `metric` is one of `history`'s."""
    return history(table, metric).ffill(axis=1).iloc[:, -1]


def cost(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the processor time of each whole fit, up to a factor that all of them share."""
    times: pd.Series[float] = table["batch_ms"] * table.get("epochs", 1) / table.get("batch_size", 1)
    return times


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
    """Read the fits, and the impossible combinations: their grid, dimensions, and reason in the column `impossible`.

    Older tables have no such column.

    Raises:
        ValueError, TypeError, KeyError: It is not such a table.
    """
    source = io.BytesIO(table) if isinstance(table, bytes) else table
    # A dimension's value may be a word like "None".
    frame = pd.read_csv(source, dtype=dict.fromkeys(WHOLE, "Int64"), keep_default_na=False, na_values=[""])
    if IMPOSSIBLE not in frame:
        frame[IMPOSSIBLE] = None
    is_fit = frame[IMPOSSIBLE].isna()
    fits = frame[is_fit].drop(columns=IMPOSSIBLE)
    fits = fits.astype({name: "int64" for name in WHOLE if name in fits})
    return fits.reset_index(drop=True), frame.loc[~is_fit, [*_cell(frame), IMPOSSIBLE]].reset_index(drop=True)


def check_whole(experiment: GridSpec, fits: pd.DataFrame, impossible: pd.DataFrame) -> None:
    """Check that a table, as `read` returned it, has exactly the experiment's rows.

    Raises:
        ValueError: A fold of a configuration is missing or occurs twice, an impossible combination is missing or has
            another reason, or the experiment has no such row.
    """
    names = ["grid", *experiment.names]
    if set(names) != {*_cell(fits)}:
        raise ValueError(f"its dimensions are {', '.join(dimensions(fits))}, and not {', '.join(experiment.names)}")
    wanted: Counter[tuple[Any, ...]] = Counter(
        _row(grid, *(cell[name] for name in experiment.names), end)
        for grid in experiment.grids
        for cell, end in [
            *((cell, fold) for cell in experiment.cells(grid) for fold in range(experiment.fits)),
            *experiment.impossible(grid),
        ]
    )
    found: Counter[tuple[Any, ...]] = Counter(_row(*row) for row in _rows(fits, [*names, "fold"]))
    found += Counter(_row(*row) for row in _rows(impossible, [*names, IMPOSSIBLE]))
    lacking, foreign = wanted - found, found - wanted
    if lacking or foreign:
        first = next(iter(lacking or foreign))
        words = ", ".join(f"{value:g}" if isinstance(value, float) else value for value in first)
        raise ValueError(f"{lacking.total()} rows are missing, and {foreign.total()} are unknown; the first is {words}")


def _cell(table: pd.DataFrame) -> list[str]:
    return ["grid", *dimensions(table)]


def _rows(table: pd.DataFrame, names: list[str]) -> Iterable[tuple[Any, ...]]:
    return table[names].itertuples(index=False, name=None)


def _row(*values: Any) -> tuple[Any, ...]:
    return tuple(map(plain, values))


def plain(value: Any) -> str | float:
    """Return a value so that it compares with what a CSV file makes of it: beside words, numbers are words there."""
    if isinstance(value, bool):
        return str(value)
    try:
        return float(value)
    except ValueError:
        return str(value)


def cell_of(cells: Iterable[dict[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cell that has the values, which may come from a table."""
    return next(cell for cell in cells if all(plain(values[name]) == plain(value) for name, value in cell.items()))


def fold_rows(
    grid: str, cell: dict[str, Any], folds: dict[int, dict[str, Any]], batch_ms: float | None = None
) -> Iterable[dict[str, Any]]:
    """Yield a finished cell's rows, one per fit: its grid, parameters and results, with a column per epoch.

    `folds` are `fits.FoldResult` of each fit, as JSON values; `batch_ms`, if known, is from `measurements.time_cells`.
    """
    for fold, result in sorted(folds.items()):
        kept = {key: result[key] for key in ("seed", "precision", "parameters")}
        times = {key: round(result[key], 3) for key in ("fit_seconds", "cpu_seconds", "seconds")}
        times |= {} if batch_ms is None else {"batch_ms": round(batch_ms, 3)}
        curves = {
            f"{name}_{epoch}": value
            for name, values in result["history"].items()
            for epoch, value in enumerate(values, 1)
        }
        yield {"grid": grid, **cell, "fold": fold, **kept, **times, **curves}


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per configuration; its score is its fits' mean last judged accuracy, as in GridSearchCV.

    Columns: grid, the dimensions, parameters, score, spread (the fits' standard deviation), batch_ms, cost.
    """
    parts = {"_last": last(table, "held_accuracy"), "_cost": cost(table)}
    groups = table.assign(**parts).groupby(_cell(table), sort=False)
    return groups.agg(
        parameters=("parameters", "first"),
        score=("_last", "mean"),
        spread=("_last", "std"),
        batch_ms=("batch_ms", "first"),
        cost=("_cost", "first"),
    ).reset_index()


def best_cells(table: pd.DataFrame, grid: str) -> pd.DataFrame:
    """Return the configurations of one grid by falling score; equals stay in the table's order."""
    of_grid = scores(table[table.grid == grid])
    return of_grid.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)


def is_cell(found: pd.DataFrame, cell: Mapping[str, Any] | None) -> NDArray[np.bool_]:
    """Return which rows are of a cell; none without one."""
    if cell is None:
        return np.zeros(len(found), dtype=bool)
    same: NDArray[np.bool_] = np.logical_and.reduce(
        [found[name].map(plain).to_numpy() == plain(value) for name, value in cell.items()]
    )
    return same
