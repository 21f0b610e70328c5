"""The image data sets: what their labels mean and how their images are normalised.

A new one needs an entry here, and its files in `download.datasets`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ImageData:
    """A data set of grey images of 28×28 pixels.

    Attributes:
        classes: The classes' names; a label is an index of them.
        mean_std: The report's normalisation, of pixels as fractions of 255.
        source: The data set's home page.
        preprocessing: How a served model makes an image file like those of the data set; see `serving.cards`.
    """

    classes: tuple[str, ...]
    mean_std: tuple[float, float]
    source: str
    preprocessing: Literal["mnist", "fashion"]


MNIST = ImageData(
    classes=tuple("0123456789"),
    mean_std=(0.1307, 0.3081),
    source="http://yann.lecun.com/exdb/mnist/",
    preprocessing="mnist",
)
FASHION = ImageData(
    classes=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    mean_std=(0.5, 0.5),
    source="https://github.com/zalandoresearch/fashion-mnist",
    preprocessing="fashion",
)
CATALOGUE = {"mnist": MNIST, "fashion": FASHION}  # by the names in `download.datasets`
