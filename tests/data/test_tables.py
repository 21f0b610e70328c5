"""The heart table: cells checked and named, rows split, duplicates and leaks found."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tables import features, load_heart
from trackdl.data.download.datasets import read
from trackdl.data.tables.cells import called
from trackdl.data.tables.heart import FEATURES
from trackdl.data.tables.inputs import Preparation
from trackdl.data.tables.schema import check_rows, meant
from trackdl.data.tables.table import Table, audit
from trackdl.errors import InputError
from trackdl.spec.table import TableInputs

NAMES = [*(column.name for column in FEATURES), "HeartDisease"]
HEADER = ",".join(NAMES)
ROW = "54,M,ASY,130,0,0,Normal,140,N,1.5,Flat,1"
INPUTS = TableInputs(encoding="one-hot", missing_zeros=True)
LABELS = TableInputs(encoding="labels")


def table(*rows: str, header: str = HEADER) -> pd.DataFrame:
    return features("\n".join([header, *rows]).encode(), "t.csv")


@pytest.fixture(scope="module")
def report() -> Table:
    return load_heart()


cells = st.tuples(
    *(
        st.sampled_from(column.categories)
        if column.categories
        else st.integers(int(column.low), int(column.high))
        if column.whole
        else st.floats(column.low, column.high)
        for column in FEATURES
    )
)


@given(st.lists(cells, min_size=1, max_size=8), st.permutations(range(len(NAMES))))
def test_what_is_written_is_read_whatever_the_columns_order(rows: list[tuple[object, ...]], order: list[int]) -> None:
    frame = pd.DataFrame([[*row, 1] for row in rows], columns=NAMES)
    again = features(frame.iloc[:, order].to_csv(index=False).encode(), "t.csv")
    assert list(again.columns) == NAMES[:-1]
    for name in again.columns:
        assert again[name].tolist() == frame[name].tolist()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("54", "abc", "row 1, column Age: is 'abc'; it may be a whole number from 0 to 120"),
        ("54", "54.5", "row 1, column Age: is '54.5'"),
        ("54", "nan", "row 1, column Age: is 'nan'"),
        ("54", "", "row 1, column Age: is missing"),
        ("130", "-1", "row 1, column RestingBP: is '-1'"),
        ("1.5", "inf", "row 1, column Oldpeak: is 'inf'; it may be a number from -10 to 10"),
        (",M,", ",X,", "row 1, column Sex: is 'X'; it may be one of F, M"),
        ("Flat", "flatt", "row 1, column ST_Slope: is 'flatt'; it may be one of Down, Flat, Up"),
    ],
)
def test_a_wrong_cell_is_named_by_row_and_column(old: str, new: str, words: str) -> None:
    with pytest.raises(InputError, match=r"^t\.csv: ") as caught:
        table(ROW.replace(old, new, 1), ROW)
    assert words in str(caught.value)


def test_the_first_problems_are_reported_at_once() -> None:
    with pytest.raises(InputError) as caught:
        table(ROW.replace("54", "x"), *[ROW.replace("ASY", "?")] * 8)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert "row 1, column Age" in lines[0]
    assert "row 2, column ChestPainType" in lines[1]
    assert lines[-1] == "and 4 more"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a CSV table"),
        (b"\xff", "not UTF-8"),
        (b"\xff\xfeA", "not UTF-8 or UTF-16"),
        (b"\xff\xfe", "it is empty"),
        (HEADER.encode(), "no rows"),
        (f"{HEADER},Extra\n{ROW},1".encode(), "unknown column 'Extra'"),
        (f"{HEADER},a,b,c,d,e,f,g\n{ROW},1,2,3,4,5,6,7".encode(), "'e', and 2 more"),
        (f"{HEADER.replace('Age', 'age')}\n{ROW}".encode(), "missing column 'Age'; unknown column 'age'"),
        (f"{HEADER.replace('Sex', 'Age')}\n{ROW}".encode(), "duplicate column 'Age'"),
        (f"{HEADER}\n{ROW}\n{ROW},7".encode(), "not a CSV table"),
    ],
)
def test_what_is_no_such_table_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=r"^t\.csv: ") as caught:
        features(content, "t.csv")
    assert words in str(caught.value)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_or_a_clear_error(content: bytes) -> None:
    with pytest.raises(InputError, match=r"t\.csv: "):
        features(content, "t.csv")


def test_records_are_checked_without_the_target() -> None:
    record = dict(zip(HEADER.split(","), ROW.split(","), strict=True))
    target = record.pop("HeartDisease")
    assert check_rows([record], FEATURES)["Oldpeak"].tolist() == [1.5]
    with pytest.raises(InputError, match="row 1: unknown column 'HeartDisease'"):
        check_rows([{**record, "HeartDisease": target}], FEATURES)
    with pytest.raises(InputError, match="column MaxHR: is missing"):
        check_rows([{**record, "MaxHR": float("nan")}], FEATURES)
    with pytest.raises(InputError, match="column FastingBS: is True"):
        check_rows([{**record, "FastingBS": True}], FEATURES)


def test_the_split_is_the_reports(report: Table) -> None:
    assert (len(report.train), len(report.test), len(report.frame)) == (718, 200, 918)
    assert sorted([*report.train, *report.test]) == list(range(918))
    assert np.bincount(report.targets[report.test]).tolist() == [95, 105]
    # The report's own file is rebuilt from the rows' numbers, byte for byte (data/heart/README.md).
    lines = read("heart")["heart.csv"].decode().splitlines()
    rebuilt = "".join(f"{line}\r\n" for line in [lines[0], *(lines[1 + row] for row in report.train)])
    assert hashlib.sha256(rebuilt.encode()).hexdigest().startswith("1c491fc1cdd4d29d")


def test_the_labels_are_the_notebooks(report: Table) -> None:
    """The first rows as the report's notebook prints its first batch."""
    assert Preparation.fit(report.train_rows, LABELS, FEATURES).apply(report.train_rows)[:2].tolist() == [
        [66, 0, 2, 146, 278, 0, 0, 152, 0, 0, 1],
        [65, 1, 0, 150, 235, 0, 1, 120, 1, 1.5, 1],
    ]


