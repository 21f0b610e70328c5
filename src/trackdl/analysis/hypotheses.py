"""Verdicts on the report's hypotheses, in words that can be quoted: pure functions of contrasts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from trackdl.analysis.contrasts import Contrast, compare, compare_within
from trackdl.analysis.grid_table import plain
from trackdl.analysis.stats import Estimate
from trackdl.spec.grid import GridSpec
from trackdl.spec.hypotheses import Hypothesis

Decision = Literal["supported", "contradicted", "no practical difference", "not decidable"]

SCOPE = (
    "Intervals of accuracy are of the mean effect over the grid's own pairs, for other samples of as many pictures and "
    "other seeds; those of training time are over the pairs as a sample. None says anything of configurations outside "
    "the grid, of other data, or of longer training."
)

_AGREES = {("higher", True), ("lower", False)}


def label(dimension: str) -> str:
    """Return what people read for a dimension: filter_size is "Filter size"."""
    words = dimension.replace("_", " ").replace(".", " ")
    return words[:1].upper() + words[1:]


@dataclass(frozen=True)
class HypothesisVerdict:
    """The grid's verdict on one hypothesis, in `words` that can be quoted.

    `decision` is on the prediction of accuracy; `contrasts` is empty if the grid has one value of the dimension.
    """

    hypothesis: Hypothesis
    decision: Decision
    contrasts: tuple[Contrast, ...]
    words: str


def decide(contrast: Contrast, predicted: Literal["higher", "lower", "differs", "none"]) -> Decision:
    """Return the decision of one contrast on a prediction."""
    if contrast.finding == "open":
        return "not decidable"
    if contrast.finding == "alike":
        return "supported" if predicted == "none" else "no practical difference"
    agrees = predicted == "differs" or (predicted, contrast.accuracy.mean > 0) in _AGREES
    return "supported" if agrees else "contradicted"


def judge_table(
    table: pd.DataFrame, experiment: GridSpec, hypotheses: Sequence[Hypothesis]
) -> tuple[list[Contrast], dict[Any, list[Contrast]], list[HypothesisVerdict]]:
    """Return a grid's contrasts, those within each value of its group, and its verdicts on hypotheses.

    Raises:
        ValueError: As `contrasts.compare`, or a hypothesis is of no dimension of the grid.
    """
    group, margin = experiment.grouped_by, experiment.margin
    contrasts = compare(table, margin)
    within = compare_within(table, group, margin) if group else {}
    named = [one.model_copy(update={"dimension": experiment.short(one.dimension)}) for one in hypotheses]
    return contrasts, within, [judge(one, contrasts, margin, within, group) for one in named]


def judge(
    hypothesis: Hypothesis,
    contrasts: Sequence[Contrast],
    margin: float,
    within: Mapping[Any, Sequence[Contrast]] | None = None,
    group: str = "",
) -> HypothesisVerdict:
    """Return the verdict on a hypothesis.

    Of several contrasts (for three values and more) one that supports is enough if none contradicts, and vice versa;
    there is no practical difference if no contrast has one. The contrasts are all that `compare` returned for `margin`;
    those that `compare_within` returned for the dimension `group`, `within`, are quoted and decide nothing.
    """
    own = tuple(contrast for contrast in contrasts if contrast.dimension == hypothesis.dimension)
    if hypothesis.accuracy == "best":
        best = plain(hypothesis.best)
        own = tuple(one for one in own if best in (plain(one.low), plain(one.high)))
        decision = _decide_best(best, own)
    else:
        decision = _decide_all([decide(contrast, hypothesis.accuracy) for contrast in own])
    words = _words(hypothesis, decision, own, margin)
    if decision == "not decidable":
        unsure = [one for one in own if one.finding == "open" and not math.isinf(one.accuracy.high)]
        words += "".join(f" {_alone_words(one, contrasts)}" for one in unsure)
    words += "".join(_within_words(one, within or {}, group, several=len(own) > 1) for one in own)
    # What the verdict is not about.
    if own and hypothesis.overfitting != "not said":
        words += f" {_overfitting_words(hypothesis.overfitting, own)}"
    if own and hypothesis.time != "not said":
        words += f" The report expects training to take {hypothesis.time}."
    return HypothesisVerdict(hypothesis, decision, own, words)


def _decide_all(decisions: Sequence[Decision]) -> Decision:
    found = set(decisions)
    decided: set[Decision] = found & {"supported", "contradicted"}
    left = found if len(found) == 1 else decided
    return left.pop() if len(left) == 1 else "not decidable"


def _decide_best(best: str | float, contrasts: Sequence[Contrast]) -> Decision:
    """Return whether a value is the best: better than its neighbours, or than all others if they are no numbers."""
    found = {
        plain(one.low if above else one.high): decide(one, "higher" if above else "lower")
        for one in contrasts
        if (above := plain(one.high) == best) or plain(one.low) == best
    }
    if "contradicted" in found.values():
        return "contradicted"
    near = set(found)
    if isinstance(best, float) and all(isinstance(value, float) for value in found):
        places = sorted([best, *found])
        place = places.index(best)
        near = {*places[max(0, place - 1) : place], *places[place + 1 : place + 2]}
    decisions = {found[value] for value in near}
    return decisions.pop() if len(decisions) == 1 else "not decidable"


def _words(hypothesis: Hypothesis, decision: Decision, contrasts: Sequence[Contrast], margin: float) -> str:
    name, claim = label(hypothesis.dimension), f"the report's hypothesis that {hypothesis.claim}"
    if not contrasts:
        return f"{name}: the grid has only one value, so {claim} is not decidable."
    findings = "; ".join(contrast_words(contrast, margin) for contrast in contrasts)
    ends = {
        "supported": f"{claim} is supported.",
        "contradicted": f"{claim} is contradicted.",
        "no practical difference": f"no practical difference (less than {margin:g} points): {claim} is not borne out.",
        "not decidable": f"{claim} is not decidable by this grid.",
    }
    words = f"{name} {findings}: {ends[decision]}"
    beyond = any(one.accuracy.low > margin or one.accuracy.high < -margin for one in contrasts)
    if decision in ("supported", "contradicted") and not beyond:
        words += f" Whether the difference is more than {margin:g} points is not decidable."
    return words + _pairs_words(contrasts)


def _pairs_words(contrasts: Sequence[Contrast]) -> str:
    """Return the pairs that a verdict rests on, if they are not those of the report's whole grid."""
    ours = any(contrast.ours for contrast in contrasts)
    first, *others = (contrast.shared for contrast in contrasts)
    shared = {name: value for name, value in first.items() if all(one.get(name) == value for one in others)}
    if not ours and not shared:
        return ""
    words = " The report's grid has only one value; this" if ours else " This"
    words += f" rests on {sum(contrast.pairs for contrast in contrasts)} pairs"
    words += " with configurations of ours" if ours else ""
    named = [f"{label(name).lower()} {value}" for name, value in shared.items()]
    return f"{words}, all of them with {', '.join(named)}." if named else f"{words}."


