"""Which candidate for what a report leaves out explains the numbers that it prints: a likelihood over all of them.

A printed number is one draw of a training. If the seeds' values are normal with unknown mean and variance, the
density of one further training is Student's t around our mean, with n - 1 degrees of freedom and the scale s √(1 +
1/n). The log densities of a training's numbers are added up as if they were independent, and the sum is multiplied by
k / p: p numbers of one training are worth k independent ones, because the numbers of a learning curve move together.
That is a composite likelihood with a magnitude adjustment (Varin, Reid and Firth, 2011; Pauli, Racugno and Ventura,
2011). k is estimated from the correlations R of our own trainings around their candidates' means, k = p² / Σ R²;
being estimated from few trainings, it is rather too small, and the evidence is rather understated. Different
trainings of the report are independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import t

Values = NDArray[np.float64]

EXACT = 5e-5  # half of the last digit that a report prints of a fraction, in per cent with two digits


@dataclass(frozen=True)
class Recovery:
    """What the printed numbers say of the candidates, in the candidates' order.

    Attributes:
        log_likelihoods: Of each candidate, float64 [candidates].
        weights: Each candidate's likelihood as a share of all: its probability if all were as probable before.
        inside: The share of printed numbers in the 95 % interval of one further training of the candidate.
        effective: How many independent numbers those of each of the report's trainings are worth.
        recognised: For how many of our own trainings, each taken for a report and judged by the others, its own
            candidate is the best; and of how many.
        fit: The best candidate's log-likelihood per independent number.
        own_fit: The same of its own trainings, each held out, lowest and highest: a report below them is less like the
            candidate than its own trainings are.
    """

    log_likelihoods: Values
    weights: Values
    inside: Values
    effective: list[float]
    recognised: tuple[int, int]
    fit: float
    own_fit: tuple[float, float]


def recover(printed: Values, values: Sequence[Values], groups: Sequence[int]) -> Recovery:
    """Judge candidates by how well their trainings explain printed numbers.

    Args:
        printed: The report's numbers, [points].
        values: Ours of each candidate, [seeds, points]; of the same number of seeds each.
        groups: Which of the report's trainings each number is of, [points].

    Raises:
        ValueError: There are no numbers, or fewer than three seeds.
    """
    if not len(printed) or min(len(own) for own in values) < 3:
        raise ValueError("a recovery needs printed numbers, and three trainings of each candidate")
    places = [np.flatnonzero(np.asarray(groups) == group) for group in dict.fromkeys(groups)]
    effective = [_effective([own[:, place] for own in values]) for place in places]

    def likelihood(one: Values, own: Values) -> float:
        density = _log_density(one, own)
        return float(sum(k * density[place].mean() for k, place in zip(effective, places, strict=True)))

    found = np.array([likelihood(printed, own) for own in values])
    # Each training of ours is taken for a report's, and judged by the others.
    tried = np.array(
        [
            [[likelihood(own[seed], np.delete(other, seed, axis=0)) for other in values] for seed in range(len(own))]
            for own in values
        ]
    )
    best, truth = int(found.argmax()), np.arange(len(values))[:, None]
    own = tried[best, :, best] / sum(effective)
    inside = [float((np.abs(printed - one.mean(axis=0)) <= reach(one)).mean()) for one in values]
    return Recovery(
        log_likelihoods=found,
        weights=np.exp(found - logsumexp(found)),
        inside=np.array(inside),
        effective=effective,
        recognised=(int((tried.argmax(axis=2) == truth).sum()), tried.shape[0] * tried.shape[1]),
        fit=float(found[best] / sum(effective)),
        own_fit=(float(own.min()), float(own.max())),
    )


def reach(own: Values) -> Values:
    """Return half the width, [points], of the 95 % interval of one further training, from ours, [seeds, points]."""
    half: Values = t.ppf(0.975, len(own) - 1) * _scale(own)
    return half


def _scale(own: Values) -> Values:
    scale: Values = np.hypot(own.std(axis=0, ddof=1), EXACT) * (1 + 1 / len(own)) ** 0.5
    return scale


def _log_density(one: Values, own: Values) -> Values:
    """Return the log density, [points], of one further training's values."""
    found: Values = t.logpdf(one, len(own) - 1, own.mean(axis=0), _scale(own))
    return found


def _effective(values: Sequence[Values]) -> float:
    """Return how many independent numbers those of one training are worth, by the pooled correlations of ours."""
    rest = np.concatenate([(own - own.mean(axis=0)) / np.hypot(own.std(axis=0, ddof=1), EXACT) for own in values])
    shared = rest.T @ rest
    size = np.sqrt(np.maximum(np.diag(shared), 1e-12))
    correlation = shared / np.outer(size, size)
    np.fill_diagonal(correlation, 1.0)
    return float(len(correlation) ** 2 / (correlation**2).sum())
