"""Task 3 on tiny data: lineage, freezing, held-out letters, and what is said of synthetic ones."""

import json
from pathlib import Path

import mlflow
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from support import ROOT
from trackdl import spec
from trackdl.apps.predict import predict
from trackdl.data.greek import letters as greek
from trackdl.errors import InputError, TrackdlError
from trackdl.spec import ClassifySpec, TransferSpec
from trackdl.tasks import classify, transfer
from trackdl.tracking.registry import register as registry

pytestmark = pytest.mark.usefixtures("tracking", "tiny_mnist")

SHAPES = {"bar": (60, 20, 72, 110), "dash": (20, 60, 110, 72), "block": (40, 40, 90, 90)}


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Draw three shapes, four times each, at slightly different places."""
    folder = tmp_path / "letters"
    for name, box in SHAPES.items():
        (folder / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("L", (133, 133), 240)
            ImageDraw.Draw(picture).rectangle([edge + 3 * number - 5 for edge in box], fill=20)
            picture.save(folder / name / f"{number}.png")
    return folder


def experiment(folder: Path | None, **keys: object) -> TransferSpec:
    given = {"training.epochs": 20, "data.folds": 4, "data.folder": str(folder) if folder else None}
    given |= {key.replace("__", "."): value for key, value in keys.items()}
    return spec.load(ROOT / "experiments" / "transfer.yaml", TransferSpec, given)


def digits() -> classify.Result:
    given = {"training.epochs": 2, "training.batch_size": 32}
    return classify.run(spec.load(ROOT / "experiments" / "mnist.yaml", ClassifySpec, given))


@pytest.mark.slow
def test_only_the_head_learns_and_the_parents_are_known(letters: Path) -> None:
    parent = digits()
    result = transfer.run(experiment(letters))
    source = registry.fetch_model("models:/mnist-cnn@champion")
    greek_net = registry.fetch_model("models:/greek-cnn@champion")
    before, after = source.model.state_dict(), greek_net.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"fc2.weight", "fc2.bias"} or (
        before["fc2.weight"].shape != after["fc2.weight"].shape
    )
    for name in set(before) - {"fc2.weight", "fc2.bias"}:
        assert torch.equal(before[name], after[name])
    assert tuple(after["fc2.weight"].shape) == (3, 50)
    assert greek_net.card.classes == sorted(SHAPES)
    assert greek_net.card.preprocessing == "report"
    assert source.card.least_energy is not None
    assert greek_net.card.least_energy is None
    version = mlflow.MlflowClient().get_model_version("greek-cnn", result.decision.version)
    for tags in (version.tags, result.run.info.data.tags):
        assert tags["trackdl.source_version"] == parent.decisions[0].version
        assert tags["trackdl.source_run"] == parent.run.id
        assert tags["trackdl.source_weights_sha256"] == source.card.weights_sha256
    assert version.tags["trackdl.synthetic"] == "false"


@pytest.mark.slow
@pytest.mark.draws
def test_every_epoch_is_logged_and_held_out_letters_are_counted(letters: Path, tmp_path: Path) -> None:
    digits()
    run = transfer.run(experiment(letters)).run
    assert [step for step, _ in run.history("train_accuracy")] == list(range(21))
    rows = json.loads(run.fetch("predictions/held_out.json", tmp_path).read_text())["rows"]
    assert len(rows) == 12
    for name, suffix in {"transferred": "", "random features": "_random_features"}.items():
        right = sum(row["truth"] == row[name] for row in rows) / 12
        assert dict(run.history(f"val_accuracy{suffix}"))[20] == pytest.approx(right)
        assert dict(run.history(f"val_accuracy{suffix}_low"))[20] <= right
    tests = json.loads(run.fetch("predictions/mcnemar.json", tmp_path).read_text())
    tests = [dict(zip(tests["columns"], each, strict=True)) for each in tests["data"]]
    assert len(tests) == 3
    for test in tests:
        first, second = ([row["truth"] == row[test[side]] for row in rows] for side in ("first", "second"))
        assert test["only_first"] == sum(one and not other for one, other in zip(first, second, strict=True))
        assert test["only_second"] == sum(other and not one for one, other in zip(first, second, strict=True))
        assert test["p"] <= test["p_holm"] <= min(1, 3 * test["p"])
    shown = dict(run.history("mcnemar_p_holm_random_features"))
    assert list(shown.values()) == [tests[0]["p_holm"]]
    assert (tests[0]["first"], tests[0]["second"]) == ("transferred", "random features")
    assert {Path(path).stem for path in run.artifacts("pictures")} == {"training_curve", "letters", "held_out"}
    network = run.fetch("network.txt", tmp_path).read_text()
    assert "(fc2): Linear(in_features=50, out_features=3, bias=True)" in network


@pytest.mark.slow
def test_every_batch_of_every_epoch_is_kept(letters: Path, tmp_path: Path) -> None:
    digits()
    run = transfer.run(experiment(letters)).run
    kept = load_file(run.fetch("history/batches.safetensors", tmp_path))
    assert kept["epochs"].tolist() == list(range(1, 21))
    assert kept["losses"].dtype == torch.float32
    assert kept["losses"].shape == kept["right"].shape == kept["sizes"].shape == (20, 3)
    assert kept["sizes"][0].tolist() == [5, 5, 2]
    assert [(12 * epoch, loss) for epoch, loss in enumerate(kept["losses"][:, 0].tolist())] == run.history("batch_loss")


@pytest.mark.slow
def test_without_an_mnist_model_one_is_trained_first(letters: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "trackdl"):
        result = transfer.run(experiment(letters))
    assert "training it first" in caplog.text
    assert result.run.info.data.tags["trackdl.source_version"] == "1"


def test_a_version_that_is_not_there_is_an_input_error(letters: Path) -> None:
    with pytest.raises(InputError, match="models:/mnist-cnn/7"):
        transfer.run(experiment(letters, source="models:/mnist-cnn/7"))


@pytest.mark.slow
def test_letters_that_are_only_tested(letters: Path, tmp_path: Path) -> None:
    digits()
    other = tmp_path / "other"
    for path in letters.glob("*/*.png"):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).rotate(40, fillcolor=240).save(other / path.parent.name / path.name)
    result = transfer.run(experiment(letters, data__test_folder=str(other)))
    assert result.unseen is not None
    assert result.unseen.total == 12
    assert not any(result.left_out.values())


@pytest.mark.slow
def test_nobody_is_tested_on_what_was_learnt(letters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits()
    with pytest.raises(InputError, match=r"all 12 test images are copies of training images, bar/0\.png \(as bar/0"):
        transfer.run(experiment(letters, data__test_folder=str(letters)))
    other = tmp_path / "other"
    for name in SHAPES:
        (other / name).mkdir(parents=True)
        with Image.open(letters / name / "0.png") as seen:
            seen.rotate(40, fillcolor=240).save(other / name / "new.png")
            seen.resize((90, 90)).save(other / name / "smaller.jpg")
        (other / name / "same.png").write_bytes((letters / name / "1.png").read_bytes())
        (letters / name / "again.png").write_bytes((letters / name / "2.png").read_bytes())
    result = transfer.run(experiment(letters, data__test_folder=str(other)))
    assert result.unseen is not None
    assert result.unseen.total == 3
    assert result.left_out["test"][:2] == ["bar/same.png (as bar/1.png)", "bar/smaller.jpg (as bar/0.png)"]
    assert result.left_out["train"] == [f"{name}/again.png (as {name}/2.png)" for name in sorted(SHAPES)]
    assert len(result.held_out["transferred"].outputs) == 12
    assert (dict(result.run.history("left_out_test")), dict(result.run.history("left_out_train"))) == ({0: 6}, {0: 3})
    assert json.loads(result.run.fetch("left_out.json", tmp_path).read_text()) == result.left_out
    found = predict("models:/greek-cnn@champion", [str(other)])
    assert {Path(item["file"]).name: item["copy_of"] for item in found if "/dash/" in item["file"]} == {
        "new.png": None,
        "same.png": "dash/1.png",
        "smaller.jpg": "dash/0.png",
    }
    transfer.show(result)
    assert "left out of the test images, as copies of training images: 6" in capsys.readouterr().out


def test_a_wrong_folder_is_refused_before_anything_is_trained(letters: Path) -> None:
    above = letters.parent / "above"
    above.mkdir()
    letters.rename(above / "letters")
    words = r"the only class is 'letters'.*letters \(bar, block, dash\)\. Name it instead"
    with pytest.raises(InputError, match=words):
        transfer.run(experiment(above))
    assert not mlflow.MlflowClient().search_registered_models()


def test_letters_of_other_classes_cannot_be_tested(letters: Path, tmp_path: Path) -> None:
    (letters / "bar").rename(tmp_path / "elsewhere")
    other = tmp_path / "other"
    (other / "one").mkdir(parents=True)
    (other / "two").mkdir()
    for place in ("one", "two"):
        Image.new("L", (40, 40), 255).save(other / place / "a.png")
    with pytest.raises(InputError, match=r"other: there is no class 'block', which the other folder has"):
        transfer.run(experiment(letters, data__test_folder=str(other)))


def test_a_source_whose_files_were_changed_is_refused(letters: Path) -> None:
    digits()
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("mnist-cnn", "champion")
    card = Path(mlflow.artifacts.download_artifacts(f"models:/mnist-cnn/{version.version}")) / "data/model/model.json"
    card.write_text(card.read_text().replace('"DigitNet"', '"NoNet"'))
    with pytest.raises(TrackdlError, match="changed data/model/model"):
        transfer.run(experiment(letters))


@pytest.mark.slow
def test_synthetic_letters_are_called_so_everywhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TRACKDL_GREEK_DIR", raising=False)

    def unreachable(*_: object) -> Path:
        raise TrackdlError("no network")

    monkeypatch.setattr(greek, "fetch", unreachable)
    digits()
    with caplog.at_level("WARNING", "trackdl"):
        result = transfer.run(experiment(None))
    assert "synthetic" in caplog.text
    assert "no network" in caplog.text
    transfer.show(result)
    assert "SYNTHETIC" in capsys.readouterr().out
    info = result.run.info
    assert info.data.tags["trackdl.synthetic"] == "true"
    assert "synthetic" in info.data.tags["mlflow.runName"]
    assert "synthetic" in info.inputs.dataset_inputs[0].dataset.name
    version = mlflow.MlflowClient().get_model_version("greek-cnn", "1")
    assert version.tags["trackdl.synthetic"] == "true"
