"""The verdicts' rule: by cases, and by what must hold of any numbers."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trackdl.ledger import rule as verdict
from trackdl.ledger.model import Spread
from trackdl.ledger.rule import Claim, judge, judge_curve

LOSSES = st.floats(0.01, 3)
SEEDS = st.lists(st.floats(0.5, 1), min_size=3, max_size=8)


def accuracy(value: float, **more: object) -> Claim:
    return Claim(value, "fraction", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("published", "values", "expected"),
    [
        (0.9817, [0.9818, 0.9815, 0.9821, 0.9813, 0.9819], "reproduced"),
        (0.8981, [0.9067, 0.9060, 0.9071, 0.9064, 0.9058], "differs"),
        (0.9167, [0.9067, 0.9060, 0.9071, 0.9064, 0.9058], "differs"),
        (0.0924, [0.1137, 0.0750, 0.1320, 0.0980, 0.1010], "inconclusive"),  # the seeds lie apart by more
        (0.9, [0.9040, 0.9120, 0.8960, 0.9080, 0.9000], "inconclusive"),  # close, but not known well enough
        (0.475, [0.475] * 5, "reproduced"),
        (0.475, [0.875] * 5, "differs"),
        (0.9817, [0.9818], "inconclusive"),  # one seed
        (0.9817, [0.9818, 0.9817], "inconclusive"),  # two do not tell a spread either
    ],
)
def test_accuracies(published: float, values: list[float], expected: str) -> None:
    assert judge(accuracy(published), values).name == expected


def test_the_margin_of_a_loss_is_a_tenth_and_a_difference_has_its_side() -> None:
    loss = Claim(0.5, "loss")
    below, above = judge(loss, [0.30, 0.31, 0.29]), judge(loss, [0.70, 0.71, 0.69])
    assert (below.name, above.name) == ("differs", "differs")
    assert "Ours is 0.2000 lower" in below.words
    assert "Ours is 0.2000 higher" in above.words
    assert judge(loss, [0.53, 0.531, 0.529]).name == "reproduced"


def test_a_rank_has_no_margin() -> None:
    assert judge(Claim(1, "rank"), [2, 2, 2]).name == "differs"
    assert judge(Claim(1, "rank"), [1, 1, 1]).name == "reproduced"


def test_a_count_has_no_margin_and_is_told_as_a_whole_number() -> None:
    assert judge(Claim(288, "count"), [289, 289, 289]).name == "differs"
    assert judge(Claim(288, "count"), [288, 288, 288]).name == "reproduced"
    assert judge(Claim(0, "count", fault="F: it fails"), [24]).words == "F: it fails. Ours: 24."
    assert verdict.form_difference("count", 24.0) == "24"


def test_a_fault_goes_before_all_and_says_what_it_is() -> None:
    found = judge(accuracy(0.9019, fault="it is the validation split", comparable="not measured in the report"), [0.91])
    assert found.name == "fault in the report"
    assert found.words.startswith("It is the validation split. Ours: 91.00\u00a0%, one seed")
    assert found.words.endswith("which is inconclusive.")


def test_what_the_report_has_not_measured_is_not_comparable() -> None:
    found = judge(accuracy(0.5, comparable="not measured in the report"), [0.5] * 5)
    assert found.name == "not comparable"


def test_what_is_unknown_is_said() -> None:
    claim = accuracy(0.5, comparable="protocol unknown in part", unknown="the padding")
    assert judge(claim, [0.6] * 5).words.endswith("unknown: the padding.")


def test_a_known_spread_lets_one_seed_speak() -> None:
    known = Spread(deviation=0.001, seeds=5)
    assert judge(accuracy(0.9817), [0.9818], known).name == "reproduced"
    apart = judge(accuracy(0.8981), [0.9067], known)
    assert apart.name == "differs"
    assert "that of 5 seeds in docs/ledger" in apart.words
    assert judge(accuracy(0.8981), [0.9067], Spread(deviation=0.01, seeds=5)).name == "inconclusive"


def test_no_value_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="at least one"):
        judge(accuracy(0.5), [])


@given(published=st.floats(0.5, 1), values=SEEDS)
def test_the_order_of_the_seeds_does_not_matter(published: float, values: list[float]) -> None:
    assert judge(accuracy(published), values).name == judge(accuracy(published), sorted(values)).name


@given(published=st.floats(0.5, 1), values=SEEDS)
def test_mirrored_numbers_have_the_same_verdict(published: float, values: list[float]) -> None:
    mirrored = [2 * published - value for value in values]
    name = judge(accuracy(published), values).name
    near = abs(abs(sum(values) / len(values) - published) - verdict.POINTS) < 1e-9
    assume(not near)  # where rounding decides
    assert judge(accuracy(published), mirrored).name == name


@given(published=LOSSES, values=st.lists(LOSSES, min_size=3, max_size=8))
def test_verdicts_mean_what_they_say(published: float, values: list[float]) -> None:
    found = judge(Claim(published, "loss"), values).name
    difference = abs(sum(values) / len(values) - published)
    if found == "differs":
        assert difference > verdict.SHARE * published
    elif found == "reproduced":
        assert difference <= verdict.SHARE * published + 1e-9


@given(published=st.floats(0.5, 1), value=st.floats(0.5, 1), deviation=st.floats(0, 0.05), more=st.floats(1, 20))
def test_more_spread_never_makes_a_verdict_surer(published: float, value: float, deviation: float, more: float) -> None:
    sure = judge(accuracy(published), [value], Spread(deviation=deviation, seeds=5)).name
    less = judge(accuracy(published), [value], Spread(deviation=deviation * more, seeds=5)).name
    assert less in (sure, "inconclusive")


@given(published=st.floats(0.5, 1), values=st.lists(st.floats(0.5, 1), min_size=1, max_size=2))
def test_too_few_seeds_never_decide_by_themselves(published: float, values: list[float]) -> None:
    assert judge(accuracy(published), values).name == "inconclusive"


@given(st.floats(-10, 10))
def test_rounding_keeps_nine_digits(value: float) -> None:
    assert verdict.rounded(value) == pytest.approx(value, rel=1e-8)
    assert verdict.rounded(verdict.rounded(value)) == verdict.rounded(value)


def curves(count: int, points: int = 200, seed: int = 0, level: float = 0.0) -> list[list[float]]:
    """Return noisy curves that fall from 2 to 0.5, as a training's batch losses do."""
    random = np.random.default_rng(seed)
    mean = 0.5 + 1.5 * np.exp(-np.linspace(0, 5, points)) + level
    return (mean + random.normal(0, 0.1, (count, points))).tolist()


