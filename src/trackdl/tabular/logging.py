"""Predictions for a table logged in a run: scores as metrics, every prediction and every fit as an artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from trackdl.analysis.scores import mean_loss, score, top_class
from trackdl.analysis.stats import calibration_error, exact_interval
from trackdl.tabular.comparison import CrossValidated, table_of
from trackdl.tabular.protocols import LearningCurve, Predictions
from trackdl.tracking.runs import Run


def log_test(
    run: Run,
    predictions: Mapping[int, Predictions],
    targets: NDArray[np.int64],
    rows: NDArray[np.int64],
    loss: str | None = None,
) -> dict[str, float]:
    """Log the predictions for the test rows.

    The metrics `test_...` are the first seed's, the accuracy with its exact interval; `test_..._mean` are means over
    the seeds.

    Args:
        run: The open run.
        predictions: By seed.
        targets: Of all rows of the table.
        rows: The places of the test rows, [n].
        loss: "mse" or a cross-entropy, which is logged as `test_loss`.

    Returns:
        The metrics.
    """
    scores = [asdict(score(targets[rows], made.labels, made.probabilities)) for made in predictions.values()]
    first = next(iter(predictions.values()))
    low, high = exact_interval(int((first.labels == targets[rows]).sum()), len(rows))
    metrics = {f"test_{name}": value for name, value in scores[0].items()}
    metrics |= {"test_loss": mean_loss(loss, targets[rows], first.probabilities)} if loss else {}
    metrics |= {"test_accuracy_low": low, "test_accuracy_high": high}
    metrics |= {f"test_{name}_mean": float(np.mean([item[name] for item in scores])) for name in scores[0]}
    accuracies = [item["accuracy"] for item in scores]
    metrics |= {"test_accuracy_min": min(accuracies), "test_accuracy_max": max(accuracies)}
    run.metrics(metrics)
    run.curve("test_accuracy_by_seed", zip(predictions, accuracies, strict=True))
    table = table_of("seed", ((seed, rows, made) for seed, made in predictions.items()), targets)
    run.text(table.to_csv(index=False), "predictions/test.csv")
    return metrics


def log_cross_validation(run: Run, crossed: CrossValidated) -> dict[str, float]:
    """Log out-of-fold predictions: each score's mean and corrected interval as metrics, every fold and row in files.

    The calibration error is computed over all folds together: a single fold has too few rows for its bins.

    Returns:
        The metrics.
    """
    metrics: dict[str, float] = {}
    for name in ("accuracy", "auc", "brier", "log_loss", "f1", "f1_macro"):
        estimate = crossed.estimate(name)
        metrics |= {f"cv_{name}": estimate.mean, f"cv_{name}_low": estimate.low, f"cv_{name}_high": estimate.high}
    table = crossed.table()
    metrics["cv_calibration_error"] = calibration_error(*top_class(*crossed.held_out))
    run.metrics(metrics)
    run.table({"folds": [asdict(item) for item in crossed.scores]}, "predictions/folds.json")
    run.text(table.to_csv(index=False), "predictions/cross_validation.csv")
    return metrics


def log_learning_curves(run: Run, learning_curves: Mapping[int, Sequence[LearningCurve]], loss: str) -> None:
    """Log a network's learning curves: the first one as metrics, those of all seeds and members as an artifact.

    Args:
        run: The open run.
        learning_curves: Each member's, by seed.
        loss: The training's.
    """
    first = next(iter(learning_curves.values()))[0]
    for result in first.epochs:
        run.metrics({"train_loss": result.train_loss, "train_accuracy": result.train_accuracy}, step=result.epoch)
        run.curve("batch_loss", result.batch_losses)
    run.curve("val_loss", enumerate(first.val_losses, 1))
    seeds = [
        {
            "seed": seed,
            "members": [
                {
                    "epoch_kept": curve.kept_epoch,
                    "train_loss": [result.train_loss for result in curve.epochs],
                    "train_accuracy": [result.train_accuracy for result in curve.epochs],
                    "batch_losses": [point for result in curve.epochs for point in result.batch_losses],
                    "val_loss": curve.val_losses,
                }
                for curve in members
            ],
        }
        for seed, members in learning_curves.items()
    ]
    run.table({"loss": loss, "seeds": seeds}, "training.json")
