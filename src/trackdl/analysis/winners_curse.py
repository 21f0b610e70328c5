"""The winner's curse: how much of the best score of many is luck, and what is left of it with fresh seeds.

The best of many scores is the best partly by chance, so it overestimates its configuration. An unbiased estimate needs
new trainings, with seeds and images that were not used in the selection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm, ttest_ind

from trackdl.analysis.grid_table import best_cells, dimensions, is_cell, last
from trackdl.analysis.stats import CONFIDENCE, Estimate, mean_interval, residual_variance
from trackdl.spec.grid import REPORT

CROSS_VALIDATION = "in cross-validation"
DRAWS = 5000
MOST = 20_000_000  # numbers drawn, or in a linear model, at once

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optimism:
    """How much the best score of a grid overestimates its configuration, in points.

    Attributes:
        noise: The standard deviation of a score's own error, among the winner's peers.
        peers: How many configurations are in the winner's group.
        group: The value that they share; empty if all are in one group.
        expected: The best score less its configuration's true accuracy, the mean over `DRAWS` simulated grids.
        most: The same if all peers had the same true accuracy, and there were no others.
        right: How often the configuration with the best score is indeed the best.
    """

    noise: float
    peers: int
    group: str
    expected: float
    most: float
    right: float


@dataclass(frozen=True)
class WinnersCurse:
    """The grid's winner and the report's choice: as selected, and trained again. Accuracies are fractions.

    Attributes:
        winner: The winner's dimensions; `score` is its score in the grid, `fresh` its accuracies with fresh seeds.
        report_score: That of the report's choice; None if the report has none, as what follows of it.
        report_rank: Its rank among all, 1 for the best.
        configurations: How many there are.
        optimism: How much luck is in the winner's score; None if each was trained once, which says nothing of it.
        difference: The difference of their means, winner less report's, in points, by Welch's t test: over seeds, on
            the same training and test images, so it does not extend to other images.
        choice_words: What the report's choice is called; `judged`, on what the scores were measured.
    """

    winner: dict[str, Any]
    score: float
    report_score: float | None
    report_rank: int | None
    configurations: int
    optimism: Optimism | None
    fresh: tuple[float, ...]
    report_fresh: tuple[float, ...]
    difference: Estimate | None
    choice_words: str = "the report's choice"
    judged: str = CROSS_VALIDATION

    @property
    def words(self) -> str:
        """All of it in sentences."""
        words = f"The best of {self.configurations} scored {self.score:.2%} {self.judged}; {self._luck} Trained again "
        words += f"from fresh seeds and tested, the winner has {_mean_words(self.fresh)}."
        if self.report_score is None or self.difference is None:
            return words
        choice = self.choice_words
        if self.report_rank == 1:
            return f"{words} It is {choice} as well, so there is no lead to compare."
        lead = "not shown to differ"
        if self.difference.low > 0 or self.difference.high < 0:
            lead = "it is better" if self.difference.low > 0 else "it is worse"
        words = (
            f"{words} {choice[:1].upper()}{choice[1:]} came out number {self.report_rank} with "
            f"{self.report_score:.2%}; trained again it has {_mean_words(self.report_fresh)}. The winner's lead over "
            f"it was {100 * (self.score - self.report_score):.2f} points where it was selected and is "
            f"{self.difference.mean:+.2f} on the test images (95 % interval over seeds {self.difference.low:+.2f} to "
            f"{self.difference.high:+.2f}): {lead}."
        )
        if self.judged != CROSS_VALIDATION:
            return words
        return (
            f"{words} Leads can be compared, levels cannot: the fresh trainings learn from more images than the "
            "folds', and are tested on other images."
        )

    @property
    def _luck(self) -> str:
        luck = self.optimism
        if luck is None:
            return "how much of that is luck is not decidable, since each was trained once."
        peers = f"all {luck.peers} with {luck.group}" if luck.group else f"all {luck.peers}"
        return (
            f"of that, roughly {luck.expected:.2f} points are luck (a score's own error is {luck.noise:.2f} points; "
            f"were {peers} equally good, the best would flatter itself by {luck.most:.2f}). By the same reckoning a "
            f"grid like this one picks the truly best configuration in {luck.right:.0%} of cases."
        )


def _mean_words(values: Sequence[float]) -> str:
    low, high = mean_interval(values, share=True)
    return f"{np.mean(values):.2%} ({len(values)} seeds, 95 % interval {low:.2%} to {high:.2%})"


def expected_maximum(count: int) -> float:
    """Return the expectation of the largest of `count` independent standard normal numbers."""
    found, _ = quad(lambda x: x * count * norm.pdf(x) * norm.cdf(x) ** (count - 1), -12, 12, limit=200)
    return float(found)


def best_cell(table: pd.DataFrame) -> tuple[dict[str, Any], float]:
    """Return the dimensions and the score of the best configuration of the report's grid, the first of equals."""
    found = best_cells(table, REPORT)
    return {name: found[name].tolist()[0] for name in dimensions(table)}, float(found["score"].tolist()[0])