def test_the_inputs_and_the_first_targets_are_the_notebooks(report: Table) -> None:
    inputs = Preparation.fit(report.train_rows, LABELS, FEATURES).apply(report.train_rows)
    assert inputs.shape == (718, 11)
    assert inputs.dtype == np.float32
    assert report.targets[report.train][:10].tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 1, 1]


def test_ones_own_tables_are_split_by_the_seed(tmp_path: Path, report: Table) -> None:
    path = tmp_path / "own.csv"
    report.frame.head(100).to_csv(path, index=False)
    first, again, other = (load_heart(path, seed=seed) for seed in (1, 1, 2))
    assert first.origin == "own"
    assert len(first.test) == 20
    assert not set(first.train) & set(first.test)
    assert first.test.tolist() == again.test.tolist() != other.test.tolist()
    assert abs(first.targets[first.test].mean() - first.targets.mean()) < 0.05
    report.frame[90:150].to_csv(tmp_path / "other.csv", index=False)
    apart = load_heart(path, tmp_path / "other.csv")
    assert (len(apart.train), len(apart.test)) == (100, 50)  # ten rows were in both
    shutil.copy(path, tmp_path / "same.csv")
    with pytest.raises(InputError, match="has the rows of"):
        load_heart(path, tmp_path / "same.csv")


@pytest.mark.parametrize(
    "change",
    {
        "a header in lower case": lambda frame: frame.rename(columns=str.lower),
        "a header with spaces": lambda frame: frame.rename(columns={"RestingBP": "Resting BP", "ST_Slope": "st slope"}),
        "cells in lower case": lambda frame: frame.map(lambda cell: cell.lower() if isinstance(cell, str) else cell),
        "true and false": lambda frame: frame.replace({"HeartDisease": {0: "False", 1: "True"}}),
        "yes and no": lambda frame: frame.replace(
            {
                "HeartDisease": {0: "no", 1: "yes"},
                "ExerciseAngina": {"Y": "Yes", "N": "No"},
                "FastingBS": {0: "n", 1: "y"},
            }
        ),
        "names of classes": lambda frame: frame.replace({"HeartDisease": {0: "Normal", 1: "Heart disease"}}),
    }.items(),
    ids=lambda item: item[0],
)
def test_names_and_cells_may_be_spelt_otherwise(tmp_path: Path, report: Table, change: Any) -> None:
    path, plain = tmp_path / "own.csv", report.frame.head(60).astype({"HeartDisease": object, "FastingBS": object})
    plain.to_csv(path, index=False)
    expected = load_heart(path).frame
    change[1](plain).to_csv(path, index=False)
    pd.testing.assert_frame_equal(load_heart(path).frame, expected)


