"""NetEstimator by scikit-learn's own rules, and the report's own search on it."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor

from support.pictures import blobs
from trackdl.data.catalogue import CATALOGUE
from trackdl.data.images import load_images
from trackdl.estimator import NetEstimator
from trackdl.spec import ImageData

REPORTS_GRID = {
    "activation_func": ["relu", "sigmoid", "tanh"],
    "conv_filter_size": [3, 5],
    "dense_nodes": [128, 256],
    "dropout_rate": [0.1, 0.3],
    "n_conv_filters": [16, 32],
    "n_conv_layers": [2, 3],
    "pool_filter_size": [2],
}

# The checks' tables are small: one layer, so that two rows of two pixels are enough to pool.
SMALL = {
    "n_conv_layers": 1,
    "n_conv_filters": 8,
    "dense_nodes": 32,
    "dropout_rate": 0.0,
    "epochs": 5,
    "learning_rate": 0.01,
    "padding": "same",
}


class PaddedEstimator(NetEstimator):
    """Rows of any length as pictures: padded with black to the next square. All else is the estimator's own code."""

    @staticmethod
    def _inputs(pixels: NDArray[Any]) -> Tensor:
        side = max(2, math.ceil(math.sqrt(pixels.shape[1])))
        return NetEstimator._inputs(np.pad(pixels, ((0, 0), (0, side**2 - pixels.shape[1]))))


NOT_SQUARE = "its table has {} columns, which no square picture has as pixels; NetEstimator refuses it"
EXCUSED = {
    name: NOT_SQUARE.format(columns)
    for columns, names in {
        "2": (
            "check_estimators_overwrite_params",
            "check_estimators_fit_returns_self",
            "check_readonly_memmap_input",
            "check_classifier_data_not_an_array",
            "check_classifiers_classes",
            "check_classifiers_train",
            "check_fit_idempotent",
            "check_fit_check_is_fitted",
            "check_n_features_in",
        ),
        "3": (
            "check_fit_score_takes_y",
            "check_dont_overwrite_parameters",
            "check_pipeline_consistency",
            "check_estimators_nan_inf",
            "check_estimators_pickle",
            "check_f_contiguous_array_estimator",
            "check_supervised_y_2d",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_dict_unchanged",
            "check_fit2d_predict1d",
        ),
        "5": ("check_estimators_dtypes",),
        "10": ("check_dtype_object", "check_classifiers_one_label", "check_fit2d_1sample"),
    }.items()
    for name in names
}


def excused(estimator: NetEstimator) -> dict[str, str]:
    """Say which checks `estimator` cannot pass; as pictures all of them are passed."""
    return {} if isinstance(estimator, PaddedEstimator) else EXCUSED


@pytest.mark.filterwarnings("ignore:Can't check dok sparse matrix:UserWarning")
@parametrize_with_checks(
    [NetEstimator(**SMALL), PaddedEstimator(**SMALL)], expected_failed_checks=excused, xfail_strict=True
)
def test_scikit_learns_checks(estimator: NetEstimator, check: Callable[[NetEstimator], None]) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def clothes() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return blobs(300, 0)


def quick(**arguments: Any) -> NetEstimator:
    given = {"n_conv_filters": 4, "dense_nodes": 16, "epochs": 3, "learning_rate": 0.01, "random_state": 0}
    return NetEstimator(**given | arguments)


def test_the_defaults_are_the_reports() -> None:
    assert NetEstimator().get_params() == {
        "n_conv_layers": 2, "conv_filter_size": 3, "n_conv_filters": 16, "dense_nodes": 128, "dropout_rate": 0.1,
        "pool_filter_size": 2, "activation_func": "relu",
        "batch_size": 32, "epochs": 10, "learning_rate": 0.001, "padding": "none", "random_state": None,
    }  # fmt: skip


@pytest.mark.parametrize("tensors", [False, True])
def test_the_reports_own_search_scores_without_one_nan(clothes: tuple[Any, Any], tensors: bool) -> None:
    """The report's estimator and call; every second value of its grid, one epoch, 90 pictures."""
    images, labels = (torch.from_numpy(array[:90]) if tensors else array[:90] for array in clothes)
    estimator = NetEstimator(
        activation_func="relu", conv_filter_size=3, dense_nodes=64, dropout_rate=0.1, n_conv_filters=64,
        n_conv_layers=3, pool_filter_size=3, epochs=1,
    )  # fmt: skip
    grid = {**{name: values[:1] for name, values in REPORTS_GRID.items()}, "conv_filter_size": [3, 5]}
    grid["activation_func"] = ["relu", "tanh"]
    search = GridSearchCV(estimator, grid, cv=3, n_jobs=-1, scoring="accuracy", error_score="raise")
    search.fit(images, labels)
    scores = np.stack([search.cv_results_[f"split{fold}_test_score"] for fold in range(3)])
    assert scores.shape == (3, len(ParameterGrid(grid)))
    assert np.isfinite(scores).all()
    assert search.best_estimator_.predict(images).shape == (90,)


def test_every_cell_of_the_reports_grid_is_a_network_but_three_layers_of_five_by_five(
    clothes: tuple[Any, Any],
) -> None:
    assert len(ParameterGrid(REPORTS_GRID)) == 96
    for cell in ParameterGrid({**REPORTS_GRID, "dense_nodes": [8], "n_conv_filters": [2]}):
        if (cell["n_conv_layers"], cell["conv_filter_size"]) == (3, 5):
            with pytest.raises(ValueError, match="layer 3 of 3: 4×4 pixels are left, a filter without padding takes"):
                NetEstimator(**cell, epochs=1).fit(clothes[0][:20], clothes[1][:20])
            cell["padding"] = "same"
        estimator = NetEstimator(**cell, epochs=1).fit(clothes[0][:20], clothes[1][:20])
        assert estimator.network_.arguments["filter_size"] == cell["conv_filter_size"]
        assert estimator.network_.arguments["activation"] == cell["activation_func"]


