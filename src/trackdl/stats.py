"""Intervals for what was measured: pure functions of counts and arrays."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, t

__all__ = ["exact_interval", "mean_interval"]


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
