"""The effect of each dimension on accuracy and training time, from a grid's table: matched pairs, all else equal.

The table has a row for each configuration and fold, as `grid_table` writes it. A configuration's score is its last
validation accuracy, the mean over the folds, as `GridSearchCV` scores. Where it was trained from several seeds, they
take the folds' place; from one, nothing is known of errors: intervals are infinite, and no contrast is decidable.

**What the intervals are over.** The pairs are all in the grid, not a sample: the mean over them is the effect in this
grid. What is random is what a second run would change: the images that are drawn, and the seed. Both change with the
fold and are the same for all configurations within one, so a thousand pairs in three folds are still three draws. An
interval over pairs would cover the true effect in 77 % of cases, in simulations, not in 95 %.

**The method.** Each fold gives one mean difference over the pairs. Their variance, inflated after Nadeau and Bengio
(2003) because the folds' training sets overlap, is the error; but three folds leave it two degrees of freedom, and
hardly any effect is decidable. So the variance is the scatter of a contrast's pairs within folds, known to many degrees
of freedom, times a factor for what the folds have in common, which is estimated from all contrasts together; and it is
never less than the contrast's own variance between folds.

**Its limits.** In simulations of contrasts that share one factor, the intervals cover the true effect in 98 % of cases
and more. In the padded grid, which ran first, the contrasts' own ratios were from 0.25 to 10. There the interval of the
contrast with the largest covers it in about 90 % of cases, and those with small ones always. The rule was declared
before the table and stays; each contrast states its ratio, the factor, and the interval by its own folds alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from trackdl.analysis.grid_table import cost, dimensions, history, last
from trackdl.analysis.stats import CONFIDENCE, Estimate, corrected_estimate, holm, residual_variance, t_estimate
from trackdl.spec.grid import REPORT

MOST = 20  # values of a dimension of which each is compared with each; of more, only with the next

Floats = NDArray[np.float64]
Finding = Literal["different", "alike", "open"]


@dataclass(frozen=True)
class Contrast:
    """One value of a dimension against another, all else equal; differences are `high` less `low`.

    Attributes:
        high: The larger value, or the later in the alphabet.
        ours: Whether it needs configurations outside the report's grid.
        ahead: In how many of the pairs of configurations `high` scores more.
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
        """What it shows: a difference within the margin is none in practice, even if it is significant."""
        level = 1 - CONFIDENCE
        return "alike" if self.p_equal < level else "different" if self.p_holm < level else "open"


def matched(table: pd.DataFrame, dimension: str, low: Any, high: Any, values: "pd.Series[float]") -> Floats:
    """Return the differences of `values` in pairs that differ in `dimension` alone, `high` less `low`, [pairs, folds].

    A configuration without its twin is left out; `values` has one for each row of the table.
    """
    differences: Floats = _twins(table, dimension, low, high, values).to_numpy(np.float64)
    return differences


def _twins(table: pd.DataFrame, dimension: str, low: Any, high: Any, values: "pd.Series[float]") -> pd.DataFrame:
    """Return `matched` with a row per pair, indexed by the dimensions that its two have in common."""
    others = [name for name in dimensions(table) if name != dimension] or [""]
    wide = table.assign(_value=values, **{"": 0}).pivot(index=others, columns=[dimension, "fold"], values="_value")
    twins: pd.DataFrame = (wide[high] - wide[low]).dropna().sort_index(axis=1)
    return twins


