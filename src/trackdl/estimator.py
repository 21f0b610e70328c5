"""Task 2's network as a scikit-learn classifier, which its tools can clone, search and pickle in memory.

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> images, labels = load_digits(n_class=3, return_X_y=True)
    >>> network = NetEstimator(n_conv_layers=1, conv_filter_size=3, epochs=3, random_state=1)
    >>> search = GridSearchCV(network, {"dense_nodes": [16, 32]}, cv=3, scoring="accuracy")
    >>> print(search.fit(images.reshape(-1, 8, 8), labels).best_score_ > 0.9)
    True

The report's own `NetEstimator` failed in all 288 fits of its search. The arguments, and the defaults of batch size,
epochs and learning rate, are the report's; it never prints the defaults of the network's dimensions, so those of its
first network are used. Its networks have no padding, which makes 24 of the 96 configurations of its search impossible:
they raise ValueError, and a search scores them NaN.
"""

import math
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from trackdl.data.images import normalise
from trackdl.networks.fashion import FashionNet
from trackdl.spec import Optimizer, Training
from trackdl.spec.network import ConvNetwork
from trackdl.training.trainer import Examples, Trainer, outputs_of

# The report's argument names, and the experiment file's keys.
_DIMENSIONS = {
    "n_conv_layers": "conv_layers",
    "conv_filter_size": "filter_size",
    "n_conv_filters": "filters",
    "dense_nodes": "dense_nodes",
    "dropout_rate": "dropout",
    "pool_filter_size": "pool_size",
    "activation_func": "activation",
    "padding": "padding",
}
_SETTINGS = {"batch_size": "batch_size", "epochs": "epochs", "learning_rate": "lr"}


class NetEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """The report's Task 2 classifier: `FashionNet`, trained by Adam on cross-entropy.

    Images are numpy arrays or tensors of shape [n, side, side], [n, 1, side, side] or [n, side²]. uint8 pixels are
    scaled as in the report, from 0..255 to -1..1; any other numbers are used unchanged.

    Args:
        n_conv_layers: The number of convolutions, 1 to 8.
        conv_filter_size: Their filters' side, pixels.
        n_conv_filters: The number of filters of each.
        dense_nodes: Nodes of the hidden linear layer; 0: there is none.
        dropout_rate: The share of those nodes dropped while training.
        pool_filter_size: The pooling's side and stride, pixels, 2 to 16.
        activation_func: One of `networks.fashion.ACTIVATIONS`.
        batch_size: Examples per step.
        epochs: How often each example is used.
        learning_rate: Adam's.
        padding: The convolutions' padding: "none", as in the report; "same", which keeps the image's size; or pixels on
            each side.
        random_state: A seed, or a numpy generator to draw one from; it determines initial weights, order and dropout.

    Attributes:
        classes_: The labels, sorted, [k].
        n_features_in_: The number of pixels of an image, side².
        network_: The trained network, on the CPU.
    """

    def __init__(
        self,
        n_conv_layers: int = 2,
        conv_filter_size: int = 3,
        n_conv_filters: int = 16,
        dense_nodes: int = 128,
        dropout_rate: float = 0.1,
        pool_filter_size: int = 2,
        activation_func: str = "relu",
        batch_size: int = 32,
        epochs: int = 10,
        learning_rate: float = 0.001,
        padding: str = "none",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_conv_layers = n_conv_layers
        self.conv_filter_size = conv_filter_size
        self.n_conv_filters = n_conv_filters
        self.dense_nodes = dense_nodes
        self.dropout_rate = dropout_rate
        self.pool_filter_size = pool_filter_size
        self.activation_func = activation_func
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.padding = padding
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> Self:  # noqa: N803 - scikit-learn's names
        """Train on images and their labels, [n], of any type that scikit-learn accepts as classes.

        Raises:
            ValueError: An argument is out of its range, the arguments are not compatible with each other or with the
                images, or the images are not square.
            Diverged: The loss became NaN or infinite; a search scores this fit NaN.
        """
        pixels, labels = validate_data(self, _flat(X), _plain(y), dtype=[np.float32, np.uint8])
        check_classification_targets(labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        model, settings = self._checked()
        images = self._inputs(pixels)
        classes, side = len(self.classes_), images.shape[-1]
        try:
            trainer = Trainer(lambda: FashionNet(model, classes, side), settings, F.cross_entropy)
        except ValueError as error:
            raise ValueError(f"images of {self.n_features_in_} feature(s) are too small: {error}") from error
        for _ in trainer.fit(Examples(images, torch.from_numpy(targets)), settings.epochs):
            pass
        self.network_ = trainer.model.cpu().eval()
        return self

    def predict_proba(self, X: ArrayLike | Tensor) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class, in the order of `classes_`, [n, k]."""
        check_is_fitted(self)
        pixels = validate_data(self, _flat(X), dtype=[np.float32, np.uint8], reset=False)
        outputs = outputs_of(self.network_, self._inputs(pixels))
        probabilities: NDArray[np.float64] = outputs.double().softmax(dim=1).numpy()
        return probabilities

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:  # noqa: N803
        """Return each image's most probable label, [n]."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    @staticmethod
    def _inputs(pixels: NDArray[Any]) -> Tensor:
        """Return rows of pixels, uint8 or float32 [n, side²], as the network's input, float32 [n, 1, side, side]."""
        side = math.isqrt(pixels.shape[1])
        if side * side != pixels.shape[1]:
            raise ValueError(f"X has {pixels.shape[1]} features, which is not the number of pixels of a square image")
        images = torch.from_numpy(np.ascontiguousarray(pixels)).view(-1, side, side)
        return normalise(images, 0.5, 0.5) if images.dtype == torch.uint8 else images[:, None]

    def _checked(self) -> tuple[ConvNetwork, Training]:
        """Return the arguments as an experiment's sections, which check their ranges."""
        given = {name: _plain_number(value) for name, value in self.get_params(deep=False).items()}
        try:
            model = ConvNetwork.model_validate({ours: given[name] for name, ours in _DIMENSIONS.items()})
            optimizer = Optimizer(name="adam", lr=given["learning_rate"], momentum=0.0)
            seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
            settings = Training(epochs=given["epochs"], batch_size=given["batch_size"], optimizer=optimizer, seed=seed)
        except ValidationError as error:
            raise ValueError("; ".join(_explain(problem) for problem in error.errors())) from error
        return model, settings


def _explain(problem: Any) -> str:
    names = {ours: name for name, ours in (_DIMENSIONS | _SETTINGS).items()}
    where = ", ".join(names[key] for key in map(str, problem["loc"]) if key in names)  # not the members of a union
    return f"{where}: {problem['msg']}, but is {problem['input']!r}"


def _plain_number(value: Any) -> Any:
    """Convert numpy's numbers, which a parameter grid may contain, to Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _plain(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values


def _flat(images: Any) -> Any:
    """Return images of any accepted shape as rows of pixels; scikit-learn checks what has fewer than three axes.

    Raises:
        ValueError: The shape is not one of the accepted ones.
    """
    images = _plain(images)
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if len(shape) < 3:
        return images
    if shape[1:] not in [(shape[-1],) * 2, (1, *(shape[-1],) * 2)]:
        raise ValueError(f"images of shape {list(shape)}: expected [n, side, side], [n, 1, side, side] or [n, side²]")
    return np.reshape(images, (shape[0], -1))
