"""Which candidate for what a report leaves out explains the numbers that it prints: a likelihood over all of them.

A printed number is one draw of a training. If the seeds' values are normal with unknown mean and variance, the
density of one more run is Student's t around our mean, with n - 1 degrees of freedom and the scale s √(1 +
1/n). The log densities of a training's numbers are added up as if they were independent, and the sum is multiplied by
k / p: p numbers of one training are worth k independent ones, because the numbers of a learning curve move together.
That is a composite likelihood with a magnitude adjustment (Varin, Reid and Firth, 2011; Pauli, Racugno and Ventura,
2011). k is estimated from the correlations R of our own trainings around their candidates' means, k = p² / Σ R²;
being estimated from few trainings, it is rather too small, and the evidence is rather understated. Different
trainings of the report are independent.

A training of ours that has diverged has no numbers. The report's have not, so a candidate's likelihood is multiplied
by the share of its trainings that have not either; a candidate with fewer than three of those is not judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import t

Values = NDArray[np.float64]

EXACT = 5e-5  # half of the last digit that a report prints of a fraction, in per cent with two digits
FEWEST = 3  # trainings by which a candidate can be judged


@dataclass(frozen=True)
class Recovery:
    """What the printed numbers say of the candidates, in the candidates' order.

    Attributes:
        log_likelihoods: Of each candidate, float64 [candidates]; minus infinity for one that is not judged.
        weights: Each candidate's likelihood as a share of all: its probability if all were as probable before.
        inside: The share of printed numbers in the 95 % interval of one more run of the candidate; NaN for one
            that is not judged.
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


def recover(
    printed: Values, values: Sequence[Values], groups: Sequence[int], exact: Values | float = EXACT
) -> Recovery:
    """Judge candidates by how well their trainings explain printed numbers.

    Args:
        printed: The report's numbers, [points].
        values: Ours of each candidate, [seeds, points]; of the same seeds each. The row of a training that has diverged
            has NaN or infinity in it.
        groups: Which of the report's trainings each number is of, [points].
        exact: Half of the last digit that the report prints, of all points or of each, [points].

    Raises:
        ValueError: There are no numbers, or no candidate has three trainings that have not diverged.
    """
    judged = [place for place, own in enumerate(values) if len(finite(own)) >= FEWEST]
    if not len(printed) or not judged:
        raise ValueError("a recovery needs printed numbers, and a candidate of which three trainings did not diverge")
    exact = np.broadcast_to(np.asarray(exact, np.float64), printed.shape)
    places = [np.flatnonzero(np.asarray(groups) == group) for group in dict.fromkeys(groups)]
    effective = [_effective([finite(values[one])[:, place] for one in judged], exact[place]) for place in places]

    def likelihood(one: Values, own: Values) -> float:
        """Return the log-likelihood of a training's numbers, by the rows of a candidate's other trainings."""
        whole = finite(own)
        density = _log_density(one, whole, exact)
        worth = sum(k * density[place].mean() for k, place in zip(effective, places, strict=True))
        return float(worth + len(places) * np.log(len(whole) / len(own)))

    found = np.full(len(values), -np.inf)
    found[judged] = [likelihood(printed, values[one]) for one in judged]
    best = int(found.argmax())
    # Each training of ours is taken for a report's, printed as that prints, and judged by the others.
    right = tried = 0
    own_fit = []
    for truth in judged:
        for seed in np.flatnonzero(np.isfinite(values[truth]).all(axis=1)):
            one = np.round(values[truth][seed] / (2 * exact)) * (2 * exact)
            by_candidate = [likelihood(one, np.delete(values[other], seed, axis=0)) for other in judged]
            right += int(np.argmax(by_candidate)) == judged.index(truth)
            tried += 1
            if truth == best:
                own_fit.append(by_candidate[judged.index(truth)] / sum(effective))
    inside = np.full(len(values), np.nan)
    for place in judged:
        ours = finite(values[place])
        inside[place] = (np.abs(printed - ours.mean(axis=0)) <= reach(ours, exact)).mean()
    return Recovery(
        log_likelihoods=found,
        weights=np.exp(found - logsumexp(found)),
        inside=inside,
        effective=effective,
        recognised=(right, tried),
        fit=float(found[best] / sum(effective)),
        own_fit=(min(own_fit), max(own_fit)),
    )


def finite(own: Values) -> Values:
    """Return the rows of the trainings that have not diverged."""
    whole: Values = own[np.isfinite(own).all(axis=1)]
    return whole


def reach(own: Values, exact: Values | float = 0.0, confidence: float = 0.95) -> Values:
    """Return half the width, [points], of the interval of one more run, from ours, [seeds, points]."""
    half: Values = t.ppf((1 + confidence) / 2, len(own) - 1) * _scale(own, exact)
    return half


def _scale(own: Values, exact: Values | float) -> Values:
    scale: Values = np.hypot(own.std(axis=0, ddof=1), exact) * (1 + 1 / len(own)) ** 0.5
    return scale


def _log_density(one: Values, own: Values, exact: Values) -> Values:
    """Return the log density, [points], of one more run's values."""
    found: Values = t.logpdf(one, len(own) - 1, own.mean(axis=0), _scale(own, exact))
    return found


def _effective(values: Sequence[Values], exact: Values) -> float:
    """Return how many independent numbers those of one training are worth, by the pooled correlations of ours.

    Numbers that no seed changes say the same of every candidate, so all of them together count as one.
    """
    rest = np.concatenate([(own - own.mean(axis=0)) / np.hypot(own.std(axis=0, ddof=1), exact) for own in values])
    shared = rest.T @ rest
    size = np.sqrt(np.diag(shared))
    still = size < 1e-6
    correlation = shared / np.outer(np.where(still, 1, size), np.where(still, 1, size))
    correlation[np.ix_(still, still)] = 1.0
    correlation[still[:, None] != still] = 0.0
    np.fill_diagonal(correlation, 1.0)
    return float(len(correlation) ** 2 / (correlation**2).sum())
