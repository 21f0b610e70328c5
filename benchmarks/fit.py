"""Speed of one fit: trackdl, the report's loop, skorch and Lightning compared, and the cost of tracking.

    python benchmarks/fit.py                     # about ten minutes on two quiet cores
    python benchmarks/fit.py --full              # the report's epochs; accuracy as published
    python benchmarks/fit.py --only fashion --json > fashion.json
    python benchmarks/fit.py --only fast         # MNIST by experiments/mnist-fast.yaml, beside the report's 8 epochs

Each fit is a process of its own (`one_fit.py`), so no side warms another's caches or thread pools. In each round every
side of every work fits once, from the round's seed; figures are medians over the rounds. This file imports no library:
a child process begins with its parent's peak memory.
"""

import argparse
import importlib.util
import json
import os
import platform
from collections.abc import Callable
from statistics import mean, median
from typing import Any

from measuring import columns, in_a_fresh_process, say

REPORT_EPOCHS = {"mnist": 8, "fashion": 10, "fast": 8, "tracking": 8}
# Reading the data is a fixed cost of trackdl's and the plain loop's fit, which weighs more with fewer epochs.
SHORT_EPOCHS = {"mnist": 3, "fashion": 3, "fast": 8, "tracking": 8}
FAST_EPOCHS = 1  # of trackdl's side, as experiments/mnist-fast.yaml has it
SIDES = {
    "mnist": ["trackdl", "layers", "plain"],
    "fashion": ["trackdl", "layers", "plain", "skorch", "lightning"],
    "fast": ["trackdl", "plain"],
    "tracking": ["tracked", "untracked"],
}
# trackdl's rate over each side's; the requirement that the last column quotes.
WANTED = {
    ("mnist", "layers"): 1.0,  # the same network as a list of layers
    ("fashion", "layers"): 1.0,
    ("mnist", "plain"): 2.4,
    ("fashion", "plain"): 3.5,
    ("fashion", "skorch"): 2.5,
    ("fashion", "lightning"): 2.5,
}
WANTED_POINTS = 0.3
WANTED_TRACKING = 0.02
WANTED_PEAK_MB = 1536

Measure = Callable[[dict[str, Any]], dict[str, Any]]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job of `one_fit.Job` in a fresh process and return its result.

    Raises:
        subprocess.CalledProcessError: It failed; its standard error has been shown.
    """
    result: dict[str, Any] = in_a_fresh_process("one_fit.py", json.dumps(job))
    return result


def run(options: argparse.Namespace, measure: Measure) -> dict[str, Any]:
    """Do all rounds; return machine, options, results as `{work: {side: [one a round]}}`, and what is missing."""
    missing = [name for name in ("skorch", "lightning") if importlib.util.find_spec(name) is None]
    sides = {work: [side for side in SIDES[work] if side not in missing] for work in options.only}
    epochs = {work: options.epochs or (REPORT_EPOCHS if options.full else SHORT_EPOCHS)[work] for work in options.only}
    results: dict[str, dict[str, list[Any]]] = {work: {side: [] for side in sides[work]} for work in sides}
    machine = {"processor": platform.machine(), "cores": len(os.sched_getaffinity(0))}
    machine |= measure({"side": "machine", "work": "mnist", "epochs": 0, "seed": 0})
    for seed in range(1, options.rounds + 1):
        for work, names in sides.items():
            for side in names:
                fast = (work, side) == ("fast", "trackdl")
                job = {
                    "side": "fast" if fast else side,
                    "work": "mnist" if work in ("fast", "tracking") else work,
                    "epochs": FAST_EPOCHS if fast else epochs[work],
                    "seed": seed,
                    "limit": options.train_limit,
                }
                result = measure(job)
                results[work][side].append(result)
                say(f"round {seed} of {options.rounds}: {work}, {side}: {result['seconds']['fit']:.2f} s")
    asked = {"epochs": epochs, "rounds": options.rounds, "train_limit": options.train_limit}
    return {"machine": machine, "options": asked, "results": results, "missing": missing if "fashion" in sides else []}


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Return medians, ratios and differences of what `run` returned, as `fits` (a list) and `tracking`."""
    results, machine = measured["results"], measured["machine"]
    fits = [
        _compare(work, side, results[work], machine)
        for work in ("mnist", "fashion", "fast")
        for side in results.get(work, {})
    ]
    return {"fits": fits} | ({"tracking": _tracking(results["tracking"])} if "tracking" in results else {})


