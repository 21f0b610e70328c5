"""What each dimension does to accuracy and training time, from a grid's table: matched pairs, all else equal.

The table has a row for each configuration and fold, as `grid_table` makes it: `grid`, the seven dimensions, `fold`,
`batch_ms`, and the curves from `train_loss_1` to `val_accuracy_10` (accuracies are fractions). A configuration's
score is its last validation accuracy, the mean over the folds, as `GridSearchCV` scores.

**Of what the intervals speak.** The pairs of a dimension are all pairs that the grid has, and no sample of others: the
mean over them is the effect in this grid. What is random is what would change if it were run again: the pictures that
are drawn to learn from and to be judged on, and the seed. Both change with the fold and are the same for all
configurations within one, so a thousand pairs in three folds are still three draws. An interval over the pairs
would miss what they have in common: by simulation, with a common part as large as the seeds', it holds the truth in 77
of 100 cases, not 95.

**How.** Each fold gives one mean difference over the pairs. Their variance, inflated after Nadeau and Bengio (2003)
because the folds' training sets overlap, is the error; but of three folds it has two degrees of freedom, and then
hardly any effect is decidable. So the variance is built from two parts: the scatter of a contrast's pairs within
folds, known to many degrees of freedom, times a factor for what the folds have in common, taken as one for all
contrasts and estimated from all of them together (the sum of levels less one, each with two degrees of freedom); and it
is never less than the contrast's own variance between folds. Pooling errors over the contrasts of one design is what
the analysis of a blocked factorial does; the factor only drops its assumption that blocks leave differences alone.

**Where that fails.** By simulation of nine contrasts the intervals hold the truth in 98 of 100 cases and more where one
factor does hold for all. In the padded grid, which ran first, the contrasts' own ratios lie far apart: from 0.25 to 10
(sigmoid against relu) when two of its three activations were done. Among such the interval of the largest holds the
truth in about 90 of 100 cases, and those of the small ones always: they stay undecided more often than they need. The
rule was declared before the table and stays; each contrast tells its ratio, the factor, and what its own folds alone
say.
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

from trackdl.analysis.stats import Estimate, corrected_estimate, holm
from trackdl.spec.grid import DIMENSIONS

__all__ = ["CONFIDENCE", "REPORT", "Contrast", "compare", "compare_within", "epochs_of", "matched"]

CONFIDENCE = 0.95
REPORT = "report"  # the grid that is the report's own; any other is ours

Floats = NDArray[np.float64]
Finding = Literal["different", "alike", "open"]


@dataclass(frozen=True)
class Contrast:
    """One value of a dimension against another, all else equal; differences are `high` less `low`.

    Attributes:
        dimension: Its name.
        low: The value that is compared with.
        high: The other, larger or later in the alphabet.
        ours: Whether it needs configurations that the report's grid has not.
        pairs: Pairs of configurations.
        ahead: Pairs in which `high` scores more.
        accuracy: The difference in points, hundredths of accuracy.
        p_holm: Of no difference, corrected over all contrasts.
        p_equal: Of a difference of the margin or more, either way (two one-sided tests), corrected likewise.
        seconds: The ratio of processor seconds, the geometric mean over the pairs, and its interval, which is of the
            pairs as a sample: a slow quarter of an hour slows all folds of a configuration, so they are no repeats.
        overfitting: The difference in the gap, at the last epoch, of validation loss over training loss. The latter is
            taken in training mode, with dropout at work, so more dropout narrows the gap by that alone.
        alone: `accuracy` by the folds' mean differences alone, nothing pooled (Nadeau and Bengio). No verdict uses it.
        ratio: Of accuracy, the variance of the folds' means by that of the pairs within folds, a pair's share of each;
            None for one pair.
        factor: The mean of all contrasts' ratios, at least 1: what the pairs' variance is taken times.
        shared: What all pairs have in common though the report's grid has several values of it, by dimension.
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
        """What it shows: a difference that lies within the margin is none in practice, even if it is surely not 0."""
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
    """Return the differences of matched pairs, `high` less `low`, [pairs, folds]; what has no twin is left out.

    Args:
        table: The grid's, or part of it.
        dimension: The one in which the two of a pair differ.
        low: Its value that is subtracted.
        high: Its other value.
        values: What is compared, for each row of the table.
    """
    found: Floats = _twins(table, dimension, low, high, values).to_numpy(np.float64)
    return found


def _twins(table: pd.DataFrame, dimension: str, low: Any, high: Any, values: "pd.Series[float]") -> pd.DataFrame:
    """Return `matched`, a row a pair, known by what its two have in common."""
    others = [name for name in DIMENSIONS if name != dimension]
    wide = table.assign(_value=values).pivot(index=others, columns=[dimension, "fold"], values="_value")
    found: pd.DataFrame = (wide[high] - wide[low]).dropna().sort_index(axis=1)
    return found


