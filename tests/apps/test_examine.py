"""`trackdl examine`: any network, its data here or not, in a run, on a page and as JSON."""

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from support.pictures import arrays_of
from support.served import add_heart, add_pictures, content, letter
from support.stripes import SIDE, TRAINING, learn, report
from trackdl import spec
from trackdl.apps import examine, html_page
from trackdl.cli import app as cli
from trackdl.errors import InputError
from trackdl.tasks import table, transfer

DEEP = [{"conv": 6, "size": 3}, "batch_norm", "relu", {"pool": 2}, {"conv": 30, "size": 3}, "relu", "average",
        {"dense": 8}, {"dropout": 0.2}, {"dense": "classes"}]  # fmt: skip
FAMILY = {
    "family": "conv", "conv_layers": 1, "filter_size": 3, "filters": 6, "dense_nodes": 12, "dropout": 0.0,
    "pool_size": 2, "activation": "relu", "mirrored": True,
}  # fmt: skip
PEOPLE = """
task: table
data: {csv: people.csv, target: stage, missing: ["?"], test_share: 0.3}
networks: [{name: wide, hidden: [16]}]
training: {epochs: 60, batch_size: 8, optimizer: {name: adam, lr: 0.02}, seed: 3}
protocols: {plain: {inputs: {encoding: one-hot}, loss: cross_entropy}}
baselines: []
seeds: 1
folds: 0
"""


@pytest.fixture(autouse=True)
def _own_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the pages out of the checkout."""
    monkeypatch.setattr(examine, "project_root", lambda: tmp_path)


@pytest.fixture
def folder(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Make an empty report."""
    return report(tmp_path, monkeypatch)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["examine", *map(str, words)])


def found(*words: str | Path) -> tuple[dict[str, Any], str]:
    """Return the numbers that a command prints, and its page."""
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    numbers: dict[str, Any] = json.loads(done.stdout)
    return numbers, Path(numbers["page"]).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.draws
@pytest.mark.parametrize(
    ("network", "classes", "colour"),
    [({"layers": DEEP}, 3, True), (FAMILY, 47, False), ({"family": "mlp", "hidden": [9]}, 4, False)],
    ids=["layers", "family", "mlp"],
)
def test_any_network_is_shown(
    folder: Path, tmp_path: Path, network: dict[str, Any], classes: int, colour: bool
) -> None:
    learn(folder, network, classes, colour)
    numbers, page = found("stripes-rows", "--out", tmp_path / "page.html")
    scores = numbers["accuracy"]
    assert (scores["total"], scores["right"]) == (classes, np.trace(numbers["confusion"]))
    assert scores["low"] <= scores["right"] / classes == scores["value"] <= scores["high"]
    assert sum(layer["parameters"] for layer in numbers["layers"]) == numbers["parameters"]
    assert numbers["layers"][-1]["gives"] == [classes]
    names = [layer["name"] for layer in numbers["layers"] if layer["parameters"]]
    assert len(set(names)) == len(names), "a mirrored network uses its layers twice"
    assert len(numbers["first"]) == min(10, classes)
    wrong = [row for row in numbers["first"] if row["truth"] != row["answer"]]
    assert all(row["example"] in [one["example"] for one in numbers["worst"]] for row in wrong[:1] if classes < 12)
    shares = [row["probability"] for row in numbers["worst"]]
    assert shares == sorted(shares, reverse=True)
    near = [row["distance"] for row in numbers["image"]["neighbours"]]
    assert near == sorted(near)
    client = mlflow.MlflowClient()
    artifacts = {item.path for item in client.list_artifacts(numbers["run"], "pictures")}
    without_filters = "family" in network and network["family"] == "mlp"
    assert ("pictures/filters.png" in artifacts) is not without_filters
    assert ("no convolution" in " ".join(numbers["notes"])) is without_filters
    assert {"pictures/network.png", "pictures/feature_maps.png", "pictures/embedding.png"} <= artifacts
    assert page.count("<img") == len(artifacts) == page.count('src="data:image/png;base64,')
    assert "http" not in re.sub('src="data:[^"]*"', "", page)
    logged = client.get_run(numbers["run"])
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["test_accuracy"] == scores["value"]
    trained = client.get_run(client.get_model_version("stripes-rows", "1").run_id)
    assert trained.data.metrics["test_accuracy"] == pytest.approx(scores["value"])
    kept = {item.path for item in client.list_artifacts(numbers["run"])}
    assert {"examination.html", "layers.json", "per_class.json", "first_outputs.json"} <= kept


