"""What a registered network learnt from and is tested on, read again, and what of it is nearest to an image."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trackdl import spec
from trackdl.data.greek import letters as greek
from trackdl.data.images import load_images, validation_split
from trackdl.data.tables.table import Table, load_table
from trackdl.errors import DataMissing, InputError
from trackdl.serving import ServedImages, ServedTable
from trackdl.serving.insides import features, reduced
from trackdl.spec import ClassifySpec, Experiment, TableSpec, TransferSpec
from trackdl.system.paths import in_report
from trackdl.tracking import runs
from trackdl.tracking.runs import Run
from trackdl.training import image_splits

_BATCH, _BATCH_NUMBERS = 256, 4_000_000  # images that a network takes at a time, and numbers in them
# Training images that are kept to compare others with, and numbers in the larger of their features and their pixels.
_MOST, _MOST_NUMBERS = 10_000, 1 << 25


@dataclass(frozen=True, eq=False)
class Images:
    """What a network learnt from and is tested on; images are bytes, or fractions as `ServedImages.to_input` has them.

    `unseen` says whether it is tested on other images than those that it learnt from; `synthetic`, whether they are the
    letters drawn from fonts that stand for the report's where those cannot be had.
    """

    learnt: Tensor
    learnt_labels: Tensor
    tested: Tensor
    labels: Tensor
    unseen: bool
    synthetic: bool = False


@dataclass(frozen=True, eq=False)
class Compared:
    """Training images as others are compared with them: all, or some of them drawn at random.

    Attributes:
        features: What the network's head takes for each, float32 [n, width].
        shown: The images, reduced to what a page shows, as fractions of 255: uint8 [n, channels, height, width].
        labels: Their classes' indices.
        total: How many training images there are.
        synthetic: As of `Images`.
    """

    features: Tensor
    shown: Tensor
    labels: Tensor
    total: int
    synthetic: bool


def read(run_id: str, served: ServedImages | ServedTable, *, tested: bool = True) -> Images | Table:
    """Return the data that a version was trained and tested on, by the experiment that its run logged.

    Args:
        run_id: The run.
        served: The version.
        tested: Whether the test images are needed, from which copies of training images are left out; without them, a
            transfer's test folder is not read.

    Raises:
        InputError: There is no such experiment, or the data are gone or others now.
        TrackdlError: They are not here, and cannot be fetched.
    """
    with runs.download(f"runs:/{run_id}/experiment.yaml") as path:
        experiment = spec.logged(path.read_text(encoding="utf-8"), f"run {run_id}'s experiment")
    try:
        data, classes, digest = _read(experiment, served, tested=tested)
    except (InputError, OSError):
        runs.check_report(run_id)  # another report's relative paths lead nowhere
        raise
    before = Run(run_id).info.data.tags.get("trackdl.data_digest", digest)
    if digest != before and isinstance(data, Images) and data.synthetic:
        raise DataMissing("the letters that it learnt from are not on this machine")
    if digest != before or list(classes) != served.card.classes:
        raise InputError("they are here, but have changed since: their digest or their classes are others")
    return data


def _read(
    experiment: Experiment, served: ServedImages | ServedTable, *, tested: bool
) -> tuple[Images | Table, Sequence[str], str]:
    """Return an experiment's data, their classes and their digest."""
    if isinstance(experiment, TableSpec) and isinstance(served, ServedTable):
        table = load_table(experiment.data, experiment.training.seed)
        return table, table.schema.classes, table.digest
    if isinstance(experiment, ClassifySpec) and isinstance(served, ServedImages):
        if tested:
            splits = image_splits.split_images(experiment.data, torch.float32)
            images = image_splits.apart(experiment.data, splits)[0].images
        else:
            images = load_images(experiment.data)
        learn, _ = validation_split(len(images.train_labels), experiment.data.validation, experiment.data.split_seed)
        learnt = images.train_images[learn], images.train_labels[learn]
        return Images(*learnt, images.test_images, images.test_labels, unseen=True), images.classes, images.digest
    if isinstance(experiment, TransferSpec) and isinstance(served, ServedImages):
        data, colour, prepare = experiment.data, served.card.colour, served.to_input
        test_folder = data.test_folder if tested else None
        folders = [in_report(folder) for folder in (data.folder, test_folder) if folder]
        # A class may have its old name in the test folder alone.
        rename = {old: new for old, new in data.rename.items() if any((folder / old).is_dir() for folder in folders)}
        of_folders = greek.read_folders(folders, rename, prepare, colour=colour) if folders else []
        letters = of_folders[0] if data.folder else greek.load_letters(prepare=prepare, colour=colour)
        letters, unseen, _ = greek.apart(letters, of_folders[-1] if test_folder else None)
        learnt, test = ((one.inputs, one.labels) for one in (letters, unseen or letters))
        synthetic = letters.origin == "synthetic"
        drawn = Images(*learnt, *test, unseen=unseen is not None, synthetic=synthetic)
        return drawn, letters.classes, letters.digest
    raise InputError(f"its run is of the kind {experiment.task}, which has no data for such a model")


def batches(served: ServedImages, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what the head takes, and the outputs, batch by batch."""
    size = max(1, min(_BATCH, _BATCH_NUMBERS // images[0].numel()))
    for batch in torch.split(images, size):
        yield features(served.model, served.card.normalise(fractions(batch)))


def fractions(images: Tensor) -> Tensor:
    """Return images as `ServedImages.to_input` has them."""
    scaled = images / 255 if images.dtype == torch.uint8 else images
    return scaled if scaled.ndim == 4 else scaled.unsqueeze(1)


def nearest(mine: Tensor, others: Iterable[Tensor], count: int, *, itself: bool = False) -> tuple[Tensor, Tensor]:
    """Return the distances and the places of the examples that are nearest to one, nearest first.

    Args:
        mine: The one's features, [1, width].
        others: The examples' features, batch by batch.
        count: How many to return at most.
        itself: Whether the first of the examples is the one itself, and is left out.
    """
    distances = torch.cat([(each - mine).norm(dim=1) for each in others])
    if itself:
        distances[0] = torch.inf
    near, places = distances.topk(min(count, len(distances) - itself), largest=False)
    return near, places


def compared(served: ServedImages, images: Images) -> Compared:
    """Compute the features of a network's training images, of so many that memory and time are bounded."""
    (one, _), *_ = batches(served, images.learnt[:1])
    most = min(_MOST, max(1, _MOST_NUMBERS // max(one.numel(), images.learnt[0].numel())))
    places = torch.randperm(len(images.learnt), generator=torch.Generator().manual_seed(0))[:most]
    learnt = images.learnt[places]
    return Compared(
        torch.cat([each for each, _ in batches(served, learnt)]),
        (reduced(fractions(learnt)) * 255).round().to(torch.uint8),
        images.learnt_labels[places],
        len(images.learnt),
        images.synthetic,
    )
