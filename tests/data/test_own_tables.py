"""Tables of one's own: read as people save them, their columns inferred, their errors named by file, row and column."""

import codecs
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from support.tables import own
from trackdl.data.tables.cells import read_cells
from trackdl.data.tables.inputs import Preparation
from trackdl.data.tables.schema import check_rows
from trackdl.data.tables.table import audit, load_table
from trackdl.errors import InputError
from trackdl.spec.table import Column, TableData, TableInputs

PLAIN = "age,kind,y\n" + "".join(f"{20 + i},{'ab'[i % 2]},{'no' if i < 10 else 'yes'}\n" for i in range(20))
ONE_HOT, LABELS = TableInputs(), TableInputs(encoding="labels")


def error(path: Path, text: str | bytes, /, **keys: Any) -> str:
    with pytest.raises(InputError) as caught:
        own(path, text, **keys)
    assert str(path) in str(caught.value)
    return str(caught.value).replace(f"{path}: ", "")


WAYS = {
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "a byte order mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "UTF-16": PLAIN.replace(",", "\t").encode("utf-16"),
    "UTF-16, big end first": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "a sep= line": f"sep=;\r\n{PLAIN.replace(',', ';')}".encode(),
    "quotes": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.split()).encode(),
    "Windows' line ends": PLAIN.replace("\n", "\r\n").encode(),
    "trailing empty rows and a column": "\n".join([*(f"{line}," for line in PLAIN.split()), ",,,", ",,,", ""]).encode(),
    "spaces": PLAIN.replace(",", ", ").encode(),
    "rows' numbers": "".join(f"{n - 1 if n else ''},{line}\n" for n, line in enumerate(PLAIN.split())).encode(),
    "rows' names": "".join(f"{n * 7 or 'Unnamed: 0'},{line}\n" for n, line in enumerate(PLAIN.split())).encode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_the_same_however_it_is_saved(tmp_path: Path, way: str) -> None:
    plain, saved = own(tmp_path / "a.csv", PLAIN), own(tmp_path / "b.csv", WAYS[way])
    pd.testing.assert_frame_equal(saved.frame, plain.frame)
    assert saved.schema == plain.schema
    assert plain.schema.classes == ["no", "yes"]
    kinds = [Column(name="age", whole=True), Column(name="kind", categories=["a", "b"])]
    assert plain.schema.columns == kinds


TEXTS = st.text("ab,;\"'\n é", max_size=5).map(str.strip)


@given(
    st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_cells_are_read_as_they_were_written(rows: list[list[str]], separator: str, encoding: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([["x", "y", "z"], *rows])
    left = [row for row in rows if any(row)]
    if not left:
        with pytest.raises(InputError, match="no rows"):
            read_cells(text.getvalue().encode(encoding), "t.csv")
        return
    assert read_cells(text.getvalue().encode(encoding), "t.csv").rows == left


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("x;y\n1,5;a\n2;b\n", [["1.5", "a"], ["2", "b"]]),
        ('x,y\n"1,5",a\n2,b\n', [["1.5", "a"], ["2", "b"]]),
        ("x;y\n1,5;a\n2.5;b\n", [["1,5", "a"], ["2.5", "b"]]),
        ('x,y\n"1,500",a\n2,b\n', [["1,500", "a"], ["2", "b"]]),  # thousands
        ("x;y\n1,500;a\n2;b\n", [["1.500", "a"], ["2", "b"]]),
    ],
)
def test_decimal_commas_are_told_apart(text: str, cells: list[list[str]]) -> None:
    assert read_cells(text.encode(), "t.csv").rows == cells


