"""The benchmark at a tiny size: its sides train the same networks, its sums are right, and it prints what it says."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor, nn

from support import ROOT
from support.nets import fashion_net
from tools.screens import served
from trackdl.data.download import datasets as sources
from trackdl.networks.digit import DigitNet

sys.path.insert(0, str(ROOT / "benchmarks"))

import fit
import one_fit
import serve
import sides


@pytest.fixture
def tiny_data(tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the same 600 pictures in MNIST's and in Fashion-MNIST's place."""
    shutil.copytree(tiny_mnist / "mnist", tiny_mnist / "fashion")
    monkeypatch.setitem(sources.DATASETS, "fashion", sources.DATASETS["mnist"])
    monkeypatch.setattr(one_fit, "GEMM_SIDE", 64)


def in_this_process(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job as `fit.measure` does, here, where the tiny data stand."""
    result: dict[str, Any] = json.loads(json.dumps(one_fit.run(sides.Job(**job))))
    return result


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_the_plain_network_is_the_same_function(name: str) -> None:
    ours = {"mnist": DigitNet, "fashion": fashion_net}[name]().eval()
    plain: nn.Module = {"mnist": sides.PlainNet, "fashion": sides.plain_fashion_net}[name]().eval()
    assert [p.shape for p in plain.parameters()] == [p.shape for p in ours.parameters()]
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), plain.parameters(), strict=True):
            its.copy_(mine)
    pictures: Tensor = torch.randn(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain(pictures), ours(pictures))


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_data")
@pytest.mark.parametrize("work", ["mnist", "fashion"])
@pytest.mark.parametrize("side", ["trackdl", "layers", "plain"])
def test_each_side_learns(side: str, work: str) -> None:
    epochs = {"mnist": 25, "fashion": 6}[work]
    result = in_this_process({"side": side, "work": work, "epochs": epochs, "seed": 1})
    assert result["accuracy"] > 0.9
    assert result["images"] == 600 * epochs
    assert result["seconds"]["fit"] > 0
    assert result["peak_mb"] > 0


@pytest.mark.usefixtures("tiny_data")
def test_the_fast_recipe_learns_in_fewer_epochs() -> None:
    assert in_this_process({"side": "fast", "work": "mnist", "epochs": 8, "seed": 1})["accuracy"] > 0.9


@pytest.mark.usefixtures("tiny_data")
@pytest.mark.filterwarnings("ignore")  # their own affair
@pytest.mark.parametrize("side", ["skorch", "lightning"])
def test_each_other_library_learns(side: str) -> None:
    pytest.importorskip(side)
    assert in_this_process({"side": side, "work": "fashion", "epochs": 6, "seed": 1})["accuracy"] > 0.9


@pytest.mark.usefixtures("tiny_data", "tracking")
def test_a_run_prints_one_json_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # so that what the tracked side sets is taken back afterwards
    works = ["mnist", "fast", "tracking"]
    options = ["--only", *works, "--epochs", "1", "--rounds", "1", "--train-limit", "64", "--json"]
    fit.main(options, in_this_process)
    said = json.loads(capsys.readouterr().out)
    sides = [("mnist", side) for side in ("trackdl", "layers", "plain")]
    assert [(row["work"], row["side"]) for row in said["fits"]] == [*sides, ("fast", "trackdl"), ("fast", "plain")]
    assert said["options"] == {"epochs": dict.fromkeys(works, 1), "rounds": 1, "train_limit": 64}
    assert said["machine"]["mflop_per_image"]["fashion"] == pytest.approx(3.77, abs=0.01)
    tracked, untracked = (said["results"]["tracking"][side][0] for side in ("tracked", "untracked"))
    assert tracked["accuracy"] == untracked["accuracy"]
    assert said["tracking"]["after_the_fit_seconds"].keys() == {"pictures", "registration"}
    assert sum(said["tracking"]["calls_seconds"].values()) <= tracked["seconds"]["fit"]


def measured() -> dict[str, Any]:
    """Return what `fit.run` would: three rounds of a machine whose every number is known."""

    def results(seconds: list[float], accuracy: float) -> list[dict[str, Any]]:
        return [{"seconds": {"fit": s}, "images": 6000, "accuracy": accuracy, "peak_mb": 100 * s} for s in seconds]

    tracked = results([10.2, 10.1, 10.5], 0.9)
    for one in tracked:
        one["seconds"] |= {"start": 0.05, "checkpoints": 0.05, "pictures": 1.0, "registration": 2.0}
    return {
        "machine": {
            "cores": 2,
            "threads": 2,
            "torch": "2",
            "precision": "bfloat16",
            "gemm_gflops": {"float32": 100.0, "bfloat16": 200.0},
            "mflop_per_image": {"mnist": 2.0, "fashion": 10.0},
        },
        "options": {"epochs": {"fashion": 1, "tracking": 8}, "rounds": 3, "train_limit": None},
        "results": {
            "fashion": {"trackdl": results([1.0, 2.0, 3.0], 0.9), "plain": results([4.0, 6.0, 15.0], 0.898)},
            "tracking": {"tracked": tracked, "untracked": results([10.0, 10.0, 10.0], 0.9)},
        },
        "missing": ["skorch"],
    }


def test_the_sums_are_right() -> None:
    summary = fit.summarise(measured())
    ours, plain = summary["fits"]
    assert (ours["images_per_second"], plain["images_per_second"]) == (3000, 1000)
    assert (plain["ratio"], plain["ratio_spread"]) == (4.0, [3.0, 5.0])  # 4, 3 and 5: rounds are compared in pairs
    assert plain["points_over"] == pytest.approx(0.2)
    assert ours["gemm_share"] == pytest.approx(3000 * 10e6 / 200e9)
    assert plain["gemm_share"] == pytest.approx(1000 * 10e6 / 100e9)
    assert plain["peak_mb"] == 1500
    cost = summary["tracking"]
    assert cost["cost"] == pytest.approx(0.02)
    assert cost["cost_spread"] == pytest.approx([0.01, 0.05])
    assert cost["calls_share"] == pytest.approx(0.1 / 10.2)


def test_the_tables_say_them() -> None:
    text = fit.tables(measured(), fit.summarise(measured()))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "fashion trackdl 2.00 3,000 90.00% 300 15.0% bfloat16" in lines
    assert "fashion plain 6.00 1,000 4.00× (3.00-5.00) 3.5× 89.80% +0.20 points 1,500 10.0% float32" in lines
    assert "not installed, so not measured: skorch (pip install '.[bench]')" in lines
    assert "tracking: 10.20 s against 10.00 s untracked: +2.0% (+1.0% to +5.0%; wanted at most 2%)" in lines
    assert "after the fit: pictures 1.00 s, registration 2.00 s; peak memory 1,050 MB (wanted at most 1,536)" in lines


@pytest.mark.slow
@pytest.mark.real
def test_the_command_itself(capsys: pytest.CaptureFixture[str]) -> None:
    fit.main(["--only", "mnist", "--epochs", "1", "--rounds", "1", "--train-limit", "640"])
    out = capsys.readouterr().out
    assert "mnist  plain" in out
    assert "epochs: mnist 1; 1 rounds, one seed each, the first 640 images" in out


def served_rounds() -> dict[str, Any]:
    """Return what two rounds of `serve.run` would, the pixels at one and a half times the plain p50."""

    def one(p50: float) -> dict[str, Any]:
        return {"p50": p50, "p99": 2 * p50, "rate": {1: 1 / p50, 8: 2 / p50, 32: 3 / p50}, "images": 100 / p50}

    results = {
        side: [one(0.002 * factor), one(0.004 * factor)]
        for side, factor in zip(serve.SIDES, (1, 2, 1.5, 3, 4), strict=True)
    }
    options = {"requests": 10, "batches": 2, "rounds": 2, "memory": 100}
    memory = {"trackdl": [90.0, 100.0, 102.0]}
    statuses = {"good": {"200": 1500}, "bad": {"503": 40, "413": 2}}
    attack = [{"beside": "bombs", "p50": 0.01, "p99": 0.123, "statuses": statuses, "memory": 900.0}]
    return {"machine": {"cores": 2}, "options": options, "results": results, "memory": memory, "attack": attack}


def test_the_serving_summary_compares_round_by_round(capsys: pytest.CaptureFixture[str]) -> None:
    summary = serve.summarise(served_rounds())
    ours = next(one for one in summary["sides"] if one["side"] == serve.OURS)
    assert ours["ratio"] == pytest.approx(1.5)
    assert ours["ratio_spread"] == pytest.approx([1.5, 1.5])
    assert ours["p50"] == pytest.approx(0.0045)
    assert summary["memory_drift"]["trackdl"] == pytest.approx(0.02)
    serve.main(["--requests", "10"], lambda _: served_rounds())
    printed = capsys.readouterr().out
    assert "1.50×" in printed
    assert "within 2.0%" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("bombs"))
    assert line.split() == ["bombs", "10.0", "123.0", "900", "1,500×200", "40×503", "2×413"]
    serve.main(["--json"], lambda _: served_rounds())
    assert json.loads(capsys.readouterr().out)["sides"][0]["side"] == serve.BASE


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there: `make gpu-check` compares it with the CPU")
def test_without_a_gpu_the_comparison_says_that_nothing_was_checked() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing was checked" in done.stdout


@pytest.mark.parametrize("body", [b"", b"x"])
def test_a_good_client_is_timed_beside_bad_ones_who_are_cut_off(body: bytes) -> None:
    async def answer(request: Request) -> Response:
        bad = await request.body() == b"x"
        return Response("no" if bad else "yes", 503 if bad else 200, {"connection": "close"} if bad else None)

    with served(Starlette(routes=[Route("/invocations", answer, methods=["POST"])])) as address:
        port = urlsplit(address).port or 0
        bad = serve.request(port, body) if body else b""
        found = asyncio.run(serve.beside(port, serve.request(port, b"good"), bad, 0.5))
    assert set(found["statuses"]["good"]) == {"200"}
    assert set(found["statuses"]["bad"]) == ({"503"} if body else set())
    assert 0 < found["p50"] <= found["p99"]


def test_every_attack_is_a_request_that_the_server_may_be_sent() -> None:
    for name, body in serve.attacks().items():
        assert len(body) <= 10 * 2**20, name
