import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from support.grids import DIMENSIONS, VALUES, made_table, without_padding
from trackdl.analysis.contrasts import compare
from trackdl.plots import grid as plots_grid

pytestmark = pytest.mark.draws

TABLE = made_table()
CHOICE = "the report's choice"
FIRST = {name: VALUES[name][0] for name in DIMENSIONS}


def texts(figure: Figure) -> set[str]:
    """Draw a figure; return all its words."""
    figure.savefig(io.BytesIO(), dpi=40)
    found = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels())]
    legends = [legend for legend in figure.legends for legend in legend.get_texts()]
    return {text.get_text() for text in [*found, *legends]}


def test_every_contrast_has_its_row() -> None:
    words = texts(plots_grid.effects_chart(compare(TABLE, 0.25), 0.25, "title"))
    assert {"Filters: 32 against 16", "Activation: tanh against sigmoid", "Pool size (ours): 3 against 2"} <= words
    assert "margin, ±0.25 points" in words


def test_the_strongest_interaction_is_drawn_with_its_means() -> None:
    both = (TABLE["filters"] == 32) & (TABLE["activation"] == "sigmoid")
    table = TABLE.assign(val_accuracy_10=TABLE["val_accuracy_10"] + 0.03 * both)
    figure = plots_grid.interaction_maps(table, "title", maps=1)
    assert (figure.axes[1].get_ylabel(), figure.axes[1].get_xlabel()) == ("Activation", "Filters")
    report = table[table["grid"] == "report"]
    mean = report.loc[(report["filters"] == 32) & (report["activation"] == "relu"), "val_accuracy_10"].mean()
    assert f"{100 * mean:.2f}" in texts(figure)


def test_a_grid_with_holes_is_drawn_and_says_where_there_are_no_pairs() -> None:
    table = without_padding(TABLE)
    figure = plots_grid.interaction_maps(table, "title", maps=20)
    assert len(figure.axes) == 1 + 14  # all pairs of six dimensions but one
    assert [text.get_text() for text in figure.axes[0].texts].count("no such\npairs") == 1
    assert "no such\npairs" in texts(figure)
    figure = plots_grid.accuracy_against_time(table, FIRST, "title", CHOICE)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 72
    assert [len(axes.lines) for axes in plots_grid.learning_curves(table, FIRST, "title", CHOICE).axes] == [74, 74]


def test_where_no_two_dimensions_can_be_compared_the_map_is_empty() -> None:
    one = {"activation": "relu", "dense_nodes": 128, "dropout": 0.1, "filters": 16, "grid": "report"}
    table = without_padding(TABLE)
    corner = table[(table[list(one)] == pd.Series(one)).all(axis=1)]
    figure = plots_grid.interaction_maps(corner, "title")
    assert len(figure.axes) == 1
    assert "no such\npairs" in texts(figure)


def test_the_reports_choice_and_the_best_are_marked() -> None:
    report = TABLE[TABLE["grid"] == "report"]
    best = 100 * report.groupby(list(DIMENSIONS))["val_accuracy_10"].mean().max()
    figure = plots_grid.accuracy_against_time(TABLE, FIRST, "title", CHOICE)
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections) == 96
    words = texts(figure)
    assert f"best, {best:.2f} %" in words
    assert any(word.startswith("the report's choice, ") for word in words)


def test_every_course_is_drawn_once() -> None:
    figure = plots_grid.learning_curves(TABLE, FIRST, "title", CHOICE)
    assert [len(axes.lines) for axes in figure.axes] == [98, 98]  # the best and the report's once more
    assert {"relu", "sigmoid", "tanh", "best", "the report's choice"} <= texts(figure)


SIX = ["elu", "gelu", "relu", "sigmoid", "silu", "tanh"]


def of_six_activations() -> pd.DataFrame:
    """Return the report's configurations, with every activation of three under another name as well."""
    report = TABLE[TABLE["grid"] == "report"]
    names = {"relu": "elu", "sigmoid": "gelu", "tanh": "silu"}
    return pd.concat([report, report.assign(activation=report["activation"].map(names))], ignore_index=True)


def test_every_configuration_of_six_activations_is_drawn_and_named() -> None:
    table = of_six_activations()
    figure = plots_grid.accuracy_against_time(table, FIRST, "title", CHOICE)
    groups = figure.axes[0].collections
    assert sum(len(points.get_offsets()) for points in groups) == 192
    assert set(SIX) <= texts(figure)
    assert len({tuple(points.get_facecolor()[0]) for points in groups}) == len(groups) == 6
    figure = plots_grid.learning_curves(table, FIRST, "title", CHOICE)
    assert [len(axes.lines) for axes in figure.axes] == [194, 194]
    assert set(SIX) <= texts(figure)


