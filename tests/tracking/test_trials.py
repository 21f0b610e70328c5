"""Trials' runs: the one that a trial is resumed with."""

import pytest
from mlflow.entities import RunStatus

from trackdl.tracking import pages, trials
from trackdl.tracking.runs import Run, start
from trackdl.tracking.store import client


@pytest.mark.usefixtures("tracking")
def test_of_a_trials_unfinished_runs_the_newest_is_returned() -> None:
    with start("search") as parent:
        made = []
        for minute in (1, 2, 3):
            tags = {"trackdl.task": "search", "trackdl.trial": "study/0", pages.PARENT: parent.id}
            run = client().create_run(parent.experiment_id, start_time=minute * 60_000, tags=tags)
            client().update_run(run.info.run_id, status=RunStatus.to_string(RunStatus.KILLED))
            made.append(run.info.run_id)
        client().update_run(made[2], status=RunStatus.to_string(RunStatus.FINISHED))
        found = trials.unfinished("search", Run(parent.id))
    assert {tag: run.id for tag, run in found.items()} == {"study/0": made[1]}
