"""The search: trials told truthfully, budgets kept, taken up after a stop, and a best one that can be run."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState
from optuna_dashboard._note import get_note_from_system_attrs
from optuna_dashboard.artifact._backend import list_trial_artifacts
from typer.testing import CliRunner

from support import ROOT
from support.search_fits import made_up
from support.search_runs import CONTENT, OF, experiment, here, is_truthful, stopped_after, study_of
from trackdl import spec
from trackdl.cli.app import app
from trackdl.errors import InputError
from trackdl.plots import search as plots_search
from trackdl.spec import ClassifySpec, SearchSpec
from trackdl.spec.network import ConvNetwork
from trackdl.studies import store
from trackdl.studies.search import driver as search_driver
from trackdl.studies.search.segments import SegmentResult, SegmentTask, train_segment
from trackdl.studies.search.study import SearchStudy
from trackdl.studies.study import kept
from trackdl.tasks import search
from trackdl.tracking import runs, trials
from trackdl.workers.figures import Studio
from trackdl.workers.pool import Lost

pytestmark = pytest.mark.usefixtures("own_searches")

PRUNERS = {"halving": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner", "none": "NopPruner"}


@pytest.mark.slow
def test_trials_end_truthfully_and_the_best_can_be_run(capsys: pytest.CaptureFixture[str]) -> None:
    result = search.run(experiment(), 2, made_up, here)
    is_truthful(result)
    states = Counter(trial.state.name for trial in study_of(result).trials)
    assert sum(states.values()) == 12
    assert states["COMPLETE"] >= 1
    assert states["PRUNED"] >= 1
    assert result.best is not None
    assert result.file is not None
    assert spec.load(result.file, ClassifySpec) == result.best
    complete = [trial for trial in study_of(result).trials if trial.state == TrialState.COMPLETE]
    assert result.best.network.filters == max(complete, key=lambda trial: trial.values[0]).params["network.filters"]
    assert "validation" in search.show(result)
    assert f"run {result.file}" in capsys.readouterr().out.replace("\n", "")


def test_a_diverged_trial_fails_and_never_wins() -> None:
    space = {"training.optimizer.lr": [0.03, 0.9]}
    result = search.run(experiment(space=space), 1, made_up, here)
    failed = [trial for trial in study_of(result).trials if trial.state == TrialState.FAIL]
    assert failed
    assert {trial.params["training.optimizer.lr"] for trial in failed} == {0.9}
    assert "nan" in failed[0].user_attrs["why"]
    assert result.best is not None
    assert result.best.training.optimizer.lr == 0.03
    is_truthful(result)


@pytest.mark.slow
def test_a_lost_worker_fails_its_trial_and_the_study_goes_on() -> None:
    def losing(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(iter(next_task, None)):
            yield pair[0], Lost() if number == 2 else function(pair[1])

    result = search.run(experiment(space={"network.filters": [2, 4, 8]}), 1, made_up, losing)
    failed = [trial for trial in study_of(result).trials if trial.state == TrialState.FAIL]
    assert len(failed) == 1
    assert "out of memory" in failed[0].user_attrs["why"]
    assert len(study_of(result).trials) == 12
    is_truthful(result)


def test_a_real_training_that_diverges_fails_within_its_first_epoch(tiny_fashion: Path) -> None:  # noqa: ARG001
    space = {"training.optimizer.lr": [1e2], "training.optimizer.name": ["sgd"]}
    model = OF["network"] | {"activation": "leaky_relu"}  # a ReLU may die first, which is finite
    result = search.run(experiment(space=space, of={"network": model}, study={"trials": 1}), 1, train_segment, here)
    (trial,) = study_of(result).trials
    assert trial.state == TrialState.FAIL
    assert "epoch 1" in trial.user_attrs["why"]
    assert result.best is None


@pytest.mark.slow
@pytest.mark.parametrize("segments", [0, 1, 4, 9])
def test_an_interrupted_search_goes_on_with_the_epochs_it_has(
    segments: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = experiment(space={"network.filters": [2, 4, 8], "training.optimizer.lr": {"low": 0.01, "high": 0.1}})
    with pytest.raises(KeyboardInterrupt), caplog.at_level("WARNING", "trackdl"):
        search.run(told, 1, made_up, stopped_after(segments))
    assert f"what is finished of {told.study_name} is kept in {store.storage_url()}: the same command" in caplog.text
    open_runs = runs.find("search", "attributes.status = 'RUNNING'")
    assert not open_runs
    result = search.run(told, 2, made_up, here)
    is_truthful(result)
    assert len(study_of(result).trials) == 12
    # No epoch was trained twice: the one under way had not been begun when the engine stopped.
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls))
    assert not list((tmp_path / "studies").rglob("*.safetensors"))
    assert len(runs.find("search", f"tags.`trackdl.study` = '{result.study.name}'")) == 1


def test_a_study_that_was_deleted_leaves_nothing_to_the_next_of_its_name() -> None:
    told = experiment(space={"network.filters": [2, 4]}, study={"trials": 2, "pruner": "none"})
    with pytest.raises(KeyboardInterrupt):
        search.run(told, 1, made_up, stopped_after(2))
    optuna.delete_study(study_name=told.study_name, storage=store.storage_url())
    is_truthful(search.run(told, 1, made_up, here))  # every epoch is its own, the first included


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "method"),
    [(SearchStudy, "complete"), (trials, "log_once"), (trials, "close_trial"), (Studio, "draw")],
    ids=lambda at: getattr(at, "__name__", at),
)
def test_a_trial_is_told_whole_wherever_its_end_was_cut_off(owner: Any, method: str, tmp_path: Path) -> None:
    told = experiment(space={"network.filters": [2, 4]}, study={"trials": 2, "pruner": "none"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, interrupt)
        with pytest.raises(KeyboardInterrupt):
            search.run(told, 1, made_up, here)
    result = search.run(told, 1, made_up, here)
    is_truthful(result)
    assert [trial.state.name for trial in study_of(result).trials] == ["COMPLETE"] * 2
    assert len((tmp_path / "calls").read_text().splitlines()) == 8  # no epoch twice


@pytest.mark.slow
def test_more_trials_extend_the_same_study(caplog: pytest.LogCaptureFixture) -> None:
    first = search.run(experiment(study={"trials": 3}), 1, made_up, here)
    again = search.run(experiment(study={"trials": 5}), 1, made_up, here)
    assert again.study.name == first.study.name
    assert again.run.id == first.run.id
    trials = study_of(again).trials
    assert len(trials) == 5
    assert len({json.dumps(trial.params) for trial in trials}) == 5  # a seeded sampler does not repeat itself
    assert "trials" not in caplog.text
    search.run(experiment(study={"trials": 4}), 1, made_up, here)
    assert "has 5 trials, those of earlier commands included, and no more than 4 are asked for" in caplog.text
    assert "--trials 6 adds one" in caplog.text


@pytest.mark.slow
def test_one_worker_and_one_seed_make_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def params(name: str) -> list[dict[str, Any]]:
        monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / name}.db")
        store.storage.cache_clear()
        return [trial.params for trial in study_of(search.run(experiment(), 1, made_up, here)).trials]

    assert params("one") == params("two")


def shown(result: search.Result, capsys: pytest.CaptureFixture[str]) -> str:
    search.show(result)
    return capsys.readouterr().out


def test_when_the_time_is_up_the_next_command_goes_on_with_open_trials(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    segments: Counter[tuple[str, int]] = Counter()

    def counted(task: SegmentTask) -> SegmentResult:
        segments[str(task.experiment), task.until] += 1
        return made_up(task)

    clock = iter(range(0, 10_000, 20))
    with monkeypatch.context() as patched:
        patched.setattr(search_driver, "monotonic", lambda: next(clock))
        result = search.run(experiment(study={"minutes": 2, "pruner": "none"}), 1, counted, here)
    trials = study_of(result).trials
    assert 0 < len(trials) < 12
    left = [trial for trial in trials if not trial.state.is_finished()]
    assert [trial.state for trial in left] == [TrialState.WAITING]  # nothing works on it
    assert "the time was up" in note_of(study_of(result), left[0])
    epochs = sum(len(kept(trial).get("history", [])) for trial in trials)
    assert result.images == epochs * result.run.info.data.metrics["images_trained"] / epochs > 0
    assert sum(segments.values()) == epochs
    assert "1 to be continued by the next command" in shown(result, capsys)
    assert runs.Run(left[0].user_attrs["mlflow_run"]).info.info.status == "KILLED"
    again = search.run(experiment(study={"trials": len(trials), "pruner": "none"}), 1, counted, here)
    assert study_of(again).trials[left[0].number].state == TrialState.COMPLETE
    assert set(segments.values()) == {1}
    is_truthful(again)


def test_a_search_too_short_for_any_trial_shows_how_far_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(search_driver, "monotonic", lambda: next(clock))
    result = search.run(experiment(study={"minutes": 1, "pruner": "none"}), 1, made_up, here)
    (trial,) = study_of(result).trials
    said = shown(result, capsys)
    assert "no trial is complete yet" in said
    epochs = kept(trial)["history"]
    row = [str(trial.number), str(len(epochs)), f"{epochs[-1]['val_accuracy']:.2%}"]
    assert re.search(r"\s+[│|]?\s*".join(map(re.escape, row)), said)


def note_of(study: optuna.Study, trial: optuna.trial.FrozenTrial | None = None) -> str:
    """Return the note that Optuna's dashboard shows of a trial, or of a study."""
    found: str = get_note_from_system_attrs(
        study._storage.get_study_system_attrs(study._study_id), trial._trial_id if trial else None
    )["body"]
    return found