def compare(table: pd.DataFrame, margin: float) -> list[Contrast]:
    """Return every contrast that a whole table holds: all pairs of values of each dimension.

    If the report's grid has a single value of a dimension, its contrasts use our configurations too. A difference of
    less than `margin`, in points of accuracy, is none in practice.

    Raises:
        ValueError: A fold is missing, occurs twice or has no result; or the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be positive, got {margin}")
    _check(table)
    folds = table["fold"].nunique()
    found = _choose(table)
    accuracy, overfitting, seconds = (
        [matched(rows, dimension, low, high, values[rows.index]) for dimension, low, high, rows in found]
        for values in (
            100 * last(table, "held_accuracy"),
            last(table, "held_loss") - last(table, "train_loss"),
            cost(table).map(math.log),
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
            alone=corrected_estimate(accuracy[place].mean(axis=0), 1 / (folds - 1))
            if folds > 1
            else estimates[place][0],
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
    for cell, rows in table.groupby(["grid", *dimensions(table)]):
        own = sorted(rows["fold"].tolist())
        if own != folds:
            name = ", ".join(map(str, cell)) if isinstance(cell, tuple) else cell
            raise ValueError(f"the configuration {name} has the folds {own}; each of {folds} is needed once")
    curves = [history(table, name) for name in ("train_loss", "train_accuracy", "held_loss", "held_accuracy")]
    ends = [curve.notna() for curve in curves]
    # Epochs may be a dimension: after a fit's last one its columns are empty.
    whole = all(one.equals(ends[0]) and one[1].all() and (one.cummin(axis=1) == one).all(axis=None) for one in ends)
    finite = np.isfinite(np.hstack([curve.fillna(0).to_numpy(np.float64) for curve in curves])).all()
    if not (whole and finite and np.isfinite(table["batch_ms"].to_numpy(np.float64)).all()):
        raise ValueError("the table has a number that is missing or not finite")


def _choose(table: pd.DataFrame) -> list[tuple[str, Any, Any, pd.DataFrame]]:
    """Return (dimension, low, high, rows to find the pairs among) of every contrast."""
    report = table[table["grid"] == REPORT]
    found = []
    for dimension in dimensions(table):
        rows = table if report[dimension].nunique() < 2 else report
        values = sorted(rows[dimension].unique().tolist())
        for low, high in combinations(values, 2) if len(values) <= MOST else pairwise(values):
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
        if name and report[name].nunique() > 1 and pairs[name].nunique() == 1
    }


def _estimates(differences: Sequence[Floats], independent: int) -> list[tuple[Estimate, float, int]]:
    """Return each contrast's estimate, standard error and degrees of freedom, by the module's method.

    `differences` are [pairs, folds]; `independent` is how many of the contrasts are independent of each other.
    """
    _, factor = _ratios(differences)
    found = []
    for one in differences:
        pairs, folds = one.shape
        if folds < 2:
            mean = float(one.mean())
            found.append((Estimate(mean, -math.inf, math.inf, 1.0), math.inf, 1))
            continue
        variance = max(factor * residual_variance(one), _between(one)) / pairs
        error = float(np.sqrt((1 / folds + 1 / (folds - 1)) * variance))
        freedom = independent * (folds - 1)
        found.append((t_estimate(float(one.mean()), error, freedom), error, freedom))
    return found


def _ratios(differences: Sequence[Floats]) -> tuple[list[float | None], float]:
    """Return each contrast's `ratio`, and the `factor` of all."""
    ratios = [
        _between(one) / within if one.shape[1] > 1 and (within := residual_variance(one)) > 0 else None
        for one in differences
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    return ratios, max(1.0, float(np.mean(known))) if known else 1.0


def _between(differences: Floats) -> float:
    """Return the variance of the folds' means, per pair."""
    return float(len(differences) * differences.mean(axis=0).var(ddof=1))


def _equivalence(mean: float, error: float, freedom: int, margin: float) -> float:
    """Return the p-value of the two one-sided tests (Schuirmann, 1987) that the mean lies within the margin."""
    if not error or math.isinf(error):
        return float(math.isinf(error) or abs(mean) >= margin)
    return float(t.sf((margin - abs(mean)) / error, freedom))


def _geometric_mean(logarithms: Floats) -> Estimate:
    count = len(logarithms)
    # One pair says nothing about its error: the interval is then infinite.
    error = float(logarithms.std(ddof=1)) / count**0.5 if count > 1 else float("inf")
    found = t_estimate(float(logarithms.mean()), error, max(1, count - 1))
    with np.errstate(over="ignore"):
        mean, low, high = np.exp([found.mean, found.low, found.high]).tolist()
    return Estimate(mean, low, high, found.p)