def compare(table: pd.DataFrame, margin: float) -> list[Contrast]:
    """Return every contrast that the table holds: all pairs of values of each dimension.

    A dimension with one value in the report's grid is compared with the help of ours.

    Args:
        table: Whole: every configuration has every fold once.
        margin: Points of accuracy; a difference below is none in practice.

    Raises:
        ValueError: A fold is missing, stands twice or has no result; there are fewer than two folds; or the margin is
            not positive.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be positive, got {margin}")
    _check(table)
    last = epochs_of(table)
    measures = {
        "accuracy": 100 * table[f"val_accuracy_{last}"],
        "overfitting": table[f"val_loss_{last}"] - table[f"train_loss_{last}"],
        "seconds": np.log(table["batch_ms"]),
    }
    found = _choose(table)
    differences = {
        name: [matched(rows, dimension, low, high, values[rows.index]) for dimension, low, high, rows in found]
        for name, values in measures.items()
    }
    levels = {(dimension, value) for dimension, low, high, _ in found for value in (low, high)}
    contrasts = len(levels) - len({dimension for dimension, _ in levels})
    accuracy = _estimates(differences["accuracy"], contrasts)
    overlap = 1 / (table["fold"].nunique() - 1)  # test rows by training rows
    ratios = [_ratio_of_variances(one) for one in differences["accuracy"]]
    overfitting = _estimates(differences["overfitting"], contrasts)
    p_holm = holm([one.p for one, *_ in accuracy])
    p_equal = holm([_equivalence(one.mean, error, freedom, margin) for one, error, freedom in accuracy])
    return [
        Contrast(
            dimension,
            low,
            high,
            ours=bool((rows["grid"] != REPORT).any()),
            pairs=len(differences["accuracy"][place]),
            ahead=int((differences["accuracy"][place].mean(axis=1) > 0).sum()),
            accuracy=accuracy[place][0],
            p_holm=p_holm[place],
            p_equal=p_equal[place],
            seconds=_ratio(differences["seconds"][place].mean(axis=1)),
            overfitting=overfitting[place][0],
            alone=corrected_estimate(differences["accuracy"][place].mean(axis=0), overlap, CONFIDENCE),
            ratio=ratios[place],
            factor=_factor(ratios),
            shared=_shared(table, rows, dimension, low, high),
        )
        for place, (dimension, low, high, rows) in enumerate(found)
    ]


def compare_within(table: pd.DataFrame, dimension: str, margin: float) -> dict[Any, list[Contrast]]:
    """Return, for each value of a dimension, what the others do among its configurations alone.

    The mean over all pairs hides where an effect turns around: what helps one activation may harm another. Corrections
    are within each value, so this explores and decides nothing.

    Args:
        table: As `compare` takes it.
        dimension: The one that is held.
        margin: As `compare` takes it.
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
        for name in DIMENSIONS
        if name != dimension and report[name].nunique() > 1 and pairs[name].nunique() == 1
    }


def _estimates(differences: Sequence[Floats], contrasts: int) -> list[tuple[Estimate, float, int]]:
    """Return each contrast's estimate, standard error and degrees of freedom; the module's text says how.

    Args:
        differences: Each contrast's, [pairs, folds].
        contrasts: How many of them are independent of each other.
    """
    if not differences:
        return []
    folds = differences[0].shape[1]
    # Per pair: what the folds' means scatter, and what the pairs scatter within the folds.
    between, within = (np.array([part(d) for d in differences]) for part in (_between, _within))
    factor = _factor([_ratio_of_variances(d) for d in differences])
    counts = np.array([len(d) for d in differences])
    # 1 / (folds - 1): test rows by training rows.
    errors = np.sqrt((1 / folds + 1 / (folds - 1)) * np.maximum(factor * within, between) / counts)
    freedom = contrasts * (folds - 1)
    return [
        (_estimate(float(d.mean()), float(error), freedom), float(error), freedom)
        for d, error in zip(differences, errors, strict=True)
    ]


def _factor(ratios: Sequence[float | None]) -> float:
    known = [one for one in ratios if one is not None]
    return max(1.0, float(np.mean(known))) if known else 1.0


def _ratio_of_variances(differences: Floats) -> float | None:
    within = _within(differences)
    return _between(differences) / within if within > 0 else None


def _between(differences: Floats) -> float:
    return float(len(differences) * differences.mean(axis=0).var(ddof=1))


def _within(differences: Floats) -> float:
    pairs, folds = differences.shape
    if pairs < 2:
        return 0.0
    rest = differences - differences.mean(axis=0) - differences.mean(axis=1, keepdims=True) + differences.mean()
    return float((rest**2).sum() / ((pairs - 1) * (folds - 1)))


def _estimate(mean: float, error: float, freedom: int) -> Estimate:
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Estimate(mean, mean - half, mean + half, p)


def _equivalence(mean: float, error: float, freedom: int, margin: float) -> float:
    """Return the p-value of the two one-sided tests (Schuirmann, 1987) that the mean lies within the margin."""
    if not error:
        return float(abs(mean) >= margin)
    return float(t.sf((margin - abs(mean)) / error, freedom))


def _ratio(logarithms: Floats) -> Estimate:
    count = len(logarithms)
    # One pair says nothing of its error: the interval is then everything.
    error = float(logarithms.std(ddof=1)) / count**0.5 if count > 1 else float("inf")
    found = _estimate(float(logarithms.mean()), error, max(1, count - 1))
    return Estimate(float(np.exp(found.mean)), float(np.exp(found.low)), float(np.exp(min(found.high, 700))), found.p)
