"""The ledger of any report: a folder of experiment files is enough, and two reports never mix."""

import json
from pathlib import Path

import pytest

from trackdl import spec
from trackdl.errors import InputError
from trackdl.ledger import folder as ledger_folder
from trackdl.ledger import page
from trackdl.spec import LedgerSpec
from trackdl.system import paths
from trackdl.tasks import _start, classify
from trackdl.tasks import ledger as task
from trackdl.tracking import runs

REPORT = "title: Digits & more\nauthors: Ada and Alan\nsource: https://example.org\nyear: 2024\nslug: SLUG\n"
DIGITS = """
task: classify
title: The digits
data: {sklearn: digits}
network: {family: mlp, hidden: [4]}
training: {epochs: 2, batch_size: 64, optimizer: {name: sgd, lr: 0.1}, seed: 1}
seeds: 2
reported:
  - {metric: test_accuracy, epoch: 1, value: 0.5, quote: "50 %"}
  - {metric: test_accuracy, value: 0.6, quote: "60 % in the end", series: the text's}
  - {metric: test_f1, epoch: 2, value: 0.6, quote: "F1 0.6"}
  - {metric: test_loss, epoch: 2, value: 1.2, quote: "1.2", unit: nats}
  - {metric: fit_seconds, epoch: 2, value: 3.5, quote: "3.5 s"}
  - {metric: bleu, value: 0.4, quote: "BLEU 0.4"}
"""
WIDE = """
task: classify
data: {sklearn: digits}
network: {family: mlp, hidden: [8]}
training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}, seed: 1}
unknown: {training.batch_size: [32, 64], "training.optimizer.name": [sgd, adam]}
reported:
  - {metric: test_accuracy, epoch: 1, value: 0.5, quote: "50 %"}
"""
GRID = "task: grid\nof: wide\nspace: {training.batch_size: [32, 64]}\n"