def test_optunas_dashboard_leads_from_each_trial_to_its_run_and_says_how_it_ended() -> None:
    result = search.run(experiment(space=CONTENT["space"] | {"training.optimizer.lr": [0.03, 0.9]}), 1, made_up, here)
    study = study_of(result)
    assert study.metric_names == ["validation accuracy"]
    assert f"runs:/{result.run.id}/experiment.yaml" in note_of(study)
    assert "| `network.filters` | 2 to 16" in note_of(study)
    assert "| `training.optimizer.lr` | 0.03, 0.9 |" in note_of(study)
    ended = [trial for trial in study.trials if "mlflow_run" in trial.user_attrs]
    assert {TrialState.COMPLETE, TrialState.FAIL} <= {trial.state for trial in ended}
    for trial in ended:
        note = note_of(study, trial)
        assert note.startswith(trial.state.name.lower())
        assert f"runs/{trial.user_attrs['mlflow_run']})" in note
        images = list_trial_artifacts(study._storage.get_study_system_attrs(study._study_id), {}, trial)
        assert [image["filename"] for image in images] == ["learning_curve.png"] * bool(kept(trial).get("history"))
        for image in images:
            with store.artifact_store(create=True).open_reader(image["artifact_id"]) as file:
                assert file.read(4) == b"\x89PNG"
        assert max(len(str(value)) for value in trial.user_attrs.values()) < 200  # the page lists them all


