"""Task 2 on tiny data: what a run leaves, which weights are kept, several seeds, and that stopping changes nothing."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from support import ROOT
from trackdl import spec
from trackdl.analysis.stats import mean_interval
from trackdl.data.images import load_images, normalise, validation_split
from trackdl.errors import InputError
from trackdl.spec import ClassifySpec, ImageData
from trackdl.tasks import classify
from trackdl.tasks import report as main
from trackdl.tracking import runs
from trackdl.tracking import training_runs as epochs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.runs import Run

pytestmark = pytest.mark.usefixtures("tracking", "tiny_fashion")

FILE = ROOT / "experiments" / "fashion.yaml"


def experiment(**keys: object) -> ClassifySpec:
    given = {
        "network.filters": 4,
        "network.dense_nodes": 16,
        "training.batch_size": 32,
        "training.epochs": 4,
        "training.optimizer.lr": 0.01,
        "test": {"after": [2]},
    }
    return spec.load(FILE, ClassifySpec, given | {key.replace("__", "."): value for key, value in keys.items()})


def weights(version: str) -> list[torch.Tensor]:
    return list(registry.fetch_model(f"models:/fashion-cnn/{version}").model.parameters())


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def kept(run: Run, metric: str = "best_val_accuracy") -> float:
    return run.history(metric)[-1][1]


def test_a_run_leaves_what_mlflow_users_expect(capsys: pytest.CaptureFixture[str]) -> None:
    result = classify.run(experiment())
    run = result.run
    assert run.info.info.status == "FINISHED"
    for metric in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "fit_seconds", "images_per_second"):
        assert [step for step, _ in run.history(metric)] == [1, 2, 3, 4]
    best = int(kept(run, "best_epoch"))
    assert {step for step, _ in run.history("test_accuracy")} == {2, best}
    for metric in (*classify.KEPT, "best_epoch"):
        assert [step for step, _ in run.history(metric)] == [4]
    names = {"training_curve", "test_images", "confusion"} | (
        {"mistakes"} if kept(run, "best_test_accuracy") < 1 else set()
    )
    assert {Path(path).stem for path in run.artifacts("pictures")} == names
    assert {Path(path).stem for path in run.artifacts("predictions")} == {
        "test", "test-epoch-00002", "val-dropout-epoch-00004", *(f"val-epoch-{epoch:05d}" for epoch in range(1, 5)),
    }  # fmt: skip
    inputs = {item.dataset.name: item.dataset.digest for item in run.info.inputs.dataset_inputs}
    assert set(inputs) == {"fashion-train", "fashion-validation", "fashion-test"}
    assert inputs["fashion-validation"] != inputs["fashion-train"]
    assert [output.step for output in run.info.outputs.model_outputs] == [best]
    version = mlflow.MlflowClient().get_model_version_by_alias("fashion-cnn", "champion")
    assert version.tags["trackdl.decided_by"].startswith("val_accuracy")
    assert float(version.tags["trackdl.score"]) == kept(run)
    classify.show(result)
    said = capsys.readouterr().out
    # The report's own accuracies are of other epochs, and stand beside none of these.
    accuracies = said[said.index("accuracy, one seed") :]
    assert "89.81%" not in accuracies
    assert "90.19%" not in accuracies
    assert "best of 4 epochs" in said
    assert f"{kept(run, 'best_test_accuracy'):.2%}" in said
    # The report's 20 epochs stand there, those that were not trained as such.
    assert [row.measured is None for row in result.rows if row.metric == "val_loss"] == [False] * 4 + [True] * 16


def test_the_reports_figures_stand_beside_the_epochs_that_they_are_of(capsys: pytest.CaptureFixture[str]) -> None:
    classify.show(classify.run(experiment(test={"after": [10]}, training__epochs=20, training__batch_size=480)))
    after, best, test = [line for line in capsys.readouterr().out.splitlines() if ", on the " in line]
    assert "after 10 epochs" in after
    assert "89.81%" in after
    assert "best of 20 epochs" in best
    assert "90.19%" in best
    assert test.count("%") == 1  # what the report never measured


def test_main_runs_it_as_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    small = {"network.filters": 2, "training.epochs": 1, "test": {"after": [1]}}
    main.run(
        spec.ReportSpec(task="report", name="main", title="T", slug="t", steps=[spec.Step(task="fashion", set=small)])
    )
    (whole,), (step,) = runs.find("main"), runs.find("fashion")
    assert step.info.data.tags[runs.MAIN] == whole.id
    assert "fashion-cnn version 1 is now champion" in capsys.readouterr().out


def test_what_is_logged_can_be_computed_again(tmp_path: Path) -> None:
    run = classify.run(experiment()).run

    def again(name: str) -> tuple[float, float]:
        said = load_file(run.fetch(f"predictions/{name}.safetensors", tmp_path))
        right = (said["outputs"].argmax(1) == said["targets"]).double().mean().item()
        return F.cross_entropy(said["outputs"], said["targets"]).item(), right

    for step, accuracy in run.history("val_accuracy"):
        assert again(f"val-epoch-{step:05d}") == (pytest.approx(dict(run.history("val_loss"))[step]), accuracy)
    assert again("test-epoch-00002")[1] == dict(run.history("test_accuracy"))[2]
    assert again("test") == (pytest.approx(kept(run, "best_test_loss")), kept(run, "best_test_accuracy"))


def test_the_weights_kept_are_the_best_validation_epochs_and_of_equals_the_first(tmp_path: Path) -> None:
    # A rate so high that the last epoch is not the best one.
    run = classify.run(experiment(training__epochs=8, training__optimizer__lr=0.03)).run
    accuracies = dict(run.history("val_accuracy"))
    best = min(epoch for epoch, value in accuracies.items() if value == max(accuracies.values()))
    assert best < 8
    assert kept(run, "best_epoch") == best
    assert kept(run) == accuracies[best]
    checkpoint = load_file(run.fetch(f"checkpoints/epoch-{best:05d}.safetensors", tmp_path))
    network = registry.fetch_model("models:/fashion-cnn/1").model
    assert all(torch.equal(checkpoint[f"model.{name}"], value) for name, value in network.state_dict().items())
    assert same(weights("1"), list(network.parameters()))
    classify.run(experiment(training__epochs=best, training__optimizer__lr=0.03))
    assert same(weights("1"), weights("2"))  # the same first epochs, the same weights


def test_training_validation_and_test_pictures_are_kept_apart() -> None:
    learn, back = validation_split(600, 0.2, 1)
    assert len(learn) == 480
    assert sorted([*learn.tolist(), *back.tolist()]) == list(range(600))
    assert torch.equal(back, validation_split(600, 0.2, 1)[1])
    assert not torch.equal(back, validation_split(600, 0.2, 2)[1])
    pictures = classify._load(experiment())
    images = load_images(ImageData(dataset="fashion"))
    assert torch.equal(pictures.validation.inputs, normalise(images.train_images[back], images.mean, images.std))
    assert torch.equal(pictures.validation.targets, images.train_labels[back])
    assert torch.equal(pictures.learn.targets, images.train_labels[learn])
    assert len(pictures.test) == 100
    with pytest.raises(InputError, match=r"data\.validation.*one part empty"):
        classify.run(experiment(data__validation=0.0001))


@pytest.mark.slow
def test_validation_with_dropout_at_work_is_told_apart_and_changes_nothing() -> None:
    run = classify.run(experiment(network__dropout=0.9)).run
    usual, noisy = dict(run.history("val_loss")), dict(run.history("val_loss_dropout"))
    assert list(noisy) == [1, 2, 3, 4]
    assert all(noisy[epoch] > usual[epoch] for epoch in usual), "nine of ten nodes dropped, and it costs nothing"
    again = classify.run(experiment(network__dropout=0.9)).run
    assert again.history("val_loss_dropout") == run.history("val_loss_dropout")
    assert same(weights("1"), weights("2"))
    without = classify.run(experiment(network__dropout=0.0)).run
    assert without.history("val_loss_dropout") == []


def test_scores_on_another_split_are_not_compared() -> None:
    classify.run(experiment())
    other = classify.run(experiment(data__split_seed=2)).decisions[0]
    assert other.alias != "champion"
    assert "other data" in other.reason


@pytest.mark.slow
def test_the_report_tests_its_first_network_after_ten_epochs_and_that_changes_nothing() -> None:
    tested = classify.run(experiment(test={"after": [1]})).run
    untested = classify.run(experiment(test=None)).run
    assert same(weights("1"), weights("2"))
    first = classify.run(experiment(training__epochs=1, test={"after": [1]})).run
    assert dict(tested.history("test_accuracy"))[1] == dict(first.history("test_accuracy"))[1]
    assert {step for step, _ in untested.history("test_accuracy")} == {int(kept(untested, "best_epoch"))}


@pytest.mark.slow
@pytest.mark.draws
def test_several_seeds_are_runs_below_one_with_means_and_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    result = classify.run(experiment(seeds=3, training__seed=5))
    seeds = [run.info for run in result.seeds]
    assert [item.data.params["training.seed"] for item in seeds] == ["5", "6", "7"]
    assert [item.data.params.get("data.split_seed", "1") for item in seeds] == ["1", "2", "3"]
    splits = [
        next(one.dataset.digest for one in item.inputs.dataset_inputs if one.dataset.name == "fashion-validation")
        for item in seeds
    ]
    assert len(set(splits)) == 3, "each training by the report's protocol draws its own split"
    assert {item.data.tags["mlflow.parentRunId"] for item in seeds} == {result.run.id}
    assert len(result.decisions) == 3
    for run in result.seeds:
        note = run.info.data.tags["mlflow.note.content"]
        assert f"the same weights, on the test images: {kept(run, 'best_test_accuracy'):.2%}" in note
        assert f"one of [3 seeds](/#/experiments/{run.experiment_id}/runs/{result.run.id})" in note
        assert "pictures/confusion.png" in note
    for metric in ("best_val_accuracy", "best_test_accuracy"):
        values = [kept(run, metric) for run in result.seeds]
        assert kept(result.run, metric) == pytest.approx(np.mean(values))
        found = kept(result.run, f"{metric}_low"), kept(result.run, f"{metric}_high")
        assert found == pytest.approx(mean_interval(values))
    for step, mean in result.run.history("val_loss"):
        assert mean == pytest.approx(np.mean([dict(run.history("val_loss"))[step] for run in result.seeds]))
    assert result.run.artifacts("pictures") == ["pictures/training_curve.png"]
    classify.show(result)
    assert "95 % interval" in capsys.readouterr().out
    # Each seed is a run as any other.
    alone = classify.run(experiment(training__seed=6, data__split_seed=2)).run
    assert alone.history("val_loss") == result.seeds[1].history("val_loss")


class Interrupt:
    """Raises KeyboardInterrupt in place of one checkpoint."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.save, self.left = epochs.save_checkpoint, after
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(epochs, "save_checkpoint", self)

    def __call__(self, *args: object) -> None:
        self.left -= 1
        if self.left < 0:
            self.monkeypatch.setattr(epochs, "save_checkpoint", self.save)
            raise KeyboardInterrupt
        self.save(*args)


