"""The comparison of models as text: the columns and rows of its tables."""

from collections.abc import Mapping

from trackdl.analysis.stats import Estimate
from trackdl.data.heart.table import Audit

__all__ = ["audit_words", "compared", "tested"]

Metrics = Mapping[str, Mapping[str, float]]
Table = tuple[list[str], list[list[str]]]


def tested(metrics: Metrics, seeds: int) -> Table:
    """Return the table of the test rows: the first seed with its exact interval, and all seeds."""
    columns = ["model", "accuracy", "exact 95 % interval", f"mean of {seeds}", "least to most", "AUC", "Brier"]
    rows = [
        [
            name,
            f"{found['test_accuracy']:.1%}",
            f"{found['test_accuracy_low']:.1%} to {found['test_accuracy_high']:.1%}",
            f"{found['test_accuracy_mean']:.1%}",
            f"{found['test_accuracy_min']:.1%} to {found['test_accuracy_max']:.1%}",
            f"{found['test_auc_mean']:.3f}",
            f"{found['test_brier_mean']:.3f}",
        ]
        for name, found in metrics.items()
        if "test_accuracy" in found
    ]
    return columns, rows


def compared(metrics: Metrics, against: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Return the table of the cross-validation: each model's scores, and its paired differences to another model.

    Differences are hundredths, with their intervals; ECE is the expected calibration error.

    Args:
        metrics: Each model's.
        against: By model and score; a model without an entry is not in the table.
    """
    columns = ["model", "accuracy", "AUC", "Brier", "ECE", "accuracy, points", "p", "AUC, points", "p"]
    rows = [
        [
            name.removeprefix("ablation/").removeprefix("baselines/"),
            f"{metrics[name]['cv_accuracy']:.1%}",
            f"{metrics[name]['cv_auc']:.3f}",
            f"{metrics[name]['cv_brier']:.3f}",
            f"{metrics[name]['cv_calibration_error']:.3f}",
            *_difference(found["accuracy"]),
            *_difference(found["auc"]),
        ]
        for name, found in against.items()
    ]
    return columns, rows


def _difference(found: Estimate) -> list[str]:
    mean, low, high = (100 * value for value in (found.mean, found.low, found.high))
    return [f"{mean:+.1f} ({low:+.1f} {high:+.1f})", f"{found.p:.2f}"]


def audit_words(found: Audit, count: int) -> str:
    """Return what was looked for in the table's rows, and found."""
    zeros = ", ".join(f"{name} is 0, for missing, in {number}" for name, number in found.zeros.items())
    return (
        f"{count} rows: {len(found.duplicates)} pairs are duplicates, {len(found.contradictions)} differ in the target "
        f"alone, {len(found.leaks)} of both lie across the split; {len(found.near)} pairs differ in one feature, "
        f"{len(found.near_leaks)} of them across the split; {zeros}"
    )