def _alone_words(contrast: Contrast, contrasts: Sequence[Contrast]) -> str:
    """Return an open contrast's interval by its own folds, and the contrast that widened the pooled error most."""
    own = f"its own folds alone give {contrast.alone.low:+.2f} to {contrast.alone.high:+.2f}, which is not decisive."
    if contrast.ratio is None or contrast.ratio >= contrast.factor:
        return f"Of {contrast.high} against {contrast.low}, {own}"
    widest = max(contrasts, key=lambda one: one.ratio or 0)
    return (
        f"Errors are pooled over all contrasts, and {label(widest.dimension).lower()} {widest.high} against "
        f"{widest.low}, whose folds differ most, widens that of {contrast.high} against {contrast.low}; {own}"
    )


def _within_words(contrast: Contrast, within: Mapping[Any, Sequence[Contrast]], group: str, *, several: bool) -> str:
    """Return a contrast among the configurations of each of the group's values; empty if only one has it."""
    key = (contrast.dimension, contrast.low, contrast.high)
    found = {
        value: one.accuracy.mean
        for value, own in within.items()
        for one in own
        if (one.dimension, one.low, one.high) == key
    }
    if len(found) < 2:
        return ""
    of = f", {contrast.high} against {contrast.low}" if several else ""
    means = ", ".join(f"{value} {mean:+.2f}" for value, mean in found.items())
    return f" By {label(group).lower()}{of}: {means} points (exploratory)."