def resumed(run: Run, **keys: object) -> ClassifySpec:
    with runs.download(f"runs:/{run.id}/experiment.yaml") as path:
        return spec.load(path, ClassifySpec, {key.replace("__", "."): value for key, value in keys.items()})


@pytest.mark.slow
def test_a_killed_run_goes_on_as_itself_and_keeps_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    Interrupt(monkeypatch, after=2)
    with pytest.raises(KeyboardInterrupt):
        classify.run(experiment())
    (killed,) = runs.find("fashion")
    assert killed.info.info.status == "KILLED"
    again = classify.run(resumed(killed), resume=killed.id).run
    assert again.id == killed.id
    assert again.info.info.status == "FINISHED"
    straight = classify.run(experiment()).run
    assert same(weights("1"), weights("2"))
    for metric in ("train_loss", "val_accuracy", "batch_loss", "best_test_accuracy"):
        assert again.history(metric) == straight.history(metric)


def test_a_run_killed_before_its_model_was_registered_is_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(classify, "register", interrupted)
        with pytest.raises(KeyboardInterrupt):
            classify.run(experiment())
    (killed,) = runs.find("fashion")
    assert classify.run(resumed(killed), resume=killed.id).decisions[0].alias == "champion"


def test_a_run_is_not_resumed_on_another_split() -> None:
    first = classify.run(experiment(training__epochs=2)).run
    with pytest.raises(InputError, match=r"data\.split_seed: 1 draws, and 3 draws another"):
        classify.run(experiment(training__epochs=4, data__split_seed=3), resume=first.id)
    assert first.info.info.status == "FINISHED"