@pytest.mark.parametrize(
    ("text", "keys", "words"),
    [
        ("age,age,y\n1,2,a\n", {}, "duplicate column 'age'"),
        (",age,y\nx,1,a\n", {}, "column 1 has no name; name it in the file, or drop it: drop: ['']"),
        ("age,y\n1,a,b\n", {}, "row 1 has 3 cells, but the header has 2, separated by commas; a number with a"),
        ("age,y\n1,a\n2\n", {}, "row 2 has 1 cells, but the header has 2"),
        ("age,y\n", {}, "no rows below the header"),
        ('age,y\n"1,a\n', {}, "not a CSV table"),
        (PLAIN, {"target": "Y"}, "no column 'Y', the target. The columns are age, kind, y"),
        (PLAIN, {"drop": ["id"]}, "no column 'id' to drop. The columns are age, kind, y"),
        (PLAIN, {"text": ["id"]}, "no column 'id', which text names"),
        (PLAIN.replace("yes", "no"), {}, "all of its 20 rows have one y, no; two classes are needed"),
        (PLAIN.replace("24,a,no", "24,a,"), {}, "row 5, column y: is missing; every row needs its class"),
        (
            "x,y\n" + "".join(f"1,{i}\n" for i in range(50)),
            {},
            "column y has 50 different values, too many for classes",
        ),
        (PLAIN, {"classes": {"no": "no"}}, "row 11, column y: is 'yes'; it may be one of no"),
        (PLAIN, {"positive": "Yes"}, "positive is 'Yes'; it may be one of two classes, here no, yes"),
        (
            PLAIN.replace(",a,", ",,").replace(",b,", ",,"),
            {"missing": [""]},
            "column kind: missing in all 16 training rows",
        ),
        (PLAIN.replace("24,", "x,"), {}, "row 5, column age: is 'x' among numbers; name it in missing"),
        (
            PLAIN.replace("24,", ","),
            {},
            "row 5, column age: is missing, as in 1 training rows; if that may be, name what",
        ),
        (PLAIN, {"columns": {"age": {}}}, "unknown column 'kind'. The columns are age, y"),
        (
            PLAIN,
            {"columns": {"age": {"high": 30.0}, "kind": {"categories": ["a", "b"]}}},
            "row 12, column age: is '31'",
        ),
        (PLAIN.replace("39,b,yes", "39,b,maybe"), {}, "class 'maybe' has one row"),
        (PLAIN, {"test_share": 0.01}, "20 rows cannot be split into training and test rows"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, keys: dict[str, Any], words: str) -> None:
    assert words in error(tmp_path / "t.csv", text, **keys)


def image(form: str) -> bytes:
    file = io.BytesIO()
    Image.new("L", (20, 20), 200).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PLAIN.replace("kind", "Größe").encode("cp1252"), "byte 6, in line 1, is “ö” if it is Windows-1252"),
        (PLAIN.encode("utf-16")[2:], "it may be UTF-16 without a byte order mark"),
        (image("PNG"), "this is an image (PNG); expected a CSV table"),
        (image("JPEG"), "this is an image (JPEG)"),
        (b"PK\x03\x04\x14\0\x06", "this is a workbook (or a zip archive), not its table"),
    ],
)
def test_what_is_no_text_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in error(tmp_path / "t.csv", content)


def test_names_of_the_rows_are_no_categories(tmp_path: Path) -> None:
    text = "name,y\n" + "".join(f"person {i},{i % 2}\n" for i in range(200))
    assert "different texts in 160 training rows, more than 100; leave it out: drop: [name]" in error(
        tmp_path / "t.csv", text
    )


def test_keys_that_do_not_fit_together_are_refused() -> None:
    for keys, words in (
        ({}, "the data are one of csv"),
        ({"csv": "x"}, "csv needs target"),
        ({"sklearn": "wine", "csv": "x"}, "leave out sklearn"),
        ({"sklearn": "wine", "target": "x"}, "their own target"),
        ({"dataset": "heart", "drop": ["Age"]}, "leave out drop"),
        ({"csv": "x", "target": "y", "test_csv": "z", "test_rows": "r"}, "not of both"),
        ({"csv": "x", "target": "y", "text": ["a"], "columns": {"a": {}}}, "leave out text"),
    ):
        with pytest.raises(ValidationError, match=words):
            TableData.model_validate(keys)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["0", "1"], ["0", "1"]),
        (["10", "9"], ["9", "10"]),
        (["1.0", "2"], ["1", "2"]),
        (["True", "False"], ["False", "True"]),
        (["y", "n"], ["n", "y"]),
        ([str(number) for number in range(20)], [str(number) for number in range(20)]),
    ],
)
def test_classes_are_in_order(tmp_path: Path, values: list[str], classes: list[str]) -> None:
    made = own(tmp_path / "t.csv", "x,y\n" + "".join(f"{i},{value}\n" for i in range(10) for value in values))
    assert made.schema.classes == classes
    assert made.targets[: len(values)].tolist() == [classes.index(value.removesuffix(".0")) for value in values]


def test_classes_are_renamed_merged_and_put_in_order(tmp_path: Path) -> None:
    text = "x,num\n" + "".join(f"{i},{i % 5}\n" for i in range(50))
    renamed = {"0": "normal", **dict.fromkeys("1234", "disease")}
    made = own(tmp_path / "t.csv", text, target="num", classes=renamed)
    assert made.schema.classes == ["normal", "disease"]
    assert made.targets[:6].tolist() == [0, 1, 1, 1, 1, 0]
    other = own(tmp_path / "t.csv", text, target="num", classes=renamed, positive="normal")
    assert other.schema.classes == ["disease", "normal"]