def _overfitting_words(expected: Literal["more", "less"], contrasts: Sequence[Contrast]) -> str:
    gaps = "; ".join(
        f"{one.overfitting.mean:+.3f} ({one.overfitting.low:+.3f} to {one.overfitting.high:+.3f})" for one in contrasts
    )
    words = (
        f"Apart from accuracy the report expects {expected} overfitting; the gap of validation loss over training loss "
        f"differs by {gaps}, not corrected for several tests: "
    )
    if "dropout" in contrasts[0].dimension:
        return (
            f"{words}training loss is measured with dropout active, which by itself narrows the gap, so this measure "
            "cannot decide."
        )
    signs = {1 if one.overfitting.low > 0 else -1 if one.overfitting.high < 0 else 0 for one in contrasts}
    wanted = {"more": 1, "less": -1}[expected]
    met = "confirmed" if signs == {wanted} else "the opposite is found" if signs == {-wanted} else "not decidable here"
    return f"{words}{met}."


def contrast_words(contrast: Contrast, margin: float) -> str:
    """Return a contrast in words: values, points with their interval, finding with its p-value, training time."""
    found, time = contrast.accuracy, contrast.seconds
    different, alike = f"Holm p {_p(contrast.p_holm)}", f"within {margin:g} points, Holm p {_p(contrast.p_equal)}"
    shown = {
        "different": f"different, {different}",
        "alike": f"equivalent {alike}",
        "open": f"not shown different, {different}, nor equivalent {alike}",
    }[contrast.finding]
    interval = f"95 % interval {found.low:+.2f} to {found.high:+.2f}; {shown}"
    if math.isinf(found.high):
        interval = "trained once each, so nothing is known of the error"
    return (
        f"{contrast.high} against {contrast.low}: {found.mean:+.2f} points ({interval}; ahead in {contrast.ahead} of "
        f"{contrast.pairs} pairs), "
        f"{time.mean:.2f}× the training time ({_range(time, '')})"
    )


UNKNOWN = 1e6  # no points and no ratio are so large: too few pairs or folds tell nothing of the error


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _range(found: Estimate, sign: str = "+") -> str:
    return f"{found.low:{sign}.2f} to {found.high:{sign}.2f}" if found.high < UNKNOWN else "interval unknown"


def contrast_rows(contrasts: Sequence[Contrast]) -> tuple[list[str], list[list[str]]]:
    """Return the contrasts as a table: its columns and rows."""
    columns = [
        *("dimension", "values", "pairs", "ahead", "points", "95 % interval", "own folds alone", "p, Holm", "p, equal"),
        *("training time", "95 % interval"),
    ]
    return columns, [_row(contrast) for contrast in contrasts]


def _row(contrast: Contrast) -> list[str]:
    accuracy, seconds = contrast.accuracy, contrast.seconds
    return [
        label(contrast.dimension).lower() + (" (ours)" if contrast.ours else ""),
        f"{contrast.high} against {contrast.low}",
        str(contrast.pairs),
        str(contrast.ahead),
        f"{accuracy.mean:+.2f}",
        _range(accuracy),
        _range(contrast.alone),
        _p(contrast.p_holm).removeprefix("= "),
        _p(contrast.p_equal).removeprefix("= "),
        f"{seconds.mean:.2f}×",
        _range(seconds, ""),
    ]
