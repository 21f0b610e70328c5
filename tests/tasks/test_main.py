"""The whole report as one run: its steps in order, and what becomes of one whose data cannot be had."""

import pytest

from trackdl import spec
from trackdl.errors import DataMissing
from trackdl.tasks import report as main
from trackdl.tracking import runs

pytestmark = pytest.mark.usefixtures("tracking")


def steps(*optional: bool) -> spec.ReportSpec:
    return spec.ReportSpec(
        task="report",
        name="main",
        title="T",
        slug="t",
        steps=[spec.Step(task="heart", optional=one) for one in optional],
    )


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the first step's data be missing; return the numbers of the steps that were begun."""
    begun: list[int] = []

    def start(experiment: object) -> str:  # noqa: ARG001
        begun.append(len(begun) + 1)
        if len(begun) == 1:
            raise DataMissing("the weights cannot be had")
        return "a sum of step 2"

    monkeypatch.setattr(main._start, "start", start)
    return begun


def test_an_optional_step_whose_data_are_missing_is_passed_over_with_a_word(
    missing: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    main.run(steps(True, False))
    said = capsys.readouterr().out
    assert missing == [1, 2]
    assert "skipped: the weights cannot be had" in said
    assert "a sum of step 2" in said
    assert runs.find("main")[0].info.info.status == "FINISHED"


def test_each_step_is_a_run_beside_mains_which_has_its_headline(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(experiment: spec.Experiment) -> str:
        with runs.start(experiment) as step, runs.start(experiment, name="below"):
            step.metrics({"test_accuracy": 0.5, "test_auc": 0.7})
        return "half are right"

    monkeypatch.setattr(main._start, "start", start)
    main.run(steps(False))
    (whole,), heart = runs.find("main"), {run.info.info.run_name: run.info.data.tags for run in runs.find("heart")}
    step = next(name for name in heart if name != "below")
    assert "mlflow.parentRunId" not in heart[step]
    assert heart[step]["trackdl.main"] == whole.id
    assert "mlflow.parentRunId" in heart["below"]
    assert {"heart/test_accuracy"} == {name for name in whole.info.data.metrics if not name.startswith("system/")}
    assert "half are right" in whole.info.data.tags["mlflow.note.content"]


def test_any_other_step_ends_the_whole(missing: list[int]) -> None:
    with pytest.raises(DataMissing):
        main.run(steps(False, True))
    assert missing == [1]
    assert runs.find("main")[0].info.info.status == "FAILED"
