"""A recovery from its file to its artifacts: every training once, whatever is killed, and the likeliest first."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from support.commands import trackdl
from support.forked import start_driver
from support.grid_fits import never
from support.grid_runs import calls, here
from support.recover_fits import diverges, made_up
from trackdl import spec
from trackdl.errors import Diverged, InputError, TrackdlError
from trackdl.ledger import folder as ledger_folder
from trackdl.ledger import recovery as judge
from trackdl.ledger.model import Recovered
from trackdl.spec import LedgerSpec, RecoverSpec
from trackdl.studies import store as studies
from trackdl.studies.grid.diverging import or_diverged
from trackdl.studies.grid.fits import FoldResult, FoldTask
from trackdl.studies.study import kept
from trackdl.system import paths
from trackdl.tasks import ledger, recover
from trackdl.tracking import runs

pytestmark = pytest.mark.usefixtures("own_studies", "tracking")

SIGNS = """
task: classify
title: Signs
data: {sklearn: digits, validation: 0.2}
network: {family: mlp, hidden: [8]}
training: {epochs: 2, batch_size: 10, optimizer: {name: adam, lr: 0.001}, seed: 1}
unknown: {training.batch_size: [10, 20], training.shuffle: [true, false], dropout_while_validating: [false, true]}
reported:
  - {metric: test_accuracy, epoch: 1, value: 0.6004, quote: "60.04 %"}
  - {metric: test_accuracy, value: 0.7002, quote: "70.02 %"}
  - {metric: best_val_loss, value: 0.7, quote: "0.7000", series: another}
"""


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a report of one experiment."""
    folder = tmp_path / "ada"
    folder.mkdir()
    (folder / "signs.yaml").write_text(SIGNS, encoding="utf-8")
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    return folder


def told(**overrides: Any) -> RecoverSpec:
    return spec.recovery_of("signs", {"seeds": 3} | overrides)


def stands_once(result: recover.Result, cells: int = 4) -> None:
    """Check that every training stands once in Optuna's store, and that nothing is left open."""
    (study,) = (optuna.load_study(study_name=name, storage=studies.storage_url()) for name in names())
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert len({json.dumps(trial.params, sort_keys=True) for trial in done}) == len(done) == cells
    for trial in done:
        assert {key for key in kept(trial) if key.startswith("fold ")} == {"fold 0", "fold 1", "fold 2"}
    assert not runs.find("recover-signs", "attributes.status = 'RUNNING'")
    assert result.run.info.info.status == "FINISHED"


def names() -> list[str]:
    return optuna.get_all_study_names(studies.storage_url())


