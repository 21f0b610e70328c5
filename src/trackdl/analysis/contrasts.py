"""The effect of each dimension on accuracy and training time, from a grid's table: matched pairs, all else equal.

The table has a row for each configuration and fold, as `grid_table` writes it: `grid`, the seven dimensions, `fold`,
`batch_ms`, and the learning curves from `train_loss_1` to `val_accuracy_10` (accuracies are fractions). A
configuration's score is its last validation accuracy, the mean over the folds, as `GridSearchCV` scores.

**What the intervals are over.** The pairs of a dimension are all pairs in the grid, not a sample of pairs: the mean
over them is the effect in this grid. What is random is what a second run would change: the images that are drawn for
training and validation, and the seed. Both change with the fold and are the same for all configurations within one, so
a thousand pairs in three folds are still three draws. An interval over the pairs would ignore their common part: in
simulations with a common part as large as the seeds', it covers the true effect in 77 % of cases, not 95 %.

**The method.** Each fold gives one mean difference over the pairs. Their variance, inflated after Nadeau and Bengio
(2003) because the folds' training sets overlap, is the error; but with three folds it has two degrees of freedom, and
hardly any effect is decidable. So the variance is built from two parts: the scatter of a contrast's pairs within folds,
known to many degrees of freedom, times a factor for what the folds have in common, which is taken as equal for all
contrasts and estimated from all of them together (the sum of levels less one, each with two degrees of freedom); and it
is never less than the contrast's own variance between folds. The analysis of a blocked factorial pools errors over the
contrasts of one design too; the factor only drops its assumption that blocks do not affect differences.

**Its limits.** In simulations of nine contrasts that share one factor, the intervals cover the true effect in 98 % of
cases and more. In the padded grid, which ran first, the contrasts' own ratios were far apart: from 0.25 to 10 (sigmoid
against relu) when two of its three activations were done. There the interval of the contrast with the largest ratio
covers the true effect in about 90 % of cases, and those with small ratios always: they stay undecided more often than
necessary. The rule was declared before the table and stays; each contrast states its ratio, the factor, and the
interval by its own folds alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from trackdl.analysis.stats import Estimate, corrected_estimate, holm, residual_variance
from trackdl.spec.grid import DIMENSIONS

CONFIDENCE = 0.95
REPORT = "report"  # the grid that is the report's own; any other is ours

Floats = NDArray[np.float64]
Finding = Literal["different", "alike", "open"]


@dataclass(frozen=True)
class Contrast:
    """One value of a dimension against another, all else equal; differences are `high` less `low`.

    Attributes:
        low: The value that is subtracted.
        high: The other value, larger or later in the alphabet.
        ours: Whether it needs configurations outside the report's grid.
        pairs: The number of pairs of configurations.
        ahead: The number of pairs in which `high` scores more.
        accuracy: The difference in points, hundredths of accuracy.
        p_holm: The p-value of no difference, corrected over all contrasts.
        p_equal: The p-value of a difference of at least the margin (two one-sided tests), corrected likewise.
        seconds: The ratio of training times, the geometric mean over the pairs, with an interval over the pairs as a
            sample: a machine that is slow for a while slows all folds of a configuration, so they are no repeats.
        overfitting: The difference in the gap, at the last epoch, of validation loss over training loss. The latter is
            computed with dropout active, so more dropout narrows the gap by that alone.
        alone: `accuracy` by the folds' mean differences alone, nothing pooled (Nadeau and Bengio). No verdict uses it.
        ratio: The variance of accuracy between the folds' means divided by that of the pairs within folds, both per
            pair; None for one pair.
        factor: The mean of all contrasts' ratios, at least 1, by which the variance within folds is multiplied.
        shared: The values that all pairs have in common, by dimension, where the report's grid has several.
    """

    dimension: str
    low: Any
    high: Any
    ours: bool
    pairs: int
    ahead: int
    accuracy: Estimate
    p_holm: float
    p_equal: float
    seconds: Estimate
    overfitting: Estimate
    alone: Estimate
    ratio: float | None
    factor: float
    shared: Mapping[str, Any]

    @property
    def finding(self) -> Finding:
        """What it shows: a difference within the margin is none in practice, even if it is surely not 0."""
        level = 1 - CONFIDENCE
        return "alike" if self.p_equal < level else "different" if self.p_holm < level else "open"


def epochs_of(table: pd.DataFrame) -> int:
    """Return how many epochs the table's histories have.

    Raises:
        ValueError: It has none.
    """
    found = [int(match[1]) for name in table.columns if (match := re.fullmatch(r"val_accuracy_(\d+)", str(name)))]
    if not found:
        raise ValueError("the table has no column val_accuracy_1")
    return max(found)


def matched(table: pd.DataFrame, dimension: str, low: Any, high: Any, values: "pd.Series[float]") -> Floats:
    """Return the differences of `values` in pairs that differ in `dimension` alone, `high` less `low`, [pairs, folds].

    A configuration without its twin is left out; `values` has one for each row of the table.
    """
    differences: Floats = _twins(table, dimension, low, high, values).to_numpy(np.float64)
    return differences


def _twins(table: pd.DataFrame, dimension: str, low: Any, high: Any, values: "pd.Series[float]") -> pd.DataFrame:
    """Return `matched` with a row per pair, indexed by the dimensions that its two have in common."""
    others = [name for name in DIMENSIONS if name != dimension]
    wide = table.assign(_value=values).pivot(index=others, columns=[dimension, "fold"], values="_value")
    twins: pd.DataFrame = (wide[high] - wide[low]).dropna().sort_index(axis=1)
    return twins


def compare(table: pd.DataFrame, margin: float) -> list[Contrast]:
    """Return every contrast that the table holds: all pairs of values of each dimension.

    If the report's grid has a single value of a dimension, its contrasts use our configurations too.

    Args:
        table: A whole table: every configuration has every fold once.
        margin: Points of accuracy; a smaller difference is none in practice.

    Raises:
        ValueError: A fold is missing, occurs twice or has no result; there are fewer than two folds; or the margin is
            not positive.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be positive, got {margin}")
    _check(table)
    last, folds = epochs_of(table), table["fold"].nunique()
    found = _choose(table)
    accuracy, overfitting, seconds = (
        [matched(rows, dimension, low, high, values[rows.index]) for dimension, low, high, rows in found]
        for values in (
            100 * table[f"val_accuracy_{last}"],
            table[f"val_loss_{last}"] - table[f"train_loss_{last}"],
            np.log(table["batch_ms"]),
        )
    )
    levels = {(dimension, value) for dimension, low, high, _ in found for value in (low, high)}
    independent = len(levels) - len({dimension for dimension, _ in levels})
    estimates, gaps = _estimates(accuracy, independent), _estimates(overfitting, independent)
    p_holm = holm([one.p for one, *_ in estimates])
    p_equal = holm([_equivalence(one.mean, error, freedom, margin) for one, error, freedom in estimates])
    ratios, factor = _ratios(accuracy)
    return [
        Contrast(
            dimension,
            low,
            high,
            ours=bool((rows["grid"] != REPORT).any()),
            pairs=len(accuracy[place]),
            ahead=int((accuracy[place].mean(axis=1) > 0).sum()),
            accuracy=estimates[place][0],
            p_holm=p_holm[place],
            p_equal=p_equal[place],
            seconds=_geometric_mean(seconds[place].mean(axis=1)),
            overfitting=gaps[place][0],
            # 1 / (folds - 1): test rows divided by training rows.
            alone=corrected_estimate(accuracy[place].mean(axis=0), 1 / (folds - 1), CONFIDENCE),
            ratio=ratios[place],
            factor=factor,
            shared=_shared(table, rows, dimension, low, high),
        )
        for place, (dimension, low, high, rows) in enumerate(found)
    ]


