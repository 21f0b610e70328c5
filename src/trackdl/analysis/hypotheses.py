"""Verdicts on the report's hypotheses, in words that can be quoted: pure functions of contrasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trackdl.analysis.contrasts import Contrast
from trackdl.spec.hypotheses import Hypothesis

Decision = Literal["supported", "contradicted", "no practical difference", "not decidable"]

SCOPE = (
    "Intervals of accuracy are of the mean effect over the grid's own pairs, for other draws of as many pictures and "
    "other seeds; those of training time are over the pairs as a sample. None says anything of configurations outside "
    "the grid, of other data, or of longer training."
)

LABELS = {
    "conv_layers": "Convolution layers",
    "filter_size": "Filter size",
    "filters": "Filters",
    "dense_nodes": "Dense nodes",
    "dropout": "Dropout",
    "pool_size": "Pool size",
    "activation": "Activation",
}

_AGREES = {("higher", True), ("lower", False)}


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


def judge(
    hypothesis: Hypothesis,
    contrasts: Sequence[Contrast],
    margin: float,
    within: Mapping[Any, Sequence[Contrast]] | None = None,
) -> HypothesisVerdict:
    """Return the verdict on a hypothesis.

    Of several contrasts (for three values and more) one that supports is enough if none contradicts, and vice versa;
    there is no practical difference if no contrast has one.

    Args:
        hypothesis: The report's.
        contrasts: Of any dimensions, as `contrasts.compare` returned them for `margin`.
        margin: Points of accuracy.
        within: The contrasts among the configurations of each activation, as `contrasts.compare_within` returned them;
            they are quoted and decide nothing.
    """
    own = tuple(contrast for contrast in contrasts if contrast.dimension == hypothesis.dimension)
    found = {decide(contrast, hypothesis.accuracy) for contrast in own}
    decision: Decision = "not decidable"
    if len(found) == 1:
        (decision,) = found
    elif len(found & {"supported", "contradicted"}) == 1:
        (decision,) = found & {"supported", "contradicted"}
    words = _words(hypothesis, decision, own, margin)
    if decision == "not decidable":
        words += "".join(f" {_alone_words(one, contrasts)}" for one in own if one.finding == "open")
    words += "".join(_within_words(one, within or {}, several=len(own) > 1) for one in own)
    words += _other_words(hypothesis, own)
    return HypothesisVerdict(hypothesis, decision, own, words)


def _words(hypothesis: Hypothesis, decision: Decision, contrasts: Sequence[Contrast], margin: float) -> str:
    label, claim = LABELS[hypothesis.dimension], f"the report's hypothesis that {hypothesis.claim}"
    if not contrasts:
        return f"{label}: the grid has only one value, so {claim} is not decidable."
    findings = "; ".join(contrast_words(contrast, margin) for contrast in contrasts)
    ends = {
        "supported": f"{claim} is supported.",
        "contradicted": f"{claim} is contradicted.",
        "no practical difference": f"no practical difference (less than {margin:g} points): {claim} is not borne out.",
        "not decidable": f"{claim} is not decidable by this grid.",
    }
    words = f"{label} {findings}: {ends[decision]}"
    beyond = any(one.accuracy.low > margin or one.accuracy.high < -margin for one in contrasts)
    if decision in ("supported", "contradicted") and not beyond:
        words += f" Whether the difference is more than {margin:g} points is open."
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
    named = [f"{LABELS[name].lower()} {value}" for name, value in shared.items()]
    return f"{words}, all of them with {', '.join(named)}." if named else f"{words}."


def _alone_words(contrast: Contrast, contrasts: Sequence[Contrast]) -> str:
    """Return an open contrast's interval by its own folds, and the contrast that widened the pooled error most."""
    own = f"its own folds alone give {contrast.alone.low:+.2f} to {contrast.alone.high:+.2f}, which is not decisive."
    if contrast.ratio is None or contrast.ratio >= contrast.factor:
        return f"Of {contrast.high} against {contrast.low}, {own}"
    widest = max(contrasts, key=lambda one: one.ratio or 0)
    return (
        f"Errors are pooled over all contrasts, and {LABELS[widest.dimension].lower()} {widest.high} against "
        f"{widest.low}, whose folds differ most, widens that of {contrast.high} against {contrast.low}; {own}"
    )


def _within_words(contrast: Contrast, within: Mapping[Any, Sequence[Contrast]], *, several: bool) -> str:
    """Return a contrast among the configurations of each activation; empty if only one activation has it."""
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
    return f" By activation{of}: {', '.join(f'{v} {mean:+.2f}' for v, mean in found.items())} points (exploratory)."


def _other_words(hypothesis: Hypothesis, contrasts: Sequence[Contrast]) -> str:
    """Return what the report expects of overfitting and training time, which the verdict is not about."""
    words = ""
    if hypothesis.overfitting != "not said" and contrasts:
        words += f" {_overfitting_words(hypothesis.overfitting, contrasts)}"
    if hypothesis.time != "not said" and contrasts:
        words += f" The report expects training to take {hypothesis.time}."
    return words


def _overfitting_words(expected: Literal["more", "less"], contrasts: Sequence[Contrast]) -> str:
    gaps = "; ".join(
        f"{one.overfitting.mean:+.3f} ({one.overfitting.low:+.3f} to {one.overfitting.high:+.3f})" for one in contrasts
    )
    words = (
        f"Apart from accuracy the report expects {expected} overfitting; the gap of validation loss over training loss "
        f"differs by {gaps}, not corrected for several tests: "
    )
    if contrasts[0].dimension == "dropout":
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
    return (
        f"{contrast.high} against {contrast.low}: {found.mean:+.2f} points (95 % interval {found.low:+.2f} to "
        f"{found.high:+.2f}; {shown}; ahead in {contrast.ahead} of {contrast.pairs} pairs), "
        f"{time.mean:.2f}× the training time ({time.low:.2f} to {time.high:.2f})"
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


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
        LABELS[contrast.dimension].lower() + (" (ours)" if contrast.ours else ""),
        f"{contrast.high} against {contrast.low}",
        str(contrast.pairs),
        str(contrast.ahead),
        f"{accuracy.mean:+.2f}",
        f"{accuracy.low:+.2f} to {accuracy.high:+.2f}",
        f"{contrast.alone.low:+.2f} to {contrast.alone.high:+.2f}",
        _p(contrast.p_holm).removeprefix("= "),
        _p(contrast.p_equal).removeprefix("= "),
        f"{seconds.mean:.2f}×",
        f"{seconds.low:.2f} to {seconds.high:.2f}",
    ]
