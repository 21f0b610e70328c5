"""What a published number is worth beside ours: the verdict, by one rule for all, a pure function of the numbers.

The report prints one number of one training, without an interval. It is one draw of what its protocol gives, so it can
show that our trainings do not give such numbers; it cannot show that the report's mean is ours. The rule is written
out, with its reasons, in docs/ledger.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from trackdl.ledger.model import VerdictName
from trackdl.spec.base import Comparable, Unit

__all__ = [
    "Claim",
    "Spread",
    "Verdict",
    "form",
    "form_difference",
    "judge",
    "judge_curve",
    "margin_of",
    "of_another",
    "parts_of",
    "rounded",
]

# Fewer seeds than this do not tell their own spread.
FEWEST = 3
POINTS = 0.005
SHARE = 0.1
DIGITS = 9
PARTS = 10  # of a curve
# Units of whole numbers, which have no margin and no spread between seeds.
WHOLE = ("rank", "count")


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a number between seeds, known from as many of them."""

    deviation: float
    seeds: int


@dataclass(frozen=True)
class Claim:
    """What the report says: the number, and how far ours can be compared with it.

    Attributes:
        value: As printed; a fraction, or a loss.
        unit: Of the number.
        comparable: How far the protocols are the same.
        unknown: What of the protocol the report does not say.
        fault: What the number is instead of what the report calls it; empty where it is what it is called.
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
    """Return the difference that does not matter: half a point of accuracy, a tenth of a loss, no rank, no count."""
    if unit == "fraction":
        return POINTS
    return 0.0 if unit in WHOLE else SHARE * abs(value)


def judge(claim: Claim, values: Sequence[float], known: Spread | None = None) -> Verdict:
    """Hold a published number against ours.

    A fault goes before all, then a measurement that is another one. Else, with d the difference of our mean to the
    published number and s the deviation between seeds:

    - reproduced: the mean's 90 % interval lies within the margin of the number, which is the test of equivalence by
      two one-sided tests at 5 % (Schuirmann, 1987).
    - differs: |d| is above the margin, and the number lies outside of the 95 % interval of one further
      training of ours, mean ± t s √(1 + 1/n) (Patil, Peng and Leek, 2016, judge replications so).
    - inconclusive: neither.

    Args:
        claim: The report's.
        values: Ours, one a seed, at least one.
        known: The spread between seeds, for where `values` are too few to tell it.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("a verdict needs at least one value of ours")
    return _verdict(claim, f"Ours: {_told(claim, values)}", *_compare(claim, values, known))


def judge_curve(claim: Claim, printed: Sequence[float], curves: Sequence[Sequence[float]]) -> Verdict:
    """Hold a printed curve of batches' losses against ours, by one rule for all curves.

    A batch's loss depends on which examples are in it, so points are not met one by one. The curve is cut into `PARTS`
    parts of as many points, whose means are compared:

    - differs: a part's means differ by more than the margin, and the printed one lies outside of the interval of one
      further training of ours, at 5 % for all parts together (Bonferroni).
    - reproduced: no part differs so, and the mean of the whole curve is reproduced by the rule of `judge`.
    - inconclusive: neither.

    Args:
        claim: What the report says of it; its value is the printed curve's mean.
        printed: The printed losses, [points].
        curves: Ours at the same points, one a seed, at least one.

    Raises:
        ValueError: There are no curves.
    """
    means = [float(np.mean(curve)) for curve in curves]
    if not means:
        raise ValueError("a verdict needs at least one curve of ours")
    ours = f"Ours, the mean of the curve: {_told(claim, means)}"
    count = len(curves)
    if count < FEWEST:
        return _verdict(claim, ours, "inconclusive", f"{_seeds(count)} cannot say how far seeds lie apart; more can.")
    level = 1 - 0.025 / PARTS
    told, mine = parts_of(printed), np.array([parts_of(curve) for curve in curves])
    differences = np.abs(mine.mean(axis=0) - told)
    reach = float(t.ppf(level, count - 1)) * mine.std(axis=0, ddof=1) * (1 + 1 / count) ** 0.5
    margins = np.array([margin_of(claim.unit, value) for value in told])
    apart = np.flatnonzero((differences > margins) & (differences > reach))
    if len(apart):
        worst = int(apart[np.argmax(differences[apart] - reach[apart])])
        gap, room = (form_difference(claim.unit, float(value[worst])) for value in (differences, reach))
        words = f"Part {worst + 1} of {PARTS} differs by {gap}, where a further training of ours comes within {room}."
        return _verdict(claim, ours, "differs", words)
    name, reason = _compare(claim, means, None)
    return _verdict(claim, ours, name, f"None of {PARTS} parts differs by more than chance. The whole: {reason}")


