"""A transfer from any image network to a small folder of images: what is frozen, the baselines, other names."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from trackdl import spec
from trackdl.errors import InputError
from trackdl.spec import ClassifySpec, TransferSpec
from trackdl.tasks import classify, transfer
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry

LAYERS = ["batch_norm", {"conv": 6, "size": 3}, {"dropout_maps": 0.1}, "relu", {"pool": 2}, "flatten",
          {"dense": "4*classes"}, "relu", {"dense": "classes", "bias": False}]  # fmt: skip
FAMILY = {
    "family": "conv", "conv_layers": 1, "filter_size": 3, "filters": 6, "dense_nodes": 12, "dropout": 0.0,
    "pool_size": 2, "activation": "relu", "batch_norm": True,
}  # fmt: skip
NETWORKS = {"layers": {"layers": LAYERS}, "conv": FAMILY, "mlp": {"family": "mlp", "hidden": [12]}}
PLACES = {"above": (0, 4), "below": (4, 8)}
SIDE = 8


def draw(rows: tuple[int, int], number: int, colour: bool) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 60, (SIDE, SIDE, 3) if colour else (SIDE, SIDE))
    pixels[rows[0] : rows[1], 2:6] = 200
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def folder(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Make a report with images of two classes to transfer to."""
    folder = tmp_path / "report"
    for colour in ("grey", "colour"):
        for name, rows in PLACES.items():
            (folder / colour / name).mkdir(parents=True)
            for number in range(6):
                draw(rows, number, colour == "colour").save(folder / colour / name / f"{number}.png")
    (folder / "report.yaml").write_text("{title: Places, slug: places}\n")
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    return folder


def learn(folder: Path, network: dict[str, Any], colour: bool = False) -> classify.Result:
    """Train the source, on three classes, and register it."""
    random = np.random.default_rng(0)
    labels = np.arange(72) % 3
    images = random.integers(0, 60, (72, SIDE, SIDE, *([3] if colour else [])))
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 2] += 150
    images = images.astype(np.uint8)
    np.savez(folder / "lines.npz", x_train=images[12:], y_train=labels[12:], x_test=images[:12], y_test=labels[:12])
    training = {"epochs": 2, "batch_size": 20, "optimizer": {"name": "adam", "lr": 0.01}, "seed": 1}
    data = {"npz": "lines.npz", **({"colour": True} if colour else {})}
    content = {"task": "classify", "data": data, "network": network, "training": training}
    (folder / "lines.yaml").write_text(yaml.safe_dump(content))
    return classify.run(spec.load(folder / "lines.yaml", ClassifySpec))


