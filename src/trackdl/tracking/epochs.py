"""A training in a run: its epochs as metrics, its checkpoints as artifacts, and how it is taken up again."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from trackdl.errors import InputError, TrackdlError
from trackdl.tracking.runs import Run
from trackdl.training import EpochResult, Evaluation, Trainer

__all__ = ["log_epoch", "log_predictions", "log_setting", "restore", "save_checkpoint"]

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


def log_setting(run: Run, trainer: Trainer) -> None:
    """Record what `auto` came to on this machine."""
    run.tags(
        {
            "trackdl.device": trainer.device.type,
            "trackdl.precision": str(trainer.dtype).removeprefix("torch."),
            "trackdl.threads": torch.get_num_threads(),
        }
    )


def log_epoch(run: Run, trainer: Trainer, result: EpochResult, measured: Mapping[str, float]) -> None:
    """Log one epoch: its within-epoch curve and, at its step, its metrics.

    Args:
        run: The open run.
        trainer: The training.
        result: The epoch's result.
        measured: Further metrics; they replace those of the epoch where the names are the same.
    """
    metrics = {
        "train_loss": result.train_loss,
        "train_accuracy": result.train_accuracy,
        "fit_seconds": trainer.seconds,
        "images_per_second": result.examples / result.seconds,
        **measured,
    }
    run.curve("batch_loss", result.batch_losses)
    run.metrics(metrics, step=result.epoch)


def log_predictions(run: Run, name: str, evaluation: Evaluation, targets: torch.Tensor) -> None:
    """Log a network's outputs, float32 [n, ...], beside the targets [n], as `predictions/NAME.safetensors`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.safetensors"
        save_file({"outputs": evaluation.outputs.contiguous(), "targets": targets.contiguous()}, path)
        run.file(path, "predictions")


def save_checkpoint(run: Run, trainer: Trainer) -> None:
    """Keep the training's whole state with the run, one file an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"epoch-{trainer.epoch:05d}.safetensors"
        trainer.save(path)
        run.file(path, CHECKPOINTS)


def restore(run: Run, trainer: Trainer) -> int:
    """Take up a training from the last whole checkpoint of a run.

    Returns:
        The epoch it had reached.

    Raises:
        InputError: The run has no checkpoint, or none that is whole and of this network.
    """
    paths = run.artifacts(CHECKPOINTS)
    for path in reversed(paths):
        with tempfile.TemporaryDirectory() as folder:
            try:
                trainer.load(run.fetch(path, Path(folder)))
            except TrackdlError as error:
                # A run killed while a file was copied leaves it torn; the epoch before is whole.
                log.warning("run %s: %s is passed over: %s", run.id, path, error)
                continue
            return trainer.epoch
    found = "none of its checkpoints is whole" if paths else "it has no checkpoint"
    raise InputError(
        f"run {run.id} cannot be resumed: {found}. `--resume` takes a run of this task that ended an epoch"
    )