def judged(printed: list[float], ours: list[list[float]], **more: object) -> verdict.Verdict:
    return judge_curve(Claim(float(np.mean(printed)), "loss", **more), printed, ours)  # type: ignore[arg-type]


def test_a_curve_is_reproduced_by_curves_of_the_same_training() -> None:
    (printed,) = curves(1, seed=1)
    assert judged(printed, curves(5)).name == "reproduced"


@pytest.mark.parametrize("part", range(verdict.PARTS))
def test_a_curve_differs_where_one_part_does(part: int) -> None:
    (printed,) = curves(1, seed=1)
    width = len(printed) // verdict.PARTS
    for place in range(part * width, (part + 1) * width):
        printed[place] += 0.5 * (1 + printed[place])
    found = judged(printed, curves(5))
    assert found.name == "differs"
    assert f"Part {part + 1} of 10 differs" in found.words


def test_a_curve_is_left_open_by_few_seeds_and_by_seeds_that_lie_apart() -> None:
    (printed,) = curves(1, seed=1)
    assert judged(printed, curves(2)).name == "inconclusive"
    apart = [curve for place in range(5) for curve in curves(1, seed=place, level=0.4 * (place - 2))]
    assert judged(printed, apart).name == "inconclusive"


def test_a_curves_fault_goes_before_all() -> None:
    (printed,) = curves(1, seed=1)
    found = judged(printed, curves(5, level=9), fault="it is another loss")
    assert found.name == "fault in the report"
    assert found.words.endswith("which differs from the printed number.")
    assert judged(printed, curves(5), fault="it is another loss").words.endswith("which matches the printed number.")
    with pytest.raises(ValueError, match="at least one curve"):
        judged(printed, [])


def test_chance_alone_seldom_makes_a_curve_differ() -> None:
    """Of curves by the same training at most 5 % may be called different, by the rule; here of 200."""
    found = [judged(*curves(1, seed=1000 + n), curves(5, seed=n)).name for n in range(200)]
    assert found.count("differs") <= 10


def test_a_curve_differs_only_in_a_part() -> None:
    """The parts of ours scatter by more than they differ; the mean of the whole does not, and decides nothing alone."""
    swing = np.tile([0.5, -0.5], 5)
    ours = [(1 + share * swing).tolist() for share in (1, 0, -1)]
    claim = Claim(1.2, "loss", "same protocol", "", "")
    assert judge(claim, [float(np.mean(curve)) for curve in ours], None).name == "differs"
    assert judge_curve(claim, [1.2] * 10, ours).name == "inconclusive"
