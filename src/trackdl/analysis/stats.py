"""Intervals, paired tests and calibration for what was measured: pure functions of counts and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, t

__all__ = [
    "Bin",
    "Estimate",
    "calibration_error",
    "corrected_estimate",
    "exact_interval",
    "holm",
    "mean_interval",
    "reliability",
]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval, and the two-sided p-value of it being 0."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same probability: its mean, the fraction that came true, and how many there are."""

    predicted: float
    observed: float
    count: int


def exact_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper and Pearson, 1934) interval of a proportion.

    Args:
        successes: How many came out right, 0 to `trials`.
        trials: How many were tried, at least 1.
        confidence: The interval's coverage is at least this, 0 to 1.

    Returns:
        Lower and upper bound, both fractions.

    Raises:
        ValueError: The counts do not fit together.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean of independent results, those of several seeds, say.

    Args:
        values: The results, at least two.
        confidence: The interval's coverage, 0 to 1, where the results are about normally distributed.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: There are fewer than two results: one says nothing of their spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two results, got {len(values)}")
    half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    mean = float(np.mean(values))
    return mean - half, mean + half


def corrected_estimate(values: ArrayLike, test_share: float, confidence: float = 0.95) -> Estimate:
    """Return the mean of repeated cross-validation's results, allowing for training sets that overlap.

    Folds share most of their training rows, so their results are not independent, and the usual interval is far too
    narrow. Nadeau and Bengio (2003) replace the variance of the mean, s²/n, by s² (1/n + test rows / training rows).
    Of the differences between two models on the same folds this is the corrected resampled paired t test.

    Args:
        values: A result, or a difference of two, for each fold of each repeat; at least two.
        test_share: Test rows by training rows of a fold: 1/9 for ten folds.
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
    """Return p-values as adjusted by Holm (1979): the chance that any of the family is wrongly called stays below each.

    Args:
        values: The family's p-values, in any order; the answer keeps it.
    """
    adjusted, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(np.argsort(values, kind="stable")):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = least
    return adjusted


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
    """Return the expected calibration error: the bins' distances of predicted and observed, weighed by their counts."""
    table = reliability(targets, probabilities, bins)
    return sum(abs(item.predicted - item.observed) * item.count for item in table) / len(targets)
