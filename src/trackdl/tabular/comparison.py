"""Models held against each other on the same rows: one split by several seeds, and repeated cross-validation.

All fits run side by side, one thread each, on all cores; a fit's result does not depend on how many there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold

from trackdl.analysis.stats import Estimate, calibration_error, corrected_estimate
from trackdl.data.heart.schema import TARGET
from trackdl.tabular.protocols import Outcome

__all__ = ["Candidate", "CrossValidated", "Scores", "cross_validate", "fit_seeds", "folds", "score"]

Advance = Callable[[str], None]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


class Candidate(Protocol):
    """A model that can be fitted to any rows of the table; must be picklable in memory."""

    def fit_predict(self, train: pd.DataFrame, judged: pd.DataFrame, seed: int) -> Outcome:
        """Train on rows, then judge others."""


@dataclass(frozen=True)
class Scores:
    """How well a model judged some rows: fractions, `brier` and `calibration_error` the smaller the better."""

    accuracy: float
    auc: float
    brier: float
    calibration_error: float


def score(targets: NDArray[np.int64], outcome: Outcome) -> Scores:
    """Score what a model said of rows against their targets, [n]; both classes must be among these."""
    return Scores(
        accuracy=float((outcome.labels == targets).mean()),
        auc=float(roc_auc_score(targets, outcome.probabilities)),
        brier=float(brier_score_loss(targets, outcome.probabilities)),
        calibration_error=calibration_error(targets, outcome.probabilities),
    )


def folds(targets: NDArray[np.int64], count: int, repeats: int, seed: int) -> list[Fold]:
    """Return (training, held out) places of stratified folds, one repeat after the other.

    Raises:
        ValueError: A class has fewer rows than there are folds.
    """
    fewest = int(np.bincount(targets, minlength=2).min())
    if fewest < count:
        raise ValueError(f"a class has {fewest} rows, too few for {count} folds")
    made = RepeatedStratifiedKFold(n_splits=count, n_repeats=repeats, random_state=seed % 2**32)
    return list(made.split(np.zeros(len(targets)), targets))


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """What a model said of every row, each time from a fit that had not seen it.

    Attributes:
        targets: Of all rows, int64 [n].
        parts: The folds.
        outcomes: What was said of each fold's held-out rows.
    """

    targets: NDArray[np.int64]
    parts: Sequence[Fold]
    outcomes: Sequence[Outcome]

    @cached_property
    def scores(self) -> list[Scores]:
        """Return each fold's scores."""
        return [score(self.targets[held], said) for (_, held), said in zip(self.parts, self.outcomes, strict=True)]

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return one of the scores of every fold, float64 [folds × repeats]."""
        return np.array([getattr(item, metric) for item in self.scores])

    @property
    def test_share(self) -> float:
        """Held-out rows by training rows of a fold."""
        return float(np.mean([len(held) / len(learn) for learn, held in self.parts]))

    def estimate(self, metric: str) -> Estimate:
        """Return a score's mean over the folds with its corrected interval."""
        return corrected_estimate(self.values(metric), self.test_share)

    def minus(self, other: "CrossValidated", metric: str) -> Estimate:
        """Return the mean difference to another model on the same folds, paired and corrected (Nadeau and Bengio)."""
        if any((a[1] != b[1]).any() for a, b in zip(self.parts, other.parts, strict=True)):
            raise ValueError("the two were judged on other folds")
        return corrected_estimate(self.values(metric) - other.values(metric), self.test_share)

    @property
    def pooled(self) -> tuple[NDArray[np.int64], Outcome]:
        """The targets of all folds' rows, one after the other, and what was said of them."""
        rows = np.concatenate([held for _, held in self.parts])
        probabilities = np.concatenate([said.probabilities for said in self.outcomes])
        return self.targets[rows], Outcome(probabilities, np.concatenate([said.labels for said in self.outcomes]))

    def table(self) -> pd.DataFrame:
        """Return every prediction: the fold, the row's place in the table, its target, and what was said of it."""
        sizes = [len(held) for _, held in self.parts]
        targets, outcome = self.pooled
        return pd.DataFrame(
            {
                "fold": np.repeat(np.arange(len(sizes)), sizes),
                "row": np.concatenate([held for _, held in self.parts]),
                "target": targets,
                "label": outcome.labels,
                "probability": outcome.probabilities,
            }
        )


def cross_validate(
    candidates: Mapping[str, Candidate],
    frame: pd.DataFrame,
    parts: Sequence[Fold],
    seed: int,
    advance: Advance = lambda _: None,
) -> dict[str, CrossValidated]:
    """Fit every candidate to every fold's training rows and let it judge the held-out ones.

    Args:
        candidates: The models, by name.
        frame: All rows, with the target.
        parts: What `folds` returned.
        seed: Every fit's.
        advance: Called with the model's name after each fit.
    """
    pairs = [(frame.iloc[learn], frame.iloc[held], seed) for learn, held in parts]
    targets = frame[TARGET.name].to_numpy()
    said = _side_by_side(candidates, pairs, advance)
    return {name: CrossValidated(targets, parts, outcomes) for name, outcomes in said.items()}


def fit_seeds(
    candidates: Mapping[str, Candidate],
    train: pd.DataFrame,
    test: pd.DataFrame,
    seeds: Sequence[int],
    advance: Advance = lambda _: None,
) -> dict[str, list[Outcome]]:
    """Fit every candidate to the training rows by each seed and let it judge the test rows."""
    return _side_by_side(candidates, [(train, test, seed) for seed in seeds], advance)


def _side_by_side(
    candidates: Mapping[str, Candidate], fits: Sequence[tuple[pd.DataFrame, pd.DataFrame, int]], advance: Advance
) -> dict[str, list[Outcome]]:
    work = [(candidate, *fit) for candidate in candidates.values() for fit in fits]
    run = Parallel(n_jobs=min(cpu_count(), len(work)), backend="loky", inner_max_num_threads=1, return_as="generator")
    answers = run(delayed(_fit)(*item) for item in work)
    said: dict[str, list[Outcome]] = {}
    for name in candidates:
        for _ in fits:
            said.setdefault(name, []).append(next(answers))
            advance(name)
    return said


def _fit(candidate: Candidate, train: pd.DataFrame, judged: pd.DataFrame, seed: int) -> Outcome:
    return candidate.fit_predict(train, judged, seed)
