"""Intervals for what was measured: pure functions of counts and arrays."""

from scipy.stats import binomtest

__all__ = ["exact_interval"]


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
