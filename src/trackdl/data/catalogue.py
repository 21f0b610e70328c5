"""The named image data sets: what their labels mean and how their images are normalised.

A new one needs an entry here, its name in `spec.images`, and its files in `download.datasets`.
"""

import string
from dataclasses import dataclass
from typing import Literal

Preprocessing = Literal["mnist", "fashion", "square", "square-dark"]  # see `serving.cards`


@dataclass(frozen=True)
class NamedImages:
    """A data set of grey images of 28×28 pixels.

    Attributes:
        classes: The classes' names; a label is an index of them.
        mean_std: The usual normalisation, of pixels as fractions of 255; empty: computed from the training images.
        source: The data set's home page.
        preprocessing: How a served model makes an image file like those of the data set.
        stored: Its key in `download.datasets`, and how the names of its files begin there.
        transposed: Whether rows and columns of its images are exchanged in its files.
        first_label: The label of the first class in its files.
    """

    classes: tuple[str, ...]
    mean_std: tuple[float, ...]
    source: str
    preprocessing: Preprocessing
    stored: tuple[str, str]
    transposed: bool = False
    first_label: int = 0


_EMNIST = "https://www.nist.gov/itl/products-and-services/emnist-dataset"

CATALOGUE = {  # by the names in `spec.images`
    "mnist": NamedImages(
        classes=tuple(string.digits),
        mean_std=(0.1307, 0.3081),
        source="http://yann.lecun.com/exdb/mnist/",
        preprocessing="mnist",
        stored=("mnist", ""),
    ),
    "fashion": NamedImages(
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        mean_std=(0.5, 0.5),
        source="https://github.com/zalandoresearch/fashion-mnist",
        preprocessing="fashion",
        stored=("fashion", ""),
    ),
    "kmnist": NamedImages(
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        mean_std=(),
        source="http://codh.rois.ac.jp/kmnist/",
        preprocessing="square-dark",
        stored=("kmnist", ""),
    ),
    "emnist-letters": NamedImages(  # upper and lower case together
        classes=tuple(string.ascii_lowercase),
        mean_std=(),
        source=_EMNIST,
        preprocessing="mnist",
        stored=("emnist", "emnist-letters-"),
        transposed=True,
        first_label=1,
    ),
    "emnist-balanced": NamedImages(  # a lower-case letter that looks like its upper case is one class with it
        classes=(*string.digits, *string.ascii_uppercase, *"abdefghnqrt"),
        mean_std=(),
        source=_EMNIST,
        preprocessing="mnist",
        stored=("emnist", "emnist-balanced-"),
        transposed=True,
    ),
}
