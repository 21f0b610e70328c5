"""The grid: every fold of every cell exactly once, whatever is killed, and truthful in both stores."""

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from support import ROOT
from support.forked import start_driver, wait_until_gone, workers_of
from support.grid_fits import afresh, fails_once, killed_always, killed_once, made_up, never, timed
from support.grid_runs import SPACE, calls, experiment, here, kept_folds, stands_once
from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.data.images import load_images
from trackdl.errors import InputError, TrackdlError
from trackdl.spec import GridSpec
from trackdl.studies import store as studies
from trackdl.studies.grid.fits import TimeTask, time_batch
from trackdl.studies.grid.study import GridStudy
from trackdl.tasks import grid
from trackdl.tracking import runs
from trackdl.tracking.store import client
from trackdl.workers.pool import work_through

pytestmark = pytest.mark.usefixtures("own_studies")


@pytest.mark.slow
@pytest.mark.draws
@pytest.mark.usefixtures("tracking")
def test_every_fold_is_trained_once_and_a_second_command_finds_all_done(tmp_path: Path) -> None:
    first = grid.run(experiment(), 2, tmp_path / "results", made_up, afresh, timed)
    stands_once(first)
    assert set(calls(tmp_path).values()) == {1}
    assert len(calls(tmp_path)) == 12
    again = grid.run(experiment(), 3, None, never, afresh, timed, here)
    assert again.run.id == first.run.id
    pd.testing.assert_frame_equal(again.table, first.table)
    exported, _ = grid_table.read(tmp_path / "results" / "grid.csv")
    pd.testing.assert_frame_equal(exported, first.table)
    origin = json.loads((tmp_path / "results" / "grid.json").read_text())
    assert origin["versions"]["optuna"] == optuna.__version__
    assert origin["data"] == load_images(experiment().experiment.data).digest
    assert origin["code"] == first.run.info.data.tags["trackdl.code_digest"]
    assert origin["fresh"]["best_cell"]["dropout"] == 0.3
    assert origin["fresh"]["best"] == pytest.approx([0.601, 0.602, 0.603, 0.604, 0.605])
    assert "val_accuracy_2" in exported.columns
    assert "report_failures" not in origin
    trial = runs.find("grid", "attributes.run_name LIKE '%trial%'")[0]
    assert "pictures/folds.png" in trial.artifacts("pictures")
    told = trial.info.data.tags["mlflow.note.content"]
    assert re.search(r"complete: [\d.]+%, the mean of \d+ fits", told)
    assert f"/runs/{first.run.id})" in told
    assert "[pictures/folds.png](get-artifact?" in told
    assert "the report's choice" in grid.show(first)
    assert set(first.run.artifacts("pictures")) == {f"pictures/{name}.png" for name in PICTURES}
    found = first.conclusions.curse
    assert found.winner["dropout"] == 0.3
    assert found.fresh == pytest.approx([0.601, 0.602, 0.603, 0.604, 0.605])
    assert found.report_fresh == pytest.approx([0.501, 0.502, 0.503, 0.504, 0.505])
    assert sorted(seeds_tested(tmp_path)) == sorted([1001, 1002, 1003, 1004, 1005] * 2)  # none that the grid has used


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_what_is_tested_afresh_stands_and_is_not_tested_again(tmp_path: Path) -> None:
    grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    grid.run(experiment(), 1, None, never, afresh, timed, here)
    assert len(seeds_tested(tmp_path)) == 10


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_every_cell_is_timed_in_random_order_and_kept(tmp_path: Path) -> None:
    result = grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    assert (result.table.batch_ms == result.table.dropout.map({0.1: 10.0, 0.3: 20.0})).all()
    order = (tmp_path / "timed").read_text().splitlines()
    assert set(Counter(order).values()) == {experiment().timing.repeats}
    assert len(set(order)) == 4
    assert any(order[i : i + 4] != sorted(order[i : i + 4]) for i in range(0, len(order), 4))
    grid.run(experiment(), 1, None, never, afresh, timed, here)
    assert (tmp_path / "timed").read_text().splitlines() == order


