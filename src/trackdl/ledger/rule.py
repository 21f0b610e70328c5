"""The verdict on a published number, given ours: one rule for all, a pure function of the numbers.

The report prints one number of one training, without an interval. It is one draw of what its protocol gives, so it can
show that our trainings do not give such numbers; it cannot show that the report's mean is ours. docs/ledger.md states
the rule with its reasons.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from trackdl.analysis.recovery import reach
from trackdl.ledger.model import Spread, VerdictName
from trackdl.spec.base import Comparable, Unit

# From fewer seeds than this their spread is not estimated.
FEWEST = 3
POINTS = 0.005
SHARE = 0.1
DIGITS = 9
PARTS = 10  # of a curve
# Units of whole numbers, which have no margin and no spread between seeds.
WHOLE = ("rank", "count")


@dataclass(frozen=True)
class Claim:
    """What the report says: the number as printed, and how far ours can be compared with it.

    `unknown` is what the report leaves out of its protocol, `fault` what the number is if not what the report calls it.
    """

    value: float
    unit: Unit
    comparable: Comparable = "same protocol"
    unknown: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reason, in a sentence."""

    name: VerdictName
    words: str


def margin_of(unit: Unit, value: float) -> float:
    """Return the difference that does not matter: half a point of accuracy or F1, a tenth of a loss, else none."""
    if unit in ("fraction", "f1"):
        return POINTS
    return 0.0 if unit in WHOLE else SHARE * abs(value)


def judge(claim: Claim, values: Sequence[float], known: Spread | None = None) -> Verdict:
    """Compare a published number with ours, by the rule that docs/ledger.md states.

    A fault comes first, then a measurement that the report has not made. Else the number is reproduced if the 90 %
    interval of our mean lies within its margin: two one-sided tests of equivalence at 5 % (Schuirmann, 1987). It
    differs if it lies beyond the margin and outside of the 95 % interval of one more run of ours, mean ± t s
    √(1 + 1/n), as Patil, Peng and Leek (2016) judge replications.

    Of `values` there is one per seed; if they are too few to estimate the spread between seeds, `known` is used.

    Examples:
        >>> printed = Claim(value=0.9817, unit="fraction")
        >>> judge(printed, [0.9818, 0.9809, 0.9820, 0.9808, 0.9819]).name
        'reproduced'
        >>> judge(printed, [0.9518, 0.9509, 0.9520, 0.9508, 0.9519]).name
        'differs'

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("a verdict needs at least one value of ours")
    return _verdict(claim, f"Ours: {_mean_words(claim, values)}", *_compare(claim, values, known))


def judge_curve(claim: Claim, printed: Sequence[float], curves: Sequence[Sequence[float]]) -> Verdict:
    """Compare a printed curve of losses per batch with ours, by one rule for all curves.

    A batch's loss depends on which examples are in it, so the means of `PARTS` parts of as many points are compared.
    The curve differs if in some part they differ by more than the margin, and the printed one lies outside of the
    interval of one more run of ours, at 5 % for all parts together (Bonferroni). Else it is reproduced if the
    mean of the whole curve is, as in `judge`.

    The value of `claim` is the printed curve's mean; `curves` are ours at the same points, one per seed.

    Raises:
        ValueError: There are no curves.
    """
    means = [float(np.mean(curve)) for curve in curves]
    if not means:
        raise ValueError("a verdict needs at least one curve of ours")
    ours = f"Ours, the mean of the curve: {_mean_words(claim, means)}"
    if len(curves) < FEWEST:
        return _verdict(claim, ours, *_too_few(len(curves)))
    published, measured = parts_of(printed), np.array([parts_of(curve) for curve in curves])
    differences = np.abs(measured.mean(axis=0) - published)
    room = reach(measured, confidence=1 - 0.05 / PARTS)
    margins = np.array([margin_of(claim.unit, value) for value in published])
    apart = np.flatnonzero((differences > margins) & (differences > room))
    if len(apart):
        worst = int(apart[np.argmax(differences[apart] - room[apart])])
        gap, most = (form_difference(claim.unit, float(value[worst])) for value in (differences, room))
        words = f"Part {worst + 1} of {PARTS} differs by {gap}; one more run of ours would differ by at most {most}."
        return _verdict(claim, ours, "differs", words)
    name, reason = _compare(claim, means, None)
    if name == "differs":
        name = "inconclusive"  # the rule takes a part that differs by more than chance, and there is none
    return _verdict(claim, ours, name, f"None of its {PARTS} parts differs by more than chance. {reason}")


def parts_of(curve: Sequence[float]) -> NDArray[np.float64]:
    """Return the means of a curve's `PARTS` parts, or its points if there are fewer."""
    return np.array([part.mean() for part in np.array_split(np.asarray(curve, np.float64), min(PARTS, len(curve)))])


