"""Intervals, paired tests and calibration: pure functions of counts and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, sem, t


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


def exact_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper and Pearson, 1934) interval of a proportion.

    Args:
        successes: 0 to `trials`.
        trials: At least 1.
        confidence: The interval's coverage is at least this, 0 to 1.

    Returns:
        Lower and upper bound, both fractions.

    Raises:
        ValueError: The counts do not fit together.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval, lower and upper bound, of the mean of independent results, such as those of seeds.

    Args:
        values: The results, at least two.
        confidence: The interval's coverage, 0 to 1, for results that are about normally distributed.

    Raises:
        ValueError: There are fewer than two results: one says nothing about their spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two results, got {len(values)}")
    mean, half = float(np.mean(values)), float(t.ppf((1 + confidence) / 2, len(values) - 1) * sem(values))
    return mean - half, mean + half


def corrected_estimate(values: ArrayLike, test_share: float, confidence: float = 0.95) -> Estimate:
    """Return the mean of repeated cross-validation's results, corrected for training sets that overlap.

    Folds share most of their training rows, so their results are not independent, and the usual interval is far too
    narrow. Nadeau and Bengio (2003) replace the variance of the mean, s²/n, by s² (1/n + test rows / training rows).
    For the differences between two models on the same folds this is the corrected resampled paired t test.

    Args:
        values: A result, or a difference of two, for each fold of each repeat; at least two.
        test_share: Test rows divided by training rows of a fold: 1/9 for ten folds.
        confidence: The interval's, 0 to 1.

    Raises:
        ValueError: There are too few values, or the share is not positive.
    """
    results = np.asarray(values, np.float64)
    if results.ndim != 1 or len(results) < 2 or not test_share > 0:
        raise ValueError(f"expected two values or more and a positive share, got {results.shape} and {test_share}")
    mean = float(results.mean())
    error = float(np.sqrt((1 / len(results) + test_share) * results.var(ddof=1)))
    freedom = len(results) - 1
    half = float(t.ppf((1 + confidence) / 2, freedom)) * error
    # Equal values leave no doubt: either no difference at all, or one without exception.
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Estimate(mean, mean - half, mean + half, p)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values, in their order, as adjusted by Holm (1979), which bounds the family-wise error rate."""
    order = np.argsort(values, kind="stable")
    scaled = np.minimum(1.0, np.asarray(values, np.float64)[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]


def residual_variance(values: NDArray[np.float64]) -> float:
    """Return the variance that row and column means leave unexplained; 0 for a single row.

    Args:
        values: [rows, columns], of at least two columns.
    """
    rows, columns = values.shape
    if rows < 2:
        return 0.0
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((rows - 1) * (columns - 1)))


def reliability(targets: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = 10) -> list[Bin]:
    """Return the reliability table: probabilities in equally wide bins, empty ones left out.

    Args:
        targets: 0 or 1, [n].
        probabilities: Of 1, [n].
        bins: How many.
    """
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    table = []
    for place in np.unique(places):
        chosen = places == place
        table.append(Bin(float(probabilities[chosen].mean()), float(targets[chosen].mean()), int(chosen.sum())))
    return table


def calibration_error(targets: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = 10) -> float:
    """Return the expected calibration error: the bins' mean distance of predicted and observed, weighted by count."""
    table = reliability(targets, probabilities, bins)
    return sum(abs(item.predicted - item.observed) * item.count for item in table) / len(targets)
