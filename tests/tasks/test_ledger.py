"""The ledger from end to end on tiny data: made from tracked runs, checked against them, and changed to be caught."""

import html
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from support import ROOT
from support.grids import made_table, without_padding
from support.ledger_files import MINE
from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.data.download.datasets import DATASETS
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import check, evidence, finder, page
from trackdl.ledger.build import numbers_of
from trackdl.ledger.model import Ledger
from trackdl.ledger.rule import rounded
from trackdl.ledger.sources import FigureQuery, SeedRun
from trackdl.spec import GridSpec, LedgerSpec
from trackdl.system.code_digest import code_digest, words_of
from trackdl.tasks import ledger as task
from trackdl.tracking import runs

FRESH = "  - {title: The best of the grid again, task: grid, metric: fresh_test_accuracy}\n"


def find() -> finder.Finder:
    """Return a finder of the report's runs."""
    return finder.Finder(spec.experiments(), evidence.Store())


def made(root: Path, **keys: object) -> task.Result:
    return task.run(spec.load(root / "experiments" / "ledger.yaml", LedgerSpec, keys))


def artifact(ledger: Ledger, seed: int, place: int = 0) -> Path:
    """Return where an artifact of an entry lies in the store."""
    found = next(item for item in ledger.entries[place].figure.evidence if item.seed == seed)
    uri = runs.Run(found.run).info.info.artifact_uri
    return Path(uri.removeprefix("file://")) / found.artifacts[0]


def test_without_runs_everything_is_named_as_missing_and_nothing_is_made_up(root: Path) -> None:
    result = made(root)
    assert [entry.figure for entry in result.ledger.entries] == [None] * 5
    assert {entry.words for entry in result.ledger.entries[:4]} == {"not run yet: `trackdl run experiments/mnist.yaml`"}
    assert result.ledger.faults[-1].words == "None was made. (not run yet: `trackdl run experiments/grid.yaml`)"
    page = result.page.read_text()
    assert "not run yet" in page
    assert "<code>trackdl run experiments/grid.yaml</code>" in page
    assert task.verify(result.data).differences == []


