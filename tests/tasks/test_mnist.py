"""Task 1 on tiny data: what a run leaves, and that stopping and resuming changes nothing."""

import shlex
from pathlib import Path

import mlflow
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from typer.testing import CliRunner

from support import ROOT
from trackdl import spec
from trackdl.cli import options
from trackdl.cli.app import app
from trackdl.data.images import load_images
from trackdl.errors import InputError
from trackdl.serving import ServedImages
from trackdl.spec import ClassifySpec, ImageData
from trackdl.system import console
from trackdl.tasks import _pictures, classify
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry
from trackdl.training.trainer import Evaluation

pytestmark = pytest.mark.usefixtures("tracking", "tiny_mnist")

FILE = ROOT / "experiments" / "mnist.yaml"


def experiment(**keys: object) -> ClassifySpec:
    given = {"training.batch_size": 32, **{key.replace("__", "."): value for key, value in keys.items()}}
    return spec.load(FILE, ClassifySpec, given)


def logged(run_id: str) -> ClassifySpec:
    return options.read(options.resumable(run_id, None, {}), ClassifySpec, {})


def weights(version: str = "1") -> list[torch.Tensor]:
    return list(registry.fetch_model(f"models:/mnist-cnn/{version}").model.parameters())


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_run_leaves_what_mlflow_users_expect() -> None:
    result = classify.run(experiment())
    run = result.run
    assert run.info.info.status == "FINISHED"
    for metric in ("test_loss", "test_accuracy"):
        assert [step for step, _ in run.history(metric)] == list(range(9))
    for metric in ("train_loss", "train_accuracy", "fit_seconds", "images_per_second"):
        assert [step for step, _ in run.history(metric)] == list(range(1, 9))
    assert len(run.history("batch_loss")) == 8 * 2  # 19 batches an epoch, one in ten
    names = {"training_curve", "training_curve_continued", "test_images", "confusion"}
    assert {Path(path).stem for path in run.artifacts("pictures")} - {"mistakes"} == names
    assert len(run.artifacts("checkpoints")) == 8
    assert {item.dataset.name for item in run.info.inputs.dataset_inputs} == {"mnist-train", "mnist-test"}
    assert [output.step for output in run.info.outputs.model_outputs] == [8]
    assert len(result.rows) == len([item for item in experiment().numbers if not item.series])
    assert all(row.measured is not None for row in result.rows)
    assert result.decisions[0].alias == "champion"


def test_the_surest_mistake_is_drawn_first_with_its_class_and_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_images(ImageData(dataset="mnist"))
    truth = images.test_labels
    outputs = 5.0 * torch.nn.functional.one_hot(truth, 10)
    said = (truth + 1) % 10
    for place, surety in ((20, 6.0), (4, 9.0)):
        outputs[place, said[place]] = surety
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(runs.Run, "figure", lambda _, figure, name: drawn.update({name: figure}))
    _pictures.draw_answers(runs.Run("none"), images, Evaluation(0.1, len(truth) - 2, len(truth), outputs))
    first, second = (axes.get_title() for axes in drawn["pictures/mistakes.png"].axes)
    assert first.startswith(f"{truth[4]}, not\n{said[4]} (98%)")
    assert second.startswith(f"{truth[20]}, not\n{said[20]} (72%)")
    titles = [axes.get_title() for axes in drawn["pictures/test_images.png"].axes]
    assert titles == [f"{one}, not\n{said[4]}" if place == 4 else str(int(one)) for place, one in enumerate(truth[:9])]


def test_a_model_knows_what_is_unlike_its_training_images() -> None:
    classify.run(experiment(training__epochs=1))
    found = registry.fetch_model("models:/mnist-cnn@champion")
    served = ServedImages(found.model, found.card)
    answers = served.classify(load_images(ImageData(dataset="mnist")).train_images.reshape(-1, 1, 28, 28) / 255)
    assert 0 < sum(answer["unfamiliar"] for answer in answers) <= 0.01 * len(answers) + 1


def test_what_is_logged_can_be_computed_again(tmp_path: Path) -> None:
    run = classify.run(experiment(training__epochs=2)).run
    for step, accuracy in run.history("test_accuracy"):
        kept = load_file(run.fetch(f"predictions/test-epoch-{step:05d}.safetensors", tmp_path))
        assert (kept["outputs"].argmax(1) == kept["targets"]).double().mean().item() == accuracy
        loss = torch.nn.functional.nll_loss(kept["outputs"], kept["targets"]).item()
        assert loss == pytest.approx(dict(run.history("test_loss"))[step], rel=1e-6)


