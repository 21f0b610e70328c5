"""`trackdl predict`: pictures, folders, tables and standard input, as a table or JSON."""

import io
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner, Result

from support import served
from support.served import ROW, add_heart, add_pictures, content, letter
from trackdl.apps import predict
from trackdl.cli import app as cli
from trackdl.data import training_images
from trackdl.data.duplicates import squares
from trackdl.errors import InputError
from trackdl.serving import ServedImages
from trackdl.tracking.registry import register as registry

CARD = served.card
pytestmark = pytest.mark.usefixtures("tracking")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["predict", *map(str, words)])


def answers(*words: str | Path) -> list[dict[str, Any]]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with three pictures, one of them deeper, and what a system or a program has left there."""
    place = tmp_path / "letters"
    (place / "more").mkdir(parents=True)
    (place / "a.png").write_bytes(content(letter()))
    (place / "b.JPG").write_bytes(content(letter("L"), "JPEG"))
    (place / "more/c.webp").write_bytes(content(letter(), "WEBP"))
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._a.png", ".hidden/d.png", "more/__MACOSX/._a.png"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(b"not a picture")
    return place


def test_what_an_image_is_its_content_says_and_what_is_none_is_named(folder: Path) -> None:
    add_pictures()
    for name in ("photo.jfif", "photo.JPE", "photo.HEIC", "photo"):
        (folder / name).write_bytes(content(letter("L"), "JPEG"))
    (folder / "notes.txt").write_text("not a picture")
    done = run("greek-cnn", folder, "--json")
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith("1 of 8 could not be used:")
    assert f"{folder / 'notes.txt'}: not an image" in str(done.exception)
    assert done.exception.exit_code == 2
    found = {Path(item["file"]).name: "label" in item for item in json.loads(done.stdout)}
    assert found.pop("notes.txt") is False
    assert found == dict.fromkeys(["a.png", "b.JPG", "c.webp", "photo", "photo.HEIC", "photo.JPE", "photo.jfif"], True)


def test_files_and_folders_are_answered_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "_BATCH", 2)
    add_pictures(value=0.9, seed=1)
    add_pictures(value=0.8, seed=2)
    found = answers("greek-cnn", folder / "a.png", folder)
    names = [str(folder / name) for name in ("a.png", "a.png", "b.JPG", "more/c.webp")]
    assert [item["file"] for item in found] == names
    assert found[0] == found[1]
    assert {(item["model"], item["version"]) for item in found} == {("greek-cnn", "1")}
    assert list(found[0]["probabilities"]) == ["alpha", "beta", "gamma"]
    challenger = answers("greek-cnn", folder / "a.png", "--alias", "challenger")
    assert challenger == answers("greek-cnn", folder / "a.png", "--version", "2")
    assert challenger[0]["version"] == "2"
    assert challenger[0]["probabilities"] != found[0]["probabilities"]
    (top,) = answers("greek-cnn", folder / "a.png", "--top", "1")
    assert list(top["probabilities"]) == [top["label"]]


def test_a_table_is_printed(folder: Path) -> None:
    add_pictures()
    done = run("greek-cnn", folder / "a.png")
    assert "greek-cnn version 1" in done.output
    assert "%" in done.output


def test_what_cannot_be_answered_is_named_and_the_rest_is_answered(folder: Path) -> None:
    add_pictures()
    (folder / "b.JPG").write_bytes(content(letter(), "JPEG")[:-400])
    (folder / "blank.png").write_bytes(content(Image.new("L", (80, 80), 255)))
    done = run("greek-cnn", folder, folder / "nobody.png", "--json")
    assert isinstance(done.exception, InputError)
    said = str(done.exception)
    assert said.startswith("3 of 5 could not be used")
    assert f"{folder / 'b.JPG'}: the image is damaged" in said
    assert f"{folder / 'blank.png'}: no ink" in said
    assert "nobody.png: cannot be read: it is not there" in said
    assert ["label" in item for item in json.loads(done.stdout)] == [True, False, False, True, False]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    add_pictures()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "Thumbs.db").touch()
    with pytest.raises(InputError, match="no images in this folder"):
        predict.predict("models:/greek-cnn@champion", [str(tmp_path / "empty")])


def test_standard_input_is_a_picture_or_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    add_pictures()
    add_heart()
    table = f"{','.join(ROW)}\n" + f"{','.join(map(str, ROW.values()))}\n" * 2
    for name, data in (("greek-cnn", content(letter())), ("heart-mlp", table.encode())):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        found = predict.predict(f"models:/{name}@champion", ["-"])
        assert [item["file"] for item in found] == ["-"] * (2 if name == "heart-mlp" else 1)
        assert found[0]["model"] == name


def test_rows_of_a_table_are_answered_with_or_without_the_truth(tmp_path: Path) -> None:
    add_heart()
    plain = tmp_path / "rows.csv"
    plain.write_text(f"{','.join(ROW)}\n{','.join(map(str, ROW.values()))}\n")
    with_truth = tmp_path / "truth.csv"
    with_truth.write_text(f"{','.join(ROW)},HeartDisease\n{','.join(map(str, ROW.values()))},1\n")
    (first,), (second,) = answers("heart-mlp", plain), answers("heart-mlp", with_truth)
    assert first["probabilities"] == second["probabilities"]
    assert (first["row"], set(first["probabilities"])) == (1, {"normal", "heart disease"})
    plain.write_text(plain.read_text().replace("ASY", "XYZ"))
    done = run("heart-mlp", plain, with_truth)
    assert "column ChestPainType: is 'XYZ'" in str(done.exception)
    assert "rows.csv" in str(done.exception)


def test_tables_as_people_save_them_are_answered(tmp_path: Path) -> None:
    add_heart()
    (tmp_path / "plain.csv").write_text(f"{','.join(ROW)}\n{','.join(map(str, ROW.values()))}\n")
    first = answers("heart-mlp", tmp_path / "plain.csv")
    spelt = [["", *map(str.lower, ROW)], ["0", *(str(cell).lower().replace(".", ",") for cell in ROW.values())]]
    for name, data in (
        ("spelt.csv", "\n".join(map(";".join, spelt)).encode()),
        ("excel.csv", ("sep=;\r\n" + "\r\n".join(map(";".join, [*spelt, [""] * 12]))).encode("utf-16")),
    ):
        (tmp_path / name).write_bytes(data)
        found = answers("heart-mlp", tmp_path / name)
        assert [item["probabilities"] for item in found] == [first[0]["probabilities"]]
    (tmp_path / "seven.jpg").write_bytes(content(letter("L"), "JPEG"))
    done = run("heart-mlp", tmp_path / "seven.jpg")
    assert f"{tmp_path / 'seven.jpg'}: this is an image (JPEG); expected a CSV table" in str(done.exception)


def test_a_model_that_was_meant_is_named() -> None:
    for name in ("mnsit-cnn", "Mnist-cnn"):
        assert "Did you mean 'mnist-cnn'?" in str(run(name, "x.png").exception)
    mlflow.MlflowClient().create_registered_model("people")
    assert "Did you mean 'people'?" in str(run("poeple", "x.csv").exception)


def test_an_unknown_model_is_an_input_error() -> None:
    for words, said in ((["nobody", "x.png"], "models:/nobody@champion"), (["models:/x", "x.png"], "'models:/x'")):
        error = run(*words).exception
        assert isinstance(error, InputError)
        assert said in str(error)


def test_signs_of_one_image_are_read_one_by_one(tmp_path: Path) -> None:
    add_pictures()
    add_heart()
    two = Image.new("RGB", (660, 240), "white")
    two.paste(letter(), (0, 0))
    two.paste(letter(), (330, 0))
    file = tmp_path / "two.png"
    file.write_bytes(content(two))
    alone = tmp_path / "one.png"
    alone.write_bytes(content(letter()))
    with pytest.raises(InputError, match=r"two\.png: there are 2 signs .*--split"):
        predict.show(predict.predict("models:/greek-cnn@champion", [str(file)]), top=0, as_json=True)
    found = answers("greek-cnn", file, alone, "--split")
    assert [(item["file"], item["sign"]) for item in found] == [(str(file), 1), (str(file), 2), (str(alone), 1)]
    assert len({item["label"] for item in found}) == 1
    assert "sign 2" in run("greek-cnn", file, "--split").output
    assert "model of table rows, and --split is for images" in str(run("heart-mlp", file, "--split").exception)


def test_that_split_needs_another_model_is_said_once(folder: Path) -> None:
    add_pictures(preprocessing="report")
    done = run("greek-cnn", folder, "--split")
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert str(done.exception).startswith("--split: greek-cnn does not look for signs (its preprocessing is report")
    assert str(done.exception).count("leave --split out") == 1
    assert not done.stdout


def test_an_image_unlike_the_learnt_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.png").write_bytes(content(letter()))
    for least in (-1e9, 1e9):
        monkeypatch.setattr(
            served, "card", lambda *words, least=least: CARD(*words).model_copy(update={"least_energy": least})
        )
        add_pictures(value=0.9 + (least > 0) / 100)
        (found,) = answers("greek-cnn", tmp_path / "one.png")
        assert found["unfamiliar"] is (least > 0)
        assert ("unfamiliar" in run("greek-cnn", tmp_path / "one.png").output) is (least > 0)


def drawn(number: int) -> Image.Image:
    """Draw one of a number of letters that do not resemble each other."""
    image = Image.new("RGB", (300, 240), "white")
    points = np.random.default_rng(number).integers(40, 200, (4, 2)).tolist()
    ImageDraw.Draw(image).line([tuple(point) for point in points], fill=(20, 20, 160), width=14)
    return image


def add_trained(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a model of some drawn letters."""
    pixels = squares([drawn(number).convert("L") for number in range(count)], 64)
    learnt = training_images.to_file(pixels, [f"alpha/{number}.png" for number in range(count)])
    monkeypatch.setattr(registry, "log_model", partial(registry.log_model, learnt=learnt))
    add_pictures()


