"""The baselines of a network: scikit-learn's classifiers on the same rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from trackdl.data.heart.inputs import Preparation
from trackdl.data.heart.schema import TARGET
from trackdl.spec.heart import HeartInputs
from trackdl.tabular.protocols import Predictions

# scikit-learn's defaults, except for enough iterations to converge.
BASELINES: dict[str, Any] = {
    "majority-class": DummyClassifier(strategy="prior"),
    "decision-tree": DecisionTreeClassifier(),
    "logistic-regression": LogisticRegression(max_iter=1000),
    "random-forest": RandomForestClassifier(),
    "gradient-boosting": HistGradientBoostingClassifier(),
}

# The inputs of the protocol `improved` without principal components, which do not help trees.
INPUTS = HeartInputs(encoding="one-hot", missing_zeros=True)


@dataclass(frozen=True)
class BaselineCandidate:
    """A classifier to train; `name` is a key of `BASELINES`."""

    name: str

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:
        """Train on `train` and predict `test`; `seed` is the classifier's random state."""
        preparation = Preparation.fit(train, INPUTS)
        classifier = clone(BASELINES[self.name]).set_params(random_state=seed % 2**32)
        classifier.fit(preparation.apply(train), train[TARGET.name].to_numpy())
        probabilities = classifier.predict_proba(preparation.apply(test))[:, 1].astype(np.float64)
        return Predictions(probabilities, (probabilities > 0.5).astype(np.int64))