@pytest.mark.real
def test_a_batch_takes_longer_where_there_is_more_to_compute() -> None:
    small = spec.load(ROOT / "experiments" / "grid.yaml", GridSpec)
    cells = [small.cells("report")[place] for place in (0, -1)]
    few, many = (TimeTask(small.of_cell(cell), small.judge, 5) for cell in cells)
    assert time_batch(many) > time_batch(few) > 0  # 6 times as many multiplications


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_combinations_that_are_no_networks_are_rows_with_the_reason_and_are_not_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = SPACE | {"network.filter_size": [3, 5], "network.conv_layers": [2, 3]}
    told = experiment({"data.size": 28, "network.padding": "none"}, space=space)
    assert not grid.show_status(told)
    assert "not complete: the same command without --status continues it" in capsys.readouterr().out  # with its --file
    result = grid.run(told, 1, tmp_path / "results", made_up, afresh, timed, here)
    stands_once(result, cells=12)
    assert all(json.loads(line)[0]["padding"] == "none" for line in calls(tmp_path))
    fits, impossible = grid_table.read(tmp_path / "results" / "grid.csv")
    pd.testing.assert_frame_equal(fits, result.table)
    grid_table.check_whole(told, fits, impossible)
    reason = "layer 3 of 3: 4×4 pixels are left, a filter without padding takes 5×5"
    assert impossible["impossible"].tolist() == [reason] * 4
    assert (tmp_path / "results" / "grid.csv").read_text() == result.run.fetch("grid.csv", tmp_path).read_text()
    assert "12 of the grid's 16 configurations are possible" in grid.show(result)
    said = capsys.readouterr().out
    assert re.search(r"cells │ impossible │ done", said.replace("┃", "│"))
    assert re.search(r"│ +16 │ +4 │ +12 │ +0 │ +0 │ +0 │ +0 │ +36 of 36 │", said)
    assert "complete: every possible cell is finished exactly once" in said
    assert f"the others fail at {reason}" in " ".join(said.split())
    assert {f"pictures/{name}.png" for name in PICTURES} == set(result.run.artifacts("pictures"))


PICTURES = ("accuracy_against_time", "learning_curves", "effects", "importances", "interactions")


@pytest.mark.slow
@pytest.mark.draws
@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(
    ("dropouts", "missing"),
    [([0.1], {"interactions", "effects", "importances"}), ([0.1, 0.3], {"interactions"})],
)
def test_a_grid_of_fewer_than_two_dimensions_has_its_table_and_the_pictures_there_can_be(
    dropouts: list[float], missing: set[str], tmp_path: Path
) -> None:
    told = experiment(space=SPACE | {"network.activation": ["relu"], "network.dropout": dropouts})
    result = grid.run(told, 1, tmp_path / "results", made_up, afresh, timed, here)
    stands_once(result, cells=len(dropouts))
    assert {"grid.csv", "verdicts.json"} <= set(result.run.artifacts(""))
    pd.testing.assert_frame_equal(grid_table.read(tmp_path / "results" / "grid.csv")[0], result.table)
    assert [contrast.dimension for contrast in result.conclusions.contrasts] == ["dropout"] * (len(dropouts) - 1)
    assert set(result.run.artifacts("pictures")) == {f"pictures/{name}.png" for name in set(PICTURES) - missing}
    assert grid.show(result)