def experiment(folder: Path, images: str = "grey", **keys: Any) -> TransferSpec:
    content: dict[str, Any] = {
        "task": "transfer",
        "source": "models:/places-lines@champion",
        "of": "lines",
        "data": {"folder": images, "folds": 2},
        "training": {"epochs": 8, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.1}, "seed": 1},
    }
    for key, value in keys.items():
        *sections, last = key.split("__")
        place = content
        for section in sections:
            place = place[section]
        place[last] = value
    (folder / "places.yaml").write_text(yaml.safe_dump(content))
    return spec.load(folder / "places.yaml", TransferSpec)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["body", "convolutions", "nothing"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_exactly_what_is_frozen_keeps_the_sources_weights(folder: Path, name: str, frozen: str) -> None:
    learn(folder, NETWORKS[name])
    result = transfer.run(experiment(folder, frozen=frozen))
    source = registry.fetch_model("models:/places-lines@champion")
    made = registry.fetch_model("models:/places-places@champion")
    assert result.decision.name == "places-places"
    assert made.card.classes == list(PLACES)
    assert (made.card.size, made.card.mean, made.card.std) == (SIDE, source.card.mean, source.card.std)
    before, after = source.model.state_dict(), made.model.state_dict()
    linear = [name for name, layer in made.model.named_modules() if isinstance(layer, nn.Linear)]
    convolutions = [name for name, layer in made.model.named_modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    for key in before.keys() | after.keys():
        layer = key.rpartition(".")[0]
        if layer == linear[-1]:
            assert after[key].shape[0] == 2
        elif frozen == "body" or (frozen == "convolutions" and layer in convolutions):
            assert torch.equal(before[key], after[key]), key
        elif key.endswith("weight"):
            assert not torch.equal(before[key], after[key]), key
    version = mlflow.MlflowClient().get_model_version("places-places", "1")
    assert version.tags["trackdl.source_weights_sha256"] == source.card.weights_sha256
    served = mlflow.pyfunc.load_model("models:/places-places@champion").predict(
        np.stack([np.asarray(draw(rows, 9, False)) for rows in PLACES.values()]).astype(np.float32)
    )
    assert set(served["label"]) <= set(PLACES)
    assert transfer.show(result).startswith("places, from places-lines@champion, 12 images, each held out (2-fold): ")


@pytest.mark.slow
def test_few_images_are_held_out_one_by_one_and_many_by_folds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn(folder, NETWORKS["mlp"])
    few = transfer.run(experiment(folder, data__folds=None, training__epochs=1))
    assert few.run.info.data.tags["trackdl.validation"] == few.way == "leave-one-out"
    for name, rows in PLACES.items():
        for number in range(6, 56 if name == "above" else 51):
            draw(rows, number, colour=False).save(folder / "grey" / name / f"{number}.png")
    many = transfer.run(experiment(folder, data__folds=None, training__epochs=1))
    assert many.run.info.data.tags["trackdl.validation"] == "10-fold"
    assert "data.folds" not in many.run.info.data.params
    summary = transfer.show(many)
    assert "10-fold, because there are " in capsys.readouterr().out
    assert "McNemar's exact test, p by Holm over 3: transferred and random features " in summary


@pytest.mark.slow
def test_in_colour_with_other_names_and_images_that_are_only_tested(folder: Path) -> None:
    learn(folder, NETWORKS["layers"], colour=True)
    for name, rows in PLACES.items():
        (folder / "unseen" / name).mkdir(parents=True)
        for number in range(20, 24):
            draw(rows, number, colour=True).save(folder / "unseen" / name / f"{number}.png")
    stated = experiment(folder, "colour", data__rename={"above": "top"}, data__test_folder="unseen", frozen="nothing")
    result = transfer.run(stated)
    card = registry.fetch_model("models:/places-places@champion").card
    assert card.colour
    assert sorted(card.classes) == ["below", "top"]
    assert result.unseen is not None
    assert result.unseen.total == 8
    assert dict(result.run.history("test_accuracy"))[8] == result.unseen.accuracy


@pytest.mark.slow
def test_the_share_of_maps_that_are_dropped_is_another(folder: Path, tmp_path: Path) -> None:
    learn(folder, NETWORKS["layers"])
    run = transfer.run(experiment(folder, dropout_maps=0.7)).run
    assert "Dropout2d(p=0.7" in run.fetch("network.txt", tmp_path).read_text()
    usual = transfer.run(experiment(folder)).run
    assert "Dropout2d(p=0.1" in usual.fetch("network.txt", tmp_path).read_text()
    assert run.history("batch_loss") != usual.history("batch_loss")


def test_a_baseline_that_diverges_is_told_and_not_fatal(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learn(folder, NETWORKS["mlp"])
    registry_loss = transfer.hold_out_each

    def diverging(network: Any, *rest: Any) -> Any:
        if network.args[2] == "nothing":
            raise transfer.Diverged("epoch 1, batch 1: the loss is nan; the training has diverged")
        return registry_loss(network, *rest)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level("WARNING", "trackdl"):
        patch.setattr(transfer, "hold_out_each", diverging)
        result = transfer.run(experiment(folder))
    assert "the baseline all layers trained is left out: epoch 1" in caplog.text
    assert set(result.held_out) == {"transferred", "random features"}
    assert "has diverged" in result.run.info.data.tags["trackdl.diverged.all_layers_trained"]
    assert result.run.info.info.status == "FINISHED"
    assert result.run.history("val_accuracy_all_layers_trained") == []
    rows = json.loads(result.run.fetch("predictions/held_out.json", tmp_path).read_text())["rows"]
    assert {tuple(row) for row in rows} == {("letter", "truth", "transferred", "random features")}
    assert "all layers trained" not in transfer.show(result)


def test_a_transfer_that_diverges_itself_fails(folder: Path) -> None:
    learn(folder, NETWORKS["mlp"])
    with pytest.raises(transfer.Diverged):
        transfer.run(experiment(folder, frozen="nothing", training__optimizer__lr=100.0, training__epochs=50))
    assert {run.info.info.status for run in runs.find("places")} == {"FAILED"}


@pytest.mark.slow
def test_the_source_is_trained_first_if_the_registry_has_none(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    learn(folder, NETWORKS["mlp"])
    mlflow.MlflowClient().delete_registered_model_alias("places-lines", "champion")
    with caplog.at_level("WARNING", "trackdl"):
        transfer.run(experiment(folder))
    assert "the registry has no models:/places-lines@champion yet: training it first, with lines.yaml" in caplog.text
    with pytest.raises(InputError, match="models:/places-lines/9"):
        transfer.run(experiment(folder, source="models:/places-lines/9"))
    with pytest.raises(InputError, match="the registry has no such version or alias"):
        transfer.run(experiment(folder, source="models:/other@champion", of=""))


def test_a_model_of_another_report_is_not_competed_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(folder, NETWORKS["mlp"])
    transfer.run(experiment(folder, register="shared"))
    (folder / "report.yaml").write_text("{title: Others, slug: others}\n")
    other = folder.rename(folder.parent / "others")
    monkeypatch.setenv("TRACKDL_REPORT", str(other))
    with pytest.raises(InputError, match="shared is of the report places, and this one is others"):
        transfer.run(experiment(other, register="shared"))
    assert len(runs.find("places")) == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"frozen": "head"}, "key 'frozen'.*'body', 'convolutions' or 'nothing'"),
        ({"dropout_maps": 1.0}, "key 'dropout_maps'.*less than 1"),
        ({"source": "lines"}, "key 'source': must be models:/NAME@ALIAS or models:/NAME/VERSION"),
        ({"data__rename": {"above": ""}}, "key 'data.rename.above'"),
    ],
)
def test_what_is_wrong_names_file_and_key(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"places\.yaml: {words}"):
        experiment(tmp_path, **keys)
