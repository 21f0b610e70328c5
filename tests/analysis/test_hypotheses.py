from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.grids import DIMENSIONS, made_table
from trackdl.analysis.contrasts import Contrast, compare
from trackdl.analysis.hypotheses import SCOPE, contrast_rows, contrast_words, decide, judge, label
from trackdl.analysis.stats import Estimate
from trackdl.spec.hypotheses import Hypothesis

FOUND = compare(made_table(), 0.25)


def contrast(mean: float = 0.31, half: float = 0.09, **changes: Any) -> Contrast:
    """Return a contrast of filter sizes whose p-values are given."""
    made = Contrast(
        dimension="filter_size",
        low=3,
        high=5,
        ours=False,
        pairs=48,
        ahead=40,
        accuracy=Estimate(mean, mean - half, mean + half, 0.0001),
        p_holm=0.0002,
        p_equal=0.8,
        seconds=Estimate(1.4, 1.35, 1.45, 0.0),
        overfitting=Estimate(0.012, 0.005, 0.019, 0.001),
        alone=Estimate(mean, mean - 3 * half, mean + 3 * half, 0.2),
        ratio=0.8,
        factor=2.7,
        shared={},
    )
    return replace(made, **changes)


def hypothesis(**changes: Any) -> Hypothesis:
    said = {"dimension": "filter_size", "quote": "q", "claim": "larger filters raise accuracy", "accuracy": "higher"}
    return Hypothesis.model_validate(said | changes)


@pytest.mark.parametrize(
    ("mean", "p_holm", "p_equal", "predicted", "decision"),
    [
        (0.31, 0.001, 0.8, "higher", "supported"),
        (0.31, 0.001, 0.8, "lower", "contradicted"),
        (-0.31, 0.001, 0.8, "higher", "contradicted"),
        (-0.31, 0.001, 0.8, "lower", "supported"),
        (-0.31, 0.001, 0.8, "differs", "supported"),
        (0.31, 0.001, 0.8, "none", "contradicted"),
        (0.31, 0.06, 0.8, "higher", "not decidable"),
        (0.31, 0.06, 0.8, "none", "not decidable"),
        (0.02, 0.7, 0.01, "higher", "no practical difference"),
        (0.02, 0.7, 0.01, "none", "supported"),
        # Surely more than nothing, and surely less than matters.
        (0.10, 0.001, 0.01, "higher", "no practical difference"),
    ],
)
def test_decisions(mean: float, p_holm: float, p_equal: float, predicted: Any, decision: str) -> None:
    assert decide(contrast(mean, p_holm=p_holm, p_equal=p_equal), predicted) == decision


probabilities = st.floats(0, 1)


@given(
    st.floats(-3, 3).filter(bool), probabilities, probabilities, st.sampled_from(["higher", "lower", "differs", "none"])
)
def test_a_mirrored_difference_has_the_mirrored_verdict(mean: float, p: float, q: float, predicted: Any) -> None:
    one = decide(contrast(mean, p_holm=p, p_equal=q), predicted)
    mirrored = {"higher": "lower", "lower": "higher"}.get(predicted, predicted)
    assert decide(contrast(-mean, p_holm=p, p_equal=q), mirrored) == one


@given(probabilities, probabilities, st.floats(0, 1))
def test_a_smaller_p_of_equality_never_makes_a_difference(p: float, q: float, share: float) -> None:
    """A larger margin does no more than that: it cannot turn no difference in practice into one."""
    if decide(contrast(p_holm=p, p_equal=q), "higher") == "no practical difference":
        assert decide(contrast(p_holm=p, p_equal=share * q), "higher") == "no practical difference"


def test_the_words_can_be_quoted() -> None:
    verdict = judge(hypothesis(), [contrast()], 0.25)
    assert verdict.words == (
        "Filter size 5 against 3: +0.31 points (95 % interval +0.22 to +0.40; different, Holm p < 0.001; ahead in 40 "
        "of 48 pairs), 1.40× the training time (1.35 to 1.45): the report's hypothesis that larger filters raise "
        "accuracy is supported. Whether the difference is more than 0.25 points is not decidable."
    )
    assert "is not decidable" not in judge(hypothesis(), [contrast(half=0.01)], 0.25).words


