"""The model cards of registered versions: as Hugging Face documents them, with the run's own numbers, and verified."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from support.pictures import blobs
from support.registered import CARD, EXPERIMENT, add, network
from trackdl import serving, spec
from trackdl.analysis.stats import exact_interval
from trackdl.cli.app import app
from trackdl.errors import InputError, TrackdlError
from trackdl.tasks import classify, table, transfer
from trackdl.tracking import runs
from trackdl.tracking.registry import readme
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Score
from trackdl.tracking.runs import Run
from trackdl.tracking.store import client

NETWORK = {"layers": [{"conv": 4, "size": 5, "stride": 3}, "relu", "flatten", {"dense": "classes"}]}
TRAINING = {"epochs": 2, "batch_size": 20, "optimizer": {"name": "adam", "lr": 0.01}, "seed": 7}
SQUARES = {"task": "classify", "data": {"npz": "blobs.npz", "size": 14}, "network": NETWORK, "training": TRAINING}
HELD = {**SQUARES, "data": {**SQUARES["data"], "validation": 0.2}}
ODD = 'A "report": `of` {odd} --- # names: <b>'
WINE = {
    "task": "table",
    "data": {"sklearn": "wine"},
    "networks": [{"name": "wide", "hidden": [8]}],
    "training": TRAINING,
    "protocols": {"plain": {"inputs": {"encoding": "one-hot"}, "loss": "cross_entropy"}},
}


@pytest.fixture
def folder(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Make the folder of a report with images."""
    (folder := tmp_path / "report").mkdir()
    (train, labels), (test, truth) = blobs(200, 0), blobs(50, 1)
    np.savez(folder / "blobs.npz", x_train=train, y_train=labels, x_test=test, y_test=truth)
    (folder / "report.yaml").write_text(
        yaml.safe_dump({"title": ODD, "slug": "odd", "source": "https://a.org/my_report"})
    )
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    return folder


def read(folder: Path, name: str, content: dict[str, Any]) -> Any:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return spec.load_any(folder / f"{name}.yaml", {})


def parts(text: str) -> tuple[dict[str, Any], str]:
    """Return the head and the body, as Hugging Face's library divides them; check the head against the format."""
    found = re.match(r"^(\s*---[\r\n]+)([\S\s]*?)([\r\n]+---(\r\n|\n|$))", text)
    assert found
    head = yaml.safe_load(found[2])
    assert set(head) == {"library_name", "pipeline_tag", "tags", "metrics", "model-index"}  # and no licence
    assert all(isinstance(item, str) for item in (head["library_name"], head["pipeline_tag"], *head["tags"]))
    for index in head["model-index"]:
        assert set(index) == {"name", "results"}
        assert index["results"]
        for result in index["results"]:
            assert set(result) == {"task", "dataset", "metrics"}
            assert set(result["task"]) == {"type", "name"}
            assert result["task"]["type"] == head["pipeline_tag"]
            assert set(result["dataset"]) == {"type", "name", "split"}
            assert all(isinstance(value, str) and value for value in result["dataset"].values())
            for metric in result["metrics"]:
                assert metric["type"] == "accuracy"
                assert isinstance(metric["value"], float)
    return head, text[found.end() :]


def figures(head: dict[str, Any]) -> dict[str, float]:
    (index,) = head["model-index"]
    return {metric["name"]: metric["value"] for result in index["results"] for metric in result["metrics"]}


def says_how(body: str, run: Run) -> None:
    tags = run.info.data.tags
    for key in ("trackdl.spec_digest", "trackdl.data_digest", "trackdl.code_digest", "mlflow.source.git.commit"):
        assert tags.get(key, "") in body
    assert f"`{runs.command(run.id)}`" in body
    assert "- seed: `7`" in body
    assert f"`torch=={tags['trackdl.torch'].partition('+')[0]}`" in body


def between(low: float, high: float) -> str:
    return f"95 % interval {low:.4f} to {high:.4f}"


@pytest.mark.parametrize("content", [SQUARES, HELD], ids=["no validation", "validation"])
def test_the_card_of_an_image_model(folder: Path, content: dict[str, Any]) -> None:
    run = classify.run(read(folder, "squares", content)).run
    head, body = parts(readme.read("models:/odd-squares@champion"))
    kept = content is HELD
    logged = run.info.data.metrics
    wanted = {"test_accuracy": logged["best_test_accuracy" if kept else "test_accuracy"]}
    assert figures(head) == wanted | ({"val_accuracy": logged["best_val_accuracy"]} if kept else {})
    right = round(50 * wanted["test_accuracy"])
    over = f"(exact binomial, over 50 examples, of which {right} were classified right)"
    assert f"{between(*exact_interval(right, 50))} {over}. These examples did not choose the weights." in body
    assert ("This split chose the weights" in body) == kept
    assert head["model-index"][0]["results"][-1]["dataset"] == {"type": "blobs", "name": "blobs-test", "split": "test"}
    assert "It takes grey pixels from 0 to 255, 14×14, or image files" in body
    assert "synthetic" not in body
    assert 'report “A "report": \\`of\\` {odd} --- \\# names: \\<b\\>”, <https://a.org/my_report>.' in body
    says_how(body, run)


@pytest.mark.slow
def test_the_card_of_a_table_model(folder: Path) -> None:
    run = table.run(read(folder, "wine", {**WINE, "folds": 3})).run
    head, body = parts(readme.read("models:/odd-wine@champion"))
    logged = run.info.data.metrics
    assert figures(head) == {name: logged[name] for name in ("test_accuracy", "cv_accuracy")}
    for name in figures(head):
        assert between(*(logged[f"{name}_{end}"] for end in ("low", "high"))) in body
    assert "corrected for overlapping folds, over 1 × 3 folds of 178 rows" in body
    assert "`alcohol`: a number" in body
    says_how(body, run)


