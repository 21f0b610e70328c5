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
from sklearn.model_selection import RepeatedStratifiedKFold

from trackdl.analysis.scores import Scores, score
from trackdl.analysis.stats import Estimate, corrected_estimate
from trackdl.tabular.protocols import Predictions

Advance = Callable[[str], None]
# The places of a fold's training rows and held-out rows, each int64 [n].
Split = tuple[NDArray[np.int64], NDArray[np.int64]]


class Candidate(Protocol):
    """A model to train on any rows of the table; must be picklable in memory."""

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:
        """Train on some rows and predict others."""


def folds(
    targets: NDArray[np.int64], count: int, repeats: int, seed: int, classes: Sequence[str] = ("0", "1")
) -> list[Split]:
    """Return the splits of repeated stratified cross-validation, one repeat after the other; none for a `count` of 0.

    Raises:
        ValueError: A class has fewer rows than there are folds.
    """
    if not count:
        return []
    counts = np.bincount(targets, minlength=len(classes))
    if counts.min() < count:
        name = classes[int(counts.argmin())]
        raise ValueError(f"the class {name!r} has {counts.min()} rows, too few for {count} folds")
    splitter = RepeatedStratifiedKFold(n_splits=count, n_repeats=repeats, random_state=seed % 2**32)
    return list(splitter.split(np.zeros(len(targets)), targets))


def table_of(
    by: str, fits: Iterable[tuple[int, NDArray[np.int64], Predictions]], targets: NDArray[np.int64]
) -> pd.DataFrame:
    """Return every prediction: the fit's number, the row's place in the table, its target, label and probability.

    Of more than two classes, each has a column `probability_0`, `probability_1` and so on.

    Args:
        by: The name of the column of numbers: `fold` or `seed`.
        fits: Each fit's number, the places of the rows that it predicted, and its predictions.
        targets: The targets of all rows of the table.
    """

    def one(number: int, rows: NDArray[np.int64], made: Predictions) -> pd.DataFrame:
        each = made.probabilities.T
        named = {"probability": each} if each.ndim == 1 else {f"probability_{i}": of for i, of in enumerate(each)}
        return pd.DataFrame({by: number, "row": rows, "target": targets[rows], "label": made.labels, **named})

    return pd.concat(one(*fit) for fit in fits)


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
        return [score(self.targets[held_out], made.labels, made.probabilities) for (_, held_out), made in pairs]

    @property
    def held_out(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """The targets, labels and probabilities of all folds together."""
        return (
            np.concatenate([self.targets[rows] for _, rows in self.splits]),
            np.concatenate([made.labels for made in self.predictions]),
            np.concatenate([made.probabilities for made in self.predictions]),
        )

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
        frame: All rows, the target last.
        splits: The folds, from `folds`.
        seed: The seed of every fit.
        advance: Called with the model's name after each fit.
    """
    fits = [(frame.iloc[train], frame.iloc[held_out], seed) for train, held_out in splits]
    targets = frame.iloc[:, -1].to_numpy()
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
