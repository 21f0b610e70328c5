"""The baselines of a network: scikit-learn's classifiers on the same rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from trackdl.data.tables.inputs import Preparation
from trackdl.data.tables.schema import Schema
from trackdl.spec.table import TableInputs
from trackdl.tabular.protocols import Predictions

# scikit-learn's defaults, except for enough iterations to converge.
BASELINES: dict[str, Any] = {
    "majority-class": DummyClassifier(strategy="prior"),
    "decision-tree": DecisionTreeClassifier(),
    "logistic-regression": LogisticRegression(max_iter=1000),
    "random-forest": RandomForestClassifier(),
    "gradient-boosting": HistGradientBoostingClassifier(),
    "svm": CalibratedClassifierCV(SVC(), ensemble=False),
    "k-neighbours": KNeighborsClassifier(),
    "naive-bayes": GaussianNB(),
}

# Without principal components, which do not help trees.
INPUTS = TableInputs(encoding="one-hot", missing_zeros=True)


@dataclass(frozen=True)
class BaselineCandidate:
    """A classifier to train; `name` is a key of `BASELINES`."""

    name: str
    schema: Schema

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:
        """Train on `train` and predict `test`; `seed` is the classifier's random state."""
        preparation = Preparation.fit(train, INPUTS, self.schema.columns)
        classifier = clone(BASELINES[self.name])
        random = {name for name in classifier.get_params() if name.rpartition("__")[2] == "random_state"}
        classifier.set_params(**dict.fromkeys(random, seed % 2**32))
        classifier.fit(preparation.apply(train), train.iloc[:, -1].to_numpy())
        probabilities = classifier.predict_proba(preparation.apply(test)).astype(np.float64)
        if len(self.schema.classes) > 2:
            return Predictions(probabilities, probabilities.argmax(axis=1))
        return Predictions(probabilities[:, 1], (probabilities[:, 1] > 0.5).astype(np.int64))
