"""The choice within each fold: made by the training rows alone, and the held-out rows predicted by what was chosen."""

import sys

import numpy as np
import pandas as pd

from support import ROOT
from trackdl.tabular.protocols import Predictions

sys.path.insert(0, str(ROOT / "benchmarks"))

import nested


class Sure:
    """A candidate that takes the first column for the target, and says it with some certainty."""

    def __init__(self, certainty: float) -> None:
        self.certainty = certainty

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:  # noqa: ARG002
        label = test.iloc[:, 0].to_numpy()
        return Predictions(np.where(label == 1, self.certainty, 1 - self.certainty), label)


def rows(right: float) -> pd.DataFrame:
    """Return 60 rows whose first column is the target in a share of them."""
    target = np.arange(60) % 2
    guess = np.where(np.arange(60) < right * 60, target, 1 - target)
    return pd.DataFrame({"guess": guess, "target": target})


def test_the_rows_choose_between_candidates_by_log_loss() -> None:
    chosen = nested.Chosen({"bold": Sure(0.999), "modest": Sure(0.7)})
    assert chosen.choose(rows(right=1.0), seed=1) == "bold"
    assert chosen.choose(rows(right=0.7), seed=1) == "modest"


def test_the_chosen_candidate_predicts_the_held_out_rows() -> None:
    chosen = nested.Chosen({"bold": Sure(0.999), "modest": Sure(0.7)})
    made = chosen.fit_predict(rows(right=0.7), rows(right=1.0), seed=1)
    assert set(made.probabilities.round(3)) == {0.7, 0.3}
