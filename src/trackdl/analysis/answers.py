"""What a classifier's answers say of it: pure functions of true classes and answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from trackdl.analysis.stats import exact_interval


@dataclass(frozen=True)
class Judged:
    """The accuracy of some answers with its exact 95 % interval, as fractions, and what it is made of.

    Attributes:
        right: The number of right answers.
        examples: The number of answers.
        low: The lower bound.
        high: The upper bound.
        confusion: A row for each true class, a column for each answer.
        recall: Of each class the share of its examples that are found; None without an example.
        precision: Of each class the share of the answers naming it that are right; None without such an answer.
    """

    right: int
    examples: int
    low: float
    high: float
    confusion: NDArray[np.int64]
    recall: list[float | None]
    precision: list[float | None]


@dataclass(frozen=True)
class Paired:
    """McNemar's exact test of two models on the same examples: those that only one of them got right, and p."""

    only_first: int
    only_second: int
    p: float


def judge(true: Sequence[str], said: Sequence[str], classes: Sequence[str]) -> Judged:
    """Judge answers; there must be at least one."""
    counts = confusion_matrix(true, said, labels=classes)
    found = counts.diagonal()
    recall, precision = (
        [float(one / of) if of else None for one, of in zip(found, counts.sum(axis=axis), strict=True)]
        for axis in (1, 0)
    )
    right = int(found.sum())
    return Judged(right, len(true), *exact_interval(right, len(true)), counts, recall, precision)


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Compare two models by which of the same examples each of them got right (McNemar, 1947; exact, two-sided)."""
    pairs = list(zip(first, second, strict=True))
    one, other = pairs.count((True, False)), pairs.count((False, True))
    return Paired(one, other, float(binomtest(one, one + other).pvalue) if one + other else 1.0)