def of_another(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends, [points] each, of the 95 % interval of one more run, from ours, [seeds, points]."""
    mean, half = values.mean(axis=0), reach(values)
    return mean - half, mean + half


def _verdict(claim: Claim, ours: str, name: VerdictName, reason: str) -> Verdict:
    """Return the verdict on a claim whose numbers compare as `name` and `reason` say: a fault comes first."""
    if claim.fault:
        compared = {
            "reproduced": ", which matches the printed number",
            "differs": ", which differs from the printed number",
            "inconclusive": ", which is inconclusive",
        }
        words = "" if claim.unit in WHOLE else compared[name]
        fault = f"{claim.fault[:1].upper()}{claim.fault[1:].rstrip('.')}"
        return Verdict("fault in the report", f"{fault}. {ours}{words}.")
    if claim.comparable == "not measured in the report":
        return Verdict("not comparable", f"The report has not measured this. {ours}.")
    if claim.unit == "seconds":
        return Verdict("not comparable", f"Time depends on the machine, and is not judged. {ours}.")
    if claim.unknown and name == "differs":
        reason += f" A possible reason is what is unknown: {claim.unknown}."
    return Verdict(name, f"{ours}; the report {form(claim.unit, claim.value)}. {reason}")


def _compare(claim: Claim, values: Sequence[float], known: Spread | None) -> tuple[VerdictName, str]:
    """Return how a number compares with ours, and why; `known` is as in `judge`."""
    count, margin = len(values), margin_of(claim.unit, claim.value)
    difference = float(np.mean(values)) - claim.value
    gap = abs(difference)
    if count >= FEWEST:
        deviation, seeds = float(np.std(values, ddof=1)), count
    elif known:
        deviation, seeds = known.deviation, known.seeds
    else:
        return _too_few(count)
    of_mean = float(t.ppf(0.95, seeds - 1)) * deviation / count**0.5
    another = float(t.ppf(0.975, seeds - 1)) * deviation * (1 + 1 / count) ** 0.5
    gap_words, margin_words, mean_words, another_words = (
        form_difference(claim.unit, value) for value in (gap, margin, of_mean, another)
    )
    name: VerdictName = "inconclusive"
    # Rounding can make a published count differ slightly from ours: 0.4750 and 95 / 200.
    slack = 1e-12
    if gap + of_mean <= margin + slack:
        name = "reproduced"
        words = f"They differ by {gap_words}; given the uncertainty of our mean, by less than {margin_words}."
    elif gap <= margin:
        words = f"They differ by {gap_words}, but our mean is uncertain by {mean_words}; the margin is {margin_words}."
    elif gap <= another:
        words = f"They differ by {gap_words}, but one more run of ours could differ by as much."
    else:
        name, side = "differs", "higher" if difference > 0 else "lower"
        words = f"Ours is {gap_words} {side}; one more run of ours would be within {another_words} of our mean."
    borrowed = f" The deviation between seeds is that of {seeds} seeds in docs/ledger." if count < FEWEST else ""
    return name, f"{words}{borrowed}"


def _too_few(seeds: int) -> tuple[VerdictName, str]:
    words = "One seed" if seeds == 1 else f"{seeds} seeds"
    return "inconclusive", f"{words} cannot show how much seeds differ; run more."


def _mean_words(claim: Claim, values: Sequence[float]) -> str:
    mean = form(claim.unit, float(np.mean(values)))
    if claim.unit in WHOLE:
        return mean
    return f"{mean}, one seed" if len(values) == 1 else f"{mean}, the mean of {len(values)} seeds"


def form(unit: Unit, value: float) -> str:
    """Return a number as text: an accuracy in per cent, losses and F1 to four digits, ranks and counts whole."""
    if unit == "fraction":
        return f"{100 * value:.2f}\u00a0%"
    if unit == "seconds":
        return f"{value:,.1f}\u00a0s"
    if unit == "count":
        return f"{value:.0f}"
    return f"no. {value:.0f}" if unit == "rank" else f"{value:.4f}"


def form_difference(unit: Unit, value: float) -> str:
    """Return a difference as text: accuracies differ in points, ranks in places."""
    if unit == "fraction":
        return f"{100 * value:.2f} points"
    return f"{value:.0f} places" if unit == "rank" else form(unit, value)


def rounded(value: float, digits: int = DIGITS) -> float:
    """Return a number to nine digits: what a ledger keeps of it, so that a single changed digit is a difference."""
    return float(f"{value:.{digits}g}")


def all_rounded(values: Iterable[float], digits: int = DIGITS) -> list[float]:
    """Return numbers as `rounded` does."""
    return [rounded(value, digits) for value in values]
