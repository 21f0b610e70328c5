"""A small grid, an engine to run it in this process, and what must hold of it afterwards."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from trackdl.spec import GridSpec
from trackdl.spec.keys import with_keys
from trackdl.studies import store as studies
from trackdl.studies.study import kept
from trackdl.tasks import grid
from trackdl.tracking import runs
from trackdl.tracking.store import client

SPACE = {
    "network.activation": ["relu", "tanh"],
    "network.filter_size": [3],
    "network.dense_nodes": [8],
    "network.dropout": [0.1, 0.3],
    "network.filters": [2],
    "network.conv_layers": [2],
    "network.pool_size": [2],
}
CONTENT: dict[str, Any] = {
    "task": "grid",
    "experiment": {
        "task": "classify",
        "name": "signs",
        "data": {"sklearn": "digits", "validation": 0.2},
        "network": {"family": "conv", **{key.partition(".")[2]: values[0] for key, values in SPACE.items()}},
        "training": {"epochs": 2, "batch_size": 10, "optimizer": {"name": "adam", "lr": 0.001}, "seed": 1},
    },
    "judge": {"folds": 3},
    "space": SPACE,
    "choice": "first",
}


def experiment(of: dict[str, Any] | None = None, **changes: Any) -> GridSpec:
    """Return the small grid; `of` are dotted keys of its experiment."""
    return with_keys(GridSpec.model_validate(CONTENT | changes), {f"experiment.{k}": v for k, v in (of or {}).items()})


def here(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
    """An engine that works in this process, where no process of its own is wanted."""
    while (pair := next_task()) is not None:
        yield pair[0], function(pair[1])


def calls(tmp_path: Path) -> Counter[str]:
    path = tmp_path / "calls"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def stands_once(result: grid.Result, cells: int = 4, folds: int = 3) -> None:
    """Check that every fold stands once in the table, in Optuna and in MLflow, and that nothing is left open."""
    table, accuracy = result.table, f"{result.experiment.part}_accuracy"
    assert len(table) == cells * folds
    assert not table.duplicated([*result.experiment.names, "fold"]).any()
    study = optuna.load_study(study_name=result.experiment.study("report"), storage=studies.storage_url())
    states = Counter(trial.state for trial in study.trials)
    assert states[TrialState.COMPLETE] == cells
    assert states[TrialState.RUNNING] == states[TrialState.WAITING] == 0
    for trial in study.trials:
        if trial.state != TrialState.COMPLETE:
            continue
        run = runs.Run(trial.user_attrs["mlflow_run"])
        assert run.info.info.status == "FINISHED"
        assert run.info.data.tags["trackdl.trial"] == f"{study.study_name}/{trial.number}"
        assert run.info.data.tags["mlflow.parentRunId"] == result.run.id
        for fold in range(folds):
            history = kept(trial)[f"fold {fold}"]["history"][accuracy]
            logged = client().get_metric_history(run.id, f"fold_{fold}_{accuracy}")
            assert [point.value for point in logged] == history  # no point twice
        assert trial.value == pytest.approx(run.info.data.metrics[accuracy])
    assert not runs.find("grid", "attributes.status = 'RUNNING'")
    assert grid.show_status(result.experiment)


def kept_folds() -> list[tuple[dict[str, object], int]]:
    study = optuna.load_study(study_name=experiment().study("report"), storage=studies.storage_url())
    return [
        (trial.system_attrs["fixed_params"], int(key.split()[1]))
        for trial in study.trials
        for key in kept(trial)
        if key.startswith("fold ")
    ]
