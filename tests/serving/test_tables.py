"""A model of the heart table as served: raw rows in, clear errors for what is none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from trackdl.data.heart.inputs import Preparation
from trackdl.data.heart.table import CLASSES, HeartTable, load_heart
from trackdl.errors import InputError, TrackdlError
from trackdl.networks.heart import HeartNets
from trackdl.serving import ServedTable, TableCard, serve, write_model
from trackdl.spec.heart import HeartInputs
from trackdl.training.trainer import seeded


@pytest.fixture(scope="module")
def report() -> HeartTable:
    return load_heart()


@pytest.fixture
def folder(report: HeartTable, tmp_path: Path) -> Path:
    settings = HeartInputs(encoding="one-hot", missing_zeros=True, variance=0.95)
    preparation = Preparation.fit(report.train_rows, settings)
    with seeded(0):
        model = HeartNets(2, [10], inputs=preparation.width, logits=True)
    card = TableCard(network="HeartNets", arguments=model.arguments, classes=list(CLASSES), preparation=preparation)
    write_model(tmp_path / "model", model, card)
    return tmp_path / "model"


@pytest.fixture
def served(folder: Path) -> ServedTable:
    model = serve(folder)
    assert isinstance(model, ServedTable)
    return model


@pytest.fixture
def rows(report: HeartTable) -> pd.DataFrame:
    return report.test_rows.drop(columns="HeartDisease").head(5).reset_index(drop=True)


def positive(answer: pd.DataFrame) -> list[float]:
    return [said["heart disease"] for said in answer["probabilities"]]


def test_a_frame_records_and_text_are_answered_alike(served: ServedTable, rows: pd.DataFrame) -> None:
    answer = served.predict(rows)
    assert positive(served.predict(rows.to_dict("records"))) == positive(answer)
    assert positive(served.predict(rows.astype(str))) == positive(answer)
    assert positive(served.predict(rows[rows.columns[::-1]])) == positive(answer)
    assert positive(served.predict(json.loads(rows.iloc[0].to_json()))) == pytest.approx(positive(answer)[:1])
    inputs = torch.from_numpy(served.card.preparation.apply(rows))
    np.testing.assert_allclose(positive(answer), served.model(inputs).detach(), rtol=1e-6)
    for label, said in zip(answer["label"], answer["probabilities"], strict=True):
        assert label == max(said, key=said.get)
        assert sum(said.values()) == pytest.approx(1)


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
        served.predict(records)
    assert words in str(caught.value)


def test_a_missing_column_is_named(served: ServedTable, rows: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"missing column 'MaxHR'.*The columns are Age, Sex"):
        served.predict(rows.drop(columns="MaxHR"))
    with pytest.raises(InputError, match="no rows"):
        served.predict([])
    with pytest.raises(InputError, match="rows of named columns"):
        served.predict(rows.to_numpy())


def test_the_folder_holds_plain_numbers_and_is_checked(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "weights.safetensors"]
    card = json.loads((folder / "model.json").read_text())
    assert set(card["preparation"]["medians"]) == {"RestingBP", "Cholesterol"}
    (folder / "model.json").write_text(json.dumps({**card, "preparation": {}}))
    with pytest.raises(TrackdlError, match="no trackdl model"):
        serve(folder)