@pytest.mark.slow
def test_reloading_after_three_epochs_changes_no_weight() -> None:
    classify.run(experiment())
    classify.run(experiment(reload_after=None))
    assert same(weights("1"), weights("2"))


@pytest.mark.slow
def test_three_epochs_then_resumed_for_five_are_eight_straight() -> None:
    first = classify.run(experiment(training__epochs=3)).run
    longer = logged(first.id).model_copy(update={"reload_after": None})
    longer = spec.parse(spec.to_yaml(longer), "resumed", ClassifySpec, {"training.epochs": 8})
    second = classify.run(longer, resume=first.id).run
    straight = classify.run(experiment()).run
    assert same(weights("2"), weights("3"))
    assert second.id != first.id  # what is finished stays as it was
    assert [step for step, _ in first.history("test_loss")] == [0, 1, 2, 3]
    for metric in ("test_loss", "train_loss", "batch_loss"):
        assert second.history(metric) == straight.history(metric)
    assert second.info.data.tags["trackdl.resumed_from"] == first.id


@pytest.mark.slow
def test_a_killed_run_goes_on_as_itself_by_the_command_that_it_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measure, calls = classify._measure, []

    def interrupted(*args: object) -> object:
        calls.append(args)
        if len(calls) == 6:  # after epoch 5 was trained, before its checkpoint
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(classify, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt), caplog.at_level("WARNING", "trackdl"):
        classify.run(experiment())
    (killed,) = runs.find("mnist")
    assert killed.info.info.status == "KILLED"
    said = caplog.messages[-1]
    again = f"trackdl run runs:/{killed.id}/experiment.yaml --resume {killed.id}"
    assert said == f"run {killed.id} is marked KILLED, and keeps what it has logged; this goes on: {again}"
    monkeypatch.setattr(classify, "_measure", measure)
    with monkeypatch.context() as patch:
        patch.setattr(console, "setup", lambda **_: None)
        assert CliRunner().invoke(app, shlex.split(again.removeprefix("trackdl "))).exit_code == 0
    resumed = runs.Run(killed.id)
    assert resumed.id == killed.id
    assert resumed.info.info.status == "FINISHED"
    straight = classify.run(experiment()).run
    assert same(weights("1"), weights("2"))
    for metric in ("test_loss", "batch_loss"):
        assert resumed.history(metric) == straight.history(metric)


@pytest.mark.slow
def test_a_torn_checkpoint_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    result = classify.run(experiment(training__epochs=3))
    uri = result.run.info.info.artifact_uri.removeprefix("file://")
    last = Path(uri) / "checkpoints" / "epoch-00003.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    longer = experiment(training__epochs=5)
    with caplog.at_level("WARNING", "trackdl"):
        again = classify.run(longer, resume=result.run.id).run
    assert "epoch-00003.safetensors is skipped" in caplog.text
    assert [step for step, _ in again.history("train_loss")] == [1, 2, 3, 4, 5]
    classify.run(experiment(training__epochs=5))
    assert same(weights("2"), weights("3"))


def test_what_cannot_be_resumed_says_why() -> None:
    done = classify.run(experiment(training__epochs=1)).run
    with pytest.raises(InputError, match=r"nothing is left to train.*--epochs"):
        classify.run(experiment(training__epochs=1), resume=done.id)
    with pytest.raises(InputError, match="not found"):
        classify.run(experiment(), resume="nowhere")
    with runs.start(experiment()) as empty:
        pass
    with pytest.raises(InputError, match="it has no checkpoint"):
        classify.run(experiment(), resume=empty.id)


def test_the_logged_experiment_runs_again_to_the_same_weights(tmp_path: Path) -> None:
    first = classify.run(experiment(training__epochs=2, training__seed=7)).run
    again = spec.load(first.fetch("experiment.yaml", tmp_path), ClassifySpec)
    classify.run(again)
    assert same(weights("1"), weights("2"))


def test_the_served_model_says_what_the_run_measured() -> None:
    run = classify.run(experiment(training__epochs=4)).run
    test = load_images(ImageData(dataset="mnist"))
    served = mlflow.pyfunc.load_model("models:/mnist-cnn@champion")
    labels = served.predict(test.test_images.numpy().astype("float32"))["label"].astype(int)
    right = (labels.to_numpy() == test.test_labels.numpy()).mean()
    assert right == dict(run.history("test_accuracy"))[4]