def seeds_tested(tmp_path: Path) -> list[int]:
    return [json.loads(line) for line in (tmp_path / "tested").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_a_grid_is_not_continued_with_another_seed(tmp_path: Path) -> None:
    one, other = experiment(), experiment({"training.seed": 77})
    assert one.study("report") == other.study("report")
    whole = grid.run(one, 1, None, made_up, afresh, timed, here)
    refused = f"it is 77, but the fits that the study {one.study('report')} keeps were trained from seed 1. Go on"
    kept = whole.run.fetch("experiment.yaml", tmp_path / "before").read_bytes()
    with pytest.raises(InputError, match=refused):
        grid.run(other, 2, None, never, afresh, timed, here)
    with pytest.raises(InputError, match=refused):
        grid.show_status(other)
    assert whole.run.fetch("experiment.yaml", tmp_path / "after").read_bytes() == kept
    stands_once(grid.run(one, 2, None, never, afresh, timed, here))
    assert experiment(judge={"folds": 2}).study("report") != one.study("report")


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_a_killed_worker_takes_only_its_own_fold_along(tmp_path: Path) -> None:
    stands_once(grid.run(experiment(), 2, None, killed_once, afresh, timed))
    assert len(calls(tmp_path)) == 12
    assert set(calls(tmp_path).values()) == {1}


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("fit", [killed_always, fails_once])
def test_a_failed_cell_is_said_and_run_again_by_the_same_command(fit: grid.Fit, tmp_path: Path) -> None:
    with pytest.raises(TrackdlError, match="cells have failed"):
        grid.run(experiment(), 2, None, fit, afresh, timed)
    assert not grid.show_status(experiment())
    failed = runs.find("grid", "attributes.status = 'FAILED' and tags.`trackdl.trial` != ''")
    assert {run.info.data.params["dropout"] for run in failed} == {"0.3"}
    said = failed[0].info.data.tags["trackdl.error"]
    told = failed[0].info.data.tags["mlflow.note.content"]
    assert "failed at fold" in told
    assert "folds.png" not in told
    assert ("killed" if fit is killed_always else "NaN") in said
    done = calls(tmp_path)
    stands_once(grid.run(experiment(), 1, None, made_up, afresh, timed, here))
    finished = [line for line, count in done.items() if json.loads(line)[0]["dropout"] == 0.1]
    assert all(calls(tmp_path)[line] == 1 for line in finished)


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_a_study_that_was_deleted_begins_anew_below_a_run_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    first = grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    optuna.delete_study(study_name=experiment().study("report"), storage=studies.storage_url())
    with caplog.at_level("WARNING", "trackdl"):
        second = grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    assert f"run {first.run.id} is of another study {experiment().study('report')}" in caplog.text
    assert second.run.id != first.run.id
    for result in (first, second):
        below = runs.find("grid", f"tags.`mlflow.parentRunId` = '{result.run.id}'")
        assert len({run.info.data.tags["trackdl.trial"] for run in below}) == len(below) == 4
    stands_once(second)
    third = grid.run(experiment(), 1, None, never, afresh, timed, here)
    assert third.run.id == second.run.id


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_a_study_whose_run_was_deleted_gets_another_and_trains_nothing_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    client().delete_run(first.run.id)
    with caplog.at_level("WARNING", "trackdl"):
        second = grid.run(experiment(), 1, None, never, afresh, timed, here)
    assert f"the run {first.run.id} of the study {experiment().study('report')} is deleted" in caplog.text
    stands_once(second)


def wait_for_folds(tmp_path: Path, count: int, driver: BaseProcess) -> None:
    while len(calls(tmp_path)) < count and driver.is_alive():
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize(("folds", "group"), [(2, True), (6, False)])
def test_the_driver_is_killed_and_the_same_command_goes_on(folds: int, group: bool, tmp_path: Path) -> None:
    driver = start_driver(experiment(), os.environ)
    wait_for_folds(tmp_path, folds, driver)
    assert driver.pid is not None
    (os.killpg if group else os.kill)(driver.pid, signal.SIGKILL)
    driver.join()
    assert driver.exitcode == -signal.SIGKILL
    before = calls(tmp_path)
    kept = {(json.dumps(cell, sort_keys=True), fold) for cell, fold in kept_folds()}
    assert len(before) - len(kept) <= 2  # at most the folds under way are lost
    assert not grid.show_status(experiment())
    if not group:  # orphans see that their parent is gone
        wait_until_gone(driver.pid)
    stands_once(grid.run(experiment(), 3, None, made_up, afresh, timed, here))
    for line, count in calls(tmp_path).items():
        cell, fold, _ = json.loads(line)
        assert count == 1 or (json.dumps(cell, sort_keys=True), fold) not in kept


@pytest.mark.usefixtures("tracking")
def test_two_commands_do_not_work_on_one_grid() -> None:
    with studies.study_lock(experiment().study("report")), pytest.raises(InputError, match="another process"):
        grid.run(experiment(), 1, None, never, afresh, timed, here)


@pytest.mark.usefixtures("tracking")
def test_status_sees_a_cell_that_stands_twice(capsys: pytest.CaptureFixture[str]) -> None:
    done = grid.run(experiment(), 1, None, made_up, afresh, timed, here)
    study = optuna.load_study(study_name=done.experiment.study("report"), storage=studies.storage_url())
    study.add_trial(study.trials[0])
    capsys.readouterr()
    assert not grid.show_status(done.experiment)
    assert "not complete" in capsys.readouterr().out
    assert not grid.show_status(done.experiment, as_json=True)
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["study"], told["doubled"], told["cells"]) == (study.study_name, 1, len(study.trials) - 1)


