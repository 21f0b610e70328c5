"""Speed of the grid: `trackdl grid`, a GridSearchCV-like loop as in the report, and skorch compared.

    python benchmarks/grid.py                    # about fifteen minutes on two quiet cores
    python benchmarks/grid.py --json > grid.json
    python benchmarks/grid.py --rounds 1 --epochs 1 --validation 0.98    # a quick trial

The sample: 2 and 3 convolutions × 16 and 32 filters × sides 3 and 5; ReLU, 128 dense nodes, dropout 0.1, pooling by 2.
Each side works through it with two processes, in a process of its own (`one_grid.py`); the sides take turns, and
figures are medians over the rounds. `grid_sides.py` implements the sides.

A side's images per second are the images trained on, divided by its processes' time from the start of the first fit to
the end of the last. That includes evaluation and the time between fits (for trackdl: Optuna, MLflow, plots), but not
starting the processes and waiting for the last one.
"""

import argparse
import importlib.util
import json
from collections.abc import Callable
from statistics import median
from typing import Any

from measuring import columns, in_a_fresh_process, say

SIDES = ["trackdl", "report", "skorch"]
WANTED = {("report", "all"): 2.5, ("report", "small"): 3.4, ("skorch", "all"): 2.0}
WANTED_SECONDS = 1.0  # of a trial, not spent training
SMALL = {"filter_size": 3, "filters": 16}  # the small cells, of any number of layers

Measure = Callable[[dict[str, Any]], dict[str, Any]]


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Run one side on the sample in a fresh process and return the result of `one_grid.run`.

    Raises:
        subprocess.CalledProcessError: It failed; its standard error has been shown.
    """
    result: dict[str, Any] = in_a_fresh_process("one_grid.py", json.dumps(job))
    return result


def run(options: argparse.Namespace, measure: Measure) -> dict[str, Any]:
    """Do all rounds; return options, results as `{side: [one a round]}`, and the sides that are missing."""
    missing = [name for name in ("skorch",) if importlib.util.find_spec(name) is None]
    sides = [side for side in SIDES if side not in missing]
    results: dict[str, list[Any]] = {side: [] for side in sides}
    for number in range(1, options.rounds + 1):
        for side in sides:
            job = {"side": side, "epochs": options.epochs, "validation": options.validation, "seed": number}
            results[side].append(measure(job))
            say(f"round {number} of {options.rounds}: {side}: {rates(results[side][-1])['all']:,.0f} images/s")
    asked = {"epochs": options.epochs, "rounds": options.rounds, "validation": options.validation}
    return {"options": asked, "results": results, "missing": missing}


def rates(result: dict[str, Any]) -> dict[str, float]:
    """Return the images per second of one side's round: over `all` cells, and over the `small` ones alone.

    The time between a process's fits is divided equally among all fits.
    """
    fits = result["fits"]
    gap = between(fits) / len(fits)
    small = [fit for fit in fits if all(fit["cell"][name] == value for name, value in SMALL.items())]
    return {
        name: result["workers"]
        * sum(fit["images"] for fit in chosen)
        / sum(fit["ended"] - fit["began"] + gap for fit in chosen)
        for name, chosen in (("all", fits), ("small", small))
    }


def between(fits: list[dict[str, Any]]) -> float:
    """Return the total seconds between the processes' fits."""
    processes: dict[int, list[dict[str, Any]]] = {}
    for fit in fits:
        processes.setdefault(fit["process"], []).append(fit)
    return sum(
        max(fit["ended"] for fit in own)
        - min(fit["began"] for fit in own)
        - sum(fit["ended"] - fit["began"] for fit in own)
        for own in processes.values()
    )


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Return medians of what `run` returned: `sides`, and of trackdl a trial's `untrained` seconds, by part."""
    results = measured["results"]
    ours = [rates(one) for one in results["trackdl"]]
    sides = []
    for side, rounds in results.items():
        theirs = [rates(one) for one in rounds]
        for kind in ("all", "small"):
            # The sides of a round ran one after the other: a machine that is slow for a while slows all.
            ratios = [our[kind] / their[kind] for our, their in zip(ours, theirs, strict=True)]
            sides.append(
                {
                    "side": side,
                    "cells": kind,
                    "images_per_second": median(their[kind] for their in theirs),
                    "ratio": median(ratios),
                    "ratio_spread": [min(ratios), max(ratios)],
                    "ratio_wanted": WANTED.get((side, kind)),
                    "threads": rounds[0]["threads"],
                    "accuracy": median(fit["accuracy"] for one in rounds for fit in one["fits"]),
                }
            )
    parts = [_untrained(one) for one in results["trackdl"]]
    return {"sides": sides, "untrained": {name: median(part[name] for part in parts) for name in parts[0]}}


def _untrained(result: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of a trial, the mean over all, that were not spent training."""
    fits, trials = result["fits"], result["trials"]
    judging = sum(fit["ended"] - fit["began"] - fit["trained"] for fit in fits) / trials
    return {"judging": judging, "between": between(fits) / trials}


def tables(measured: dict[str, Any], summary: dict[str, Any]) -> str:
    """Return what `run` measured and `summarise` made of it as text."""
    asked, untrained = measured["options"], summary["untrained"]
    heads = ["side", "cells", "images/s", "trackdl is", "(spread)", "wanted", "threads", "accuracy"]
    lines = [f"two processes; {asked['epochs']} epochs; {asked['rounds']} rounds, one seed each", ""]
    lines += columns([heads, *(_cells(one) for one in summary["sides"])])
    lines += [
        "",
        f"a trial's seconds not spent training: {untrained['between']:.2f} between its fits (wanted at most "
        f"{WANTED_SECONDS:g}), {untrained['judging']:.2f} judging and getting ready in its three folds",
    ]
    return "\n".join(
        lines + [f"not installed, so not measured: {n} (pip install '.[bench]')" for n in measured["missing"]]
    )


def _cells(one: dict[str, Any]) -> list[str]:
    low, high = one["ratio_spread"]
    ratio = [
        f"{one['ratio']:.2f}×",
        f"({low:.2f}-{high:.2f})",
        f"{one['ratio_wanted']}×" if one["ratio_wanted"] else "",
    ]
    return [
        *(one["side"], one["cells"], f"{one['images_per_second']:,.0f}"),
        *(["", "", ""] if one["side"] == "trackdl" else ratio),
        *(str(one["threads"]), f"{one['accuracy']:.2%}"),
    ]


def main(arguments: list[str] | None = None, measure: Measure = measure) -> None:
    """Measure, and print tables or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2, help="of every fit (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each side does the sample (default 3)")
    parser.add_argument(
        "--validation", type=float, default=0.2, help="share of the images that is left out altogether (default 0.2)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    measured = run(options, measure)
    summary = summarise(measured)
    print(json.dumps(measured | summary, indent=2) if options.json else tables(measured, summary))


if __name__ == "__main__":
    main()