def test_copies_of_training_images_are_named_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_trained(3, monkeypatch)
    (images := tmp_path / "images").mkdir()
    (images / "a.bmp").write_bytes(content(drawn(2), "BMP"))
    (images / "b.jpg").write_bytes(content(drawn(1).resize((200, 160)), "JPEG"))
    (images / "c.png").write_bytes(content(drawn(7)))
    (images / "d.png").write_text("no image")
    done = run("greek-cnn", images, "--json")
    found = json.loads(done.stdout)
    assert [item.get("copy_of", "not looked at") for item in found] == [
        "alpha/2.png",
        "alpha/1.png",
        None,
        "not looked at",
    ]
    said = f"{images / 'a.bmp'} (= training image alpha/2.png), {images / 'b.jpg'} (= training image alpha/1.png)"
    assert f"2 of 3 images are copies of images that this model was trained on: {said}." in done.stderr
    assert "not known" not in done.stderr
    (images / "d.png").unlink()
    shown = run("greek-cnn", images).stdout
    assert "copy of" in shown
    assert "alpha/2.png" in shown
    (first, *_) = answers("greek-cnn", images / "a.bmp", "--split")
    assert (first["sign"], first["copy_of"]) == (1, "alpha/2.png")
    shown = run("greek-cnn", images / "c.png").output
    assert "copy of" not in shown


