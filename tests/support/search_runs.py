"""A small search, engines to run it in this process, and what must hold of it afterwards."""

from collections.abc import Callable, Iterator
from typing import Any

import optuna
from optuna.trial import TrialState

from trackdl.errors import Diverged
from trackdl.spec import SearchSpec
from trackdl.studies import store
from trackdl.studies.study import kept
from trackdl.tasks import search
from trackdl.tracking import runs
from trackdl.tracking.store import client
from trackdl.workers.pool import Failed

OF: dict[str, Any] = {
    "task": "classify",
    "name": "signs",
    "data": {"sklearn": "digits", "size": 28, "validation": 0.2},
    "network": {
        "family": "conv",
        "conv_layers": 2,
        "filter_size": 3,
        "filters": 4,
        "dense_nodes": 8,
        "dropout": 0.1,
        "pool_size": 2,
        "activation": "relu",
    },
    "training": {"epochs": 4, "batch_size": 50, "optimizer": {"name": "adam", "lr": 0.01}, "seed": 1},
}
CONTENT: dict[str, Any] = {
    "task": "search",
    "experiment": OF,
    "space": {
        "network.filters": {"low": 2, "high": 16, "whole": True, "log": True},
        "network.conv_layers": [1, 2, 4],
        "training.optimizer.lr": {"low": 0.001, "high": 1, "log": True},
        "training.schedule": ["constant", "one_cycle"],
    },
    "study": {"min_epochs": 1, "reduction_factor": 2, "trials": 12},
}


def experiment(of: dict[str, Any] | None = None, **changes: Any) -> SearchSpec:
    """Return the small search; `of` are sections of its experiment."""
    return SearchSpec.model_validate(CONTENT | {"experiment": OF | (of or {})} | changes)


def here(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
    """An engine that works in this process."""
    while (pair := next_task()) is not None:
        try:
            yield pair[0], function(pair[1])
        except Diverged as error:
            yield pair[0], Failed(error)


def stopped_after(segments: int) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """Return an engine that is interrupted while it works on a segment."""

    def engine(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(iter(next_task, None)):
            if number == segments:
                raise KeyboardInterrupt
            yield pair[0], function(pair[1])

    return engine


def study_of(result: search.Result) -> optuna.Study:
    return optuna.load_study(study_name=result.study.name, storage=store.storage_url())


def is_truthful(result: search.Result) -> None:
    """Check that both stores say the same of every trial."""
    for trial in study_of(result).trials:
        if trial.user_attrs.get("why", "").startswith(("impossible", "too large")):
            continue
        run = runs.Run(trial.user_attrs["mlflow_run"])
        tags = run.info.data.tags
        assert tags["trackdl.trial"] == f"{result.study.name}/{trial.number}"
        assert tags["trackdl.trial_state"] == trial.state.name
        assert trial.state.name.lower() in tags["mlflow.note.content"]
        assert run.info.info.status == ("FAILED" if trial.state == TrialState.FAIL else "FINISHED")
        points = [point.value for point in client().get_metric_history(run.id, "val_accuracy")]
        assert ("learning_curve.png" in tags["mlflow.note.content"]) is bool(points)
        assert points == [epoch["val_accuracy"] for epoch in kept(trial).get("history", [])]
        assert run.artifacts("pictures") == (["pictures/learning_curve.png"] if points else [])
        if trial.state == TrialState.COMPLETE:
            assert len(points) == result.experiment.experiment.training.epochs
            assert trial.values[0] == points[-1]
