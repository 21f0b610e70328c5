"""Intervals, paired tests and calibration: pure functions of counts and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, sem, t

CONFIDENCE = 0.95
BINS = 10  # of probabilities
LEAST = 10  # rows in a bin of a curve


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, and the two-sided p-value of it being 0."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Bin:
    """Predictions in one range of probability: their mean, the observed fraction of 1, and their count."""

    predicted: float
    observed: float
    count: int


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact (Clopper and Pearson, 1934) interval of a proportion: its lower and upper bound, as fractions.

    Examples:
        26 of 27 letters are right:

        >>> low, high = exact_interval(26, 27)
        >>> print(f"{low:.1%} to {high:.1%}")
        81.0% to 99.9%

    Raises:
        ValueError: The counts do not fit together; from SciPy 1.18 on, the bounds are NaN instead.
    """
    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], *, share: bool = False) -> tuple[float, float]:
    """Return Student's t interval, lower and upper bound, of the mean of independent results, such as those of seeds.

    With `share` the results are shares of a whole, and the interval ends at 0 and 1.

    Examples:
        Accuracies of five seeds:

        >>> low, high = mean_interval([0.9818, 0.9809, 0.9820, 0.9808, 0.9819], share=True)
        >>> print(f"{low:.2%} to {high:.2%}")
        98.08% to 98.22%

    Raises:
        ValueError: There are fewer than two results: one says nothing about their spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two results, got {len(values)}")
    found = t_estimate(float(np.mean(values)), float(sem(values)), len(values) - 1)
    return (max(found.low, 0.0), min(found.high, 1.0)) if share else (found.low, found.high)


def t_estimate(mean: float, error: float, freedom: int) -> Estimate:
    """Return the estimate of a mean with a standard error of so many degrees of freedom."""
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    # Without an error there is no doubt: either no difference at all, or one without exception.
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Estimate(mean, mean - half, mean + half, p)


def corrected_estimate(values: ArrayLike, test_share: float) -> Estimate:
    """Return the mean of repeated cross-validation's results, corrected for training sets that overlap.

    Folds share most of their training rows, so their results are not independent, and the usual interval is far too
    narrow. Nadeau and Bengio (2003) replace the variance of the mean, s²/n, by s² (1/n + test rows / training rows).
    For the differences between two models on the same folds this is the corrected resampled paired t test.

    Args:
        values: A result, or a difference of two, for each fold of each repeat; at least two.
        test_share: Test rows divided by training rows of a fold: 1/9 for ten folds.

    Raises:
        ValueError: There are too few values, or the share is not positive.
    """
    results = np.asarray(values, np.float64)
    if results.ndim != 1 or len(results) < 2 or not test_share > 0:
        raise ValueError(f"expected two values or more and a positive share, got {results.shape} and {test_share}")
    error = float(np.sqrt((1 / len(results) + test_share) * results.var(ddof=1)))
    return t_estimate(float(results.mean()), error, len(results) - 1)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values, in their order, as adjusted by Holm (1979), which bounds the family-wise error rate.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(values, kind="stable")
    scaled = np.minimum(1.0, np.asarray(values, np.float64)[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]


def residual_variance(values: NDArray[np.float64]) -> float:
    """Return the variance that row and column means leave unexplained in a table; 0 for a single row."""
    rows, columns = values.shape
    if rows < 2:
        return 0.0
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((rows - 1) * (columns - 1)))


def reliability(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[Bin]:
    """Return the reliability table of targets, 0 or 1, and probabilities of 1: equally wide bins without empty ones."""
    places = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    table = []
    for place in np.unique(places):
        chosen = places == place
        table.append(Bin(float(probabilities[chosen].mean()), float(targets[chosen].mean()), int(chosen.sum())))
    return table


def calibration_curve(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[Bin]:
    """Return the reliability table of targets, 0 or 1, and probabilities of 1: bins of about equally many rows.

    There are up to `BINS`, each of `LEAST` rows or more if there are that many; equal probabilities are in one.
    """
    order = np.argsort(probabilities, kind="stable")
    count, begins = len(order), [0]
    least = max(LEAST, count // BINS)
    for place in np.flatnonzero(np.diff(probabilities[order])) + 1:
        if place - begins[-1] >= least and count - place >= least:
            begins.append(int(place))
    bins = np.split(order, begins[1:])
    return [Bin(float(probabilities[rows].mean()), float(targets[rows].mean()), len(rows)) for rows in bins]


def calibration_error(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Return the expected calibration error: the bins' mean distance of predicted and observed, weighted by count."""
    table = reliability(targets, probabilities)
    return sum(abs(item.predicted - item.observed) * item.count for item in table) / len(targets)
