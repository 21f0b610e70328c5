"""Scores of a classifier's predictions: pure functions of arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from trackdl.analysis.stats import calibration_error


@dataclass(frozen=True)
class Scores:
    """The scores of a model's predictions; smaller is better for `brier`, `log_loss` and `calibration_error`.

    Attributes:
        accuracy: As a fraction.
        auc: The area under the ROC curve; of more than two classes, the mean over classes of one against the rest.
        brier: The mean squared error of the probability; of more than two classes, the sum over classes.
        log_loss: The mean cross-entropy of the probabilities, in nats. As in scikit-learn, a probability below the
            precision of float64, 2e-16, counts as that.
        calibration_error: The expected one; of more than two classes, of the predicted class's probability.
        f1: Of the second of two classes; of more, the mean over classes.
        f1_macro: The mean over classes.
    """

    accuracy: float
    auc: float
    brier: float
    log_loss: float
    calibration_error: float
    f1: float
    f1_macro: float


def score(targets: NDArray[np.int64], labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Scores:
    """Score predicted classes, `labels`, of `targets`, among which there must be two classes.

    The probabilities are of the second of two classes, [n], or of each of more, [n, classes].
    """
    many = probabilities.ndim == 2
    each = probabilities if many else np.stack([1 - probabilities, probabilities], axis=1)
    true = targets[:, None] == np.arange(each.shape[1])
    # A class without a row, or with all of them, has no curve.
    judged = [place for place in range(each.shape[1]) if many and 0 < true[:, place].sum() < len(targets)]
    f1 = f1_score(targets, labels, labels=range(each.shape[1]), average=None, zero_division=0.0)
    return Scores(
        accuracy=float((labels == targets).mean()),
        auc=float(
            np.mean([roc_auc_score(true[:, place], each[:, place]) for place in judged])
            if many
            else roc_auc_score(targets, probabilities)
        ),
        brier=float(((each - true) ** 2).sum(axis=1).mean() if many else brier_score_loss(targets, probabilities)),
        log_loss=mean_loss("bce", targets, probabilities, float(np.finfo(np.float64).eps)),
        calibration_error=calibration_error(*top_class(targets, labels, probabilities)),
        f1=float(f1.mean() if many else f1[1]),
        f1_macro=float(f1.mean()),
    )


def top_class(
    targets: NDArray[np.int64], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return 0 or 1, and the probability of 1, [n] each; of more than two classes, whether the label is right."""
    if probabilities.ndim == 1:
        return targets, probabilities
    return (labels == targets).astype(np.int64), probabilities.max(axis=1)


def mean_loss(
    loss: str,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    least: float = float(np.finfo(np.float32).tiny),
) -> float:
    """Return the mean squared error of probabilities, if `loss` is "mse", or else their mean cross-entropy, in nats.

    For the cross-entropy, a smaller probability counts as `least`.
    """
    if loss == "mse":
        return float(((probabilities - targets) ** 2).mean())
    if probabilities.ndim == 1:
        chosen = np.where(targets == 1, probabilities, 1 - probabilities)
    else:
        chosen = probabilities[np.arange(len(targets)), targets]
    return 0.0 - float(np.log(np.maximum(chosen, least)).mean())
