"""A model of the heart table as served: raw rows in, clear errors for what is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from support.served import heart_model
from support.tables import load_heart
from trackdl.data.tables.table import Table
from trackdl.errors import InputError, TrackdlError
from trackdl.serving import ServedTable, serve, write_model


@pytest.fixture(scope="module")
def report() -> Table:
    return load_heart()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "model", *heart_model())
    return tmp_path / "model"


@pytest.fixture
def served(folder: Path) -> ServedTable:
    model = serve(folder)
    assert isinstance(model, ServedTable)
    return model


@pytest.fixture
def rows(report: Table) -> pd.DataFrame:
    return report.test_rows.drop(columns="HeartDisease").head(5).reset_index(drop=True)


def positive(answers: list[dict[str, Any]]) -> list[float]:
    return [answer["probabilities"]["heart disease"] for answer in answers]


def test_a_frame_records_and_text_are_answered_alike(served: ServedTable, rows: pd.DataFrame) -> None:
    answers = served.records(rows)
    assert positive(served.records(rows.to_dict("records"))) == positive(answers)
    assert positive(served.records(rows.astype(str))) == positive(answers)
    assert positive(served.records(rows[rows.columns[::-1]])) == positive(answers)
    assert positive(served.records(json.loads(rows.iloc[0].to_json()))) == pytest.approx(positive(answers)[:1])
    inputs = torch.from_numpy(served.card.preparation.apply(rows))
    np.testing.assert_allclose(positive(answers), served.model(inputs).detach(), rtol=1e-6)
    for answer in answers:
        probabilities = answer["probabilities"]
        assert answer["label"] == max(probabilities, key=probabilities.get)
        assert sum(probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Sex": "X"}, "row 2, column Sex: is 'X'; it may be one of F, M"),
        ({"Age": None}, "row 2, column Age: is missing; it may be a whole number from 0 to 120"),
        ({"Age": float("nan")}, "column Age: is missing"),
        ({"Oldpeak": "much"}, "column Oldpeak: is 'much'; it may be a number from -10 to 10"),
        ({"ST_Slope": 3}, "column ST_Slope: is 3; it may be one of Down, Flat, Up"),
        ({"Weight": 80}, "row 2: unknown column 'Weight'"),
    ],
)
def test_a_wrong_record_is_named(served: ServedTable, rows: pd.DataFrame, change: dict[str, Any], words: str) -> None:
    records = rows.to_dict("records")
    records[1] = {**records[1], **change}
    with pytest.raises(InputError) as caught:
        served.records(records)
    assert words in str(caught.value)


def test_a_missing_column_is_named(served: ServedTable, rows: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"missing column 'MaxHR'.*The columns are Age, Sex"):
        served.records(rows.drop(columns="MaxHR"))
    with pytest.raises(InputError, match="no rows"):
        served.records([])
    with pytest.raises(InputError, match="rows of named columns"):
        served.records(rows.to_numpy())


def test_the_folder_holds_plain_numbers_and_is_checked(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    card = json.loads((folder / "model.json").read_text())
    assert set(card["preparation"]["medians"]) == {"RestingBP", "Cholesterol"}
    (folder / "model.json").write_text(json.dumps({**card, "preparation": {}}))
    with pytest.raises(TrackdlError, match="not a model of trackdl"):
        serve(folder)