def test_words_of_the_other_verdicts() -> None:
    def words(**changes: Any) -> str:
        return judge(hypothesis(), [contrast(**changes)], 0.25).words

    assert words(mean=-0.31).endswith(
        "is contradicted. Whether the difference is more than 0.25 points is not decidable."
    )
    assert words(p_equal=0.001).endswith(
        "no practical difference (less than 0.25 points): the report's hypothesis that larger filters raise accuracy "
        "is not borne out."
    )
    assert "is not decidable by this grid. " in words(p_holm=0.2)
    assert "rests on 48 pairs with configurations of ours." in words(ours=True)
    assert "of ours, all of them with activation relu, dense nodes 128." in words(
        ours=True, shared={"activation": "relu", "dense_nodes": 128}
    )
    assert "rests on" not in words()
    assert words(shared={"conv_layers": 2}).endswith(" This rests on 48 pairs, all of them with conv layers 2.")


def test_the_words_say_which_test_shows_what() -> None:
    assert "(95 % interval +0.22 to +0.40; different, Holm p < 0.001; ahead" in contrast_words(contrast(), 0.25)
    alike = contrast_words(contrast(p_holm=0.01, p_equal=0.003), 0.25)
    assert "; equivalent within 0.25 points, Holm p = 0.003; ahead" in alike
    assert "0.010" not in alike  # of a difference, which is none in practice
    assert "; not shown different, Holm p = 0.200, nor equivalent within 0.25 points, Holm p = 0.800; ahead" in (
        contrast_words(contrast(p_holm=0.2), 0.25)
    )


def test_an_open_verdict_tells_the_own_folds_and_who_widened_the_error() -> None:
    other = contrast(dimension="activation", low="relu", high="sigmoid", ratio=10.0)
    end = "its own folds alone give +0.04 to +0.58, which is not decisive."
    said = judge(hypothesis(), [contrast(p_holm=0.2), other], 0.25).words
    assert said.endswith(
        "Errors are pooled over all contrasts, and activation sigmoid against relu, whose folds differ most, widens "
        f"that of 5 against 3; {end}"
    )
    for ratio in (2.8, None):
        own = judge(hypothesis(), [contrast(p_holm=0.2, ratio=ratio), other], 0.25).words
        assert own.endswith(f"grid. Of 5 against 3, {end}")
    assert "pooled" not in judge(hypothesis(), [contrast(), other], 0.25).words


def test_activations_are_told_apart_where_there_are_several() -> None:
    within = {"relu": [contrast(0.35)], "sigmoid": [contrast(1.32), contrast(dimension="filters")]}
    said = judge(hypothesis(), [contrast()], 0.25, within, "activation").words
    assert said.endswith(" By activation: relu +0.35, sigmoid +1.32 points (exploratory).")
    assert (
        "By activation" not in judge(hypothesis(), [contrast()], 0.25, {"relu": [contrast(0.35)]}, "activation").words
    )
    two = {name: [contrast(), contrast(0.5, high=7)] for name in ("relu", "tanh")}
    assert "By activation, 7 against 3: relu +0.50, tanh +0.50" in (
        judge(hypothesis(), [contrast(), contrast(high=7)], 0.25, two, "activation").words
    )


@pytest.mark.parametrize(
    ("expected", "low", "high", "met"),
    [
        ("more", 0.005, 0.019, "confirmed"),
        ("less", 0.005, 0.019, "the opposite"),
        ("more", -0.01, 0.02, "not decidable"),
    ],
)
def test_overfitting_is_told_beside(expected: str, low: float, high: float, met: str) -> None:
    found = contrast(overfitting=Estimate(0.006, low, high, 0.1))
    said = judge(hypothesis(overfitting=expected), [found], 1).words
    assert f"by +0.006 ({low:+.3f} to {high:+.3f}), not corrected for several tests: {met}" in said


def test_dropouts_overfitting_is_not_decided_by_what_dropout_narrows_itself() -> None:
    less = {"overfitting": Estimate(-0.02, -0.03, -0.01, 0.001)}
    said = judge(hypothesis(dimension="dropout", overfitting="less"), [contrast(dimension="dropout", **less)], 1).words
    assert "with dropout active" in said
    assert said.endswith("so this measure cannot decide.")
    assert "confirmed" not in said
    assert judge(hypothesis(overfitting="less"), [contrast(**less)], 1).words.endswith("several tests: confirmed.")


def test_labels_come_from_the_keys() -> None:
    assert [label(name) for name in ("filter_size", "lr", "optimizer.name")] == ["Filter size", "Lr", "Optimizer name"]


def test_a_dimension_with_one_value_is_not_decidable() -> None:
    verdict = judge(hypothesis(), [contrast(dimension="filters")], 0.25)
    assert (verdict.decision, verdict.contrasts) == ("not decidable", ())
    assert "the grid has only one value" in verdict.words


