"""The section `data` of an experiment on images."""

from typing import Any

import pytest
from pydantic import ValidationError

from trackdl import spec
from trackdl.errors import InputError
from trackdl.spec.images import ImageData

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "must have exactly one of the keys dataset, folder, idx, npz, sklearn, and has none of them"),
    ({"dataset": "mnist", "folder": "a"}, "and has dataset and folder"),
    ({"dataset": "mnits"}, "'mnist', 'fashion', 'kmnist', 'emnist-letters' or 'emnist-balanced'"),
    ({"sklearn": "iris"}, "'digits'"),
    ({"dataset": "mnist", "test_folder": "b"}, "test_folder is a key of folder; dataset does without it"),
    ({"npz": "a", "test_share": 0.2}, "test_share is a key of folder and sklearn; npz does without it"),
    ({"folder": "a", "classes": 3}, "classes is a key of idx and npz; folder does without it"),
    ({"folder": "a", "test_folder": "b", "test_share": 0.3}, "test_folder or test_share, not both"),
    ({"folder": "a", "size": 3}, "greater than or equal to 4"),
    ({"folder": "a", "size": 2000}, "less than or equal to 1024"),
    ({"folder": "a", "validation": 1.0}, "less than 1"),
    ({"folder": "a", "per_class": 0}, "greater than or equal to 1"),
    ({"idx": "a", "classes": 1}, "must be 2 to 1,000 classes"),
    ({"idx": "a", "classes": 1001}, "must be 2 to 1,000 classes"),
    ({"idx": "a", "classes": ["a", "a"]}, "differ from each other"),
    ({"idx": "a", "classes": ["a", 1]}, "each a text"),
    ({"idx": "a", "classes": "ten"}, "must be 2 to 1,000 classes"),
    ({"idx": "a", "classes": True}, "must be 2 to 1,000 classes"),
    ({"folder": "a", "normalise": "mean"}, "must be training, none, [mean, std], or for colour"),
    ({"folder": "a", "normalise": [0.5]}, "must be training, none"),
    ({"folder": "a", "normalise": [0.5, [1, 2, 3]]}, "must be training, none"),
    ({"folder": "a", "normalise": [0.5, 0]}, "standard deviation above 0"),
    ({"folder": "a", "normalise": [0.5, float("nan")]}, "must be training, none"),
    ({"folder": "a", "normalise": [True, 1]}, "must be training, none"),
    ({"folder": "a", "normalise": {}}, "must be training, none"),
    ({"folder": "a", "normalise": 0.5}, "must be training, none"),
    ({"folder": "a", "normalise": [[0, 0, 0], [1, 1, 1]]}, "`colour: true`"),
    ({"folder": "a", "colour": "yes"}, "valid boolean"),
    ({"folder": "a", "rename": {"a": ""}}, "at least 1 character"),
    ({"folder": ""}, "at least 1 character"),
]


@pytest.mark.parametrize(("keys", "words"), WRONG)
def test_a_wrong_section_is_one_clear_error(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ImageData(**keys)
    (problem,) = caught.value.errors()
    assert words in problem["msg"]


def test_the_error_names_file_and_key() -> None:
    text = (spec.experiment_file("mnist")).read_text(encoding="utf-8").replace("dataset: mnist", "folder: a, idx: b")
    with pytest.raises(InputError, match=r"^mine\.yaml: key 'data': must have exactly one of the keys"):
        spec.parse(text, "mine.yaml", spec.ClassifySpec)


@pytest.mark.parametrize(
    "keys",
    [
        {"dataset": "mnist"},
        {"folder": "a", "test_share": 0.3, "size": 64, "colour": True, "normalise": [[0, 0, 0], [1, 1, 1]]},
        {"folder": "a", "test_folder": "b", "rename": {"tou": "tau"}, "per_class": 9},
        {"idx": "a", "classes": ["x", "y"], "validation": 0.1, "split_seed": 3},
        {"npz": "a", "normalise": "training"},
        {"sklearn": "digits", "test_seed": 2},
    ],
)
def test_only_what_is_given_is_written_down_and_it_is_read_again(keys: dict[str, Any]) -> None:
    data = ImageData(**keys)
    assert data.model_dump() == keys
    assert ImageData(**data.model_dump()) == data
    assert hash(ImageData(**keys)) == hash(data)


def test_what_is_known_before_images_are_read() -> None:
    known = [
        (data.name, data.source, data.channels, data.side, data.class_count)
        for data in (
            ImageData(dataset="emnist-balanced"),
            ImageData(sklearn="digits", size=16),
            ImageData(folder="a/letters", colour=True),
            ImageData(npz="a/b.npz", classes=7),
            ImageData(idx="a", classes=["x", "y"]),
        )
    ]
    assert known == [
        ("emnist-balanced", "dataset", 1, 28, 47),
        ("digits", "sklearn", 1, 16, 10),
        ("letters", "folder", 3, None, None),
        ("b", "npz", 1, None, 7),
        ("a", "idx", 1, None, 2),
    ]