@pytest.mark.slow
def test_seeds_are_run_once_and_every_figure_can_be_computed_again(root: Path) -> None:
    first = made(root, seeds=3)
    assert len(runs.find("mnist")) == 3
    again = made(root, seeds=3)
    assert len(runs.find("mnist")) == 3, "finished runs were not found again"
    assert again.ledger.entries == first.ledger.entries
    assert made(root).ledger.entries == first.ledger.entries

    ledger = first.ledger
    for entry in ledger.entries[:4]:
        values = [dict(runs.Run(item.run).history(entry.metric))[entry.epoch] for item in entry.figure.evidence]
        assert [item.seed for item in entry.figure.evidence] == [1, 2, 3]
        assert [item.value for item in entry.figure.evidence] == pytest.approx(values, rel=1e-4)
        assert entry.figure.low <= entry.figure.mean <= entry.figure.high
    assert ledger.entries[3].verdict == "fault in the report"
    assert ledger.faults[0].title == "This is none"
    assert len(ledger.faults[0].runs) == 3
    (curve,) = ledger.curves
    logged = [dict(runs.Run(item.run).history("batch_loss")) for item in curve.evidence]
    assert (curve.epochs, curve.seen, curve.size) == ([1, 1, 2, 2], [0, 320, 0, 320], 600)
    assert curve.mean[0] == pytest.approx(sum(one[0] for one in logged) / 3, rel=1e-4)
    assert curve.mean[2] == pytest.approx(sum(one[600] for one in logged) / 3, rel=1e-4)
    assert curve.verdict == "differs"
    assert ledger.beyond[0].figure.interval == "examples"
    assert ledger.beyond[2].words == "not run yet: `trackdl run experiments/search.yaml`"
    assert {path.name for path in map(Path, first.run.artifacts(""))} >= {"ledger.json", "ledger.html"}
    assert task.verify(first.data).differences == []

    said = first.ledger.model_dump(mode="json")
    tampering = {
        "a digit of a value": lambda it: _add(it["entries"][1]["figure"]["evidence"][0], "value", 1e-8),
        "a digit of a mean": lambda it: _add(it["entries"][0]["figure"], "mean", 1e-8),
        "a bound": lambda it: _add(it["entries"][0]["figure"], "high", 1e-8),
        "a published number": lambda it: _add(it["entries"][0]["published"], "value", 1e-4),
        "a verdict": lambda it: it["entries"][1].update(verdict="reproduced"),
        "a commit": lambda it: next(iter(it["runs"].values())).update(commit="0" * 40),
        "a data digest": lambda it: next(iter(it["runs"].values())).update(data_digest="0" * 64),
        "runs of two seeds": _swap,
        "a seed twice": lambda it: it["entries"][0]["figure"]["evidence"][1].update(
            it["entries"][0]["figure"]["evidence"][0]
        ),
        "another artifact": lambda it: it["entries"][0]["figure"]["evidence"][0].update(artifacts=["experiment.yaml"]),
        "an entry less": lambda it: it["entries"].pop(),
        "a curve's part": lambda it: _add(it["curves"][0]["evidence"][0]["parts"], 0, 1e-8),
        "a curve's point": lambda it: _add(it["curves"][0]["mean"], 1, 1e-4),
        "a curve's printed point": lambda it: _add(it["curves"][0]["printed"], 1, 1e-8),
        "a curve's verdict": lambda it: it["curves"][0].update(verdict="reproduced"),
        "a curve less": lambda it: it["curves"].pop(),
    }
    for what, change in tampering.items():
        changed = json.loads(json.dumps(said))
        change(changed)
        file = root / "changed.json"
        file.write_text(json.dumps(changed))
        assert task.verify(file).differences, f"{what} was changed and not found"

    (root / "docs" / "ledger").mkdir(parents=True)
    shutil.copy(first.data, root / "docs" / "ledger")
    one = made(root, seeds=1)
    assert one.ledger.entries[0].spread.seeds == 3
    assert "that of 3 seeds in docs/ledger" in one.ledger.entries[0].words
    assert task.verify(one.data).differences == []
    (root / "docs" / "ledger" / "ledger.json").write_text("{}")
    assert all("is borrowed, and not that of" in words for words in task.verify(one.data).differences)
    assert task.verify(one.data).differences, "nobody can check the spread that the verdicts rest on"
    assert made(root, seeds=1).ledger.entries[0].spread is None, "a broken ledger stands in the way of a new one"
    first.data.write_text(json.dumps(said))

    _changed_artifact(first, artifact(ledger, 2))
    _missing_artifact(first, artifact(ledger, 3))
    said["runs"] = {"0" * 32: next(iter(said["runs"].values()))}
    _put(said["entries"][0]["figure"]["evidence"][0], "0" * 32)
    (root / "changed.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match="which is not among its runs"):
        task.verify(root / "changed.json")


def test_a_ledger_of_another_file_is_checked_by_that_file(root: Path) -> None:
    mine = root / "mine.yaml"
    mine.write_text(MINE.replace("Never searched", "Searched by nobody"))
    experiment = spec.load(mine, LedgerSpec)
    result = task.run(experiment)
    assert any("Searched by nobody" in words for words in task.verify(result.data).differences)
    assert task.verify(result.data, experiment).differences == []
    assert result.check.endswith(f"--file runs:/{result.run.id}/experiment.yaml")
    assert made(root).check == f"trackdl verify {result.data}"


@pytest.mark.slow
def test_a_run_by_other_code_or_on_other_data_does_not_count(root: Path) -> None:
    made(root, seeds=1)
    (run,) = runs.find("mnist")
    known = run.info.data.tags
    for tag in ("trackdl.code_digest", "trackdl.data_digest", "trackdl.spec_digest"):
        run.tags({tag: "0" * 64})
        assert made(root).ledger.entries[0].figure is None, tag
        run.tags({tag: known[tag]})
        assert made(root).ledger.entries[0].figure is not None, tag


def test_of_runs_found_by_tags_one_experiments_stand_a_run_a_seed_the_newest(root: Path) -> None:
    """Two searches have had their finalists trained; the ledger shows one network, not a mixture of both."""

    def trained(lr: float, seed: int, **tags: str) -> str:
        keys = {"training.optimizer.lr": lr, "training.seed": seed}
        experiment = spec.load(root / "experiments" / "mnist.yaml", spec.ClassifySpec, keys)
        with runs.start(experiment, name="finalist") as run:
            run.tags({"trackdl.role": "finalist", "trackdl.data_digest": finder.data_digest(experiment), **tags})
        return run.id

    for seed in (1, 2, 3):
        trained(0.01, seed)
    trained(0.02, 2)
    first = trained(0.02, 1)
    second = trained(0.02, 2)
    trained(0.03, 1, **{"trackdl.code_digest": "0" * 64})
    want = FigureQuery("beyond 1", "mnist", "classify", "test_accuracy", None, tags={"trackdl.role": "finalist"})
    assert find().pick(want) == [SeedRun(first, 1), SeedRun(second, 2)]
    nobody = FigureQuery("beyond 1", "mnist", "classify", "test_accuracy", None, tags={"trackdl.role": "nobody"})
    assert find().pick(nobody) == []


def test_what_a_run_logged_must_be_what_its_artifacts_hold(root: Path) -> None:
    made(root, seeds=1)
    (run,) = runs.find("mnist")
    run.metrics({"test_accuracy": 0.123}, step=2)
    run.send()
    with pytest.raises(TrackdlError, match=r"logged 0\.123"):
        made(root)


def test_a_run_of_another_experiment_is_told_even_where_its_numbers_are_right(root: Path) -> None:
    """The ledger is as its runs say in every digit, but its file says otherwise what was to be run."""
    result = made(root, seeds=1)
    assert task.verify(result.data).differences == []
    file = root / "experiments" / "mnist.yaml"
    file.write_text(file.read_text().replace("momentum: 0.5", "momentum: 0.4"))
    found = task.verify(result.data).differences
    assert any("mnist test_loss after epoch 1" in words and "computed again it is None" in words for words in found)


def test_the_grids_committed_table_stands_for_its_runs(root: Path) -> None:
    table = root / "experiments" / "results" / "grid.csv"
    table.parent.mkdir()
    table.write_text(cells())
    made_by(table.parent)
    (root / "experiments" / "ledger.yaml").write_text(MINE.replace(FRESH, ""))
    result = made(root)
    entry = result.ledger.entries[-1]
    assert (entry.figure.mean, entry.verdict) == (3, "fault in the report")
    assert entry.figure.evidence[0].run == "committed-grid"
    assert task.verify(result.data).differences == []
    assert 'href="#run-committed-grid"' in result.page.read_text()
    text = table.read_text()
    table.write_text(text.replace("0.75", "0.76"))
    assert any("grid.csv" in words for words in task.verify(result.data).differences)
    table.write_text("\n".join(text.splitlines()[:-2]))
    assert "some without all folds" in made(root).ledger.entries[-1].words
    table.write_text(text.splitlines()[0])
    assert "no configurations" in made(root).ledger.entries[-1].words


@pytest.mark.slow
def test_failed_fits_and_impossible_cells_are_counted_in_the_grids_committed_files(root: Path) -> None:
    file = root / "experiments" / "ledger.yaml"
    whole = spec.load(ROOT / "experiments" / "ledger.yaml", LedgerSpec)
    counted = [item.model_dump(mode="json") for item in whole.reported if item.unit == "count"]
    file.write_text(json.dumps(yaml.safe_load(MINE.replace(FRESH, "")) | {"reported": counted}))
    results = root / "experiments" / "results"
    results.mkdir()
    grid = spec.load(ROOT / "experiments" / "grid.yaml", GridSpec)
    (results / "grid.csv").write_text(grid_table.to_csv(grid, without_padding(made_table())), encoding="utf-8")
    errors = {"3 layers": {"a": 144}, "2 layers of 16 filters": {"b": 72}, "2 layers of 32 filters": {"c": 70, "d": 2}}
    made_by(results, report_failures=errors)
    result = made(root)
    entries = {entry.metric: entry for entry in result.ledger.entries if entry.task == "grid"}
    assert {metric: (entry.figure.mean, entry.published.value) for metric, entry in entries.items()} == {
        "failed_fits": (288, 288),
        "3 layers/failed_fits": (144, 144),
        "2 layers of 16 filters/failed_fits": (72, 72),
        "2 layers of 32 filters/failed_fits": (72, 72),
        "networks": (72, 96),
    }
    assert {entry.verdict for entry in entries.values()} == {"fault in the report"}
    assert entries["failed_fits"].words.endswith("Ours: 288.")
    why, holes = (fault for fault in result.ledger.faults if fault.task == "grid")
    assert (why.runs, holes.runs) == (["committed-grid"], ["committed-grid"])
    assert why.quote == "288 fits failed out of a total of 288."
    assert holes.title == "24 of the grid's 96 configurations cannot be built"
    assert task.verify(result.data).differences == []
    page_text = result.page.read_text()
    assert "3 layers: fits of the report&#39;s grid search that failed" in page_text
    made_by(results, report_failures=errors | {"3 layers": {"a": 143}})
    assert any("failed_fits" in words for words in task.verify(result.data).differences)


def made_by(results: Path, **more: object) -> None:
    """Write down, beside the grid's table, that today's code made it from today's data."""
    grid = spec.load(ROOT / "experiments" / "grid.yaml", GridSpec)
    digests = {"data": DATASETS["fashion"].digest, "code": code_digest("grid", words_of(spec.flatten(grid)))}
    (results / "grid.json").write_text(json.dumps(digests | more))


def test_a_table_of_other_data_is_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = root / "experiments" / "results"
    results.mkdir()
    (results / "grid.csv").write_text(cells())
    made_by(results, data="0" * 64)
    assert made(root).ledger.entries[-1].figure is None
    assert "it was made from other data" in caplog.text


def test_a_table_of_other_code_stands_and_the_page_and_the_output_say_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = root / "experiments" / "results"
    results.mkdir()
    (results / "grid.csv").write_text(cells())
    (root / "experiments" / "ledger.yaml").write_text(MINE.replace(FRESH, ""))
    made_by(results)
    same = made(root)
    today = same.ledger.runs["committed-grid"].code_digest
    assert page.of_other_code(same.ledger) == []
    assert f"by code {today[:8]}</li>" in same.page.read_text()

    made_by(results, code="0" * 64)
    other = made(root)
    assert other.ledger.entries[-1].figure == same.ledger.entries[-1].figure
    words = f"by code 00000000, not today's {today[:8]}; "
    words += "`trackdl grid --file experiments/grid.yaml --export experiments/results` renews it"
    assert [said for _, said in page.of_other_code(other.ledger)] == [words]
    text = html.unescape(re.sub(r"</?code>", "`", other.page.read_text()))
    assert text.count(words) == 2, "once at the figure, once where the page says how it was made"
    capsys.readouterr()
    task.show(other)
    assert words in " ".join(capsys.readouterr().out.split())
    assert task.verify(other.data).differences == []

    made_by(results, code=None)
    assert "by code that is not known, not today's" in html.unescape(made(root).page.read_text())


BEST = {"activation": "relu", "filter_size": 5, "dense_nodes": 128, "dropout": 0.1, "filters": 16, "conv_layers": 2}


def test_what_made_the_grids_table_stands_beside_it(root: Path) -> None:
    results = root / "experiments" / "results"
    results.mkdir()
    (results / "grid.csv").write_text(cells())
    fresh = {"best_cell": BEST | {"pool_size": 2}, "test_pictures": 10_000, "best": [0.91, 0.92], "choice": [0.9, 0.9]}
    origin = {"versions": {"trackdl": "0.0.7"}, "command": "trackdl grid --workers 2"}
    made_by(results, **origin, fresh=fresh)
    result = made(root)
    facts = result.ledger.runs["committed-grid"]
    assert facts.name.endswith("grid.csv, in the report's folder")
    assert (facts.version, facts.data_digest) == ("0.0.7", DATASETS["fashion"].digest)
    assert facts.code_digest is not None
    assert facts.command == "trackdl grid --workers 2"
    figure = result.ledger.beyond[1].figure
    assert (figure.mean, figure.examples, figure.interval) == (pytest.approx(0.915), 10_000, "examples")
    assert task.verify(result.data).differences == []
    made_by(results, **origin, fresh=fresh | {"best": [0.91, 0.93]})
    assert any("grid.json" in words for words in task.verify(result.data).differences)
    other = fresh | {"best_cell": fresh["best_cell"] | {"filters": 32}}
    made_by(results, **origin, fresh=other)
    assert "not the table's best" in made(root).ledger.beyond[1].words
    (results / "grid.json").write_text("{")
    unreadable = made(root)
    assert "no evidence: results/grid.json cannot be read" in unreadable.ledger.beyond[1].words
    assert task.verify(unreadable.data).differences == []


@pytest.mark.slow
def test_a_number_is_compared_with_runs_as_the_report_had_them_else_with_ours_and_says_so(root: Path) -> None:
    """Task 3's numbers want the report's weights; a digit network of another start stands for that here."""
    file = root / "experiments" / "ledger.yaml"
    file.write_text(MINE.replace("head:", "as_reported:\n  mnist: {training.optimizer.lr: 0.02}\nhead:"))
    task.run(spec.load(file, LedgerSpec, {"seeds": 1}))
    rates = {run.info.data.params["training.optimizer.lr"] for run in runs.find("mnist")}
    assert rates == {"0.01", "0.02"}, "the beyond part is of the task's own experiment"
    both = made(root).ledger
    used = {runs.Run(item.run).info.data.params["training.optimizer.lr"] for item in both.entries[0].figure.evidence}
    assert used == {"0.02"}
    of_ours = {item.run for item in both.beyond[0].figure.evidence}
    assert {runs.Run(run).info.data.params["training.optimizer.lr"] for run in of_ours} == {"0.01"}
    for run in runs.find("mnist"):
        if run.info.data.params["training.optimizer.lr"] == "0.02":
            run.tags({"trackdl.code_digest": "0" * 64})
    result = made(root)
    assert {item.run for item in result.ledger.entries[0].figure.evidence} == of_ours
    assert task.verify(result.data).differences == []


def cells() -> str:
    """Return a table of the report's 96 configurations in which two do better than the one that it chose."""
    space = [("relu", "sigmoid", "tanh"), (2, 3), (128, 256), (0.1, 0.3), (3, 5), (16, 32)]
    lines = [
        "grid,fold,activation,conv_layers,dense_nodes,dropout,filter_size,filters,pool_size,val_accuracy_9,val_accuracy_10"
    ]
    for place, (activation, *others) in enumerate(itertools.product(*space)):
        for fold in range(3):
            accuracy = {0: 0.75, 1: 0.8, 2: 0.9}.get(place, 0.5) + fold / 100
            lines.append(",".join(map(str, ("report", fold, activation, *others, 2, 0.99, accuracy))))
    lines.append("ours,0,relu,2,128,0.1,3,16,3,0.99,0.99")
    return "\n".join(lines)


def _add(where: Any, key: str | int, value: float) -> None:
    where[key] += value * max(1, abs(where[key]))


def _put(evidence: dict[str, str], run: str) -> None:
    evidence["run"] = run


def _swap(ledger: dict[str, object]) -> None:
    """Let two seeds' runs change places, their values and digests with them: only the seeds are wrong then."""
    for item in [*ledger["entries"], *ledger["beyond"]]:
        if item["figure"]:
            evidence = item["figure"]["evidence"]
            for key in ("run", "value"):
                evidence[0][key], evidence[1][key] = evidence[1][key], evidence[0][key]


def _changed_artifact(result: task.Result, file: Path) -> None:
    kept = file.with_suffix(".kept")
    shutil.copy(file, kept)
    tensors = load_file(file)
    tensors["outputs"] = torch.roll(tensors["outputs"], 1, dims=1)
    save_file(tensors, file)
    found = task.verify(result.data).differences
    assert any(file.name in words for words in found), "the artifact's digest"
    assert any("mnist test_loss after epoch 1" in words for words in found), "the figure"
    shutil.move(kept, file)
    assert task.verify(result.data).differences == []


def _missing_artifact(result: task.Result, file: Path) -> None:
    kept = file.with_suffix(".kept")
    shutil.move(file, kept)
    found = task.verify(result.data).differences
    assert any(file.name in words and "is not available" in words for words in found)
    shutil.move(kept, file)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format": 5}', '{"a": 1, "a": 2}', "\x00\xff"])
def test_what_is_no_ledger_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ledger.json"
    file.write_text(content)
    with pytest.raises(InputError, match="not a ledger"):
        check.load(file)
    with pytest.raises(InputError, match="cannot be read"):
        check.load(tmp_path / "none.json")


def test_the_committed_ledger_is_of_todays_numbers_and_its_page_of_its_data() -> None:
    file = ROOT / "docs" / "ledger" / "ledger.json"
    ledger = check.load(file)
    said = {
        (entry.task, entry.metric, entry.epoch, entry.published.series): entry.published.value
        for entry in ledger.entries
    }
    mine = {
        (name, item.metric, item.epoch, item.series): rounded(item.value)
        for name, one in spec.experiments().items()
        for item in numbers_of(one)
    }
    experiment = spec.load(ROOT / "experiments" / "ledger.yaml", LedgerSpec)
    assert said == mine | {
        (item.task, item.metric, item.epoch, item.series): item.value for item in experiment.reported
    }
    assert (ROOT / "docs" / "ledger" / "ledger.html").read_text(encoding="utf-8") == page.render(ledger, None)


@pytest.mark.slow
def test_the_committed_bundle_is_evidence_for_its_ledger_and_of_todays_files() -> None:
    bundle = ROOT / "docs" / "ledger"
    assert task.verify(bundle).differences == []
    copies = [path for path in (bundle / "experiments").rglob("*") if path.is_file()]
    assert len(copies) > 10
    for copy in copies:
        mine = ROOT / "experiments" / copy.relative_to(bundle / "experiments")
        assert copy.read_bytes() == mine.read_bytes(), f"{copy.name} has changed since; docs/ledger.md says what to do"
    sizes = [path.stat().st_size for path in bundle.rglob("*") if path.is_file()]
    assert max(sizes) < 2_000_000
    assert sum(sizes) < 8_000_000
    links = set(re.findall('href="([^"#:]*)"', (bundle / "ledger.html").read_text(encoding="utf-8")))
    assert len(links) > 20
    assert [link for link in sorted(links) if not (bundle / link).is_file()] == []


def test_the_ledgers_own_file_names_numbers_that_exist() -> None:
    experiment = spec.load(ROOT / "experiments" / "ledger.yaml", LedgerSpec)
    known = {
        (name, item.metric, item.epoch, item.series)
        for name, one in spec.experiments().items()
        for item in numbers_of(one)
    }
    known |= {(item.task, item.metric, item.epoch, item.series) for item in experiment.reported}
    named = [item.of for item in experiment.head] + [item.against for item in experiment.beyond if item.against]
    assert {(item.task, item.metric, item.epoch, item.series) for item in named} <= known
