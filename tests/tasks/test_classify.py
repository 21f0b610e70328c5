"""Any network on any images: the protocols with and without a validation split, from tiny files of the test's own."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from support.pictures import arrays_of, blobs
from trackdl import spec
from trackdl.analysis.stats import mean_interval
from trackdl.apps.predict import predict
from trackdl.errors import InputError
from trackdl.spec import ClassifySpec
from trackdl.tasks import classify
from trackdl.tracking import runs, training_runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.runs import Run
from trackdl.training.image_splits import check_apart

SMALL = {
    "layers": [{"conv": "width", "size": 5, "stride": 3}, "relu", "flatten", {"dense": "classes"}],
    "with": {"width": 4},
}
FAMILY = {
    "family": "conv", "conv_layers": 1, "filter_size": 4, "filters": 4, "dense_nodes": 0, "dropout": 0.2,
    "pool_size": 2, "activation": "relu", "padding": 1,
}  # fmt: skip


@pytest.fixture
def folder(tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Make the folder of another report, with 200 training and 50 test images."""
    (folder := tmp_path / "report").mkdir()
    (train, labels), (test, truth) = blobs(200, 0), blobs(50, 1)
    np.savez(folder / "blobs.npz", x_train=train, y_train=labels, x_test=test, y_test=truth)
    (folder / "report.yaml").write_text("{title: Blobs, authors: Nobody, slug: blobs}\n")
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    return folder


def experiment(folder: Path, file: str = "squares", **keys: Any) -> ClassifySpec:
    content = {
        "task": "classify",
        "data": {"npz": "blobs.npz", "size": 14},
        "network": copy.deepcopy(SMALL),
        "training": {
            "epochs": 3, "batch_size": 20, "optimizer": {"name": "adam", "lr": 0.01}, "seed": 1, "precision": "float32",
        },
    }  # fmt: skip
    for key, value in copy.deepcopy(keys).items():
        *sections, last = key.replace("__", ".").split(".")
        place: Any = content
        for section in sections:
            place = place[section]
        place[last] = value
    path = folder / f"{file}.yaml"
    path.write_text(yaml.safe_dump(content))
    return spec.load(path, ClassifySpec)


def weights(version: str = "1", name: str = "blobs-squares") -> dict[str, torch.Tensor]:
    return registry.fetch_model(f"models:/{name}/{version}").model.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def steps(run: Run, metric: str) -> list[int]:
    return [step for step, _ in run.history(metric)]


HELD = {"data__validation": 0.2}


@pytest.mark.parametrize(
    ("keys", "tested"),
    [
        ({}, [0, 1, 2, 3]),
        ({"test": "every_epoch"}, [0, 1, 2, 3]),
        ({"test": {"after": [2]}}, [2, 3]),  # the last epoch's weights are kept, and tested in any case
        ({"test": {"after": [0]}}, [0, 3]),
        ({**HELD, "test": {"after": [0, 2]}}, [0, 2]),
        ({**HELD, "test": "best_validation"}, []),
        (HELD, []),
        ({**HELD, "test": "every_epoch"}, [0, 1, 2, 3]),
    ],
    ids=str,
)
def test_when_the_test_images_are_used(folder: Path, keys: dict[str, Any], tested: list[int], tmp_path: Path) -> None:
    result = classify.run(experiment(folder, **keys))
    run = result.run
    assert steps(run, "train_loss") == [1, 2, 3]
    kept = dict(run.history("best_epoch"))
    if "data__validation" not in keys:
        assert steps(run, "test_accuracy") == tested
        assert not kept
        assert steps(run, "val_loss") == []
        epoch, decided = 3, "test_accuracy"
    else:
        # MLflow has the registered model's own results at the epoch of its weights.
        epoch, decided = int(kept[3]), "val_accuracy"
        assert set(steps(run, "test_accuracy")) == {*tested, epoch}
        assert steps(run, "val_loss") == [1, 2, 3]
        assert steps(run, "best_test_accuracy") == [3]
    checkpoint = load_file(run.fetch(f"checkpoints/epoch-{epoch:05d}.safetensors", tmp_path))
    assert same(weights(), {name: checkpoint[f"model.{name}"] for name in weights()})
    (version,) = [item for item in result.decisions if item.alias == "champion"]
    assert version.name == "blobs-squares", "the report's slug and the experiment's name"
    assert registry.find("models:/blobs-squares@champion").tags["trackdl.decided_by"].startswith(decided)
    assert "blobs-squares version 1 is now champion" in str(version)
    assert classify.show(result).startswith("squares: ")


