"""How many images a search must train on to come near the grid's best: searches replayed on the finished grid's table.

    python benchmarks/search.py                  # 20 seeds, seconds: nothing is trained
    python benchmarks/search.py --json > search.json

The grid is the one with padding, `experiments/results/grid-padded.csv`: a search draws from the whole space, and
without padding 24 of the report's 96 configurations are no networks.

A trial trains on one split, as `trackdl search` does: its curve is the table's fold 0, an epoch costs the fold's
32,000 images, and a pruned trial costs the epochs it had. After every trial the search would hand over its best
finished configuration. The search has arrived when that one's score in the grid, the mean of three folds, which the
search does not see, is within 0.5 points of the grid's best: what fold 0 misleads it to counts against it. A
configuration that is drawn again is trained again. Trials come one after the other. How they are pruned, and which
search is the default one, is set in `experiments/search.yaml`.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from trackdl import spec
from trackdl.analysis import grid_table
from trackdl.spec.grid import REPORT
from trackdl.spec.search import StudySettings
from trackdl.system.console import print_table

IMAGES = 32_000  # of one epoch of one fold
SPLIT = 0  # the fold that the searches see
WITHIN = 0.5  # points of the grid's best
WANTED = 0.10  # share of the grid's images, in the median, for the default search


@dataclass(frozen=True)
class Table:
    """The report's grid as a search sees it, and as it is judged.

    Attributes:
        values: Each dimension's values.
        curves: By configuration, validation accuracy after each epoch on one split.
        scores: By configuration, the mean of the folds' last accuracy.
        images: What the whole grid trained on.
    """

    values: dict[str, list[Any]]
    curves: dict[tuple[Any, ...], NDArray[np.float64]]
    scores: dict[tuple[Any, ...], float]
    images: int

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Table":
        """Take the report's configurations, which must be all combinations, from the fits of the grid's table."""
        report = table[table["grid"] == REPORT]
        names = grid_table.dimensions(table)
        columns = [f"val_accuracy_{epoch}" for epoch in grid_table.history(table, "val_accuracy").columns]
        seen = report[report["fold"] == SPLIT].set_index(names)
        means = report.groupby(names)[columns[-1]].mean()
        curves = dict(zip(seen.index.tolist(), seen[columns].to_numpy(np.float64), strict=True))
        values = {name: sorted(report[name].unique().tolist()) for name in names}
        return cls(values, curves, means.to_dict(), IMAGES * len(columns) * len(report))


Search = Callable[[int], tuple[BaseSampler, BasePruner]]


def tpe(seed: int) -> TPESampler:
    """Return the search's sampler, with everything named that Optuna 5 would choose by itself."""
    return TPESampler(
        n_startup_trials=10, n_ei_candidates=24, multivariate=True, group=False, constant_liar=True, seed=seed
    )


def searches(least: int, factor: int, epochs: int) -> dict[str, Search]:
    """Return the searches that are compared.

    Args:
        least: Epochs before a trial may be pruned.
        factor: One of so many trials goes on from each rung.
        epochs: Of a trial that is not pruned.
    """
    halving = partial(SuccessiveHalvingPruner, least, factor, min_early_stopping_rate=0, bootstrap_count=0)
    hyperband = partial(HyperbandPruner, least, epochs, factor, bootstrap_count=0)
    return {
        "random": lambda seed: (RandomSampler(seed), NopPruner()),
        "tpe": lambda seed: (tpe(seed), NopPruner()),
        "tpe, halving": lambda seed: (tpe(seed), halving()),
        "tpe, hyperband": lambda seed: (tpe(seed), hyperband()),
    }


def replay(table: Table, search: Search, seed: int, within: float = WITHIN) -> dict[str, Any]:
    """Search until it has arrived, or has trained as much as the grid did.

    Returns:
        `images` trained on, `trials`, how many of them were `pruned`, and whether it `arrived`.
    """
    epochs = len(next(iter(table.curves.values())))
    sampler, pruner = search(seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner, study_name=f"replay {seed}")
    near = max(table.scores.values()) - within / 100
    images, arrived, best = 0, False, -1.0
    while images < table.images and not arrived:
        trial = study.ask()
        cell = tuple(trial.suggest_categorical(name, values) for name, values in table.values.items())
        curve, pruned = table.curves[cell].tolist(), False
        for epoch, accuracy in enumerate(curve, 1):
            images += IMAGES
            trial.report(accuracy, epoch)
            pruned = epoch < epochs and trial.should_prune()
            if pruned:
                break
        if pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, curve[-1])
        if not pruned and curve[-1] > best:
            best = curve[-1]
            arrived = table.scores[cell] >= near
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return {
        "images": images,
        "trials": len(states),
        "pruned": states.count(TrialState.PRUNED),
        "arrived": arrived,
    }


Cell = tuple[Any, ...]


def one_at_a_time(accuracy: dict[Cell, float], values: list[list[Any]], base: Cell, how: str) -> tuple[Cell, set[Cell]]:
    """Vary one key at a time from `base`; return the configuration that this leads to, and those it trains.

    Args:
        accuracy: Of each configuration, as the strategy sees it.
        values: Each key's values.
        base: Where it begins.
        how: `combined`: every key is varied from the base, and the best values are put together without a look at the
            whole; `in turn`: each key keeps its best value before the next is varied; `until nothing changes`: the keys
            are varied in turn again and again.
    """
    trained, cell, before = {base}, base, None
    while cell != before:
        before, found = cell, list(cell)
        for place, choices in enumerate(values):
            start = list(base) if how == "combined" else found
            tried = [(*start[:place], value, *start[place + 1 :]) for value in choices]
            trained.update(tried)
            found[place] = max(tried, key=lambda one: accuracy[one])[place]
        cell = tuple(found)
        if how != "until nothing changes":
            break
    return cell, trained


