"""What a network has to be held against: scikit-learn's classifiers on the same rows, prepared alike."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from trackdl.data.heart.inputs import Preparation
from trackdl.data.heart.schema import TARGET
from trackdl.spec.heart import HeartInputs
from trackdl.tabular.protocols import Outcome

__all__ = ["BASELINES", "BaselineCandidate"]

# scikit-learn's defaults, but for iterations enough to converge.
BASELINES: dict[str, Callable[[int], Any]] = {
    "majority-class": lambda seed: DummyClassifier(strategy="prior", random_state=seed),
    "decision-tree": lambda seed: DecisionTreeClassifier(random_state=seed),
    "logistic-regression": lambda seed: LogisticRegression(max_iter=1000, random_state=seed),
    "random-forest": lambda seed: RandomForestClassifier(random_state=seed),
    "gradient-boosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
}

# As `improved` prepares its rows, but for the principal components, which a tree has no use for.
INPUTS = HeartInputs(encoding="one-hot", missing_zeros=True)


@dataclass(frozen=True)
class BaselineCandidate:
    """A classifier to be trained on whatever rows it is given; `name` is one of `BASELINES`."""

    name: str

    def fit_predict(self, train: pd.DataFrame, judged: pd.DataFrame, seed: int) -> Outcome:
        """Train on rows of the table, then judge others; `seed` is the classifier's random state."""
        preparation = Preparation.fit(train, INPUTS)
        classifier = BASELINES[self.name](seed % 2**32)
        classifier.fit(preparation.apply(train), train[TARGET.name].to_numpy())
        probabilities = classifier.predict_proba(preparation.apply(judged))[:, 1].astype(np.float64)
        return Outcome(probabilities, (probabilities > 0.5).astype(np.int64))