@pytest.mark.slow
def test_every_candidate_is_trained_once_and_the_likeliest_is_first(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = recover.run(told(), 2, tmp_path / "results", made_up)
    stands_once(result)
    assert set(calls(tmp_path).values()) == {1}
    assert len(calls(tmp_path)) == 12  # how dropout is read takes none of its own
    assert len(result.found.candidates) == 8
    assert {one.values["training.batch_size"] for one in result.found.candidates[:4]} == {20}
    assert {"grid.csv", "grid.json", "recovery.json", "experiment.yaml"} <= set(result.run.artifacts(""))
    assert result.run.artifacts("pictures") == ["pictures/recovery.svg"]
    kept = Recovered.model_validate_json(result.run.fetch("recovery.json", tmp_path).read_text())
    assert kept == result.found
    table = (tmp_path / "results" / "recover-signs.csv").read_bytes()
    assert table == result.run.fetch("grid.csv", tmp_path).read_bytes()
    signs = spec.load(report / "signs.yaml", spec.ClassifySpec)
    assert judge.recovered(signs, result.experiment, table) == result.found
    origin = json.loads((tmp_path / "results" / "recover-signs.json").read_text())
    assert origin["code"] == result.run.info.data.tags["trackdl.code_digest"] != ""
    assert result.run.info.data.metrics["share_of_likelihood"] == pytest.approx(result.found.candidates[0].weight)
    assert "batch size 20" in recover.show(result)
    said = " ".join(capsys.readouterr().out.split())
    assert "Batch size: `20` fits best; `10` is" in said
    assert "(strong evidence)" in said
    assert "Shuffle: `yes` fits best; `no` cannot be distinguished" in said


@pytest.mark.slow
def test_a_second_command_trains_nothing_and_judges_by_todays_numbers(report: Path) -> None:
    first = recover.run(told(), 1, None, made_up, here)
    (report / "signs.yaml").write_text(SIGNS.replace("0.6004", "0.5004").replace("0.7002", "0.6002"), encoding="utf-8")
    again = recover.run(told(), 1, None, never, here)
    assert again.run.id == first.run.id
    assert again.found.candidates[0].values["training.batch_size"] == 10
    assert len(recover.run(told(seeds=4), 1, None, made_up, here).found.candidates[0].mean) == 3
    assert len(names()) == 2  # other seeds are another study; the first stands
    assert recover.run(told(), 1, None, never, here).run.id == first.run.id


@pytest.mark.slow
def test_the_driver_is_killed_and_the_same_command_goes_on(report: Path, tmp_path: Path) -> None:  # noqa: ARG001
    driver = start_driver(spec.recovery_of("signs", {"seeds": 3}), os.environ)
    while len(calls(tmp_path)) < 4 and driver.is_alive():
        time.sleep(0.02)
    assert driver.pid is not None
    os.killpg(driver.pid, signal.SIGKILL)
    driver.join()
    assert driver.exitcode == -signal.SIGKILL
    (study,) = (optuna.load_study(study_name=name, storage=studies.storage_url()) for name in names())
    already = {
        json.dumps([trial.params["batch_size"], trial.params["shuffle"], int(key.split()[1])])
        for trial in study.trials
        for key in kept(trial)
        if key.startswith("fold ")
    }
    before = calls(tmp_path)
    assert 0 < len(already) < 12
    stands_once(recover.run(told(), 1, None, made_up, here))
    assert set(calls(tmp_path)) >= set(before)
    assert {calls(tmp_path)[line] for line in already} == {1}
    assert len(calls(tmp_path)) == 12


def test_trainings_that_diverge_are_said_and_do_not_stop_the_others(
    report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = recover.run(told(), 1, tmp_path / "results", diverges, here)
    stands_once(result)
    assert [one.values["training.batch_size"] for one in result.found.candidates] == [20] * 4
    assert [one["training.batch_size"] for one in result.found.diverged] == [10] * 4
    recover.show(result)
    assert "3 of 3 trainings have diverged; it is not judged" in " ".join(capsys.readouterr().out.split())
    table = (tmp_path / "results" / "recover-signs.csv").read_bytes()
    assert judge.recovered(spec.load(report / "signs.yaml", spec.ClassifySpec), told(), table) == result.found
    assert recover.run(told(), 1, None, never, here).found == result.found


def test_if_all_diverge_the_command_says_so_and_keeps_the_table(report: Path) -> None:
    (report / "signs.yaml").write_text(SIGNS.replace("[10, 20]", "[10]"), encoding="utf-8")
    with pytest.raises(TrackdlError, match=r"recover-signs: its trainings cannot be judged: .*did not diverge"):
        recover.run(told(), 1, None, diverges, here)
    (failed,) = runs.find("recover-signs", "attributes.status = 'FAILED'")
    assert "grid.csv" in runs.Run(failed.id).artifacts("")


def test_another_failure_than_divergence_stops_the_command(report: Path) -> None:  # noqa: ARG001
    def broken(task: FoldTask) -> FoldResult:
        raise TrackdlError("the data are gone") if task.fold == 1 else Diverged("")

    with pytest.raises(TrackdlError, match="the data are gone"):
        recover.run(told(), 1, None, broken, here)


def test_what_a_diverged_training_leaves_has_every_metric(report: Path) -> None:  # noqa: ARG001
    def lost(_: FoldTask) -> FoldResult:
        raise Diverged("")

    experiment = told().grid.of_cell({"batch_size": 20, "shuffle": True})
    task = FoldTask(experiment, told().grid.judge, 2)
    found, real = or_diverged(lost, task), or_diverged(recover.fit_printed, task)
    assert found.history.keys() == real.history.keys()
    assert {len(values) for values in found.history.values()} == {2}
    assert (found.parameters, found.seed, found.precision) == (real.parameters, real.seed, real.precision)


def test_real_trainings_without_a_validation_split_of_pictures_of_unknown_size(report: Path, tmp_path: Path) -> None:
    network = "{family: conv, conv_layers: 1, filter_size: 3, filters: 2, dense_nodes: 4, dropout: 0.1, pool_size: 2,"
    text = SIGNS.replace("validation: 0.2", "per_class: 8").replace(
        "{family: mlp, hidden: [8]}", network + " activation: relu}"
    )
    unknown = "unknown: {network.filter_size: [3, 9], network.padding: [none, same], training.optimizer.lr: [0.001]}"
    lines = [unknown if line.startswith("unknown") else line for line in text.splitlines() if "val_loss" not in line]
    (report / "signs.yaml").write_text("\n".join(lines), encoding="utf-8")
    result = recover.run(told(), 1, tmp_path / "results", engine=here)
    assert result.experiment.experiment.data.side == 8
    assert len(result.found.candidates) == 3  # 9×9 pixels without padding are no network
    assert len(result.found.points) == 2
    table = (tmp_path / "results" / "recover-signs.csv").read_text()
    assert table.count("a filter without padding takes 9×9") == 1
    assert "val_loss" not in table
    assert "is no network" not in recover.show(result)
    assert {one.mean[0] > 0 for one in result.found.candidates} == {True}


def test_a_recovery_of_pictures_of_unknown_size_is_in_the_ledger_and_in_its_bundle(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ledger, ledger_folder, paths):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    images, names = load_digits(n_class=3, return_X_y=True)
    for number, (pixels, name) in enumerate(zip(images[:60].reshape(-1, 8, 8), names, strict=False)):
        place = report / "pictures" / str(name)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((16 * pixels).clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    text = SIGNS.replace("sklearn: digits, validation: 0.2", "folder: pictures, validation: 0.2")
    unknown = "unknown: {training.batch_size: [10, 20]}"
    lines = [unknown if line.startswith("unknown") else line for line in text.splitlines() if "test_acc" not in line]
    (report / "signs.yaml").write_text("\n".join(lines), encoding="utf-8")
    (report / "report.yaml").write_text("title: Signs\nauthors: Ada\nyear: 2024\nslug: ada\n", encoding="utf-8")
    done = recover.run(spec.recovery_of("signs"), 1, engine=here)
    made = ledger.run(spec.load(spec.experiment_file("ledger"), LedgerSpec), tmp_path / "bundle")
    assert [one.evidence.run for one in made.ledger.recovered if one.evidence] == [done.run.id]
    shutil.rmtree(report / "pictures")
    for place in (made.data, tmp_path / "bundle"):
        checked = ledger.verify(place)
        assert checked.differences == []
        assert not [note for note in checked.notes if "other code" in note]


def test_numbers_that_judge_nothing_are_told_before_anything_is_trained(report: Path, tmp_path: Path) -> None:
    text = SIGNS.partition("reported:")[0]
    for reported in ("", 'reported: [{metric: seconds, value: 3, quote: "3 s"}]\n'):
        (report / "signs.yaml").write_text(text + reported, encoding="utf-8")
        with pytest.raises(InputError, match=r"signs\.yaml: nothing to judge candidates by: `reported` or `printed`"):
            recover.run(told(), 1, None, never, here)
    assert calls(tmp_path) == Counter()
    assert not runs.find("recover-signs")


def test_two_commands_do_not_work_on_one_recovery(report: Path) -> None:  # noqa: ARG001
    with studies.study_lock(told().grid.study("report")), pytest.raises(InputError, match="another process"):
        recover.run(told(), 1, None, never, here)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such"], "has no experiment 'no-such'; it has "),
        (["signs", "--seeds", "2"], "greater than or equal to 3"),
        (["endless.yaml"], "no training can give the printed"),
        (["../ada/signs"], "no experiment's name"),
        (["../bea/signs.yaml"], "not in the report's folder"),
        (["words.yaml"], "words.yaml: nothing to recover: its key 'unknown'"),
        (["signs.yml"], "signs.yml"),
        (["runs:/0123/experiment.yaml"], "must be an experiment of the report"),
        (["signs", "--engine", "steam"], "steam"),
    ],
)
def test_wrong_input_ends_with_2_and_a_line(report: Path, arguments: list[str], words: str) -> None:
    (report.parent / "bea").mkdir()
    (report.parent / "bea" / "signs.yaml").write_text(SIGNS, encoding="utf-8")
    (report / "endless.yaml").write_text(SIGNS.replace("value: 0.7,", "value: 1.0e+300,"), encoding="utf-8")
    (report / "words.yaml").write_text(SIGNS.partition("unknown")[0] + "unknown: the seed\n", encoding="utf-8")
    done = trackdl("--report", str(report), "recover", *arguments, cwd=report, TRACKDL_REPORT=None)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_file_of_another_folder_is_of_that_report(report: Path, tmp_path: Path) -> None:
    small = SIGNS.replace("validation: 0.2", "validation: 0.2, per_class: 8").replace("[true, false]", "[true]")
    (report / "signs.yaml").write_text(small, encoding="utf-8")
    done = trackdl("recover", "ada/signs.yaml", "--seeds", "3", "--workers", "1", cwd=tmp_path, TRACKDL_REPORT=None)
    assert done.returncode == 0, done.stderr
    assert "printed numbers count as" in " ".join(done.stdout.split())
    tags = [run.info.data.tags for run in runs.find("recover-signs")]
    (parent,) = (own for own in tags if "mlflow.parentRunId" not in own)
    assert (parent["trackdl.kind"], parent["trackdl.report"]) == ("recover", "ada")