def strategies(table: Table, within: float = WITHIN) -> dict[str, Any]:
    """Follow each strategy from every configuration, and the whole grid on one split; return what they find."""
    accuracy = {cell: float(curve[-1]) for cell, curve in table.curves.items()}
    best, one_fit = max(table.scores.values()), IMAGES * len(next(iter(table.curves.values())))
    everything = max(accuracy, key=lambda cell: accuracy[cell])
    ways = {"all combinations": [(everything, set(accuracy))]}
    for how in ("combined", "in turn", "until nothing changes"):
        values = list(table.values.values())
        ways[f"one at a time, {how}"] = [one_at_a_time(accuracy, values, base, how) for base in accuracy]
    found = {}
    for name, ends in ways.items():
        lost = [100 * (best - table.scores[cell]) for cell, _ in ends]
        found[name] = {
            "starts": len(ends),
            "median_trained": median(len(trained) for _, trained in ends),
            "median_share": median(len(trained) * one_fit / table.images for _, trained in ends),
            "median_points_lost": median(lost),
            "worst_points_lost": max(lost),
            "arrived": sum(each <= within for each in lost),
        }
    return found


def measure(table: Table, settings: StudySettings, seeds: int, within: float = WITHIN) -> dict[str, Any]:
    """Replay every search from each seed; return what was asked, and each search's results and their summary.

    `settings` say how trials are pruned, and which search is the default one.

    A search that never arrives counts with all it trained on, the grid's images.
    """
    near = max(table.scores.values()) - within / 100
    summary: dict[str, Any] = {}
    epochs = len(next(iter(table.curves.values())))
    for name, search in searches(settings.min_epochs, settings.reduction_factor, epochs).items():
        found = [replay(table, search, seed, within) for seed in range(seeds)]
        shares = [one["images"] / table.images for one in found]
        summary[name] = {
            "median_images": median(one["images"] for one in found),
            "median_share": median(shares),
            "quartiles": np.quantile(shares, [0.25, 0.75]).tolist(),
            "worst_share": max(shares),
            "median_trials": median(one["trials"] for one in found),
            "median_pruned": median(one["pruned"] for one in found),
            "arrived": sum(one["arrived"] for one in found),
            "seeds": found,
        }
    return {
        "optuna": optuna.__version__,
        "seeds": seeds,
        "within_points": within,
        "grid_images": table.images,
        "best_score": max(table.scores.values()),
        "near": sum(score >= near for score in table.scores.values()),
        "configurations": len(table.scores),
        "default": settings.sampler + (f", {settings.pruner}" if settings.pruner != "none" else ""),
        "min_epochs": settings.min_epochs,
        "reduction_factor": settings.reduction_factor,
        "wanted_share": WANTED,
        "searches": summary,
        "strategies": strategies(table, within),
    }


def show(measured: dict[str, Any]) -> None:
    """Print a table of what `measure` returned."""
    columns = ["search", "images, median", "of the grid's", "quartiles", "worst", "trials", "pruned", "arrived"]
    rows = [
        [
            name + (" (default)" if name == measured["default"] else ""),
            f"{one['median_images']:,.0f}",
            f"{one['median_share']:.1%}",
            " to ".join(f"{share:.1%}" for share in one["quartiles"]),
            f"{one['worst_share']:.1%}",
            f"{one['median_trials']:g}",
            f"{one['median_pruned']:g}",
            f"{one['arrived']} of {measured['seeds']}",
        ]
        for name, one in measured["searches"].items()
    ]
    title = (
        f"Images until within {measured['within_points']:g} points of the grid's best, {measured['best_score']:.2%} "
        f"({measured['near']} of {measured['configurations']} configurations are); the grid trained on "
        f"{measured['grid_images']:,}; Optuna {measured['optuna']}; wanted of the default: "
        f"at most {measured['wanted_share']:.0%}; pruned from epoch {measured['min_epochs']} on, one of "
        f"{measured['reduction_factor']} goes on"
    )
    print_table(title, columns, rows)
    rows = [
        [
            name,
            f"{one['median_trained']:g} of {measured['configurations']}",
            f"{one['median_share']:.1%}",
            f"{one['median_points_lost']:.2f}",
            f"{one['worst_points_lost']:.2f}",
            f"{one['arrived']} of {one['starts']}",
        ]
        for name, one in measured["strategies"].items()
    ]
    print_table(
        "What coursework's strategies find on one split, from each configuration of the grid",
        ["strategy", "trained, median", "of the grid's images", "points below the best, median", "worst", "arrived"],
        rows,
    )


def main(arguments: list[str] | None = None) -> None:
    """Replay, and print a table or one JSON object."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=root / "experiments" / "results" / "grid-padded.csv")
    parser.add_argument("--seeds", type=int, default=20, help="replays of each search (default 20)")
    parser.add_argument("--within", type=float, default=WITHIN, help=f"points of the grid's best (default {WITHIN})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings = spec.load(root / "experiments" / "search.yaml", spec.SearchSpec).study
    fits, _ = grid_table.read(options.table)
    measured = measure(Table.of(fits), settings, options.seeds, options.within)
    if options.json:
        print(json.dumps(measured, indent=2))
    else:
        show(measured)


if __name__ == "__main__":
    main()
