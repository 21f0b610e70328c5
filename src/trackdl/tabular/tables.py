"""The comparison of models as text tables."""

from collections.abc import Mapping

from trackdl.analysis.stats import Estimate
from trackdl.data.tables.table import MOST_COMPARED, Audit
from trackdl.system.console import counted

Metrics = Mapping[str, Mapping[str, float]]
Table = tuple[list[str], list[list[str]]]  # columns and rows


def holdout_table(metrics: Metrics, seeds: int) -> Table:
    """Return the results on the test rows: the first seed with its exact interval, and all seeds."""
    several = [f"mean of {seeds}", "range"] if seeds > 1 else []
    columns = ["model", "accuracy", "exact 95 % interval", *several, "F1", "AUC", "Brier"]
    rows = [
        [
            name,
            f"{found['test_accuracy']:.1%}",
            f"{found['test_accuracy_low']:.1%} to {found['test_accuracy_high']:.1%}",
            *(_over_seeds(found) if several else []),
            f"{found['test_f1_mean']:.3f}",
            f"{found['test_auc_mean']:.3f}",
            f"{found['test_brier_mean']:.3f}",
        ]
        for name, found in metrics.items()
        if "test_accuracy" in found
    ]
    return columns, rows


def _over_seeds(found: Mapping[str, float]) -> list[str]:
    accuracies = f"{found['test_accuracy_min']:.1%} to {found['test_accuracy_max']:.1%}"
    return [f"{found['test_accuracy_mean']:.1%}", accuracies]


def cross_validation_table(metrics: Metrics, differences: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """Return the results of cross-validation: each model's scores and paired differences to a reference.

    Each p is of the difference in the score before it. The accuracy's difference is in percentage points, with its
    interval; the other intervals are in `comparisons.json`. ECE is the expected calibration error.

    Args:
        metrics: By model.
        differences: By model and score; a model without an entry is not in the table.
    """
    others = {"auc": "AUC", "brier": "Brier", "log_loss": "log loss"}
    columns = ["model", "accuracy", "points", "p", *(part for name in others.values() for part in (name, "p")), "ECE"]
    rows = [
        [
            name.removeprefix("ablation/").removeprefix("baselines/"),
            f"{metrics[name]['cv_accuracy']:.1%}",
            _points(found["accuracy"]),
            _p(found["accuracy"]),
            *(part for score in others for part in (f"{metrics[name][f'cv_{score}']:.3f}", _p(found[score]))),
            f"{metrics[name]['cv_calibration_error']:.3f}",
        ]
        for name, found in differences.items()
    ]
    return columns, rows


def _p(found: Estimate) -> str:
    return "<0.01" if found.p < 0.005 else f"{found.p:.2f}"


def _points(found: Estimate) -> str:
    mean, low, high = (100 * value for value in (found.mean, found.low, found.high))
    return f"{mean:+.1f} ({low:+.1f} {high:+.1f})"


def describe_audit(found: Audit, count: int) -> str:
    """Return the findings in a table of `count` rows as a sentence."""
    lacking = [f"{name} is 0, for missing, in {counted(number, 'row')}" for name, number in found.zeros.items()]
    lacking += [f"{name} is missing in {counted(number, 'row')}" for name, number in found.missing.items()]
    near = f"pairs that differ in one feature: {len(found.near)}, {len(found.near_leaks)} of them across the split"
    return (
        f"{counted(count, 'row')}: {counted(len(found.duplicates), 'pair')} of duplicates, and "
        f"{len(found.contradictions)} that differ only in the target; {len(found.leaks)} of these across the split; "
        + "; ".join([near if count <= MOST_COMPARED else "near duplicates were not looked for", *lacking])
    )
