"""The images of an experiment as examples for its network: to learn from, to validate with, and to test with."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from trackdl.data.images import ImageSet, load_images, look_up, lookup_table, validation_split
from trackdl.errors import InputError
from trackdl.networks.build import ImageNet, make
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.grid import GridSpec
from trackdl.spec.images import ImageData
from trackdl.spec.keys import with_keys
from trackdl.training.optim import loss_of
from trackdl.training.trainer import Examples, Trainer

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


def with_size(experiment: ClassifySpec) -> ClassifySpec:
    """Return an experiment whose images' size is known, so that it is known which networks can take them.

    Raises:
        InputError: As `load_images`.
    """
    if experiment.data.side is not None:
        return experiment
    return with_keys(experiment, {"data.size": load_images(experiment.data).side})


def grid_with_size(grid: GridSpec) -> GridSpec:
    """Return a grid whose images' size is known, so that it is known which of its cells are networks.

    Raises:
        InputError: As `load_images`.
    """
    sized = with_size(grid.experiment)
    return grid if sized is grid.experiment else with_keys(grid, {"experiment": sized.model_dump()})


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