def test_styles_are_told_apart_by_colour_and_shape() -> None:
    values = pd.Series([f"activation {number}" for number in range(9)])
    styled = plots_grid._styled(values)
    assert [value for value, *_ in styled] == values.tolist()
    assert len({(colour, marker) for _, colour, marker, _ in styled}) == 9
    assert len({(colour, line) for _, colour, _, line in styled}) == 9


def test_importances_are_ranked() -> None:
    figure = plots_grid.importance_bars({"filters": 0.15, "activation": 0.7, "dropout": 0.1}, "title")
    assert {"70.0%", "Activation"} <= texts(figure)
    assert figure.axes[0].get_xlabel().endswith("interactions, not drawn: 5.0%")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == sorted(widths)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=30))
def test_the_front_is_what_nothing_surpasses(points: list[tuple[int, int]]) -> None:
    costs, values = np.array(points, float).T
    front = {points[place] for place in plots_grid._front(costs, values)}
    surpassed = {
        (cost, value)
        for cost, value in points
        if any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
    }
    assert front == set(points) - surpassed


@pytest.mark.parametrize("folds", [2, 5])
def test_other_numbers_of_folds(folds: int) -> None:
    assert len(compare(made_table(folds=folds), 0.25)) == 9


def test_the_importances_axis_says_what_its_ticks_are() -> None:
    figure = plots_grid.importance_bars({"a": 0.199, "b": 0.1}, "a study")
    figure.canvas.draw()
    axis = figure.axes[0].xaxis
    for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
        assert float(label.get_text().rstrip("%")) == pytest.approx(100 * place)


@pytest.mark.parametrize("kept", [["dropout"], ["dropout", "filters"], list(DIMENSIONS)])
def test_all_figures_of_one_dimension_and_of_several(kept: list[str]) -> None:
    """Also where each cell was trained once, so that no interval is known."""
    others = [name for name in DIMENSIONS if name not in kept]
    table = TABLE[(TABLE["grid"] == "report") & (TABLE[others] == pd.Series(FIRST)[others]).all(axis=1)]
    table = table[table["fold"] == 0].drop(columns=others)
    words = texts(plots_grid.effects_chart(compare(table, 0.25), 0.25, "title"))
    assert "Dropout: 0.3 against 0.1" in words
    figures = [plots_grid.accuracy_against_time(table, None, "title"), plots_grid.learning_curves(table, None, "title")]
    if len(kept) > 1:
        figures.append(plots_grid.interaction_maps(table, "title"))
    assert not [figure for figure in figures if CHOICE in texts(figure)]
    hue = plots_grid.strongest(table)
    assert hue == ("activation" if "activation" in kept else "filters" if "filters" in kept else "dropout")


def test_ten_dimensions_of_numbers_words_and_booleans() -> None:
    table = TABLE[(TABLE["grid"] == "report") & (TABLE["activation"] != "tanh")].drop(columns=["pool_size"])
    table.insert(2, "batch_norm", table["filters"] == 32)
    for name in ("lr", "hidden", "optimizer.name"):
        table.insert(2, name, table["filter_size"].map({3: 0.1, 5: 0.2}))
    assert "Batch norm: True against False" not in texts(plots_grid.effects_chart(compare(table, 0.25), 0.25, "title"))
    texts(plots_grid.accuracy_against_time(table, None, "title"))
    texts(plots_grid.learning_curves(table, None, "title"))
    assert "no such\npairs" in texts(plots_grid.interaction_maps(table, "title"))


def test_curves_of_different_lengths_end_where_they_end_and_time_counts_the_epochs() -> None:
    once = TABLE[TABLE["grid"] == "report"]
    short = once.assign(epochs=5)
    short.loc[:, [name for name in short if name.endswith(("_6", "_7", "_8", "_9", "_10"))]] = np.nan
    table = pd.concat([short, once.assign(epochs=10)], ignore_index=True)
    found = {(one.dimension, one.low): one for one in compare(table, 0.25)}["epochs", 5]
    last = once["val_accuracy_10"].mean() - once["val_accuracy_5"].mean()
    assert found.accuracy.mean == pytest.approx(100 * last)
    assert found.seconds.mean == pytest.approx(2)
    figure = plots_grid.learning_curves(table, None, "title")
    ends = {int(np.isfinite(np.asarray(line.get_ydata(), float)).sum()) for line in figure.axes[0].lines}
    assert ends == {5, 10}
    words = plots_grid.accuracy_against_time(table, None, "title").axes[0].get_xlabel()
    assert words == "Processor time of training, the shortest is 1"
    with pytest.raises(ValueError, match="not finite"):
        compare(table.assign(val_loss_2=np.nan), 0.25)
