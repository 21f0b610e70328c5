"""The images of an experiment as examples for its network: to learn from, to validate with, and to test with."""

import hashlib
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from trackdl.data.duplicates import copies, tell
from trackdl.data.images import ImageSet, load_images, look_up, lookup_table, validation_split
from trackdl.data.readers import image_names
from trackdl.errors import InputError
from trackdl.networks.build import ImageNet, make
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.grid import GridSpec
from trackdl.spec.images import ImageData
from trackdl.spec.keys import with_keys
from trackdl.spec.recover import RecoverSpec
from trackdl.system.findings import first_few
from trackdl.training.optim import loss_of
from trackdl.training.trainer import Examples, Trainer

Grid = TypeVar("Grid", bound=GridSpec | RecoverSpec)

_AT_ONCE = 1 << 28  # bytes of normalised images; more are normalised batch by batch


def image_examples(images: ImageSet, pixels: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32) -> Examples:
    """Return images as examples for a network, normalised at once, or batch by batch where that takes much memory.

    Args:
        images: The data set, whose mean and standard deviation normalise.
        pixels: Images of it.
        labels: Their labels.
        dtype: The type of the network's inputs.
    """
    table = lookup_table(images.mean, images.std)
    if pixels.numel() * dtype.itemsize > _AT_ONCE:
        return Examples(pixels, labels, table)
    return Examples(look_up(pixels, table.to(dtype)), labels)


@dataclass(frozen=True)
class Splits:
    """An experiment's splits, normalised.

    Attributes:
        images: All images.
        learn: The training images, in the training's precision.
        validation: The validation split, float32; None without one.
        test: The test images, float32.
        split_digest: Identifies the validation split; without one, the data set.
    """

    images: ImageSet
    learn: Examples
    validation: Examples | None
    test: Examples
    split_digest: str


def split_images(data: ImageData, dtype: torch.dtype) -> Splits:
    """Read and split an experiment's images.

    Args:
        data: The experiment's section.
        dtype: The training's precision; evaluation is always in float32.

    Raises:
        InputError: Files are missing or wrong, or a split would be empty.
    """
    images = load_images(data)

    def examples(pixels: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32) -> Examples:
        return image_examples(images, pixels, labels, dtype)

    test = examples(images.test_images, images.test_labels)
    if data.validation is None:
        return Splits(images, examples(images.train_images, images.train_labels, dtype), None, test, images.digest)
    learn, back = validation_split(len(images.train_labels), data.validation, data.split_seed)
    return Splits(
        images=images,
        learn=examples(images.train_images[learn], images.train_labels[learn], dtype),
        validation=examples(images.train_images[back], images.train_labels[back]),
        test=test,
        split_digest=hashlib.sha256(images.digest.encode() + back.numpy().tobytes()).hexdigest(),
    )


def apart(data: ImageData, splits: Splits) -> tuple[Splits, dict[str, list[str]]]:
    """Leave copies of training images out of the validation split and the test; data sets stay as they are published.

    Returns:
        The splits, and the names of what was left out of "val" and "test".

    Raises:
        InputError: Nothing is left of one of them.
    """
    images, left = splits.images, dict[str, list[str]]()
    if data.dataset or data.sklearn:
        return splits, left
    trained, tested = image_names(images)

    def kept(part: str, pixels: Tensor, names: list[str], known: Tensor, others: list[str]) -> Tensor:
        found = copies(pixels, known)
        left[part] = tell(found, names, others, f"{part} images are copies of training images, and are not counted")
        if len(found) == len(names):
            raise InputError(
                f"{data.name}: all {len(names)} {part} images are copies of training images, {first_few(left[part])}:"
                " a network cannot be tested on what it has learnt"
            )
        return torch.tensor([place for place in range(len(names)) if place not in found])

    if splits.validation:
        learn, back = validation_split(len(trained), data.validation, data.split_seed)
        named = [[trained[place] for place in places.tolist()] for places in (back, learn)]
        places = kept("val", images.train_images[back], named[0], images.train_images[learn], named[1])
        splits = replace(splits, validation=splits.validation.select(places))
    places = kept("test", images.test_images, tested, images.train_images, trained)
    images = replace(
        images,
        test_images=images.test_images[places],
        test_labels=images.test_labels[places],
        files=(images.files[0], images.files[1] and [images.files[1][place] for place in places.tolist()]),
    )
    return replace(splits, images=images, test=splits.test.select(places)), left


def check_apart(data: ImageData) -> None:
    """Refuse images of the user's for a study, whose fits cannot leave any out, if two of them have the same pixels.

    Raises:
        InputError: Training images have, or a test image and a training image.
    """
    if data.dataset or data.sklearn:
        return
    images = load_images(data)
    trained, tested = image_names(images)
    found = [
        (names[place], trained[other])
        for names, pixels, known in (
            (trained, images.train_images, None),
            (tested, images.test_images, images.train_images),
        )
        for place, other in copies(pixels, known, near=False).items()
    ]
    if found:
        words = first_few([f"{name} (as {other})" for name, other in found])
        raise InputError(
            f"{data.name}: images are there twice, so what a fit is judged by it may have learnt: {words}."
            " Leave one of each out"
        )


def with_size(experiment: ClassifySpec) -> ClassifySpec:
    """Return an experiment whose images' size is known, so that it is known which networks can take them.

    Raises:
        InputError: As `load_images`.
    """
    if experiment.data.side is not None:
        return experiment
    return with_keys(experiment, {"data.size": load_images(experiment.data).side})


def grid_with_size(grid: Grid) -> Grid:
    """Return a grid or a recovery whose images' size is known, so that it is known which of its cells are networks.

    Raises:
        InputError: As `load_images`.
    """
    sized = with_size(grid.experiment)
    return grid if sized is grid.experiment else with_keys(grid, {"experiment": sized.model_dump(by_alias=True)})


def network_for(experiment: ClassifySpec, images: ImageSet) -> ImageNet:
    """Build an experiment's network for its images.

    Raises:
        InputError: It is no network for images of this size.
    """
    try:
        return make(experiment.network, images.channels, images.side, len(images.classes))
    except ValueError as error:
        raise InputError(f"{experiment.name}: key 'network': {error}") from error


def trainer_for(experiment: ClassifySpec, images: ImageSet) -> Trainer:
    """Return the trainer of an experiment's network.

    Raises:
        InputError: As `network_for`.
    """
    loss = loss_of(experiment.training, network_for(experiment, images))
    return Trainer(lambda: network_for(experiment, images), experiment.training, loss)