def compare_within(table: pd.DataFrame, dimension: str, margin: float) -> dict[Any, list[Contrast]]:
    """Return, for each value of a dimension, the contrasts among its configurations alone, as `compare` does.

    The mean over all pairs hides an effect that changes its sign: what helps one activation may harm another.
    Corrections are within each value, so this explores and decides nothing.
    """
    values = sorted(table.loc[table["grid"] == REPORT, dimension].unique().tolist())
    return {value: compare(table[table[dimension] == value], margin) for value in values}


def _check(table: pd.DataFrame) -> None:
    folds = sorted(table["fold"].unique().tolist())
    for cell, rows in table.groupby(["grid", *DIMENSIONS]):
        own = sorted(rows["fold"].tolist())
        if own != folds:
            name = ", ".join(map(str, cell)) if isinstance(cell, tuple) else cell
            raise ValueError(f"the configuration {name} has the folds {own}; each of {folds} is needed once")
    if len(folds) < 2:
        raise ValueError(f"two folds or more are needed; the table's are {folds}")
    if not np.isfinite(table.select_dtypes("number").to_numpy(np.float64)).all():
        raise ValueError("the table has a number that is missing or not finite")


def _choose(table: pd.DataFrame) -> list[tuple[str, Any, Any, pd.DataFrame]]:
    """Return (dimension, low, high, rows to find the pairs among) of every contrast."""
    report = table[table["grid"] == REPORT]
    found = []
    for dimension in DIMENSIONS:
        rows = table if report[dimension].nunique() < 2 else report
        for low, high in combinations(sorted(rows[dimension].unique().tolist()), 2):
            kept = rows[rows[dimension].isin([low, high])]
            if len(matched(kept, dimension, low, high, kept["fold"])):
                found.append((dimension, low, high, kept))
    return found