def test_of_many_training_images_the_same_pixels_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_images, "_MOST", 2)
    add_trained(3, monkeypatch)
    (images := tmp_path / "images").mkdir()
    (images / "a.png").write_bytes(content(drawn(2)))
    (images / "b.jpg").write_bytes(content(drawn(1).resize((200, 160)), "JPEG"))
    done = run("greek-cnn", images, "--json")
    assert [item["copy_of"] for item in json.loads(done.stdout)] == ["no. 3", None]
    assert "1 of 2 images is a copy of an image that this model was trained on" in done.stderr


def test_large_inputs_are_read_a_few_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_pictures()
    before = answers("greek-cnn", folder)
    sizes = []
    classify = ServedImages.classify
    monkeypatch.setattr(
        ServedImages, "classify", lambda self, inputs: sizes.append(len(inputs)) or classify(self, inputs)
    )
    monkeypatch.setattr(predict, "_MOST_NUMBERS", 2 * 28**2)
    assert [item["label"] for item in answers("greek-cnn", folder)] == [item["label"] for item in before]
    assert sizes == [2, 1]


def test_a_model_without_a_record_of_its_training_images_says_so(tmp_path: Path) -> None:
    add_pictures()
    (tmp_path / "a.png").write_bytes(content(letter()))
    done = run("greek-cnn", tmp_path / "a.png", "--json")
    assert "copy_of" not in json.loads(done.stdout)[0]
    assert "it is not known whether it learnt these" in done.stderr
