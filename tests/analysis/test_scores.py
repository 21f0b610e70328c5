"""Scores of predictions, next to scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from trackdl.analysis.scores import score


@pytest.mark.parametrize("right", [8, 6])
def test_the_log_loss_of_certain_answers_is_scikit_learns(right: int) -> None:
    """A decision tree's probabilities are 0 and 1: each wrong answer cost 87 nats, and none at all was -0.0."""
    targets = np.arange(8) % 2
    labels = np.where(np.arange(8) < right, targets, 1 - targets)
    found = score(targets, labels, labels.astype(np.float64)).log_loss
    assert found == pytest.approx(log_loss(targets, labels.astype(np.float64)), abs=1e-9)
    assert not np.signbit(found)


def test_the_log_loss_of_three_classes_is_scikit_learns() -> None:
    drawn = np.random.default_rng(3)
    targets, each = np.arange(30) % 3, drawn.dirichlet(np.ones(3), 30)
    assert score(targets, each.argmax(axis=1), each).log_loss == pytest.approx(log_loss(targets, each))