def _shared(table: pd.DataFrame, rows: pd.DataFrame, dimension: str, low: Any, high: Any) -> dict[str, Any]:
    """Return what all pairs of a contrast have in common, of the dimensions that vary in the report's grid."""
    pairs = _twins(rows, dimension, low, high, rows["fold"]).index.to_frame()
    report = table[table["grid"] == REPORT]
    return {
        name: pairs[name].tolist()[0]
        for name in pairs.columns
        if report[name].nunique() > 1 and pairs[name].nunique() == 1
    }


def _estimates(differences: Sequence[Floats], independent: int) -> list[tuple[Estimate, float, int]]:
    """Return each contrast's estimate, standard error and degrees of freedom, by the module's method.

    `differences` are [pairs, folds]; `independent` is how many of the contrasts are independent of each other.
    """
    _, factor = _ratios(differences)
    found = []
    for one in differences:
        pairs, folds = one.shape
        variance = max(factor * residual_variance(one), _between(one)) / pairs
        error = float(np.sqrt((1 / folds + 1 / (folds - 1)) * variance))
        freedom = independent * (folds - 1)
        found.append((_estimate(float(one.mean()), error, freedom), error, freedom))
    return found


def _ratios(differences: Sequence[Floats]) -> tuple[list[float | None], float]:
    """Return each contrast's `ratio`, and the `factor` of all."""
    ratios = [_between(one) / within if (within := residual_variance(one)) > 0 else None for one in differences]
    known = [ratio for ratio in ratios if ratio is not None]
    return ratios, max(1.0, float(np.mean(known))) if known else 1.0


def _between(differences: Floats) -> float:
    """Return the variance of the folds' means, per pair."""
    return float(len(differences) * differences.mean(axis=0).var(ddof=1))


def _estimate(mean: float, error: float, freedom: int) -> Estimate:
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Estimate(mean, mean - half, mean + half, p)


def _equivalence(mean: float, error: float, freedom: int, margin: float) -> float:
    """Return the p-value of the two one-sided tests (Schuirmann, 1987) that the mean lies within the margin."""
    if not error:
        return float(abs(mean) >= margin)
    return float(t.sf((margin - abs(mean)) / error, freedom))


def _geometric_mean(logarithms: Floats) -> Estimate:
    count = len(logarithms)
    # One pair says nothing about its error: the interval is then infinite.
    error = float(logarithms.std(ddof=1)) / count**0.5 if count > 1 else float("inf")
    found = _estimate(float(logarithms.mean()), error, max(1, count - 1))
    return Estimate(float(np.exp(found.mean)), float(np.exp(found.low)), float(np.exp(min(found.high, 700))), found.p)