def optimism(table: pd.DataFrame, group: str = "", seed: int = 0) -> Optimism | None:
    """Return by how much the best score of the report's grid overestimates, by a parametric bootstrap.

    None if each configuration was trained once: nothing is known of errors then.

    A score's error, taken as normal, is estimated from the variance that the means of folds and configurations leave
    unexplained, inflated after Nadeau and Bengio (2003) for the training images that the folds share. True accuracies
    scatter less than the scores: each is taken as its score, shrunk towards a linear model of all dimensions and their
    pairs by the share of error in the scatter around it (empirical Bayes; Efron and Morris, 1973). Both are estimated
    for each value of the dimension `group` by itself, if there is one.

    The inflation and the groups were added after the table was seen, because a single error for all had failed. No
    verdict depends on the result.
    """
    report = table[table["grid"] == REPORT]
    winner, _ = best_cell(table)
    truths, errors, peers, noise = [], [], 0, 0.0
    names = dimensions(table)
    if report["fold"].nunique() < 2:
        return None
    for value, rows in report.groupby(group, sort=False) if group else [("", report)]:
        wide = rows.assign(_last=last(rows, "held_accuracy")).pivot(index=names, columns="fold", values="_last")
        points = 100 * wide.to_numpy(np.float64)
        folds = points.shape[1]
        # Of a mean over folds; 1 / (folds - 1): test rows divided by training rows.
        variance = residual_variance(points) * (1 / folds + 1 / (folds - 1))
        truths.append(_shrunk(wide.index.to_frame(), points.mean(axis=1), variance))
        errors.append(np.full(len(points), variance**0.5))
        if not group or value == winner[group]:
            peers, noise = len(points), variance**0.5
    truth, error = np.concatenate(truths), np.concatenate(errors)
    random = np.random.default_rng(seed)
    drawn = truth + error * random.normal(size=(min(DRAWS, MOST // len(truth)), len(truth)))
    chosen = drawn.argmax(axis=1)
    return Optimism(
        noise=noise,
        peers=peers,
        group=str(winner[group]) if group else "",
        expected=float((drawn.max(axis=1) - truth[chosen]).mean()),
        most=noise * expected_maximum(peers),
        right=float((chosen == truth.argmax()).mean()),
    )


def _shrunk(cells: pd.DataFrame, score: Floats, variance: float) -> Floats:
    """Return the configurations' scores, shrunk towards a linear model of the dimensions and their pairs."""
    names = [name for name in cells if cells[name].nunique() > 1]
    codes = {name: pd.get_dummies(cells[name], drop_first=True).to_numpy(np.float64) for name in names}
    widths = [code.shape[1] for code in codes.values()]
    if len(cells) * sum(widths) ** 2 > MOST:
        return score  # too many values for a model
    pairs = [codes[a][:, :, None] * codes[b][:, None, :] for a, b in combinations(names, 2)]
    columns = [np.ones((len(cells), 1)), *codes.values(), *(pair.reshape(len(cells), -1) for pair in pairs)]
    design = np.hstack(columns)
    fitted = design @ np.linalg.lstsq(design, score)[0]
    left = len(cells) - int(np.linalg.matrix_rank(design))
    scatter = float(((score - fitted) ** 2).sum()) / left if left else 0.0
    share = max(0.0, scatter - variance) / scatter if scatter else 0.0
    shrunk: Floats = fitted + share * (score - fitted)
    return shrunk


def curse(
    table: pd.DataFrame,
    report_cell: Mapping[str, Any] | None,
    fresh: Sequence[float],
    report_fresh: Sequence[float],
    group: str = "",
) -> WinnersCurse:
    """Return the winner's lead in a grid, and with seeds that the grid has not used: `fresh`, at least two accuracies.

    `report_cell` has the dimensions of the report's choice, if it has one, and `report_fresh` its accuracies; `group`
    is as in `optimism`.

    Raises:
        ValueError: The report's choice is not in its grid, or there are too few seeds.
    """
    found = best_cells(table, REPORT)
    winner, score = best_cell(table)
    report_score, rank, difference = None, None, None
    if report_cell is not None:
        own = found[is_cell(found, report_cell)]
        if len(own) != 1:
            raise ValueError(f"the configuration {dict(report_cell)} occurs {len(own)} times in the report's grid")
        report_score = float(own["score"].iloc[0])
        rank = 1 + int((found["score"] > report_score).sum())
        difference = _welch(fresh, report_fresh)
    return WinnersCurse(
        winner=winner,
        score=score,
        report_score=report_score,
        report_rank=rank,
        configurations=len(found),
        optimism=optimism(table, group),
        fresh=tuple(fresh),
        report_fresh=tuple(report_fresh),
        difference=difference,
    )


def _welch(first: Sequence[float], second: Sequence[float]) -> Estimate:
    if min(len(first), len(second)) < 2:
        raise ValueError(f"two seeds or more of each are needed, got {len(first)} and {len(second)}")
    if len(set(first)) == len(set(second)) == 1:  # no spread to estimate an error from
        mean = 100 * (first[0] - second[0])
        return Estimate(mean, mean, mean, float(mean == 0))
    found = ttest_ind(100 * np.array(first), 100 * np.array(second), equal_var=False)
    interval = found.confidence_interval(CONFIDENCE)
    mean = 100 * float(np.mean(first) - np.mean(second))
    return Estimate(mean, float(interval.low), float(interval.high), float(found.pvalue))