@pytest.fixture
def project(tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Give a project without experiments of its own, with an empty store."""
    for module in (task, ledger_folder, paths):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    return tmp_path


def report(project: Path, monkeypatch: pytest.MonkeyPatch, slug: str = "ada", **files: str) -> Path:
    """Make a report's folder of these experiment files, and put it in use."""
    folder = project / slug
    folder.mkdir(exist_ok=True)
    for name, text in {"report": REPORT.replace("SLUG", slug), **files}.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    return folder


def made(**keys: object) -> task.Result:
    return task.run(spec.load(spec.experiment_file("ledger"), LedgerSpec, keys))


@pytest.mark.slow
def test_a_folder_of_two_experiments_has_a_ledger_that_verifies(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(project, monkeypatch, digits=DIGITS, wide=WIDE)
    nothing = made()
    assert nothing.data == project / "reports" / "ada" / "ledger.json"
    assert {page._verdict(entry) for entry in nothing.ledger.entries} == {"not run yet", "no formula"}
    assert nothing.ledger.entries[0].words == "not run yet: `trackdl run ada/digits.yaml`"
    assert task.verify(nothing.data).differences == []

    result = made(seeds=3)
    ledger = result.ledger
    assert len(runs.find("digits")) == 3, "each seed has a run of its own, whatever the file's seeds are"
    assert task.verify(result.data).differences == []
    entries = {(entry.task, entry.metric, entry.epoch): entry for entry in ledger.entries}
    in_the_end = entries["digits", "test_accuracy", None].figure
    first = runs.Run(in_the_end.evidence[0].run)
    assert in_the_end.evidence[0].value == pytest.approx(dict(first.history("test_accuracy"))[2], abs=1e-6)
    assert 0 < entries["digits", "test_f1", 2].figure.mean < 1
    assert entries["digits", "test_loss", 2].published.unit == "loss"
    seconds = entries["digits", "fit_seconds", 2]
    assert seconds.verdict == "not comparable"
    assert seconds.figure.evidence[0].value == pytest.approx(dict(first.history("fit_seconds"))[2])
    unknown = entries["wide", "test_accuracy", 1].published
    assert unknown.comparable == "protocol unknown in part"
    assert unknown.unknown == "training.batch_size (32 or 64); training.optimizer.name (sgd or adam)"
    bleu = entries["digits", "bleu", None]
    assert (bleu.figure, bleu.verdict) == (None, None)
    assert bleu.words.startswith("no formula: 'bleu' is no metric of a classify experiment; its metrics are test_loss")

    assert (ledger.report.slug, ledger.report.authors) == ("ada", "Ada and Alan")
    assert [item.title for item in ledger.head] == [
        "The digits: test accuracy after epoch 1",
        "The digits: test accuracy, the text's",
        "The digits: test f1 after epoch 2",
        "wide: test accuracy after epoch 1",
    ]
    text = result.page.read_text(encoding="utf-8")
    assert '<a href="https://example.org">“Digits &amp; more”</a> by Ada and Alan (2024) prints 6 numbers' in text
    assert "1 time is shown and not judged" in text
    assert sum(page.counts(ledger).values()) == 6
    for section in ("hypotheses", "beyond", "faults", "curves"):
        assert f'"#{section}"' not in text
        assert f'id="{section}"' not in text
    task.show(result)
    said = " ".join(capsys.readouterr().out.split())
    assert "The ledger of “Digits & more” by Ada and Alan (2024)" in said
    assert f"`trackdl --report {project / 'ada'} verify" in said


def test_what_had_no_evidence_is_no_difference(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = WIDE + "  - {metric: test_accuracy, epoch: 7, value: 0.5, quote: q}\n"
    report(project, monkeypatch, wide=more)
    result = made(seeds=1)
    first, second = result.ledger.entries
    assert first.figure
    assert second.words.startswith("no evidence: run ")
    assert "test-epoch-00007.safetensors is not available" in second.words
    assert list(result.ledger.runs) == [first.figure.evidence[0].run]
    assert task.verify(result.data).differences == []


def test_names_that_the_folder_lacks_are_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "head: [{title: T, of: {task: digits, metric: METRIC, epoch: 1}}]\n"
    folder = report(project, monkeypatch, wide=WIDE, ledger="task: ledger\n" + head)
    with pytest.raises(InputError, match=r"ledger\.yaml: key 'head\.0\.of\.task': .* 'digits'; it has wide"):
        made()
    (folder / "digits.yaml").write_text(DIGITS)
    with pytest.raises(InputError, match="names 'digits METRIC after epoch 1', but no experiment file"):
        made()
    (folder / "ledger.yaml").write_text("task: ledger\n" + head.replace("METRIC", "test_accuracy"))
    assert [item.title for item in made().ledger.head] == ["T"]
    (folder / "other.yaml").write_text("name: wide" + WIDE)
    with pytest.raises(InputError, match=r"other\.yaml: key 'name': must be that of the file, 'other', but is 'wide'"):
        made()


def test_a_number_that_is_published_twice_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = WIDE + "  - {metric: test_accuracy, epoch: 1, value: 0.4, quote: q}\n"
    report(project, monkeypatch, wide=twice)
    with pytest.raises(InputError, match=r"wide test_accuracy after epoch 1; `series` tells two trainings apart"):
        made()


def test_two_reports_with_the_same_names_do_not_mix(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(project, monkeypatch, wide=WIDE)
    mine = made(seeds=1)
    report(project, monkeypatch, "alan", wide=WIDE)
    other = made()
    assert other.ledger.entries[0].figure is None, "the run is the other report's"
    assert (project / "reports" / "alan" / "ledger.json").is_file()
    with pytest.raises(InputError, match=r"is the ledger of “Digits & more” \(ada\).*`trackdl --report DIR verify"):
        task.verify(mine.data)
    classify.run(spec.named("wide"))  # type: ignore[arg-type]
    assert made().ledger.entries[0].figure is not None
    assert task.verify(other.data.parent.parent / "alan" / "ledger.json").differences == []
    report(project, monkeypatch)
    assert task.verify(mine.data).differences == []


def test_a_ledger_is_never_written_over_another_reports(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(project, monkeypatch, wide=WIDE)
    data = made().data
    before = data.read_bytes()
    (project / "ada" / "report.yaml").write_text("title: Another\nslug: ada\n")
    spec.files._report.cache_clear()
    with pytest.raises(InputError, match=r"has the ledger of 'Digits & more'. Give report.yaml a slug of its own"):
        made()
    assert data.read_bytes() == before


def test_with_a_validation_split_the_epochs_that_the_report_tests_are_tested(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = DIGITS.replace("sklearn: digits", "sklearn: digits, validation: 0.2").replace("seeds: 2", "seeds: 1")
    report(project, monkeypatch, digits=split)
    result = classify.run(spec.named("digits"))  # type: ignore[arg-type]
    assert [epoch for epoch, _ in result.run.history("test_accuracy")] == [1, 2]
    entries = {(one.metric, one.epoch): one for one in made().ledger.entries}
    assert entries["test_accuracy", 1].figure is not None
    assert entries["test_accuracy", None].figure is not None


def test_of_a_grids_cells_the_ledger_leads_with_the_reports_choice(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "reported_table: cells.csv\nchoice: {batch_size: 64}\n"
    more += "reported: [{metric: rank_of_choice, value: 1, quote: the best}]\n"
    folder = report(project, monkeypatch, wide=WIDE, grid=GRID + more)
    (folder / "cells.csv").write_text("batch_size,test_acc,seconds\n32,0.5,3\n64,0.6,2\n")
    assert [item.title for item in made().ledger.head] == [
        "wide: test accuracy after epoch 1",
        "grid: rank of the “best” among the grid's networks",
        "grid: test accuracy, batch_size=64",
    ]


def test_studies_of_two_reports_are_two(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called the same, at the same path, may be other images."""
    names = set()
    for slug in ("ada", "alan"):
        report(project, monkeypatch, slug, wide=WIDE, grid=GRID)
        grid = spec.named("grid")
        assert isinstance(grid, spec.GridSpec)
        names.add(grid.study("report"))
    assert len(names) == 2


@pytest.mark.slow
def test_spreads_between_seeds_are_not_borrowed_from_another_reports_ledger(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(project, monkeypatch, wide=WIDE)
    committed = project / "docs" / "ledger" / "ledger.json"
    committed.parent.mkdir(parents=True)
    committed.write_text(made(seeds=3).data.read_text())
    assert task.committed()
    content = json.loads(committed.read_text())
    content["report"]["slug"] = "another"
    committed.write_text(json.dumps(content))
    assert task.committed() == {}


@pytest.mark.parametrize(
    ("unknown", "words"),
    [
        ("{network.hiden: [[4]]}", "unknown: network.hiden"),
        ("{training.epochs: []}", "unknown.training.epochs"),
        ("{training.epochs: [many]}", "unknown: training.epochs: many"),
        ("{seeds.number: [1]}", "'seeds' is not a section"),
    ],
)
def test_what_is_unknown_must_be_possible(
    project: Path, monkeypatch: pytest.MonkeyPatch, unknown: str, words: str
) -> None:
    lines = [f"unknown: {unknown}" if line.startswith("unknown") else line for line in WIDE.splitlines()]
    report(project, monkeypatch, wide="\n".join(lines))
    with pytest.raises(InputError, match=words):
        spec.named("wide")


def test_a_key_that_shows_to_be_wrong_while_it_runs_is_named_with_its_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(project, monkeypatch, digits=DIGITS.replace("sklearn: digits", "sklearn: digits, rename: {x: y}"))
    with pytest.raises(InputError, match=r"^digits.yaml: key 'data.rename': there is no class 'x'"):
        _start.start(spec.named("digits"))
