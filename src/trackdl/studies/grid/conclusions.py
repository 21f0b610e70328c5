"""Conclusions from the whole grid, logged with its run: verdicts on hypotheses, the winner's curse, figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from trackdl.analysis.contrasts import Contrast
from trackdl.analysis.hypotheses import SCOPE, HypothesisVerdict, contrast_rows, judge_table
from trackdl.analysis.winners_curse import WinnersCurse, curse
from trackdl.plots import grid as plots_grid
from trackdl.spec import GridSpec
from trackdl.spec.grid import REPORT
from trackdl.system.console import print_table, say
from trackdl.tracking.runs import Run


@dataclass(frozen=True)
class Conclusions:
    """Every contrast, the contrasts within each value of the group, the verdicts, and the winner's curse."""

    title: str
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
    """Draw the conclusions from a grid's whole table and log them: `verdicts.json`, and figures that show something.

    `fresh` are test accuracies of the best cell and of the report's choice, each trained from new seeds; `importances`
    are each dimension's share of the scores' variance.
    """
    title, choice, words = experiment.label, experiment.choice_cell, experiment.choice_words
    contrasts, within, verdicts = judge_table(table, experiment, experiment.hypotheses)
    own = replace(curse(table, choice, *fresh, experiment.grouped_by), choice_words=words)
    if experiment.judge.by != "folds":
        own = replace(own, judged="on the test images" if experiment.part == "test" else "on the validation split")
    found = Conclusions(title, contrasts, within, verdicts, own)
    figures = {
        "accuracy_against_time": plots_grid.accuracy_against_time(
            table, choice, f"{title}: accuracy against time", words
        ),
        "learning_curves": plots_grid.learning_curves(table, choice, f"{title}: every configuration", words),
    }
    # A grid in which little varies has no contrasts, interactions or importances.
    if contrasts:
        effects = plots_grid.effects_chart(contrasts, experiment.margin, f"{title}: what each dimension does")
        figures["effects"] = effects
    if sum(len(values) > 1 for values in experiment.space.values()) > 1:
        figures["interactions"] = plots_grid.interaction_maps(table, f"{title}: dimensions that act together")
    if importances:
        holes = math.prod(map(len, experiment.space.values())) - len(experiment.cells(REPORT))
        extrapolated = f"\nextrapolated into {holes:,} combinations that were not trained" if holes else ""
        figures["importances"] = plots_grid.importance_bars(importances, f"{title}: importance{extrapolated}")
    for name, figure in figures.items():
        run.figure(figure, f"pictures/{name}.png")
    run.table(_as_json(experiment, found, importances), "verdicts.json")
    return found


def _as_json(experiment: GridSpec, found: Conclusions, importances: Mapping[str, float]) -> dict[str, Any]:
    content = {
        "margin": experiment.margin,
        "scope": SCOPE,
        "remark": experiment.remark,
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
    return {key: _finite(value) for key, value in content.items()}


def _finite(value: Any) -> Any:
    """Return a JSON value with null for what is not known: an interval without an end."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_conclusions(found: Conclusions) -> None:
    """Print the contrasts, the verdicts and the winner's curse."""
    print_table(f"{found.title}: one value against another, all else equal", *contrast_rows(found.contrasts))
    for verdict in found.verdicts:
        say(f"{verdict.decision.upper()}. {verdict.words}")
    say()
    say(SCOPE)
    say()
    say(found.curse.words)