@pytest.mark.slow
@pytest.mark.draws
def test_two_objectives_prune_nothing_and_give_a_front() -> None:
    told = experiment(study={"objectives": "accuracy and time", "trials": 8})
    result = search.run(told, 1, made_up, here)
    is_truthful(result)
    assert "pictures/pareto.png" in result.run.artifacts("pictures")
    front = study_of(result).best_trials
    assert front
    assert all(trial.state == TrialState.COMPLETE for trial in front)
    assert "front" not in search.show(result)


def front_of(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (seconds, accuracy) that no other beats in one and equals in the other, the best first."""
    return sorted(
        (one for one in points if not any(s <= one[0] and a >= one[1] and (s, a) != one for s, a in points)),
        key=lambda point: -point[1],
    )


@pytest.mark.slow
def test_the_front_is_of_high_accuracy_and_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, ...]] = []
    pareto = plots_search.pareto

    def seen(*arguments: Any) -> Any:
        drawn.append(arguments)
        return pareto(*arguments)

    monkeypatch.setattr(plots_search, "pareto", seen)
    space = {"network.filters": [2, 4, 8], "training.optimizer.lr": {"low": 0.001, "high": 1, "log": True}}
    told = experiment(space=space, study={"objectives": "accuracy and time", "trials": 14})
    result = search.run(told, 1, made_up, here)
    study = study_of(result)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    points = []
    for trial in study.trials:
        filters, rate = trial.params["network.filters"], trial.params["training.optimizer.lr"]
        if rate <= 0.5:  # else it diverges
            points.append((4 * filters / 2, (0.6 + filters / 100 - abs(rate - 0.03) / 10) * (1 - 0.1 / 4)))
    front = front_of(points)
    assert 1 < len(front) < len(points) < 14
    assert [(trial.values[1], trial.values[0]) for trial in result.study.best()] == front
    ((told_points, told_front, _),) = drawn
    assert sorted(told_points) == sorted(points)
    assert told_front == front
    assert result.best is not None
    assert result.best.network.filters == 8


@pytest.mark.parametrize(("flags", "objectives"), [([], "accuracy"), (["--pareto"], "accuracy and time")])
def test_the_command_has_two_objectives_if_asked(
    flags: list[str], objectives: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[search.Result] = []
    run = search.run

    def made_up_here(told: SearchSpec, workers: int, **_: Any) -> search.Result:
        done.append(run(told, workers, made_up, here))
        return done[-1]

    monkeypatch.setattr(search, "run", made_up_here)
    file = tmp_path / "search.yaml"
    file.write_text(spec.to_yaml(experiment()))
    said = CliRunner().invoke(app, ["search", "--file", str(file), "--trials", "3", "--workers", "1", *flags])
    assert said.exit_code == 0, said.output
    (result,) = done
    assert result.experiment.study.objectives == objectives
    assert len(study_of(result).directions) == (2 if flags else 1)
    assert ("Pareto front" in said.output) == bool(flags)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("pruner", ["halving", "hyperband", "none"])
def test_every_pruner_and_sampler_searches(pruner: str, sampler: str) -> None:
    settings = {"pruner": pruner, "sampler": sampler, "min_epochs": 1, "reduction_factor": 2, "trials": 14}
    space = {"network.filters": [2, 4, 8, 16], "training.optimizer.lr": {"low": 0.01, "high": 0.1}}
    result = search.run(experiment(space=space, study=settings), 1, made_up, here)
    is_truthful(result)
    study = result.study.study
    assert type(study.sampler).__name__ == {"tpe": "TPESampler", "random": "RandomSampler"}[sampler]
    assert type(study.pruner).__name__ == PRUNERS[pruner]
    tags = result.run.info.data.tags
    assert (tags["trackdl.sampler"], tags["trackdl.pruner"]) == (sampler, pruner)
    states = Counter(trial.state.name for trial in study.trials)
    assert states["COMPLETE"] + states["PRUNED"] == 14
    assert states["COMPLETE"] >= 1
    assert (states["PRUNED"] > 0) == (pruner != "none")
    for trial in study.trials:
        epochs = len(kept(trial)["history"])
        assert epochs == 4 if trial.state == TrialState.COMPLETE else 1 <= epochs < 4
    assert result.best is not None


@pytest.mark.slow
def test_first_trials_come_first_and_impossible_ones_are_not_trained() -> None:
    first = [{"network.filters": 16, "training.optimizer.lr": 0.03}, {"network.conv_layers": 4}]
    model = OF["network"] | {"pool_size": 3}
    space = CONTENT["space"] | {"network.conv_layers": [2, 3, 4]}
    told = experiment(first=first[:1], space=space, of={"network": model}, study={"trials": 12, "pruner": "none"})
    result = search.run(told, 1, made_up, here)
    trials = study_of(result).trials
    assert trials[0].params["network.filters"] == 16
    impossible = [trial for trial in trials if trial.params["network.conv_layers"] == 4]
    assert impossible
    assert all(trial.state == TrialState.PRUNED for trial in impossible)
    assert all("pixels are left" in trial.user_attrs["why"] for trial in impossible)


@pytest.mark.parametrize("flip", [True, False])
def test_a_network_that_is_too_large_is_not_trained_and_the_finalist_is_trained_in_full(flip: bool) -> None:
    """It is shown mirrored pictures only where it has learnt from some."""
    told = experiment(
        of={"training": OF["training"] | {"augmentation": {"flip": flip}}},
        space={"network.filters": [4, 512]},
        study={"trials": 8, "pruner": "none", "max_multiply_adds": 10_000_000},
        finalist={"training.epochs": 30, "network.mirrored": True},
    )
    result = search.run(told, 1, made_up, here)
    large = [trial for trial in study_of(result).trials if trial.params["network.filters"] == 512]
    assert large
    assert all(trial.user_attrs["why"].startswith("too large") for trial in large)
    assert result.best is not None
    assert (result.best.training.epochs, result.best.network.mirrored) == (30, flip)


def test_multiply_adds_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from trackdl.networks.fashion import FashionNet

    for changes in (
        {},
        {"widths": "double", "convs_per_pool": 2, "pool_early": True, "conv_layers": 5},
        {"dense_nodes": 0, "average": True, "filter_size": 5},
        {"padding": "none"},
    ):
        model = ConvNetwork.model_validate(OF["network"] | changes)
        with FlopCounterMode(display=False) as counter:
            FashionNet(model)(torch.zeros(1, 1, 28, 28))
        assert 2 * model.multiply_adds(1, 28, 10) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"finalist": {"training.epoch": 3}}, "epoch"),
        ({"space": {"network.filter": [1]}}, "network.filter"),
        ({"space": {"data.validation": [0.1]}}, "network and training"),
        ({"space": {"network.filters": {"low": 3, "high": 2}}}, "less than"),
        ({"space": {"network.filters": {"low": 0, "high": 2, "log": True}}}, "above 0"),
        ({"space": {"training.optimizer.name": ["sgd", "lion"]}}, "lion"),
        ({"first": [{"network.pool_size": 2}]}, "lacks it"),
        ({"first": [{"network.conv_layers": 3}]}, "not in the space"),
        ({"first": [{"network.filters": 17}]}, "not in the space"),
        ({"first": [{"network.filters": 2.5}]}, "not in the space"),
        ({"first": [{"training.optimizer.lr": "0.01"}]}, "not in the space"),
        ({"space": {"training.epochs": [2, 4]}}, "same length"),
        ({"space": {"training.seed": [1, 2]}}, "luckiest"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        experiment(**changes)


def test_two_commands_do_not_work_on_one_study() -> None:
    with store.study_lock(experiment().study_name), pytest.raises(InputError, match="another process"):
        search.run(experiment(), 1, made_up, here)


def test_the_projects_own_search_is_valid() -> None:
    told = spec.load(ROOT / "experiments" / "search.yaml", SearchSpec)
    assert told.of_trial({}) == told.experiment
