"""`trackdl compare`: what differs between runs, in the terminal, as JSON, and as one page."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlflow
import pytest
from matplotlib.figure import Figure
from scipy.stats import ttest_ind
from typer.testing import CliRunner, Result

from trackdl import spec
from trackdl.analysis.stats import mean_interval
from trackdl.apps.compare import difference_words
from trackdl.cli import app as cli
from trackdl.errors import InputError
from trackdl.tracking import runs

pytestmark = pytest.mark.usefixtures("tracking")

FIRST, SECOND = [0.90, 0.91, 0.95], [0.80, 0.84, 0.82]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["compare", *map(str, words)])


def train(name: str, rate: float, accuracies: list[float], *, drawn: str = "") -> str:
    """Log what a training of several seeds would: a parent, and a run for each seed with two epochs."""
    settings = {"training.optimizer.lr": rate, "seeds": len(accuracies)}
    parent_spec = spec.named("mnist", settings)
    with runs.start(parent_spec, name=name) as parent:
        for seed, accuracy in enumerate(accuracies, 1):
            one = spec.named("mnist", {**settings, "seeds": 1, "training.seed": seed})
            with runs.start(one, name=f"{name}, seed {seed}") as child:
                child.curve("test_accuracy", [(1, accuracy / 2), (2, accuracy)])
                child.metrics({"parameters": 21840.0})
        if drawn:
            figure = Figure()
            figure.suptitle(drawn)
            parent.figure(figure, "pictures/training_curve.png")
    return parent.id


def test_seeds_are_compared_by_means_with_intervals_and_only_what_differs_is_listed() -> None:
    train("fast", 0.01, FIRST)
    train("slow", 0.001, SECOND)
    done = run("fast", "slow", "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.output)
    assert found["settings"] == {"training.optimizer.lr": ["0.01", "0.001"]}
    assert list(found["metrics"]) == ["test_accuracy"]  # the number of parameters is the same
    for one, values in zip(found["metrics"]["test_accuracy"], (FIRST, SECOND), strict=True):
        assert one["values"] == values
        assert (one["low"], one["high"]) == pytest.approx(mean_interval(values))


def test_seeds_that_draw_their_own_validation_splits_are_seeds_of_one_experiment() -> None:
    for rate, accuracies in ((0.01, FIRST), (0.001, SECOND)):
        several = spec.named("fashion", {"training.optimizer.lr": rate, "seeds": len(accuracies)})
        with runs.start(several, name=f"at {rate}"):
            for number, accuracy in enumerate(accuracies):
                with runs.start(several.nth(number).model_copy(update={"seeds": 1})) as child:
                    child.metrics({"best_test_accuracy": accuracy})
    found = json.loads(run("at 0.01", "at 0.001", "--json").output)
    assert [one["values"] for one in found["metrics"]["best_test_accuracy"]] == [FIRST, SECOND]
    assert found["settings"] == {"training.optimizer.lr": ["0.01", "0.001"]}


def test_the_difference_of_two_has_the_interval_of_welchs_test(tmp_path: Path) -> None:
    train("fast", 0.01, FIRST)
    train("slow", 0.001, SECOND)
    done = run("fast", "slow", "--output", tmp_path / "page.html")
    bounds = ttest_ind(SECOND, FIRST, equal_var=False).confidence_interval()
    # Of a table that is folded to a terminal's width, the page has the whole cells.
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert done.exit_code == 0, done.output
    assert f"-0.100 ({bounds.low:+.3f} to {bounds.high:+.3f})" in page


@pytest.mark.draws
def test_the_page_shows_curves_and_images_that_differ_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    train("<b>fast", 0.01, FIRST, drawn="one")
    train("slow", 0.001, SECOND, drawn="another")
    train("again", 0.002, SECOND, drawn="another")
    file = tmp_path / "page.html"
    assert run("<b>fast", "slow", "again", "--output", file).exit_code == 0
    page = file.read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml;base64,") == 1
    assert page.count("data:image/png;base64,") == 3
    assert "&lt;b&gt;fast" in page
    assert "<b>" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert run("slow", "again", "--output", file).exit_code == 0
    assert "data:image/png" not in file.read_text(encoding="utf-8")  # the same image twice


def test_a_run_is_found_by_the_first_digits_of_its_id() -> None:
    ids = [train("one", 0.01, FIRST), train("one", 0.02, SECOND)]
    found = json.loads(run(ids[0][:12], ids[1], "--json").output)
    assert [one["id"] for one in found["runs"]] == ids
    assert [one["name"] for one in found["runs"]] == [f"one ({ids[0][:8]})", f"one ({ids[1][:8]})"]


def test_a_name_is_first_that_of_a_run_of_this_report_and_large_differences_are_whole_numbers() -> None:
    here, other = train("one", 0.01, FIRST), train("two", 0.01, SECOND)
    with runs.start(spec.named("mnist"), name="one") as stranger:
        stranger.tags({"trackdl.report": "another"})
    found = json.loads(run("one", "two", "--json").output)
    assert [one["id"] for one in found["runs"]] == [here, other]
    assert difference_words([[21_840.0], [24_070.0]]) == "+2,230"


def test_trials_that_differ_in_more_than_the_seed_are_no_seeds() -> None:
    with runs.start("search", name="study") as parent:
        for number in (1, 2):
            with runs.start(spec.named("mnist", {"training.seed": number, "training.batch_size": number * 10})):
                pass
    train("fast", 0.01, FIRST)
    found = json.loads(run("study", "fast", "--json").output)
    assert [(one["id"] == parent.id, len(one["seeds"])) for one in found["runs"]] == [(True, 0), (False, 3)]


def test_whatever_others_have_logged_leaves_the_rest_compared(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    ids = []
    for number, name in enumerate(["first\x1b[31m", "second"]):
        with runs.start("anything", name=name) as mine:
            mine.tags({}, {"training.seed": f"s{number}"})
            mine.curve("odd", [(number * 10 + step, 0.1 * step + number) for step in (1, 2, 3)])  # no step in common
            mine.metrics({"infinite": float("inf"), "val_loss": 0.5 + number})
            figure = Figure()
            figure.suptitle(name[:5])
            mine.figure(figure, "pictures/curve.png")
        ids.append(mine.id)
    folder = Path(mlflow.get_run(ids[0]).info.artifact_uri.removeprefix("file://")) / "pictures"
    os.mkfifo(folder / "broken.png")
    (folder / "large.png").write_bytes(bytes(2_000_001))
    done = run(ids[0], ids[1], "--output", file)
    assert done.exit_code == 0, done.output
    for words in ("not finite, so not compared: infinite", "broken.png cannot be read", "large.png cannot be read"):
        assert words in file.read_text(encoding="utf-8")
    assert "\x1b" not in file.read_text(encoding="utf-8")
    (folder / "nowhere.png").symlink_to(folder / "nothing")
    assert "its images cannot be listed" in run(*ids, "--output", file).output + file.read_text(encoding="utf-8")
    assert json.loads(run(ids[0], ids[1], "--json").output)["metrics"]["val_loss"]


def test_seeds_that_have_not_finished_are_counted(tmp_path: Path) -> None:
    train("whole", 0.01, FIRST)
    settings = {"seeds": 3}
    with runs.start(spec.named("mnist", settings), name="part") as parent:
        for seed in (1, 2, 3):
            with (
                pytest.raises(ZeroDivisionError) if seed == 3 else nullcontext(),
                runs.start(spec.named("mnist", {"training.seed": seed})) as child,
            ):
                child.metrics({"test_accuracy": 0.9 + seed / 100})
                assert 1 / (seed - 3) < 0
    assert parent.info.info.status == "FINISHED"
    assert "part: 2 of 3 seeds have finished" in run("whole", "part", "--output", tmp_path / "page.html").output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["one"], "name at least two runs"),
        (["one", "one"], "the same run is named twice"),
        (["one", "oen"], "did you mean 'one'?"),
        (["one", "--output", "notes.html", "two"], "did not write it"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.html").write_text("mine: what trackdl compare wrote")
    train("one", 0.01, FIRST)
    train("two", 0.02, FIRST)
    done = run(*words)
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert reason in str(done.exception)
    assert Path("notes.html").read_text() == "mine: what trackdl compare wrote"
