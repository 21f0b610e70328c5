from trackdl.analysis.stats import Estimate
from trackdl.tabular import tables

FOUND = {
    **{f"test_accuracy{part}": 0.9 for part in ("", "_low", "_high", "_mean", "_min", "_max")},
    **{f"test_{score}_mean": 0.5 for score in ("f1", "auc", "brier")},
    **{f"cv_{score}": 0.5 for score in ("accuracy", "auc", "brier", "log_loss", "calibration_error")},
}


def test_one_seed_has_no_mean_and_no_range() -> None:
    for seeds, more in ((1, []), (3, ["mean of 3", "range"])):
        columns, rows = tables.holdout_table({"a": FOUND}, seeds)
        assert columns[2:-3] == ["exact 95 % interval", *more]
        assert [len(row) for row in rows] == [len(columns)]


def test_a_small_p_is_not_said_to_be_nothing() -> None:
    estimate = Estimate(mean=0.01, low=0.0, high=0.02, p=0.0004)
    columns, (row,) = tables.cross_validation_table(
        {"a": FOUND}, {"a": dict.fromkeys(("accuracy", "auc", "brier", "log_loss"), estimate)}
    )
    assert [cell for name, cell in zip(columns, row, strict=True) if name == "p"] == ["<0.01"] * 4