def test_an_image_of_ones_own_is_examined_and_its_copy_is_nearest(folder: Path, tmp_path: Path) -> None:
    learn(folder, {"layers": DEEP}, colour=True)
    pixels = arrays_of(folder / "rows.npz")["x_train"]
    Image.fromarray(pixels[0]).save(tmp_path / "copy.png")
    numbers, page = found("stripes-rows", "--image", tmp_path / "copy.png")
    assert numbers["image"]["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-4)
    assert numbers["image"]["truth"] is None
    assert "copy.png" in page
    assert str(tmp_path) not in page, "where a user keeps files is nobody's business"
    note = mlflow.get_run(numbers["run"]).data.tags["mlflow.note.content"]
    assert f"trackdl examine stripes-rows --version 1 --image {tmp_path / 'copy.png'}" in note
    (tmp_path / "no.png").write_text("no image")
    for file, said in ((tmp_path / "no.png", "not an image"), (tmp_path / "none.png", "it is not there")):
        error = run("stripes-rows", "--image", file).exception
        assert isinstance(error, InputError)
        assert said in str(error)


def test_without_its_data_what_can_be_shown_is_shown(folder: Path, tmp_path: Path) -> None:
    learn(folder, {"layers": DEEP})
    (folder / "rows.npz").unlink()
    done = run("stripes-rows")
    assert done.exit_code == 0, done.output
    assert "The data that it was trained on cannot be shown" in done.stdout
    assert "rows.npz" in done.stdout
    assert "--image FILE gives one" in done.stdout
    Image.new("L", (SIDE, SIDE), 90).save(tmp_path / "one.png")
    numbers, page = found("stripes-rows", "--image", tmp_path / "one.png")
    assert {"accuracy", "first"}.isdisjoint(numbers)
    assert "neighbours" not in numbers["image"]
    assert page.count("<img") == 4  # the diagram, the deciding pixels, the filters and the maps


def test_data_that_have_changed_are_not_taken_for_its_own(folder: Path) -> None:
    learn(folder, {"layers": DEEP})
    learn(folder, {"layers": DEEP}, seed=1)
    numbers, _ = found("stripes-rows", "--version", "1")
    assert "accuracy" not in numbers
    assert "have changed since" in numbers["notes"][0]
    assert "accuracy" in found("stripes-rows", "--version", "2")[0]


def test_a_transferred_network_is_not_said_to_be_tested(folder: Path) -> None:
    learn(folder, {"layers": DEEP})
    for place, name in enumerate(("above", "below")):
        (folder / "places" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 90, (SIDE, SIDE)).astype(np.uint8)
            pixels[SIDE // 2 * place :][: SIDE // 2] += 100
            Image.fromarray(pixels).save(folder / "places" / name / f"{number}.png")
    of = {"source": "models:/stripes-rows@champion", "data": {"folder": "places", "folds": 2}, "training": TRAINING}
    (folder / "places.yaml").write_text(yaml.safe_dump({"task": "transfer", **of}))
    transfer.run(spec.load(folder / "places.yaml", spec.TransferSpec))
    numbers, _ = found("stripes-places")
    assert numbers["accuracy"]["of"] == "images that it learnt from"
    assert any("no test images" in note for note in numbers["notes"])
    logged = mlflow.get_run(numbers["run"]).data.metrics
    assert logged["train_accuracy"] == numbers["accuracy"]["value"]
    assert "test_accuracy" not in logged
    assert 1 not in [row["training_image"] for row in numbers["image"]["neighbours"]], "it is the image itself"


@pytest.mark.draws
def test_a_table_has_importance_and_dependence(folder: Path) -> None:
    rows = [f"{age},{'?' if age % 9 == 0 else age % 4},{'abc'[age % 3]},{age // 20}\n" for age in range(60)]
    (folder / "people.csv").write_text("age,tests,group,stage\n" + "".join(rows))
    (folder / "people.yaml").write_text(PEOPLE)
    table.run(spec.load(folder / "people.yaml", spec.TableSpec))
    numbers, page = found("stripes-people")
    assert {row["column"] for row in numbers["importance"]} == {"age", "tests", "group"}
    assert numbers["importance"][0]["column"] == "age", "it decides alone"
    assert set(numbers["dependence"]["columns"]["group"]) == {"a", "b", "c"}
    lost = [row["accuracy lost"] for row in numbers["importance"]]
    assert lost == sorted(lost, reverse=True)
    means = [mean for one in numbers["dependence"]["columns"].values() for mean in one.values()]
    assert all(0 <= mean <= 1 for mean in means)
    assert page.count("<img") == 4
    assert "--image is for models of images" in str(run("stripes-people", "--image", "x.png").exception)


@pytest.mark.draws
def test_a_table_of_numbers_alone_is_examined_and_a_column_of_zeros_is_noted(folder: Path) -> None:
    rows = [f"{place % 50},{place if place % 25 == 0 else 0},{int(place % 50 > 24)}\n" for place in range(3_000)]
    (folder / "people.csv").write_text("age,rare,stage\n" + "".join(rows))
    (folder / "people.yaml").write_text(PEOPLE.replace("epochs: 60, batch_size: 8", "epochs: 5, batch_size: 64"))
    table.run(spec.load(folder / "people.yaml", spec.TableSpec))
    numbers, _ = found("stripes-people")
    means = numbers["dependence"]["columns"]["age"]
    assert numbers["dependence"]["class"] == "1"
    assert means[max(means, key=float)] > 0.9 > 0.1 > means[min(means, key=float)]
    assert "rare" not in numbers["dependence"]["columns"]
    assert any("The effect of the column rare is not shown" in note for note in numbers["notes"])
    assert not any("mean of 1" in note for note in numbers["notes"])


@pytest.mark.slow
def test_models_whose_run_has_no_such_data_are_shown_without(tracking: str, tmp_path: Path) -> None:  # noqa: ARG001
    add_heart()
    assert "no data for such a model" in " ".join(found("heart-mlp")[0]["notes"])
    add_pictures()
    (tmp_path / "a.png").write_bytes(content(letter()))
    numbers, _ = found("greek-cnn", "--image", tmp_path / "a.png")
    assert sum(numbers["image"]["probabilities"].values()) == pytest.approx(1)


def test_a_file_that_it_did_not_write_stays(tracking: str, tmp_path: Path) -> None:  # noqa: ARG001
    add_heart()
    (tmp_path / "mine.html").write_text("mine")
    error = run("heart-mlp", "--out", tmp_path / "mine.html").exception
    assert isinstance(error, InputError)
    assert "`trackdl examine` did not write it" in str(error)
    assert (tmp_path / "mine.html").read_text() == "mine"
    page = html_page.render("compare", sides=[], tables=[], curves="", images=[], notes=[])
    (tmp_path / "mine.html").write_text(page)
    assert "did not write it" in str(run("heart-mlp", "--out", tmp_path / "mine.html").exception)
