"""Conclusions from the whole grid, logged with its run: verdicts on hypotheses, the winner's curse, figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from trackdl.analysis.contrasts import Contrast, compare, compare_within
from trackdl.analysis.hypotheses import SCOPE, HypothesisVerdict, contrast_rows, judge
from trackdl.analysis.winners_curse import WinnersCurse, curse
from trackdl.plots import grid as plots_grid
from trackdl.spec import GridSpec
from trackdl.system.console import print_table, say
from trackdl.tracking.runs import Run

TITLE = "Fashion-MNIST grid"


@dataclass(frozen=True)
class Conclusions:
    """Every contrast, the contrasts within each activation, the verdicts, and the winner's curse."""

    contrasts: list[Contrast]
    within: dict[Any, list[Contrast]]
    verdicts: list[HypothesisVerdict]
    curse: WinnersCurse


def conclude(
    run: Run,
    experiment: GridSpec,
    table: pd.DataFrame,
    fresh: tuple[Sequence[float], Sequence[float]],
    importances: Mapping[str, float],
) -> Conclusions:
    """Draw the conclusions and log them: `verdicts.json`, and those figures that have something to show.

    Args:
        run: The grid's run.
        experiment: Its protocol.
        table: Its whole table (`grid_table`).
        fresh: Test accuracies of the best cell and of the report's, each trained from new seeds.
        importances: Each dimension's share of the scores' variance.
    """
    first = experiment.cells("report")[0]
    contrasts = compare(table, experiment.margin)
    within = compare_within(table, "activation", experiment.margin)
    verdicts = [judge(one, contrasts, experiment.margin, within) for one in experiment.hypotheses]
    found = Conclusions(contrasts, within, verdicts, curse(table, first, *fresh))
    figures = {
        "accuracy_against_time": plots_grid.accuracy_against_time(table, first, f"{TITLE}: accuracy against time"),
        "learning_curves": plots_grid.learning_curves(table, first, f"{TITLE}: every configuration"),
    }
    # A grid in which little varies has no contrasts, interactions or importances.
    if contrasts:
        title = f"{TITLE}: what each dimension does"
        figures["effects"] = plots_grid.effects_chart(contrasts, experiment.margin, title)
    if sum(len(values) > 1 for _, values in experiment.grids["report"]) > 1:
        figures["interactions"] = plots_grid.interaction_maps(table, f"{TITLE}: dimensions that act together")
    if importances:
        holes = len(experiment.impossible("report"))
        extrapolated = f"\nextrapolated into {holes} combinations that are no networks" if holes else ""
        figures["importances"] = plots_grid.importance_bars(importances, f"{TITLE}: importance{extrapolated}")
    for name, figure in figures.items():
        run.figure(figure, f"pictures/{name}.png")
    run.table(_as_json(experiment, found, importances), "verdicts.json")
    return found


def _as_json(experiment: GridSpec, found: Conclusions, importances: Mapping[str, float]) -> dict[str, Any]:
    return {
        "margin": experiment.margin,
        "scope": SCOPE,
        "hypotheses": [
            {
                "dimension": verdict.hypothesis.dimension,
                "quote": verdict.hypothesis.quote,
                "claim": verdict.hypothesis.claim,
                "verdict": verdict.decision,
                "words": verdict.words,
            }
            for verdict in found.verdicts
        ],
        "contrasts": [asdict(contrast) for contrast in found.contrasts],
        "exploratory": {str(value): [asdict(contrast) for contrast in own] for value, own in found.within.items()},
        "winner": {**asdict(found.curse), "words": found.curse.words},
        "importances": dict(importances),
    }


def show_conclusions(found: Conclusions) -> None:
    """Print the contrasts, the verdicts and the winner's curse."""
    print_table("Task 2's grid: one value against another, all else equal", *contrast_rows(found.contrasts))
    for verdict in found.verdicts:
        say(f"{verdict.decision.upper()}. {verdict.words}")
    say(f"\n{SCOPE}")
    say(f"\n{found.curse.words}")
