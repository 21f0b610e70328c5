"""Fits that may diverge: those that do are kept as fits without numbers, so that the others can still be judged."""

from collections.abc import Callable

from trackdl.data.images import load_images
from trackdl.errors import Diverged
from trackdl.networks.build import count_parameters
from trackdl.studies.grid.fits import FoldResult, FoldTask
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.image_splits import network_for


def or_diverged(fit: Callable[[FoldTask], FoldResult], task: FoldTask) -> FoldResult:
    """Return what `fit` returns; if the training diverges, a result whose whole history is NaN.

    Raises:
        TrackdlError: The data are not available, or the training failed in another way.
    """
    try:
        return fit(task)
    except Diverged:
        experiment = task.experiment.nth(task.fold)
        training, held = experiment.training, experiment.data.validation is not None
        names = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
        names += [f"val_{kind}{how}" for how in ("", "_dropout") for kind in ("loss", "accuracy")] if held else []
        precision = resolve_precision(training.precision, resolve_device(training.device))
        return FoldResult(
            history={name: [float("nan")] * training.epochs for name in names},
            parameters=count_parameters(network_for(experiment, load_images(experiment.data))),
            fit_seconds=0.0,
            cpu_seconds=0.0,
            seconds=0.0,
            seed=training.seed,
            precision=str(precision).removeprefix("torch."),
            host="",
        )