def test_what_is_not_certain_is_named(tmp_path: Path, report: Table) -> None:
    path = tmp_path / "own.csv"
    report.frame.head(60).replace({"HeartDisease": {0: "nein", 1: "ja"}}).to_csv(path, index=False)
    with pytest.raises(InputError, match="column HeartDisease: is 'ja'; it may be one of 0, 1"):
        load_heart(path)
    assert meant("Yes", ["Y", "yes"]) == "yes"
    assert meant("yes", ["Y", "N", "unknown"]) == "yes"  # of three choices two are no words for true and false
    assert meant("a", ["A", "Ａ", "b"]) == "A"
    assert meant("true", ["true", "TRUE", "false"]) == "true"
    assert called(["age", "AGE", "sex"], ["Age", "Sex"]) == ["age", "AGE", "Sex"]


def test_a_table_of_one_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("\n".join([HEADER, *[ROW] * 10]))
    with pytest.raises(InputError, match="10 rows have one HeartDisease, heart disease; two classes are needed"):
        load_heart(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_heart(tmp_path / "none.csv")


def test_the_audit_finds_what_is_put_there(report: Table) -> None:
    frame = report.frame.copy()
    one, two = int(report.train[0]), int(report.test[0])
    frame.loc[two] = frame.loc[one]
    frame.loc[report.train[1]] = {**frame.loc[one], "HeartDisease": 1 - frame.loc[one, "HeartDisease"]}
    found = audit(Table(frame, report.train, report.test, report.schema))
    assert found.duplicates == [tuple(sorted((one, two)))]
    assert len(found.contradictions) == 2
    assert tuple(sorted((one, two))) in found.leaks


def test_the_reports_table_has_no_duplicate_and_no_leak(report: Table) -> None:
    found = audit(report)
    assert not found.duplicates
    assert not found.contradictions
    assert not found.leaks
    assert len(found.near) == 1
    assert found.zeros == {"RestingBP": 1, "Cholesterol": 172}


@pytest.mark.parametrize("variance", [None, 0.9])
def test_a_preparation_is_numbers_of_the_training_rows(report: Table, variance: float | None) -> None:
    made = Preparation.fit(report.train_rows, INPUTS.model_copy(update={"variance": variance}), FEATURES)
    inputs = made.apply(report.train_rows)
    assert inputs.shape == (718, made.width)
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-5)
    if variance is None:
        np.testing.assert_allclose(inputs.std(axis=0), 1, atol=1e-5)
    else:
        assert made.width < len(made.mean)
        np.testing.assert_allclose(np.cov(inputs.T) - np.diag(inputs.var(axis=0, ddof=1)), 0, atol=1e-4)
    again = Preparation.model_validate_json(made.model_dump_json())
    np.testing.assert_array_equal(again.apply(report.test_rows), made.apply(report.test_rows))
    # A row's inputs depend on no other row that is asked about.
    np.testing.assert_array_equal(made.apply(report.test_rows.head(1)), made.apply(report.test_rows)[:1])


def test_zeros_that_mean_missing_become_the_median_and_are_marked(report: Table) -> None:
    made = Preparation.fit(report.train_rows, INPUTS, FEATURES)
    measured = report.train_rows.loc[report.train_rows["Cholesterol"] != 0, "Cholesterol"]
    row = report.test_rows.head(1)
    zero, median = (row.assign(Cholesterol=value) for value in (0, measured.median()))
    differ = np.flatnonzero(made.apply(zero) != made.apply(median))
    assert differ.tolist() == [made.width - 1]  # the mark alone
    plain = Preparation.fit(report.train_rows, INPUTS.model_copy(update={"missing_zeros": False}), FEATURES)
    assert plain.width == made.width - 1
    assert not plain.medians