@pytest.mark.slow
def test_more_epochs_may_keep_weights_of_the_run_before() -> None:
    first = classify.run(experiment(training__epochs=6, training__optimizer__lr=0.03)).run
    longer = resumed(first, training__epochs=8)
    second = classify.run(longer, resume=first.id).run
    assert second.id != first.id  # what is finished stays as it was
    assert second.info.data.tags["trackdl.resumed_from"] == first.id
    assert len(second.artifacts("checkpoints")) == 8
    straight = classify.run(experiment(training__epochs=8, training__optimizer__lr=0.03)).run
    assert second.history("val_loss") == straight.history("val_loss")
    assert kept(second, "best_epoch") == kept(straight, "best_epoch")
    assert same(weights("2"), weights("3"))
    with pytest.raises(InputError, match=r"nothing is left to train.*--epochs"):
        classify.run(longer, resume=second.id)


@pytest.mark.slow
@pytest.mark.parametrize("after", [5, 8], ids=["within the second seed", "before the third seed's first checkpoint"])
def test_several_seeds_go_on_where_they_were_killed(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    Interrupt(monkeypatch, after)
    with pytest.raises(KeyboardInterrupt):
        classify.run(experiment(seeds=3))
    (parent,) = [run for run in runs.find("fashion") if "mlflow.parentRunId" not in run.info.data.tags]
    with pytest.raises(InputError, match=r"data\.split_seed: 1 draws, and 9 draws another"):
        classify.run(resumed(parent, data__split_seed=9), resume=parent.id)
    assert parent.info.info.status == "KILLED"
    result = classify.run(resumed(parent), resume=parent.id)
    assert result.run.id == parent.id
    assert parent.info.info.status == "FINISHED"
    assert len(result.decisions) == 3 - after // 4  # finished seeds were left alone
    straight = classify.run(experiment(seeds=3))
    for run, other in zip(result.seeds, straight.seeds, strict=True):
        assert run.info.info.status == "FINISHED"
        assert run.history("val_accuracy") == other.history("val_accuracy")
    assert kept(result.run) == kept(straight.run)
    with pytest.raises(InputError, match="has finished its 3 seeds"):
        classify.run(resumed(parent), resume=parent.id)


def test_the_logged_experiment_runs_again_to_the_same_weights(tmp_path: Path) -> None:
    first = classify.run(experiment(training__seed=7, network__activation="gelu", network__pool_size=3)).run
    classify.run(spec.load(first.fetch("experiment.yaml", tmp_path), ClassifySpec))
    assert same(weights("1"), weights("2"))


def test_the_served_model_says_what_the_run_measured() -> None:
    run = classify.run(experiment()).run
    images = load_images(ImageData(dataset="fashion"))
    served = mlflow.pyfunc.load_model("models:/fashion-cnn@champion")
    labels = served.predict(images.test_images.numpy().astype("float32"))["label"]
    truth = np.array(images.classes)[images.test_labels.numpy()]
    assert (labels.to_numpy() == truth).mean() == kept(run, "best_test_accuracy")


def test_a_recipe_is_trained_registered_and_served_as_measured() -> None:
    recipe = {
        "network__dense_nodes": 0,
        "network__batch_norm": True,
        "network__widths": "double",
        "network__convs_per_pool": 2,
        "network__pool_early": True,
        "network__conv_layers": 3,
        "network__padding": "same",
        "network__mirrored": True,
        "training__optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.05},
        "training__schedule": "one_cycle",
        "training__label_smoothing": 0.1,
        "training__augmentation": {"flip": True, "shift": 2, "cutout": 4},
    }
    result = classify.run(experiment(**recipe))
    images = load_images(ImageData(dataset="fashion"))
    served = mlflow.pyfunc.load_model("models:/fashion-cnn@champion")
    labels = served.predict(images.test_images.numpy().astype("float32"))["label"]
    truth = np.array(images.classes)[images.test_labels.numpy()]
    assert (labels.to_numpy() == truth).mean() == kept(result.run, "best_test_accuracy")
    network = registry.fetch_model("models:/fashion-cnn@champion").model
    assert network.mirrored
    assert {"norms.0.running_mean", "norms.2.num_batches_tracked"} < network.state_dict().keys()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"network__conv_layers": 4, "network__pool_size": 3, "network__padding": "same"},
            "'network': layer 4 of 4: 1×1 pixels are left, pooling takes",
        ),
        (
            {"network__conv_layers": 3, "network__filter_size": 5},
            "'network': layer 3 of 3: 4×4 pixels are left, a filter",
        ),
        ({"network__padding": "some"}, "'network.padding'.*'none' or 'same'"),
        ({"network__padding": 65}, "'network.padding'.*less than or equal to 64"),
        ({"network__conv_layers": 9}, "'network.conv_layers'.*less than or equal to 8"),
        ({"network__filter_size": 0}, "'network.filter_size'.*greater than or equal to 1"),
        ({"network__filter_size": 29}, "'network': layer 1 of 2: 28×28 pixels are left, a filter"),
        ({"network__activation": "swish"}, "'network.activation'.*'gelu'"),
        ({"network__dropout": 1.0}, "'network.dropout'.*less than 1"),
        ({"network__filter": 3}, "'network.filter'.*did you mean 'filters'"),
        ({"seeds": 0}, "'seeds'"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_file_and_key(keys: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=rf"fashion\.yaml: key {words}"):
        experiment(**keys)