def test_several_values_one_is_enough_if_none_contradicts() -> None:
    differs, open_, same = contrast(), contrast(p_holm=0.5), contrast(p_equal=0.001)
    assert judge(hypothesis(accuracy="differs"), [differs, open_, same], 1).decision == "supported"
    assert judge(hypothesis(accuracy="none"), [differs, open_, same], 1).decision == "not decidable"
    assert judge(hypothesis(), [contrast(), contrast(-0.31)], 1).decision == "not decidable"
    assert judge(hypothesis(), [contrast(-0.31), open_], 1).decision == "contradicted"
    assert judge(hypothesis(), [same, same], 1).decision == "no practical difference"
    assert judge(hypothesis(), [same, open_], 1).decision == "not decidable"


def test_only_what_the_pairs_of_all_contrasts_have_in_common_is_told() -> None:
    two, all_ = {"conv_layers": 2}, {"conv_layers": 2, "dropout": 0.1}
    said = [judge(hypothesis(), [contrast(shared=all_), contrast(shared=one)], 1).words for one in (two, {})]
    assert "rests on 96 pairs, all of them with conv layers 2." in said[0]
    assert "rests on" not in said[1]


def test_a_known_grid_has_its_verdicts() -> None:
    predicted = dict.fromkeys(DIMENSIONS, "higher") | {"activation": "differs"}
    said = {
        name: judge(hypothesis(dimension=name, accuracy=accuracy), FOUND, 0.25).decision
        for name, accuracy in predicted.items()
    }
    assert said == {
        "conv_layers": "supported",
        "filter_size": "supported",
        "filters": "supported",
        "dense_nodes": "no practical difference",
        "dropout": "contradicted",
        "pool_size": "contradicted",
        "activation": "supported",
    }


def test_the_table_has_a_row_for_each_contrast() -> None:
    columns, rows = contrast_rows(FOUND)
    assert len(rows) == len(FOUND)
    assert {len(row) for row in rows} == {len(columns)}
    assert all(isinstance(cell, str) for row in rows for cell in row)
    assert rows[-1][0] == "pool size (ours)"


def test_the_scope_tells_accuracy_from_time() -> None:
    assert SCOPE.startswith("Intervals of accuracy are")
    assert "those of training time are over the pairs as a sample" in SCOPE


def of_sizes(*means: tuple[int, int, float], **changes: Any) -> list[Contrast]:
    return [contrast(mean, low=low, high=high, **changes) for low, high, mean in means]


def peak(value: Any, contrasts: list[Contrast]) -> str:
    return judge(hypothesis(accuracy={"best": value}), contrasts, 0.25).decision


def test_a_peak_beats_its_neighbours_and_is_worse_than_none() -> None:
    of_three = of_sizes((3, 5, 0.4), (3, 7, 0.1), (5, 7, -0.3))
    assert [peak(value, of_three) for value in (3, 5, 7)] == ["contradicted", "supported", "contradicted"]
    open_ = [*of_sizes((3, 5, 0.4)), *of_sizes((5, 7, -0.3), p_holm=0.4)]
    assert peak(5, open_) == "not decidable"
    assert peak(5, of_sizes((3, 5, 0.1), (5, 7, -0.1), p_equal=0.001)) == "no practical difference"
    assert peak(3, of_sizes((3, 5, -0.4), (3, 7, 0.0), p_equal=0.8)) == "supported"  # the next one counts, at an end
    assert peak(5, []) == "not decidable"


def test_of_words_the_best_beats_all_others() -> None:
    of_words = [contrast(mean, low=low, high=high) for low, high, mean in (("adam", "sgd", -1.0), ("sgd", "x", 0.5))]
    third = contrast(-0.2, low="adam", high="x", p_holm=0.3)
    assert peak("adam", [*of_words, third]) == "not decidable"
    assert peak("adam", [*of_words, contrast(-0.2, low="adam", high="x")]) == "supported"


def test_a_grid_of_one_fit_each_decides_nothing_and_says_so() -> None:
    once = made_table()
    found = compare(once[once["fold"] == 0], 0.25)
    assert {one.finding for one in found} == {"open"}
    for accuracy in ("higher", "lower", "differs", "none", {"best": 5}):
        verdict = judge(hypothesis(accuracy=accuracy), found, 0.25)
        assert verdict.decision == "not decidable"
        assert "trained once each, so nothing is known of the error" in verdict.words
    assert all("inf" not in cell for row in contrast_rows(found)[1] for cell in row)
