"""What models said of rows, in a run: scores as metrics, every prediction and every fold as an artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from trackdl.analysis.stats import calibration_error, exact_interval
from trackdl.tabular.comparison import CrossValidated, score
from trackdl.tabular.protocols import History, Outcome
from trackdl.tracking.runs import Run

__all__ = ["log_cross_validation", "log_histories", "log_tested"]


def log_tested(
    run: Run, outcomes: Sequence[Outcome], targets: NDArray[np.int64], rows: NDArray[np.int64], seeds: Sequence[int]
) -> dict[str, float]:
    """Log what fits by several seeds said of the test rows.

    The metrics `test_...` are the first seed's, the accuracy with its exact interval; `test_..._mean` are all seeds'.

    Args:
        run: The open run.
        outcomes: A seed's each.
        targets: Of the test rows, [n].
        rows: Their places in the table, [n].
        seeds: The seeds.

    Returns:
        The metrics.
    """
    scores = [asdict(score(targets, outcome)) for outcome in outcomes]
    low, high = exact_interval(int((outcomes[0].labels == targets).sum()), len(targets))
    metrics = {f"test_{name}": value for name, value in scores[0].items()}
    metrics |= {"test_accuracy_low": low, "test_accuracy_high": high}
    metrics |= {f"test_{name}_mean": float(np.mean([item[name] for item in scores])) for name in scores[0]}
    accuracies = [item["accuracy"] for item in scores]
    metrics |= {"test_accuracy_min": min(accuracies), "test_accuracy_max": max(accuracies)}
    run.metrics(metrics)
    run.curve("test_accuracy_by_seed", list(zip(seeds, accuracies, strict=True)))
    said = [
        pd.DataFrame(
            {"seed": seed, "row": rows, "target": targets, "label": item.labels, "probability": item.probabilities}
        )
        for seed, item in zip(seeds, outcomes, strict=True)
    ]
    run.text(pd.concat(said).to_csv(index=False), "predictions/test.csv")
    return metrics


def log_cross_validation(run: Run, crossed: CrossValidated) -> dict[str, float]:
    """Log what folds' fits said of held-out rows: each score's mean and corrected interval, every fold, every row.

    The calibration error is that of all folds' predictions together: a fold alone has too few for its bins.

    Returns:
        The metrics.
    """
    metrics: dict[str, float] = {}
    for name in ("accuracy", "auc", "brier"):
        estimate = crossed.estimate(name)
        metrics |= {f"cv_{name}": estimate.mean, f"cv_{name}_low": estimate.low, f"cv_{name}_high": estimate.high}
        run.curve(f"cv_{name}_by_fold", list(enumerate(crossed.values(name).tolist())))
    targets, outcome = crossed.pooled
    metrics["cv_calibration_error"] = calibration_error(targets, outcome.probabilities)
    run.metrics(metrics)
    run.table({"folds": [asdict(item) for item in crossed.scores]}, "predictions/folds.json")
    run.text(crossed.table().to_csv(index=False), "predictions/cross_validation.csv")
    return metrics


def log_histories(run: Run, histories: Mapping[int, Sequence[History]]) -> None:
    """Log how a network's trainings went: the first's curves as metrics, those of all seeds and members as an artifact.

    Args:
        run: The open run.
        histories: The members' by seed; the first seed speaks for the model.
    """
    first = next(iter(histories.values()))[0]
    for result in first.curve:
        run.metrics({"train_loss": result.train_loss, "train_accuracy": result.train_accuracy}, step=result.epoch)
        run.curve("batch_loss", result.batch_losses)
    run.curve("val_loss", list(enumerate(first.stopping_losses, 1)))
    kept = [{"seed": seed, "members": [_kept(history) for history in members]} for seed, members in histories.items()]
    run.table({"seeds": kept}, "training.json")


def _kept(history: History) -> dict[str, Any]:
    return {
        "epoch_kept": history.epoch,
        "train_loss": [result.train_loss for result in history.curve],
        "batch_losses": [point for result in history.curve for point in result.batch_losses],
        "val_loss": history.stopping_losses,
    }