def parts_of(curve: Sequence[float]) -> NDArray[np.float64]:
    """Return the means of a curve's `PARTS` parts, or of its single points where it has fewer."""
    return np.array([part.mean() for part in np.array_split(np.asarray(curve, np.float64), min(PARTS, len(curve)))])


def of_another(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, point by point, the 95 % interval of one further training.

    Args:
        values: Ours, [seeds, points], of at least two seeds.

    Returns:
        The lower and the upper end, [points].
    """
    count = len(values)
    reach = float(t.ppf(0.975, count - 1)) * values.std(axis=0, ddof=1) * (1 + 1 / count) ** 0.5
    mean = values.mean(axis=0)
    return mean - reach, mean + reach


def _verdict(claim: Claim, ours: str, name: VerdictName, reason: str) -> Verdict:
    """Return the verdict on a claim, of whose numbers `name` and `reason` speak: a fault goes before all."""
    if claim.fault:
        beside = {
            "reproduced": ", which is the printed number",
            "differs": ", which differs from the printed number",
            "inconclusive": ", which neither reproduces nor refutes the printed number",
        }
        words = "" if claim.unit in WHOLE else beside.get(name, "")
        return Verdict("fault in the report", f"{_sentence(claim.fault)} {ours}{words}.")
    if claim.comparable == "not measured in the report":
        return Verdict("not comparable", f"The report has not measured this. {ours}.")
    if claim.unknown and name == "differs":
        reason += f" The reason may be what is unknown: {claim.unknown}."
    return Verdict(name, f"{ours}; the report {form(claim.unit, claim.value)}. {reason}")


def _compare(claim: Claim, values: Sequence[float], known: Spread | None) -> tuple[VerdictName, str]:
    count, margin = len(values), margin_of(claim.unit, claim.value)
    difference = float(np.mean(values)) - claim.value
    told = form_difference(claim.unit, abs(difference))
    allowed = form_difference(claim.unit, margin)
    if count >= FEWEST:
        known = Spread(float(np.std(values, ddof=1)), count)
    if known is None:
        return "inconclusive", f"{_seeds(count)} cannot say how far seeds lie apart; more seeds can."
    freedom = known.seeds - 1
    of_mean = float(t.ppf(0.95, freedom)) * known.deviation / count**0.5
    another = float(t.ppf(0.975, freedom)) * known.deviation * (1 + 1 / count) ** 0.5
    # Rounding leaves a published count a hair beside ours: 0.4750 and 95 / 200.
    slack = 1e-12
    borrowed = f" How far seeds lie apart is known from {known.seeds} in docs/ledger." if count < FEWEST else ""
    if abs(difference) + of_mean <= margin + slack:
        return "reproduced", f"They differ by {told}; all doubt included, by less than {allowed}.{borrowed}"
    if abs(difference) > margin and abs(difference) > another:
        side = "above" if difference > 0 else "below"
        reach = form_difference(claim.unit, another)
        words = f"Ours is {told} {side}, and a further training of ours comes within {reach} of our mean.{borrowed}"
        return "differs", words
    if abs(difference) > margin:
        return "inconclusive", f"They differ by {told}, but a further training of ours may differ as much.{borrowed}"
    reach = form_difference(claim.unit, of_mean)
    return "inconclusive", f"They differ by {told}, but our mean is known to {reach} only, not to {allowed}.{borrowed}"


def _told(claim: Claim, values: Sequence[float]) -> str:
    mean = form(claim.unit, float(np.mean(values)))
    if claim.unit in WHOLE:
        return mean
    return f"{mean}, one seed" if len(values) == 1 else f"{mean}, the mean of {len(values)} seeds"


def _seeds(count: int) -> str:
    return "One seed" if count == 1 else f"{count} seeds"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def form(unit: Unit, value: float) -> str:
    """Return a number as people read it: an accuracy in per cent, a loss to four digits, ranks and counts as whole."""
    if unit == "fraction":
        return f"{100 * value:.2f}\u00a0%"
    if unit == "count":
        return f"{value:.0f}"
    return f"no. {value:.0f}" if unit == "rank" else f"{value:.4f}"


def form_difference(unit: Unit, value: float) -> str:
    """Return a difference as people read it: accuracies differ in points."""
    if unit == "fraction":
        return f"{100 * value:.2f} points"
    if unit == "count":
        return f"{value:.0f}"
    return f"{value:.0f} places" if unit == "rank" else f"{value:.4f}"


def rounded(value: float, digits: int = DIGITS) -> float:
    """Return a number to nine digits: what a ledger holds of it, so that a single changed digit is a difference."""
    return float(f"{value:.{digits}g}")
