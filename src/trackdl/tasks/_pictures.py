"""The pictures of a task that trains on images: its learning curves, its answers, and its mistakes.

They stand in a module of their own so that the code digest (`system.code_digest`) does not cover them: a changed
picture leaves finished runs valid.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import confusion_matrix
from torch import Tensor

from trackdl.data.images import ImageSet
from trackdl.plots import answers
from trackdl.plots import common as plots
from trackdl.serving import as_pixels
from trackdl.spec import ClassifySpec
from trackdl.tracking.runs import Run
from trackdl.training.trainer import Evaluation

CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
_FIRST, _WORST = 9, 18  # images


def draw_epochs(run: Run, experiment: ClassifySpec, kept: int | None) -> None:
    """Log the learning curves per epoch, with the report's numbers; `kept` is the epoch whose weights were kept."""
    reports: dict[str, list[tuple[int, float]]] = {metric: [] for metric in CURVES}
    for item in experiment.numbers:
        if item.metric in reports and item.epoch is not None and not item.series:
            reports[item.metric].append((item.epoch, item.value))
    ours = {metric: run.history(metric) for metric in CURVES}
    one = experiment.seeds == 1
    whose = f"seed {experiment.training.seed}" if one else f"means of {experiment.seeds} seeds"
    figure = plots.epoch_curves(ours, reports, kept, f"{experiment.label}, {whose}")
    run.figure(figure, "pictures/training_curve.png")


def draw_losses(run: Run, experiment: ClassifySpec, images: ImageSet, suffix: str) -> None:
    """Log the loss per batch and on the test images so far."""
    points = [(epoch * len(images.train_labels), loss) for epoch, loss in run.history("test_loss")]
    curve = plots.loss_curves(run.history("batch_loss"), points, f"{experiment.label}: training")
    run.figure(curve, f"pictures/training_curve{suffix}.png")


def draw_answers(run: Run, images: ImageSet, tested: Evaluation) -> None:
    """Log the first test images with their answers, the mistakes that the network was surest of, and the confusion."""
    truth = images.test_labels
    sure, said = tested.outputs.double().softmax(dim=1).max(dim=1)
    title = "The first test images; wrong answers framed"
    draw_answered(run, images.test_images[:_FIRST], truth, said, images.classes, title, "test_images")
    wrong = (said != truth).nonzero().flatten()
    worst = wrong[sure[wrong].argsort(descending=True, stable=True)][:_WORST].tolist()
    if worst:
        words = [(images.classes[truth[place]], images.classes[said[place]], float(sure[place])) for place in worst]
        figure = answers.mistakes(as_pixels(images.test_images[worst]), words, "Test images: the surest mistakes")
        run.figure(figure, "pictures/mistakes.png")
    counts = confusion_matrix(truth, said, labels=np.arange(len(images.classes)))
    title = f"Test images: {tested.correct:,} of {tested.total:,} right"
    run.figure(answers.confusion(counts, images.classes, title), "pictures/confusion.png")


def draw_answered(
    run: Run, shown: Tensor, truth: Tensor, said: Tensor, classes: Sequence[str], title: str, name: str
) -> None:
    """Log images with their answers, nine in a row or three; of a wrong one, which is marked, the class too.

    Args:
        run: The open run.
        shown: The images, [n, channels, height, width].
        truth: The classes of these images, and maybe of more.
        said: The answers to them.
        classes: The names of the classes.
        title: What the images are.
        name: What the picture is called.
    """
    pairs = list(zip(truth[: len(shown)].tolist(), said[: len(shown)].tolist(), strict=True))
    names = [plots.short(name) for name in classes]
    captions = [names[true] if true == answer else f"{names[true]}, not\n{names[answer]}" for true, answer in pairs]
    wrong = [place for place, (true, answer) in enumerate(pairs) if true != answer]
    figure = plots.image_grid(as_pixels(shown), captions, title, 9 if len(shown) > _FIRST else 3, wrong)
    run.figure(figure, f"pictures/{name}.png")
