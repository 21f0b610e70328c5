"""The section `data` of an experiment on images: which images, how they are read, and how they are split."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trackdl.spec.base import Strict, added

# The named data sets, each with the number of its classes; `data.catalogue` knows the rest of them.
DATASETS = {"mnist": 10, "fashion": 10, "kmnist": 10, "emnist-letters": 26, "emnist-balanced": 47}
SOURCES = ("dataset", "folder", "idx", "npz", "sklearn")
MAX_CLASSES = 1000
# Keys that only some sources have.
_ONLY = {"test_folder": ("folder",), "test_share": ("folder", "sklearn"), "classes": ("idx", "npz")}


def _constants(value: Any) -> Any:
    """Check `normalise`."""
    if value in (None, "training", "none"):
        return value
    parts = [part if isinstance(part, list) else [part] for part in value] if isinstance(value, list) else []
    numbers = [number for part in parts for number in part]
    plain = all(type(number) in (int, float) and -1e6 < number < 1e6 for number in numbers)
    if [len(part) for part in parts] not in ([1, 1], [3, 3]) or not plain:
        raise ValueError("must be training, none, [mean, std], or for colour [[r, g, b], [r, g, b]]")
    if min(parts[1]) <= 0:
        raise ValueError("must have a standard deviation above 0")
    return value


def _class_names(value: Any) -> Any:
    """Check `classes`."""
    count = len(value) if isinstance(value, list) else value
    if isinstance(value, list) and not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a number or a list of names, each a text")
    if isinstance(value, list) and len(set(value)) < len(value):
        raise ValueError("must be names that differ from each other")
    if value is not None and (type(count) is not int or not 2 <= count <= MAX_CLASSES):
        raise ValueError(f"must be 2 to {MAX_CLASSES:,} classes: their number, or their names in the labels' order")
    return value


class ImageData(Strict):
    """The images of an experiment, from exactly one source.

    Paths are relative to the report's folder.

    Attributes:
        dataset: The name of a data set, which is fetched and checked.
        folder: A folder of class folders with image files, in any format that trackdl reads.
        test_folder: The same for the test images; without it, `test_share` of each class is set aside for the test.
        test_share: The share of the test images in a folder without `test_folder`, or in scikit-learn's data set.
        test_seed: Draws those test images, and the images of `per_class`. It stays the same over several `seeds`.
        idx: A folder with the four IDX files of MNIST's form, gzipped or not.
        npz: A file with the arrays x_train, y_train, x_test, y_test (or train_images, train_labels, ...).
        sklearn: A data set that comes with scikit-learn: 1,797 digits of 8×8 pixels.
        size: The side of the square that each image is scaled to, pixels; by default the images' own.
        colour: Three channels, not one.
        normalise: [mean, std] of pixels as fractions of 255, for colour also [[r, g, b], [r, g, b]]; `training`,
            computed from the training images; or `none`. By default a named data set's usual constants, or `training`.
        rename: New names of classes.
        per_class: At most this many training images of each class.
        classes: The number of classes of `idx` or `npz`, or their names in the labels' order.
        validation: The share of training images in the validation split, drawn by `split_seed`.
        split_seed: Draws the validation split; counted up over `seeds`.
    """

    dataset: Literal["mnist", "fashion", "kmnist", "emnist-letters", "emnist-balanced"] | None = added(None)
    folder: str | None = added(None, min_length=1)
    test_folder: str | None = added(None, min_length=1)
    test_share: float = added(0.2, gt=0, lt=1)
    test_seed: int = added(1, ge=0, lt=2**63)
    idx: str | None = added(None, min_length=1)
    npz: str | None = added(None, min_length=1)
    sklearn: Literal["digits"] | None = added(None)
    size: int | None = added(None, ge=4, le=1024)
    colour: bool = added(False)
    normalise: Annotated[Any, AfterValidator(_constants)] = added(None)
    rename: dict[str, Annotated[str, Field(min_length=1)]] = added({})
    per_class: int | None = added(None, ge=1)
    classes: Annotated[Any, AfterValidator(_class_names)] = added(None)
    validation: float | None = added(None, gt=0, lt=1)
    split_seed: int = added(1, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _keys_fit_the_source(self) -> Self:
        given = [key for key in SOURCES if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"must have exactly one of the keys {', '.join(SOURCES)}, and has {found}")
        for key, sources in _ONLY.items():
            if key in self.model_fields_set and getattr(self, key) is not None and given[0] not in sources:
                raise ValueError(f"{key} is a key of {' and '.join(sources)}; {given[0]} does without it")
        if self.test_folder and "test_share" in self.model_fields_set:
            raise ValueError("must have test_folder or test_share, not both")
        if isinstance(self.normalise, list) and isinstance(self.normalise[0], list) and not self.colour:
            raise ValueError(
                "normalise has three channels, and the images are grey: give [mean, std] or `colour: true`"
            )
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def source(self) -> str:
        """The key in `SOURCES` that is given."""
        return next(key for key in SOURCES if getattr(self, key) is not None)

    @property
    def name(self) -> str:
        """A short name: of the data set, the folder or the file."""
        return self.dataset or self.sklearn or Path(getattr(self, self.source)).stem

    @property
    def channels(self) -> int:
        """The images' channels."""
        return 3 if self.colour else 1

    @property
    def side(self) -> int | None:
        """The images' side, pixels; None where it is known only once they are read."""
        return self.size or (28 if self.dataset else 8 if self.sklearn else None)

    @property
    def class_count(self) -> int | None:
        """The number of classes; None where it is known only once the images are read."""
        if self.dataset or self.sklearn:
            return DATASETS[self.dataset] if self.dataset else 10
        return len(self.classes) if isinstance(self.classes, list) else self.classes
