"""`trackdl evaluate`: a model judged on labelled images and rows, and compared with another on the same ones."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from support import ROOT, served
from support.served import ROW, add_heart, add_pictures, content, letter
from trackdl import spec
from trackdl.analysis.answers import judge, mcnemar
from trackdl.apps import evaluate
from trackdl.cli import app as cli
from trackdl.data import training_images
from trackdl.data.duplicates import squares
from trackdl.errors import InputError
from trackdl.tracking.registry import register as registry

pytestmark = pytest.mark.usefixtures("tracking")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["evaluate", *map(str, words)])


def refused(*words: str | Path) -> str:
    error = run(*words).exception
    assert isinstance(error, InputError), error
    return str(error)


def judged(page: Path, *words: str | Path) -> dict[str, Any]:
    done = run(*words, "--json", "--out", page)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def digit(number: int) -> Image.Image:
    """Draw a sign of its own in MNIST's form, which is shown to the network as it is."""
    half = np.random.default_rng(number).integers(0, 2, (20, 20), np.uint8)
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 4:24] = np.maximum(half, half[::-1, ::-1]) * 255  # its centre of mass is the middle
    pixels[[4, 23], 4:24] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Make a folder of six images in two class folders, and one beside them that is named by its class."""
    folder = tmp_path / "letters"
    for number, name in enumerate(("alpha", "Beta") * 3):
        (folder / name).mkdir(parents=True, exist_ok=True)
        digit(number).save(folder / name / f"{number}.png")
    digit(6).save(folder / "gamma-6.png")
    return folder


def answers_of(folder: Path, model: str = "greek-cnn") -> dict[str, str]:
    done = CliRunner().invoke(cli.app, ["predict", model, str(folder), "--json"])
    return {item["file"].removeprefix(f"{folder}/"): item["label"] for item in json.loads(done.stdout)}


def test_a_model_is_judged_by_what_predict_answers(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pictures()
    page = tmp_path / "page.html"
    found = judged(page, "greek-cnn", letters)
    true = {name: name.partition("/")[0].partition("-")[0].lower() for name in answers_of(letters)}
    wrong = {name for name, label in answers_of(letters).items() if label != true[name]}
    (one,) = found["models"]
    assert 0 < len(wrong) < 7  # or the network proves nothing
    assert (one["examples"], one["right"], found["left_out"]) == (7, 7 - len(wrong), [])
    assert {item["example"] for item in found["wrong"]} == wrong
    assert np.sum(one["confusion"]) == 7
    sure = [item["probability"] for item in found["wrong"]]
    assert sure == sorted(sure, reverse=True)
    text = page.read_text()
    assert text.count(" as brought") == 7
    assert text.index(f"{found['wrong'][0]['example']} as brought") < text.index(
        f"{next(name for name in true if name not in wrong)} as brought"
    )
    kept = mlflow.get_run(found["run"])
    assert kept.info.status == "FINISHED"
    assert kept.data.metrics["test_accuracy"] == pytest.approx(one["accuracy"])
    assert f"`trackdl evaluate greek-cnn {letters}` runs it again" in kept.data.tags["mlflow.note.content"]
    assert (kept.data.tags["trackdl.kind"], kept.data.params["version"]) == ("evaluate", "1")
    (dataset,) = kept.inputs.dataset_inputs
    assert dataset.dataset.name == "letters"
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(found["run"])}
    assert {"evaluation.html", "examples.json"} <= artifacts
    assert "the surest first" in run("greek-cnn", letters, "--output", page).output
    digit(99).save(letters / "alpha" / "0.png")
    monkeypatch.setattr(evaluate, "_MOST_SHOWN", 2)
    other = judged(page, "greek-cnn", letters)
    assert mlflow.get_run(other["run"]).inputs.dataset_inputs[0].dataset.digest != dataset.dataset.digest
    assert "These are the first 2 of 7" in page.read_text()
    many = evaluate.evaluate("models:/greek-cnn@champion", letters)
    assert all(one.shown for one in many.examples[:2])
    assert sum(bool(one.shown) for one in many.examples) <= 2 * 2  # the others' pictures were dropped on the way


def test_two_versions_are_compared_on_the_same_examples(letters: Path, tmp_path: Path) -> None:
    add_pictures(value=0.9, seed=1)
    add_pictures(value=0.8, seed=2)
    found = judged(tmp_path / "page.html", "greek-cnn", letters, "--against", "greek-cnn@challenger")
    assert [one["version"] for one in found["models"]] == ["1", "2"]
    (test,) = found["mcnemar"]
    assert test["only_first"] - test["only_second"] == found["models"][0]["right"] - found["models"][1]["right"]
    assert mlflow.get_run(found["run"]).data.metrics["mcnemar_1_p"] == test["p"]
    assert "itself" in refused("greek-cnn", letters, "--against", "greek-cnn/1")
    assert "give MODEL, MODEL@ALIAS or MODEL/VERSION" in refused("greek-cnn", letters, "--against", "")
    assert "'x' is no version" in refused("greek-cnn", letters, "--against", "greek-cnn/x")
    add_pictures("mnist-cnn")
    assert "classes must be the same" in refused("greek-cnn", letters, "--against", "mnist-cnn")


def test_both_preprocessings_are_compared(tmp_path: Path) -> None:
    add_pictures(preprocessing="report")
    for name in ("alpha", "beta"):
        (tmp_path / "letters" / name).mkdir(parents=True)
        (tmp_path / "letters" / name / "1.png").write_bytes(content(letter()))
    Image.new("L", (128, 128), 255).save(tmp_path / "letters" / "alpha" / "blank.png")
    both = ("--preprocessing", "report", "--preprocessing", "mnist")
    found = judged(tmp_path / "page.html", "greek-cnn", tmp_path / "letters", *both)
    # What is true of the model is said once, not once for each preprocessing.
    note = mlflow.get_run(found["run"]).data.tags["mlflow.note.content"]
    assert note.count("it is not known whether it was trained on these") == 1
    assert [one["preprocessing"] for one in found["models"]] == ["report", "mnist"]
    # `report` takes a blank image, and `mnist` does not: neither is judged by it.
    assert [one["examples"] for one in found["models"]] == [2, 2]
    assert [item["file"] for item in found["left_out"]] == ["alpha/blank.png"]
    assert "does not look for signs" in refused("greek-cnn", tmp_path / "letters", "--split")
    assert "may be report or mnist" in refused("greek-cnn", tmp_path / "letters", "--preprocessing", "x")


def test_what_cannot_be_used_and_copies_are_left_out_and_named(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = squares([digit(0)], 64)
    learnt = training_images.to_file(pixels, ["alpha/first.png"])
    monkeypatch.setattr(registry, "log_model", partial(registry.log_model, learnt=learnt))
    add_pictures()
    (letters / "alpha" / "notes.txt").write_text("no image")
    digit(50).save(tmp_path / "outside.png")
    (letters / "alpha" / "link.png").symlink_to(tmp_path / "outside.png")
    (letters / "alpha" / "loop.png").symlink_to("loop.png")
    found = judged(tmp_path / "page.html", "greek-cnn", letters)
    why = {item["file"]: item["why"] for item in found["left_out"]}
    assert set(why) == {"alpha/0.png", "alpha/notes.txt", "alpha/link.png", "alpha/loop.png"}
    assert why["alpha/0.png"] == "a copy of training image alpha/first.png of greek-cnn version 1"
    assert why["alpha/notes.txt"].startswith("not an image")
    assert why["alpha/link.png"] == "a link out of the folder"
    assert found["models"][0]["examples"] == 6
    assert "alpha/first.png" in (tmp_path / "page.html").read_text()
    for path in letters.rglob("*.png"):
        path.unlink()
    digit(0).save(letters / "alpha" / "0.png")
    assert "nothing is left to judge; left out: alpha/0.png (a copy of" in refused("greek-cnn", letters)


def test_a_folder_that_cannot_be_judged_is_refused_and_a_sheet_is_split(letters: Path, tmp_path: Path) -> None:
    add_pictures()
    assert "it is not there" in refused("greek-cnn", tmp_path / "nowhere")
    assert "this is not one" in refused("greek-cnn", letters / "gamma-6.png")
    (tmp_path / "empty").mkdir()
    assert "no images in this folder" in refused("greek-cnn", tmp_path / "empty")
    Path(os.fsdecode(bytes(tmp_path) + b"/empty/alpha_\xe9.png")).write_bytes(content(digit(1)))
    assert "the name is no UTF-8" in refused("greek-cnn", tmp_path / "empty")
    only = tmp_path / "only"
    (only / "alpha").mkdir(parents=True)
    digit(1).save(only / "alpha" / "1.png")
    assert "1 example of one class, alpha" in refused("greek-cnn", only)
    (letters / "delta").mkdir()
    digit(1).save(letters / "delta" / "1.png")
    said = refused("greek-cnn", letters)
    assert "1 of 8 files are of no class of greek-cnn version 1: delta. Its classes are alpha, beta, gamma" in said
    two = Image.new("RGB", (660, 240), "white")
    for place in (0, 330):
        two.paste(letter(), (place, 0))
    (tmp_path / "sheets").mkdir()
    two.save(tmp_path / "sheets" / "alpha.png")
    letter().save(tmp_path / "sheets" / "beta.png")
    assert "there are 2 signs" in refused("greek-cnn", tmp_path / "sheets")
    found = judged(tmp_path / "page.html", "greek-cnn", tmp_path / "sheets", "--split")
    assert found["models"][0]["examples"] == 3
    assert sum(found["models"][0]["confusion"][0]) == 2
    assert "alpha.png, sign 2" in (tmp_path / "page.html").read_text()
    mine = tmp_path / "mine.html"
    mine.write_text("my own")
    assert "name another by --output" in refused("greek-cnn", letters, "--out", mine)
    assert mine.read_text() == "my own"


@pytest.mark.parametrize(
    ("name", "found"),
    [("7.png", "7"), ("7_12.png", "7"), ("7-b.jpg", "7"), ("12.png", None), ("t-shirt_top3.png", "T-shirt/top")],
)
def test_a_files_name_begins_with_its_class(name: str, found: str | None) -> None:
    assert evaluate._class_of(name, ["1", "7", "T-shirt/top"], folder=False) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("10.png", "10"),
        ("1_0.png", "1"),
        ("4-1.png", "4"),
        ("4 (1).png", "4"),
        ("alpha1_0.png", "alpha1"),
        ("alpha10.png", "alpha10"),
        ("cafe\u0301_1.png", "caf\u00e9"),
    ],
)
def test_a_sign_between_digits_parts_them(name: str, found: str) -> None:
    classes = ["1", "10", "4", "41", "alpha1", "alpha10", "caf\u00e9"]
    assert evaluate._class_of(name, classes, folder=False) == found


def heart(tmp_path: Path, *classes: str) -> Path:
    rows = [",".join(map(str, [*(ROW | {"Age": 40 + place}).values(), one])) for place, one in enumerate(classes)]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join([f"{','.join(ROW)},HeartDisease", *rows]))
    return file


def test_a_table_is_judged_by_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "EXPERIMENT", spec.load(ROOT / "experiments" / "heart.yaml", spec.TableSpec))
    add_heart()
    file = heart(tmp_path, "0", "1", "heart disease", "0")
    found = judged(tmp_path / "page.html", "heart-mlp", file)
    assert found["classes"] == ["normal", "heart disease"]
    assert np.sum(found["models"][0]["confusion"], axis=1).tolist() == [2, 2]
    assert "row 4" in (tmp_path / "page.html").read_text()
    assert "not known whether it was trained on these" in (tmp_path / "page.html").read_text()
    assert "row 2, column HeartDisease: is '7'" in refused("heart-mlp", heart(tmp_path, "0", "7"))
    assert "of one class, normal" in refused("heart-mlp", heart(tmp_path, "0", "0"))
    file.write_text(f"{','.join(ROW)}\n{','.join(map(str, ROW.values()))}\n")
    assert "no column 'HeartDisease', the target" in refused("heart-mlp", file)
    assert "needs a CSV file with their classes" in refused("heart-mlp", tmp_path)
    assert "--split is for images" in refused("heart-mlp", file, "--split")
    assert "cannot be replaced" in refused("heart-mlp", file, "--preprocessing", "mnist")


def test_an_accuracy_and_what_it_is_made_of() -> None:
    found = judge(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"])
    assert (found.right, found.examples) == (2, 3)
    assert (found.low, found.high) == pytest.approx((0.0943, 0.9916), abs=1e-4)  # R: binom.test(2, 3)
    assert found.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.recall == [0.5, 1.0, None]
    assert found.precision == [1.0, 0.5, None]


def test_mcnemars_test_looks_at_those_that_differ() -> None:
    found = mcnemar([True] * 10 + [False] * 6, [True] * 5 + [False] * 10 + [True])
    assert (found.only_first, found.only_second, found.p) == (5, 1, pytest.approx(2 * 7 / 64))
    assert mcnemar([True, False], [True, False]).p == 1