def test_the_split_is_the_files(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("# every tenth\n3\n13\n")
    made = own(tmp_path / "t.csv", PLAIN, test_rows=str(tmp_path / "rows.txt"))
    assert made.test.tolist() == [3, 13]
    assert sorted([*made.train, *made.test]) == list(range(20))
    for rows in ("3\n3", "20", "-1", "", "x"):
        (tmp_path / "rows.txt").write_text(rows)
        with pytest.raises(InputError, match=r"rows\.txt: expected numbers"):
            own(tmp_path / "t.csv", PLAIN, test_rows=str(tmp_path / "rows.txt"))
    (tmp_path / "rows.txt").write_text("1 2 3")
    assert "its 3 test rows have no class 'yes'" in error(
        tmp_path / "t.csv", PLAIN, test_rows=str(tmp_path / "rows.txt")
    )


def test_test_rows_of_another_file_may_have_their_columns_in_another_order(tmp_path: Path) -> None:
    other = tmp_path / "test.csv"
    other.write_text("y;kind;age\nno;b;1\nyes;c;2\n")
    made = own(tmp_path / "t.csv", PLAIN, test_csv=str(other))
    assert made.test_rows["age"].tolist() == [1, 2]
    assert made.schema.columns[1].categories == ["a", "b"]  # those of the training rows
    other.write_text("y,kind,age\nno,b,1\nyes,c,x\n")
    with pytest.raises(InputError, match=r"test\.csv: row 2, column age: is 'x'; it may be a whole number"):
        own(tmp_path / "t.csv", PLAIN, test_csv=str(other))
    other.write_text("y,age\nno,1\n")
    with pytest.raises(InputError, match=r"test\.csv: missing column 'kind'"):
        own(tmp_path / "t.csv", PLAIN, test_csv=str(other))


def patient(i: int) -> str:
    ca, thal = "?" if i % 7 == 0 else f"{i % 3},0", "" if i % 11 == 0 else (3, 6, 7)[i % 3]
    return f"{i};{40 + i % 30};{i % 4 + 1},0;{ca};{thal};{i % 3}\n"


CLEVELAND = "id;age;cp;ca;thal;num\n" + "".join(map(patient, range(60)))
KEYS = {"target": "num", "missing": ["?", ""], "text": ["cp", "thal"], "drop": ["id"]}


def test_missing_values_are_filled_by_what_the_training_rows_say(tmp_path: Path) -> None:
    made = own(tmp_path / "c.csv", CLEVELAND, **KEYS)
    age, cp, ca, thal = made.schema.columns
    assert (age.name, age.whole, cp.categories, thal.categories) == ("age", True, list("1234"), list("367"))
    assert ca.name == "ca"
    assert audit(made).missing == {"ca": 9, "thal": 6}
    fitted = Preparation.fit(made.train_rows, ONE_HOT, made.schema.columns)
    assert fitted.medians["ca"] == np.nanmedian(made.train_rows["ca"])
    assert fitted.categories["thal"] == [*"367", ""]
    assert fitted.marked == ["ca"]
    full = made.test_rows.head(1).assign(age=50, cp="1", ca=fitted.medians["ca"], thal="3")
    lacking = full.assign(ca=np.nan)
    assert np.flatnonzero(fitted.apply(lacking) != fitted.apply(full)).tolist() == [fitted.width - 1]
    changed = made.test_rows.assign(age=99, ca=2.0)
    again = Preparation.fit(made.frame.drop(changed.index), ONE_HOT, made.schema.columns)
    assert sorted(again.medians) == sorted(fitted.medians)
    rows = check_rows([{"age": 50, "cp": 1, "ca": None, "thal": "?"}], made.schema.columns)
    assert np.isfinite(fitted.apply(rows)).all()
    with pytest.raises(InputError, match="column cp: is '5'; it may be one of 1, 2, 3, 4"):
        check_rows([{"age": 50, "cp": "5", "ca": 1, "thal": 3}], made.schema.columns)


def test_inputs_may_be_labels_scaled_and_without_columns(tmp_path: Path) -> None:
    made = own(tmp_path / "c.csv", CLEVELAND, **KEYS)
    columns = made.schema.columns
    labels = Preparation.fit(made.train_rows, LABELS, columns)
    assert labels.names == ["age", "cp", "ca", "thal"]
    row = labels.apply(made.frame.iloc[[3]])[0]
    assert row[:2].tolist() == [43, 3]  # cp is 4.0, the fourth category
    scaled = Preparation.fit(made.train_rows, TableInputs(encoding="labels", scale=True, drop=["cp"]), columns)
    assert scaled.names == ["age", "ca", "thal"]
    np.testing.assert_allclose(scaled.apply(made.train_rows).mean(axis=0), 0, atol=1e-5)
    raw = Preparation.fit(made.train_rows, TableInputs(scale=False), columns)
    assert raw.apply(made.train_rows)[:, 0].tolist() == made.train_rows["age"].tolist()
    with pytest.raises(InputError, match=r"inputs\.drop: no column 'sex'"):
        Preparation.fit(made.train_rows, TableInputs(drop=["sex"]), columns)


@pytest.mark.parametrize(("name", "classes", "rows"), [("wine", 3, 178), ("iris", 3, 150), ("breast_cancer", 2, 569)])
def test_scikit_learns_tables_are_there(name: str, classes: int, rows: int) -> None:
    made = load_table(TableData(sklearn=name))
    assert (len(made.schema.classes), len(made.frame)) == (classes, rows)
    if name == "breast_cancer":
        assert made.schema.classes == ["malignant", "benign"]
        assert load_table(TableData(sklearn=name, positive="malignant")).schema.classes == ["benign", "malignant"]


def test_columns_may_be_spelt_out(tmp_path: Path) -> None:
    columns = {
        "age": {"low": 0.0, "whole": True},
        "cp": {"categories": ["1.0", "2.0", "3.0", "4.0"]},
        "ca": {},
        "thal": {"categories": ["3", "6", "7"], "missing": [""]},
    }
    keys = {"target": "num", "missing": ["?", ""], "drop": ["id"], "columns": columns}
    made = own(tmp_path / "c.csv", CLEVELAND, **keys)
    assert made.schema.columns[2] == Column(name="ca", missing=["?", ""])
    assert made.frame["cp"].tolist()[:3] == ["1.0", "2.0", "3.0"]
    assert audit(made).missing == {"ca": 9, "thal": 6}
    columns["thal"] = {"categories": ["3", "6"], "missing": [""]}
    assert "row 3, column thal: is '7'; it may be one of 3, 6" in error(tmp_path / "c.csv", CLEVELAND, **keys)


def test_a_large_table_is_audited_for_exact_duplicates_alone(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(3000)) + "5,1\n6,1\n"
    found = audit(own(tmp_path / "t.csv", text))
    assert (found.duplicates, found.contradictions, found.near) == ([(5, 3000)], [(6, 3001)], [])


def test_a_preparation_from_before_there_were_other_tables_is_read() -> None:
    given = {
        "categories": {"Sex": ["M"]},
        "medians": {"RestingBP": 130.0, "Cholesterol": 235.0},
        "mean": [0.0],
        "scale": [1.0],
        "components": None,
    }
    found = Preparation.model_validate(given)
    assert (found.names[:2], found.marked) == (["Age", "Sex"], ["Cholesterol"])
    assert found.zeros == ["RestingBP", "Cholesterol"]


def rich(rows: int, seed: int = 0) -> str:
    """Return rows that nobody would have twice by chance."""
    numbers = np.random.default_rng(seed).random((rows, 3)).round(4).tolist()
    return "a,b,c,y\n" + "".join(f"{a},{b},{c},{'no' if i % 2 else 'yes'}\n" for i, (a, b, c) in enumerate(numbers))


def test_test_rows_that_were_learnt_are_not_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = rich(40)
    other = tmp_path / "other.csv"
    other.write_text(rich(6, 1) + "".join(f"{line}\n" for line in text.splitlines()[3:7]))
    table = own(tmp_path / "a.csv", text, test_csv=str(other))
    assert len(table.test) == 6
    assert "4 of 10 test rows of test_csv are copies of training rows, and are not counted: row 7 (as 3)" in caplog.text
    assert audit(table).leaks == []
    other.write_text(text)
    assert "other.csv: has the rows of" in error(tmp_path / "a.csv", text, test_csv=str(other))
    other.write_text("\n".join(text.splitlines()[:20]))
    assert "19 of 19 test rows of test_csv are copies" in error(tmp_path / "a.csv", text, test_csv=str(other))


def test_rows_that_are_there_twice_are_held_out_together(tmp_path: Path) -> None:
    text = rich(40) + "".join(f"{line}\n" for line in rich(40).splitlines()[1:])
    table = own(tmp_path / "a.csv", text)
    assert not set(table.twins[table.test]) & set(table.twins[table.train])
    parts = [(np.setdiff1d(np.arange(80), held), held) for held in np.array_split(np.arange(80), 4)]
    for (learn, held), (before, same) in zip(table.apart(parts), parts, strict=True):
        assert held is same
        assert not set(table.twins[learn]) & set(table.twins[held])
        assert len(learn) < len(before)


def test_rows_of_few_kinds_are_alike_by_chance_and_all_count(tmp_path: Path) -> None:
    lines = [f"{'ab'[i % 2]},{i % 3},{'no' if i % 4 else 'yes'}\n" for i in range(60)]
    table = own(tmp_path / "a.csv", "kind,number,y\n" + "".join(lines))
    assert len(table.test) == 12
    assert len(set(table.twins)) == 60