def _compare(work: str, side: str, rounds: dict[str, list[Any]], machine: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = rounds["trackdl"], rounds[side]
    rate = median(one["images"] / one["seconds"]["fit"] for one in theirs)
    # The fits of a round ran one after the other: a machine that is slow for a while slows both.
    ratios = [their["seconds"]["fit"] / our["seconds"]["fit"] for our, their in zip(ours, theirs, strict=True)]
    precision = machine["precision"] if side in ("trackdl", "layers") else "float32"
    operations = machine["mflop_per_image"].get(work)  # of the report's networks
    return {
        "work": work,
        "side": side,
        "images_per_second": rate,
        "seconds": median(one["seconds"]["fit"] for one in theirs),
        "ratio": median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "ratio_wanted": WANTED.get((work, side)),
        "accuracy": mean(one["accuracy"] for one in theirs),
        "points_over": 100 * (mean(one["accuracy"] for one in ours) - mean(one["accuracy"] for one in theirs)),
        "peak_mb": max(one["peak_mb"] for one in theirs),
        "precision": precision,
        "gemm_share": operations and rate * operations / 1e3 / machine["gemm_gflops"][precision],
    }


def _tracking(rounds: dict[str, list[Any]]) -> dict[str, Any]:
    tracked, untracked = rounds["tracked"], rounds["untracked"]
    costs = [one["seconds"]["fit"] / other["seconds"]["fit"] - 1 for one, other in zip(tracked, untracked, strict=True)]
    blocks = {name: median(one["seconds"][name] for one in tracked) for name in tracked[0]["seconds"]}
    fit, after = blocks.pop("fit"), {name: blocks.pop(name) for name in ("pictures", "registration")}
    return {
        "tracked_seconds": fit,
        "untracked_seconds": median(one["seconds"]["fit"] for one in untracked),
        "cost": median(costs),
        "cost_spread": [min(costs), max(costs)],
        "calls_seconds": blocks,
        "calls_share": sum(blocks.values()) / fit,
        "after_the_fit_seconds": after,
        "peak_mb": max(one["peak_mb"] for one in tracked),
    }


def tables(measured: dict[str, Any], summary: dict[str, Any]) -> str:
    """Return the results of `run` and `summarise` as text."""
    machine, options = measured["machine"], measured["options"]
    threads = f"{machine['threads']} threads on {machine['cores']} cores"
    gemm = ", ".join(f"{name} {value:,.0f}" for name, value in machine["gemm_gflops"].items())
    limit = f", the first {options['train_limit']:,} images" if options["train_limit"] else ""
    epochs = ", ".join(f"{work} {count}" for work, count in options["epochs"].items())
    lines = [f"torch {machine['torch']}, {threads}; GEMM peak, GFLOP/s: {gemm}"]
    lines += [f"epochs: {epochs}; {options['rounds']} rounds, one seed each{limit}"]
    if summary["fits"]:
        lines += ["", *columns([_HEADS, *(_cells(fit) for fit in summary["fits"])])]
        lines += [f"wanted of accuracy: trackdl within {WANTED_POINTS} points of the plain loop"]
    lines += [f"not installed, so not measured: {name} (pip install '.[bench]')" for name in measured["missing"]]
    if "tracking" in summary:
        lines += ["", *_tracking_lines(summary["tracking"])]
    return "\n".join(lines)


_HEADS = [
    *("work", "side", "seconds", "images/s", "trackdl is", "(spread)", "wanted"),
    *("accuracy", "trackdl", "peak MB", "of GEMM peak"),
]


def _cells(fit: dict[str, Any]) -> list[str]:
    own = fit["side"] == "trackdl"
    low, high = fit["ratio_spread"]
    wanted = f"{fit['ratio_wanted']}×" if fit["ratio_wanted"] else ""
    return [
        *(fit["work"], fit["side"], f"{fit['seconds']:.2f}", f"{fit['images_per_second']:,.0f}"),
        *(["", "", ""] if own else [f"{fit['ratio']:.2f}×", f"({low:.2f}-{high:.2f})", wanted]),
        *(f"{fit['accuracy']:.2%}", "" if own else f"{fit['points_over']:+.2f} points"),
        f"{fit['peak_mb']:,.0f}",
        f"{fit['gemm_share']:.1%} {fit['precision']}" if fit["gemm_share"] else "",
    ]


def _tracking_lines(cost: dict[str, Any]) -> list[str]:
    low, high = cost["cost_spread"]
    calls, after = (_list(cost[name]) for name in ("calls_seconds", "after_the_fit_seconds"))
    return [
        f"tracking: {cost['tracked_seconds']:.2f} s against {cost['untracked_seconds']:.2f} s untracked:"
        f" {cost['cost']:+.1%} ({low:+.1%} to {high:+.1%}; wanted at most {WANTED_TRACKING:.0%})",
        f"  within its calls: {cost['calls_share']:.1%} of the fit: {calls}",
        f"  after the fit: {after}; peak memory {cost['peak_mb']:,.0f} MB (wanted at most {WANTED_PEAK_MB:,})",
    ]


def _list(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())


def main(arguments: list[str] | None = None, measure: Measure = measure) -> None:
    """Measure, and print tables or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES), help="measure only these")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, help=f"of every fit (default {SHORT_EPOCHS})")
    length.add_argument("--full", action="store_true", help=f"the report's epochs {REPORT_EPOCHS}")
    parser.add_argument("--rounds", type=int, default=3, help="fits of each side, each from its own seed (default 3)")
    parser.add_argument("--train-limit", type=int, help="train on so many images only")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    measured = run(options, measure)
    summary = summarise(measured)
    print(json.dumps(measured | summary, indent=2) if options.json else tables(measured, summary))


if __name__ == "__main__":
    main()