def test_all_forms_of_the_same_pictures_give_the_same_network(clothes: tuple[Any, Any]) -> None:
    images, labels = clothes
    expected = quick().fit(images, labels)
    mean, std = CATALOGUE["fashion"].mean_std
    scaled = (images.astype(np.float32) / np.float32(255) - np.float32(mean)) / np.float32(std)
    probabilities = expected.predict_proba(images)
    for given in (
        images[:, None], images.reshape(len(images), -1), torch.from_numpy(images), torch.from_numpy(images)[:, None],
        scaled, torch.from_numpy(scaled), scaled.astype(np.float64),
    ):  # fmt: skip
        estimator = quick().fit(given, torch.from_numpy(labels) if isinstance(given, Tensor) else labels)
        assert estimator.n_features_in_ == 784
        assert np.array_equal(estimator.predict_proba(images), probabilities)
        assert np.array_equal(expected.predict_proba(given), probabilities)


def test_it_learns_and_answers_by_the_labels_it_was_given(clothes: tuple[Any, Any]) -> None:
    images, labels = clothes
    names = np.array([f"class {9 - label}" for label in labels])
    estimator = quick(epochs=12, n_conv_filters=8).fit(images, names)
    assert list(estimator.classes_) == sorted(set(names))
    assert estimator.score(*(blobs(100, 1)[0], np.array([f"class {9 - label}" for label in blobs(100, 1)[1]]))) > 0.9
    probabilities = estimator.predict_proba(images)
    assert probabilities.shape == (300, 10)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(estimator.classes_[probabilities.argmax(axis=1)], estimator.predict(images))


def test_random_state_decides(clothes: tuple[Any, Any]) -> None:
    images, labels = clothes

    def answers(random_state: Any) -> NDArray[np.float64]:
        return quick(epochs=1, dropout_rate=0.5, random_state=random_state).fit(images, labels).predict_proba(images)

    assert np.array_equal(answers(1), answers(1))
    assert not np.array_equal(answers(1), answers(2))
    generator = np.random.RandomState(1)
    assert np.array_equal(answers(generator), answers(1))
    assert not np.array_equal(answers(generator), answers(1))  # a generator goes on
    assert not np.array_equal(answers(None), answers(None))


def test_clones_are_unfitted_and_pickles_in_memory_answer_the_same(clothes: tuple[Any, Any]) -> None:
    images, labels = clothes
    estimator = quick(epochs=1).fit(images, labels)
    again = pickle.loads(pickle.dumps(estimator))
    assert np.array_equal(again.predict_proba(images), estimator.predict_proba(images))
    copy = clone(estimator)
    assert copy.get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(images)
    assert np.array_equal(copy.fit(images, labels).predict_proba(images), estimator.predict_proba(images))


def test_numbers_of_numpys_kind_are_numbers(clothes: tuple[Any, Any]) -> None:
    images, labels = clothes
    grid = quick(
        n_conv_filters=np.int64(3), dropout_rate=np.float64(0.2), epochs=np.int32(1), dense_nodes=np.arange(9)[8]
    )
    assert grid.fit(images, labels).network_.arguments["dropout"] == 0.2


@pytest.mark.parametrize("side", [8, 15, 96])
def test_pictures_of_other_sides(side: int) -> None:
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(30, side, side)).astype(np.float32), np.arange(30) % 3
    # What is too deep for 28×28 is not for 96×96.
    deep = {"n_conv_layers": 4, "pool_filter_size": 3} if side == 96 else {}
    estimator = quick(epochs=1, padding="same", **deep).fit(images, labels)
    assert estimator.predict(images).shape == (30,)
    with pytest.raises(ValueError, match=f"is expecting {side**2} features"):
        estimator.predict(np.zeros((1, side + 1, side + 1), np.float32))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"conv_filter_size": 0}, "conv_filter_size: .*greater than or equal to 1.*0"),
        ({"n_conv_layers": 0}, "n_conv_layers: .*greater than or equal to 1.*0"),
        ({"activation_func": "swish"}, "activation_func: .*'relu'.*swish"),
        ({"epochs": 0}, "epochs: .*0"),
        ({"batch_size": 2.5}, "batch_size: .*integer.*2.5"),
        ({"learning_rate": float("nan")}, "learning_rate: .*nan"),
        ({"padding": "valid"}, "padding: .*'none' or 'same'.*valid"),
        ({"padding": 65}, "padding: .*less than or equal to 64.*65"),
        ({"n_conv_layers": 4, "pool_filter_size": 3, "padding": "same"}, "layer 4 of 4: 1×1 pixels are left, pooling"),
        ({"n_conv_layers": 3, "pool_filter_size": 3}, "layer 3 of 3: 2×2 pixels are left, a filter without padding"),
    ],
)
def test_wrong_arguments_are_told_by_the_reports_names(
    clothes: tuple[Any, Any], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        quick(**arguments).fit(*clothes)


@pytest.mark.parametrize("shape", [(20, 28, 27), (20, 3, 28, 28), (20, 1, 1, 28, 28), (20, 783)])
def test_what_is_no_square_grey_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"square|expected \[n, side, side\]"):
        quick().fit(np.zeros(shape, np.float32), np.arange(20) % 2)


@pytest.mark.real
def test_on_real_pictures() -> None:
    images = load_images(ImageData(dataset="fashion"))
    estimator = NetEstimator(batch_size=100, epochs=1, random_state=0)
    estimator.fit(images.train_images[:10_000], images.train_labels[:10_000])
    assert estimator.score(images.test_images, images.test_labels) > 0.7