def test_a_further_space_without_a_network_is_refused() -> None:
    file = ROOT / "experiments" / "grid.yaml"
    further = spec.load(file, GridSpec).further["pool"] | {"network.conv_layers": [4]}
    with pytest.raises(InputError) as caught:
        spec.load(file, GridSpec, {"further": {"pool": further}})
    assert str(caught.value) == (
        f"{file}: every combination of pool is impossible; the first fails at layer 3 of 4: 2×2 pixels are left, a "
        "filter without padding takes 3×3"
    )


def test_72_of_the_reports_96_cells_are_networks_and_the_first_is_the_reports_choice() -> None:
    told = spec.load(ROOT / "experiments" / "grid.yaml", GridSpec)
    assert (len(told.cells("report")), len(told.impossible("report"))) == (72, 24)
    choice = spec.load(ROOT / "experiments" / "fashion.yaml", spec.ClassifySpec).network.model_dump()
    assert told.choice_cell == {name: choice[name] for name in told.names}


@pytest.mark.slow
@pytest.mark.usefixtures("tracking")
def test_a_worker_that_is_killed_between_two_folds_is_replaced(tmp_path: Path) -> None:
    import psutil

    def killing(function: Callable[[Any], Any], next_task: Callable[[], Any], _: int) -> Iterator[tuple[Any, Any]]:
        for number, pair in enumerate(work_through(function, next_task, 1)):
            if number == 3:  # the only worker waits for its next task
                found = workers_of(psutil.Process())
                for process in found:
                    process.kill()
                psutil.wait_procs(found)
                time.sleep(0.5)  # the executor has seen it
            yield pair

    stands_once(grid.run(experiment(), 1, None, made_up, afresh, timed, killing))
    assert set(calls(tmp_path).values()) == {1}


@pytest.mark.usefixtures("tracking")
def test_importances_leave_out_what_dimensions_do_only_together() -> None:
    cells = [{"x": x, "y": y, "z": z} for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    study = GridStudy("made up", {name: [0, 1] for name in "xyz"}, cells, 0)
    for trial in study.unfinished():
        study.complete(trial, trial.params["x"] + 2 * (trial.params["y"] ^ trial.params["z"]))
    found = study.importances(1)
    assert found["x"] > max(found["y"], found["z"])
    assert sum(found.values()) < 0.9


@pytest.mark.usefixtures("tracking")
def test_importances_of_a_grid_with_holes_rank_what_the_cells_say() -> None:
    cells = [{"x": x, "y": y, "z": z} for x in (0, 1) for y in (0, 1) for z in (0, 1) if (y, z) != (1, 1)]
    study = GridStudy("with holes", {name: [0, 1] for name in "xyz"}, cells, 0)
    for trial in study.unfinished():
        study.complete(trial, 3 * trial.params["x"] + trial.params["y"])
    assert len(study.finished()) == 6
    found = study.importances(1)
    assert found["x"] > found["y"] > found["z"]