@pytest.mark.slow
def test_the_card_of_a_table_model_without_folds(folder: Path) -> None:
    table.run(read(folder, "wine", {**WINE, "folds": 0}))
    assert list(figures(parts(readme.read("models:/odd-wine@champion"))[0])) == ["test_accuracy"]


def test_the_card_of_a_transfer(folder: Path) -> None:
    from PIL import Image

    for count, part in ((6, "learn"), (2, "test")):
        for label, row in (("up `x`", 0), ("---", 14)):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng(10 * count + number).integers(0, 60, (28, 28)).astype(np.uint8)
                pixels[row : row + 14] += 150
                Image.fromarray(pixels).save(folder / part / label / f"{number}.png")
    classify.run(read(folder, "squares", SQUARES))
    images = {"folder": "learn", "test_folder": "test", "folds": 2}
    content = {"task": "transfer", "source": "models:/odd-squares@champion", "data": images, "training": TRAINING}
    run = transfer.run(read(folder, "places", content)).run
    head, body = parts(readme.read("models:/odd-places@champion"))
    logged = run.info.data.metrics
    assert figures(head) == {name: logged[name] for name in ("val_accuracy", "test_accuracy")}
    for name in figures(head):
        assert between(logged[f"{name}_low"], logged[f"{name}_high"]) in body
    assert [result["dataset"]["split"] for result in head["model-index"][0]["results"]] == ["2-fold", "test"]
    assert "`` up `x` ``" in body
    assert "source model: `odd-squares`" in body
    says_how(body, run)


def register(name: str, data: str, alias: str | None = None, *, synthetic: bool = False) -> str:
    """Register random weights with a card, in a run that trained nothing, and return the card."""
    with runs.start("transfer") as run:
        result = readme.of_examples("test_accuracy", 3, 4, data, "test", "Nobody knows.")
        about = readme.About(EXPERIMENT, data, [result])
        score, pixels = Score("test_accuracy", 0.75, "a test says so", "d1", synthetic), np.zeros((1, 28, 28))
        said = CARD.model_copy(update={"classes": [f"{data}{digit}" for digit in range(10)]})
        made = registry.log_and_register(
            name, run, network(), said, pixels, 0, [], score, about, {"trackdl.weights_file": "x"}, alias
        )
    return readme.read(f"models:/{name}/{made.version}")


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("data", ["a: b", "- x", "---", "\n---\n", "'\"`#{}[]&*!|>%@", "é ✓ \u2028 \x07", "yes", "1.0"])
def test_odd_names_come_back_as_they_were(data: str) -> None:
    head, body = parts(register("my model - 1.0", data))
    (index,) = head["model-index"]
    assert index["name"] == "my model - 1.0"
    assert index["results"][0]["dataset"] == {"type": data, "name": data, "split": "test"}
    assert "trackdl predict 'my model - 1.0' FILE\n" in body
    assert "-m 'models:/my model - 1.0@champion'" in body
    assert not re.search(r"^---", body, re.MULTILINE)


@pytest.mark.usefixtures("tracking")
def test_mlflows_pages_call_a_model_by_its_name_and_say_how_to_use_it() -> None:
    register("my model - 1.0", "digits")
    found = client().get_model_version("my model - 1.0", "1")
    assert client().get_logged_model(found.source.removeprefix("models:/")).name == "my model - 1-0"
    assert "`test_accuracy` is 0.7500 on digits, split test; 95 % interval 0.1941 to 0.9937" in found.description
    assert "`trackdl card 'my model - 1.0'` prints the model card." in found.description


@pytest.mark.usefixtures("tracking")
def test_a_network_of_others_is_not_called_trained() -> None:
    _, body = parts(register("mnist-cnn", "digits", "report", synthetic=True))
    assert "trackdl did not train it, and only tested it" in body
    assert "trains it again" not in body
    assert "- seed" not in body
    assert "weights file: `x`" in body
    assert "trackdl serve mnist-cnn --alias report" in body
    assert "models:/mnist-cnn@report" in body
    assert "on synthetic data" in body


def test_a_card_is_verified_and_versions_without_one_still_load(tracking: str, tmp_path: Path) -> None:
    add(0.5)  # as versions were before there were cards
    assert registry.fetch_model("models:/mnist-cnn/1").version == "1"
    with pytest.raises(InputError, match="version 1 was registered without a card"):
        readme.read("models:/mnist-cnn@champion")
    text, run = register("mnist-cnn", "d"), CliRunner().invoke
    assert registry.fetch_model("models:/mnist-cnn/2").version == "2"
    done = run(app, ["card", "mnist-cnn", "--version", "2"])
    assert (done.exit_code, done.output) == (0, text)
    done = run(app, ["card", "mnist-cnn", "--version", "2", "--output", str(tmp_path / "README.md")])
    assert (done.exit_code, (tmp_path / "README.md").read_text(encoding="utf-8")) == (0, text)
    where = mlflow.MlflowClient(tracking).get_model_version_download_uri("mnist-cnn", "2")
    files = Path(urlparse(where).path) / "data/model"
    serving.read_model(files)  # as the card says
    (files / "README.md").write_text(text.replace("0.75", "0.99"), encoding="utf-8")
    for use in (readme.read, registry.fetch_model):
        with pytest.raises(TrackdlError, match=r"changed data/model/README\.md"):
            use("models:/mnist-cnn/2")