@pytest.mark.slow
def test_testing_or_not_changes_no_weight(folder: Path) -> None:
    classify.run(experiment(folder))
    classify.run(experiment(folder, test={"after": [2]}))
    assert same(weights("1"), weights("2"))
    classify.run(experiment(folder, **HELD))
    classify.run(experiment(folder, **HELD, test="every_epoch"))
    assert same(weights("3"), weights("4"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", [SMALL, FAMILY, {"family": "mlp", "hidden": [8], "dropout": 0.1}], ids=["layers", "conv", "mlp"]
)
@pytest.mark.parametrize("keys", [{}, HELD, {**HELD, "reload_after": 2}], ids=["tested", "validated", "reloaded"])
def test_reloaded_or_killed_and_resumed_it_ends_in_the_same_weights(
    folder: Path, keys: dict[str, Any], network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**keys, "network": network}
    straight = classify.run(experiment(folder, **{**keys, "reload_after": None})).run
    save, left = training_runs.save_checkpoint, [1]

    def interrupted(*args: Any) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training_runs, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            classify.run(experiment(folder, **keys))
    (killed,) = [run for run in runs.find("squares") if run.info.info.status == "KILLED"]
    resumed = classify.run(experiment(folder, **keys), resume=killed.id).run
    assert resumed.id == killed.id
    assert same(weights("1"), weights("2"))
    for metric in ("train_loss", "val_accuracy", "best_test_accuracy", "test_accuracy"):
        assert resumed.history(metric) == straight.history(metric)
    classify.run(experiment(folder, **{**keys, "reload_after": 1}))
    assert same(weights("1"), weights("3"))


@pytest.mark.slow
@pytest.mark.draws
@pytest.mark.parametrize("keys", [{}, HELD], ids=["tested", "validated"])
def test_several_seeds(folder: Path, keys: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = classify.run(experiment(folder, seeds=3, **keys))
    assert [run.info.data.params["training.seed"] for run in result.seeds] == ["1", "2", "3"]
    metric = "best_test_accuracy" if keys else "test_accuracy"
    for step in steps(result.run, metric):
        values = [dict(run.history(metric))[step] for run in result.seeds]
        low, high = (dict(result.run.history(f"{metric}_{end}"))[step] for end in ("low", "high"))
        assert dict(result.run.history(metric))[step] == pytest.approx(np.mean(values))
        assert (low, high) == pytest.approx(mean_interval(values))
    assert steps(result.run, metric) == ([3] if keys else [0, 1, 2, 3])
    classify.show(result)
    assert "95 % interval of the mean" in capsys.readouterr().out
    assert not same(weights("1"), weights("2"))
    with pytest.raises(InputError, match="has finished its 3 seeds"):
        classify.run(experiment(folder, seeds=3, **keys), resume=result.run.id)


def test_scikit_learns_digits_with_squared_error_and_rmsprop(folder: Path) -> None:
    optimizer = {"name": "rmsprop", "lr": 0.003, "l2": 1e-4}
    layers = [{"conv": 8, "size": 3}, "relu", "flatten", {"dense": "features/9"}, "relu", {"dense": "classes"}]
    stated = experiment(
        folder, data={"sklearn": "digits"}, network={"layers": layers}, training__optimizer=optimizer,
        training__loss="squared_error", training__epochs=8,
    )  # fmt: skip
    run = classify.run(stated).run
    losses = dict(run.history("test_loss"))
    assert losses[8] < 0.05 < losses[0] < 0.2  # of ten classes: 0.09 where nothing is known
    assert dict(run.history("test_accuracy"))[8] > 0.8


def colours(folder: Path, side: int = 6) -> dict[str, Any]:
    """Write images in colour of three classes; return their section."""
    random = np.random.default_rng(0)

    def draw(count: int) -> tuple[Any, Any]:
        labels = np.arange(count) % 3
        images = random.integers(0, 90, (count, side, side, 3))
        images[np.arange(count), :, :, labels] += 150
        return images.astype(np.uint8), labels

    (train, labels), (test, truth) = draw(60), draw(30)
    np.savez(folder / "colours.npz", x_train=train, y_train=labels, x_test=test, y_test=truth)
    return {"npz": "colours.npz", "colour": True, "classes": ["red", "green", "blue"]}


def test_images_in_colour(folder: Path) -> None:
    layers = [{"conv": 3, "size": 3}, "batch_norm", "relu", "average", {"dense": "classes"}]
    stated = experiment(folder, data=colours(folder), network={"layers": layers}, training__epochs=12)
    result = classify.run(stated)
    assert dict(result.run.history("test_accuracy"))[12] == 1
    card = registry.fetch_model("models:/blobs-squares@champion").card
    assert (card.classes, card.size, card.colour) == (["red", "green", "blue"], 6, True)
    arrays = arrays_of(folder / "colours.npz")
    for name, pixels in (("learnt", arrays["x_train"][4]), ("new", arrays["x_test"][4])):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    found = predict("models:/blobs-squares@champion", [str(folder / "learnt.png"), str(folder / "new.png")])
    assert [item["copy_of"] for item in found] == ["no. 5", None]


def test_a_model_of_another_report_is_refused_before_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classify.run(experiment(folder, register="shared"))
    other = folder.parent / "other"
    other.mkdir()
    (folder / "blobs.npz").rename(other / "blobs.npz")
    monkeypatch.setenv("TRACKDL_REPORT", str(other))
    count = len(runs.find("squares"))
    with pytest.raises(InputError, match=r"shared is of the report blobs, and this one is other: .*'register'"):
        classify.run(experiment(other, register="shared"))
    assert len(runs.find("squares")) == count
    result = classify.run(experiment(other, "own"))
    assert result.decisions[0].name == "other-own"


END = {"dense": "classes"}


def layers(*listed: Any) -> dict[str, Any]:
    return {"network": {"layers": list(listed)}}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (layers("flatten", "relu"), "key 'network': layers: the last one must be {dense: classes}"),
        (layers({"conv": "n", "size": 3}, "flatten", END), "key 'network': layers: the name n is not d"),
        ({"network__with.depth": 3}, "key 'network': with: no layer uses depth"),
        ({"network__with.width": 0}, "key 'network': layer 1 .*: conv: width is 0, and must be a whole number from 1"),
        ({"network__with.width": "wide"}, "key 'network.with.width'.*valid"),
        (layers(*["relu"] * 10_000, END), "key 'network.layers': more than 500 layers"),
        (layers({"pool": 5}, {"pool": 5}, "flatten", END), r"key 'network': layer 2 \(pool: 5\) gets 1 channel of 2"),
        (layers(END), "key 'network': layer 1 .* it takes numbers; put `flatten`"),
        (layers("flatten", {"conv": 3, "size": 3}, END), "key 'network': layer 2 .* 196 numbers: it"),
        (layers("rleu", END), "key 'network.layers.0': is no layer; layers are the words flatten"),
        (layers("dropout", END), r"key 'network.layers.0': is no layer without its value, e.g. "),
        (layers({"sise": 3}, END), "key 'network.layers.0': is no layer"),
        (layers({"conv": 3}, END), "key 'network.layers.0.size': missing"),
        (layers({"conv": 3, "size": 3, "pad": 1}, END), "key 'network.layers.0': conv has no key 'pad'; it"),
        (layers({"conv": 0, "size": 3}, END), "key 'network.layers.0.conv': must be a whole number from 1"),
        (layers({"conv": "3x", "size": 3}, END), "key 'network.layers.0.conv': must be .* or a named"),
        (layers({"dropout": 1.0}, END), "key 'network.layers.0.dropout': must be a number from 0 to"),
        (layers({"repeat": 2, "layers": []}, END), "key 'network.layers.0.layers'"),
        (layers({"repeat": 2, "layers": [{"pool": True}]}, END), "key 'network.layers.0.layers.0.pool'"),
        (layers(), "key 'network.layers': .*at least 1 item"),
        ({"network": {"family": "resnet"}}, "key 'network': needs `family: digit`, `conv` or `mlp`, or `layers`"),
        ({"network": {"family": "mlp"}}, "key 'network.hidden': missing"),
        ({"network": {"family": "mlp", "hidden": [0]}}, "key 'network.hidden.0'"),
        ({"network": {"family": "mlp", "hidden": [3], "widths": 3}}, "key 'network.widths': unknown key"),
        ({"network": {"family": "digit"}}, "key 'network': family digit takes grey images of 28×28 pixels; these are"),
        ({"network": {**FAMILY, "filter_size": 17}}, "key 'network': layer 1 of 1: 14×14 pixels are left, a filter"),
        ({"test": "best_validation"}, "test: best_validation needs data.validation"),
        ({"test": "sometimes"}, "key 'test'"),
        ({"test": {"after": []}}, "key 'test.after'"),
        ({"register": "a/b"}, "key 'register': must be a registered model's name"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_names_file_and_key(tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"squares\.yaml: {words}"):
        experiment(tmp_path, **keys)


def test_a_network_that_only_the_images_show_to_be_none(folder: Path) -> None:
    stated = experiment(
        folder, data=colours(folder), network={"layers": [{"pool": 7}, "flatten", {"dense": "classes"}]}
    )
    with pytest.raises(InputError, match=r"squares: key 'network': layer 1 \(pool: 7\) gets 3 channels of 6×6 pixels"):
        classify.run(stated)
    assert {run.info.info.status for run in runs.find("squares")} <= {"FAILED"}


def test_the_resolved_file_of_a_list_runs_again_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    first = classify.run(experiment(folder, network__with={"width": 3}))
    again = spec.load(first.run.fetch("experiment.yaml", tmp_path), ClassifySpec)
    assert spec.digest(again) == spec.digest(first.experiment)
    assert again.network.named == {"width": 3}
    assert spec.flatten(again)["network.with.width"] == 3
    classify.run(again)
    assert same(weights("1"), weights("2"))


@pytest.mark.slow
@pytest.mark.parametrize("held", [{}, HELD])
def test_copies_of_training_images_are_left_out_of_what_is_measured(folder: Path, held: dict[str, float]) -> None:
    arrays = arrays_of(folder / "blobs.npz")
    arrays["x_test"][:6], arrays["y_test"][:6] = arrays["x_train"][:6], arrays["y_train"][:6]
    arrays["x_test"][6] = np.clip(arrays["x_train"][6] * 1.05 + 1, 0, 255)  # a little lighter
    arrays["x_train"][100:120], arrays["y_train"][100:120] = arrays["x_train"][:20], arrays["y_train"][:20]
    np.savez(folder / "blobs.npz", **arrays)
    run = classify.run(experiment(folder, **held)).run
    last = "test" if held else "test-epoch-00003"
    tested = load_file(run.fetch(f"predictions/{last}.safetensors", folder))["targets"]
    assert tested.tolist() == arrays["y_test"][7:].tolist()
    left = json.loads(run.fetch("left_out.json", folder).read_text())
    assert left["test"][0] == "test image 1 (as training image 1)"
    assert len(left["test"]) == dict(run.history("left_out_test"))[0] == 7
    if held:
        validated = load_file(run.fetch("predictions/val-epoch-00003.safetensors", folder))["targets"]
        assert len(validated) + len(left["val"]) == 40
        assert left["val"]
    arrays["x_test"], arrays["y_test"] = arrays["x_train"][:9], arrays["y_train"][:9]
    np.savez(folder / "blobs.npz", **arrays)
    with pytest.raises(InputError, match="all 9 test images are copies of training images"):
        classify.run(experiment(folder, **held))


def test_a_study_refuses_images_that_are_there_twice(folder: Path) -> None:
    data = experiment(folder).data
    check_apart(data)
    arrays = arrays_of(folder / "blobs.npz")
    arrays["x_train"][7] = arrays["x_train"][2]
    np.savez(folder / "blobs.npz", **arrays)
    with pytest.raises(InputError, match=r"there twice.*: training image 8 \(as training image 3\)"):
        check_apart(data)


def test_a_network_of_torchvision_is_trained_and_registered(folder: Path) -> None:
    keys = {"network": {"torchvision": "shufflenet_v2_x0_5"}, "data__size": 32, "data__per_class": 5}
    made = classify.run(experiment(folder, training__epochs=1, training__batch_size=16, **keys))
    found = registry.fetch_model("models:/blobs-squares/1")
    assert (found.card.network, found.card.arguments["torchvision"]) == ("TorchvisionNet", "shufflenet_v2_x0_5")
    assert steps(made.run, "test_accuracy") == [0, 1]
    assert torch.isfinite(found.model(torch.rand(2, 1, 32, 32))).all()
