"""The grid's benchmark at a tiny size: its sides train the same networks, and its sums are right."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support import ROOT
from support.nets import fashion_net
from trackdl.studies.grid import fits as crossfit
from trackdl.studies.grid.fits import FoldTask, fit_fold

sys.path.insert(0, str(ROOT / "benchmarks"))

import grid
import grid_sides
from grid_sides import CELLS, Job

CELL_IDS = ["-".join(str(cell[name]) for name in ("filter_size", "filters", "conv_layers")) for cell in CELLS]


@pytest.mark.parametrize("cell", CELLS, ids=CELL_IDS)
def test_the_plain_network_of_every_cell_is_the_same_function(cell: dict[str, Any]) -> None:
    ours, plain = fashion_net(**cell).eval(), grid_sides.plain_net(cell).eval()
    assert [p.shape for p in plain.parameters()] == [p.shape for p in ours.parameters()]
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), plain.parameters(), strict=True):
            its.copy_(mine)
    pictures: Tensor = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(pictures), ours(pictures))


def test_the_sample() -> None:
    assert len(CELLS) == 8
    assert sum(all(cell[name] == value for name, value in grid.SMALL.items()) for cell in CELLS) == 2


@pytest.fixture
def clean_caches() -> Iterator[None]:
    """Forget the data of the tests before, and leave none to those that follow."""
    functions = (grid_sides._plain_data, grid_sides._ready, crossfit._parts)
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


@pytest.mark.usefixtures("tiny_fashion", "clean_caches")
@pytest.mark.filterwarnings("ignore")  # skorch's own
@pytest.mark.parametrize("side", ["report", "skorch"])
def test_each_side_learns_from_the_same_fold(side: str) -> None:
    if side == "skorch":
        pytest.importorskip("skorch")
    job = Job(epochs=12, validation=0.2, seed=1)
    fit = {"report": grid_sides.fit_report, "skorch": grid_sides.fit_skorch}[side](CELLS[0], job)
    assert fit.accuracy > 0.9
    assert fit.images == 12 * 320  # two thirds of 480
    assert fit.ended > fit.began


@pytest.mark.usefixtures("tiny_fashion", "clean_caches")
def test_trackdls_side_notes_when_it_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = tmp_path / "times"
    times.mkdir()
    monkeypatch.setenv(grid_sides.TIMES, str(times))
    job = Job(epochs=2, validation=0.2, seed=1)
    experiment = grid_sides.experiment(job)
    task = FoldTask(experiment.of_cell(CELLS[0]), experiment.judge, 0)
    result = grid_sides.timed_fit(task)
    again = fit_fold(task)
    assert result.history == again.history
    (noted,) = times.iterdir()
    began, ended, _, threads = json.loads(noted.read_text())
    assert ended - began >= result.fit_seconds
    assert threads == torch.get_num_threads()
    # The folds are those that the other sides learn from.
    assert grid_sides.images_of(job, 0) == len(grid_sides.first_fold(job)[0]) == 320


def side(seconds: float, gap: float, workers: int = 2) -> dict[str, Any]:
    """Return what `one_grid.run` would: every cell's fit takes as long, those of the small cells half of it."""
    fits, clock = [], {0: 10.0, 1: 20.0}
    for index, cell in enumerate(CELLS):
        small = all(cell[name] == value for name, value in grid.SMALL.items())
        process = index % workers
        began = clock[process]
        ended = began + seconds * (0.5 if small else 1)
        clock[process] = ended + gap
        fits.append(
            {"cell": cell, "images": 1000, "began": began, "ended": ended, "process": process, "accuracy": 0.9}
            | {"trained": 0.75 * (ended - began), "threads": 1}
        )
    return {"fits": fits, "trials": 8, "workers": workers, "threads": 1}


def test_the_sums_are_right() -> None:
    # 8 fits of 7 fits' time, and 3 gaps in each of two processes.
    assert grid.between(side(1.0, 0.5)["fits"]) == pytest.approx(3.0)
    assert grid.rates(side(1.0, 0.0)) == pytest.approx({"all": 2 * 8000 / 7, "small": 4000})
    assert grid.rates(side(1.0, 0.5))["all"] == pytest.approx(2 * 8000 / (7 + 3))
    assert grid.rates(side(1.0, 0.5))["small"] == pytest.approx(2 * 2000 / (1 + 2 * 3 / 8))
    measured = {"results": {"trackdl": [side(1.0, 0.5)], "report": [side(3.0, 0.0)]}}
    summary = grid.summarise(measured)
    found = {(one["side"], one["cells"]): one for one in summary["sides"]}
    assert found["report", "all"]["ratio"] == pytest.approx(21 / 10)
    assert found["report", "small"]["ratio_wanted"] == 3.4
    assert summary["untrained"] == pytest.approx({"judging": 0.25 * 7 / 8, "between": 3 / 8})


def test_it_prints_tables_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    made = {"trackdl": side(1.0, 0.0), "report": side(3.0, 0.0), "skorch": side(2.5, 0.0)}
    jobs = []

    def measure(job: dict[str, Any]) -> dict[str, Any]:
        jobs.append(job)
        return made[job["side"]]

    grid.main(["--rounds", "2", "--json"], measure)
    said = json.loads(capsys.readouterr().out)
    assert said["options"] == {"epochs": 2, "rounds": 2, "validation": 0.2}
    assert [job["seed"] for job in jobs if job["side"] == "report"] == [1, 2]
    grid.main(["--rounds", "1"], measure)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "trackdl all 2,286 1 90.00%" in lines
    assert "report all 762 3.00× (3.00-3.00) 2.5× 1 90.00%" in lines


@pytest.mark.slow
@pytest.mark.real
def test_the_command_itself(capsys: pytest.CaptureFixture[str]) -> None:
    grid.main(["--rounds", "1", "--epochs", "1", "--validation", "0.99"])
    assert "a trial's seconds not spent training" in capsys.readouterr().out
