"""Models compared on the same rows: one split with several seeds, and repeated cross-validation.

All fits run in parallel, one thread each, on all cores; a fit's result does not depend on the number of cores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from trackdl.tabular.protocols import Predictions

Advance = Callable[[str], None]
# The places of a fold's training rows and held-out rows, each int64 [n].
Split = tuple[NDArray[np.int64], NDArray[np.int64]]


class Candidate(Protocol):
    """A model to train on any rows of the table; must be picklable in memory."""

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:
        """Train on some rows and predict others."""


@dataclass(frozen=True)
class Scores:
    """The scores of a model's predictions, as fractions; smaller is better for `brier` and `calibration_error`."""

    accuracy: float
    auc: float
    brier: float
    calibration_error: float


def score(targets: NDArray[np.int64], predictions: Predictions) -> Scores:
    """Score predictions against their targets, [n], among which there must be both classes."""
    return Scores(
        accuracy=float((predictions.labels == targets).mean()),
        auc=float(roc_auc_score(targets, predictions.probabilities)),
        brier=float(brier_score_loss(targets, predictions.probabilities)),
        calibration_error=calibration_error(targets, predictions.probabilities),
    )


def folds(targets: NDArray[np.int64], count: int, repeats: int, seed: int) -> list[Split]:
    """Return the splits of repeated stratified cross-validation, one repeat after the other.

    Raises:
        ValueError: A class has fewer rows than there are folds.
    """
    fewest = int(np.bincount(targets, minlength=2).min())
    if fewest < count:
        raise ValueError(f"a class has {fewest} rows, too few for {count} folds")
    splitter = RepeatedStratifiedKFold(n_splits=count, n_repeats=repeats, random_state=seed % 2**32)
    return list(splitter.split(np.zeros(len(targets)), targets))


def table_of(
    by: str, fits: Iterable[tuple[int, NDArray[np.int64], Predictions]], targets: NDArray[np.int64]
) -> pd.DataFrame:
    """Return every prediction: the fit's number, the row's place in the table, its target, label and probability.

    Args:
        by: The name of the column of numbers: `fold` or `seed`.
        fits: Each fit's number, the places of the rows that it predicted, and its predictions.
        targets: The targets of all rows of the table.
    """
    return pd.concat(
        pd.DataFrame(
            {by: number, "row": rows, "target": targets[rows], "label": made.labels, "probability": made.probabilities}
        )
        for number, rows, made in fits
    )


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """A model's out-of-fold predictions.

    Attributes:
        targets: The targets of all rows, int64 [n].
        splits: The folds.
        predictions: Each fold's predictions for its held-out rows.
    """

    targets: NDArray[np.int64]
    splits: Sequence[Split]
    predictions: Sequence[Predictions]

    @cached_property
    def scores(self) -> list[Scores]:
        """Return each fold's scores."""
        pairs = zip(self.splits, self.predictions, strict=True)
        return [score(self.targets[held_out], predictions) for (_, held_out), predictions in pairs]

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return one of the scores for every fold, float64 [folds × repeats]."""
        return np.array([getattr(scores, metric) for scores in self.scores])

    @property
    def test_share(self) -> float:
        """The ratio of held-out rows to training rows."""
        return float(np.mean([len(held_out) / len(train) for train, held_out in self.splits]))

    def estimate(self, metric: str) -> Estimate:
        """Return a score's mean over the folds with its corrected interval."""
        return corrected_estimate(self.values(metric), self.test_share)

    def minus(self, other: "CrossValidated", metric: str) -> Estimate:
        """Return the mean paired difference to another model on the same folds, corrected (Nadeau and Bengio)."""
        if any((a[1] != b[1]).any() for a, b in zip(self.splits, other.splits, strict=True)):
            raise ValueError("the two models were cross-validated on different folds")
        return corrected_estimate(self.values(metric) - other.values(metric), self.test_share)

    def table(self) -> pd.DataFrame:
        """Return every prediction with its fold, as `table_of` does."""
        pairs = enumerate(zip(self.splits, self.predictions, strict=True))
        return table_of("fold", ((fold, split[1], made) for fold, (split, made) in pairs), self.targets)


def cross_validate(
    candidates: Mapping[str, Candidate],
    frame: pd.DataFrame,
    splits: Sequence[Split],
    seed: int,
    advance: Advance = lambda _: None,
) -> dict[str, CrossValidated]:
    """Train every candidate on every fold's training rows and predict the held-out rows.

    Args:
        candidates: The models, by name.
        frame: All rows, with the target.
        splits: The folds, from `folds`.
        seed: The seed of every fit.
        advance: Called with the model's name after each fit.
    """
    fits = [(frame.iloc[train], frame.iloc[held_out], seed) for train, held_out in splits]
    targets = frame[TARGET.name].to_numpy()
    predictions = _fit_all(candidates, fits, advance)
    return {name: CrossValidated(targets, splits, made) for name, made in predictions.items()}


def fit_seeds(
    candidates: Mapping[str, Candidate],
    train: pd.DataFrame,
    test: pd.DataFrame,
    seeds: Sequence[int],
    advance: Advance = lambda _: None,
) -> dict[str, list[Predictions]]:
    """Train every candidate with each seed and predict the test rows."""
    return _fit_all(candidates, [(train, test, seed) for seed in seeds], advance)


def _fit_all(
    candidates: Mapping[str, Candidate], fits: Sequence[tuple[pd.DataFrame, pd.DataFrame, int]], advance: Advance
) -> dict[str, list[Predictions]]:
    jobs = [delayed(candidate.fit_predict)(*fit) for candidate in candidates.values() for fit in fits]
    run = Parallel(n_jobs=min(cpu_count(), len(jobs)), backend="loky", inner_max_num_threads=1, return_as="generator")
    predictions: dict[str, list[Predictions]] = {name: [] for name in candidates}
    for name, made in zip((name for name in candidates for _ in fits), run(jobs), strict=True):
        predictions[name].append(made)
        advance(name)
    return predictions
