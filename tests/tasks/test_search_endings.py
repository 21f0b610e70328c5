"""How a search's trials end: refused, without data, interrupted; each told as it was."""

from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import Trial, TrialState

from support.search_fits import made_up
from support.search_runs import CONTENT, OF, experiment, here, stopped_after, study_of
from trackdl.errors import DataMissing
from trackdl.studies import store
from trackdl.studies.search.segments import SegmentResult, SegmentTask
from trackdl.studies.study import RUN
from trackdl.tasks import search
from trackdl.tracking import runs
from trackdl.workers.figures import Studio
from trackdl.workers.pool import Failed

pytestmark = pytest.mark.usefixtures("own_searches")


def test_a_trial_whose_finalist_would_be_impossible_is_not_trained() -> None:
    space = {"network.pool_size": [2, 3]}
    result = search.run(experiment(space=space, finalist={"network.conv_layers": 4}), 1, made_up, here)
    trials = study_of(result).trials
    assert {trial.params["network.pool_size"] for trial in trials} == {2, 3}
    assert all((trial.state == TrialState.PRUNED) == (trial.params["network.pool_size"] == 3) for trial in trials)
    assert result.best is not None
    assert (result.best.network.conv_layers, result.best.network.pool_size) == (4, 2)


@pytest.mark.slow
def test_what_was_refused_untrained_is_not_counted_as_pruned(capsys: pytest.CaptureFixture[str]) -> None:
    model = OF["network"] | {"pool_size": 3}
    space = CONTENT["space"] | {"network.conv_layers": [2, 4]}
    result = search.run(experiment(space=space, of={"network": model}), 1, made_up, here)
    told = study_of(result).trials
    refused = [trial for trial in told if "impossible" in trial.user_attrs.get("why", "")]
    pruned = [trial for trial in told if trial.state == TrialState.PRUNED and trial not in refused]
    assert refused
    assert pruned
    logged = result.run.info.data.metrics
    assert (logged["trials_refused"], logged["trials_pruned"]) == (len(refused), len(pruned))
    search.show(result)
    assert f"{len(pruned)} pruned, 0 failed, {len(refused)} refused before training" in capsys.readouterr().out


def test_a_search_without_data_ends_and_the_same_command_goes_on_with_all_its_trials() -> None:
    told = experiment(study={"trials": 3, "pruner": "none"})

    def without_data(_: SegmentTask) -> SegmentResult:
        raise DataMissing("fashion: no source could give it")

    def failing(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        while (pair := next_task()) is not None:
            try:
                yield pair[0], function(pair[1])
            except DataMissing as error:
                yield pair[0], Failed(error)

    with pytest.raises(DataMissing, match="no source"):
        search.run(told, 1, without_data, failing)
    result = search.run(told, 1, made_up, here)
    assert [trial.state for trial in study_of(result).trials] == [TrialState.COMPLETE] * 3
    assert {run.info.info.status for run in runs.find("search")} == {"FINISHED"}


def test_after_an_interruption_ended_trials_are_told_as_they_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of ended trials are drawn by another process, which had not handed them over yet."""

    space = CONTENT["space"] | {"training.optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}}
    told = experiment(space=space)
    deliver = Studio.deliver
    monkeypatch.setattr(
        Studio, "deliver", lambda studio, everything=False: everything and deliver(studio, everything=True)
    )
    with pytest.raises(KeyboardInterrupt):
        search.run(told, 1, made_up, stopped_after(15))
    states: dict[str, set[str]] = {}
    for trial in optuna.load_study(study_name=told.study_name, storage=store.storage()).trials:
        if "mlflow_run" in trial.user_attrs:
            states.setdefault(trial.state.name, set()).add(runs.Run(trial.user_attrs["mlflow_run"]).info.info.status)
    assert states == {"COMPLETE": {"FINISHED"}, "PRUNED": {"FINISHED"}, "RUNNING": {"KILLED"}}


def test_a_run_that_its_trial_never_learnt_of_is_the_trials_own_at_the_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process may be killed between making a trial's run and noting it with the trial."""
    note, told = Trial.set_user_attr, experiment(study={"trials": 3, "pruner": "none"})

    def killed(trial: Trial, key: str, value: object) -> None:
        if key == RUN and trial.number == 1:
            raise SystemExit
        note(trial, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "set_user_attr", killed)
        with pytest.raises(SystemExit):
            search.run(told, 1, made_up, here)
    result = search.run(told, 1, made_up, here)
    children = [run for run in runs.find("search") if run.id != result.run.id]
    assert [trial.state for trial in study_of(result).trials] == [TrialState.COMPLETE] * 3
    assert {run.info.info.status for run in children} == {"FINISHED"}
    assert {run.id for run in children} == {trial.user_attrs[RUN] for trial in study_of(result).trials}
