"""A training in a run: its epochs as metrics, its checkpoints as artifacts, and how it is resumed."""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from trackdl.errors import InputError, TrackdlError
from trackdl.spec import ClassifySpec
from trackdl.tracking import pages, runs
from trackdl.tracking.runs import Run
from trackdl.training.trainer import EpochResult, Evaluation, Trainer

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
HISTORY = "history"
PREDICTIONS = "predictions"
LOGGED_EACH_EPOCH = (
    *(f"{part}_{metric}" for part in ("train", "val", "test") for metric in ("loss", "accuracy")),
    "fit_seconds",
    "images_per_second",
)


@contextmanager
def training_run(experiment: ClassifySpec, trainer: Trainer, resume: str | None) -> Iterator[Run]:
    """Open the run that a training is logged in.

    With `resume`, a run's id, the trainer is restored from that run's last complete checkpoint. An unfinished run is
    continued; a finished one stays as it is, and a new run continues it, with a copy of its history and checkpoints.

    Raises:
        InputError: The run to resume does not exist, has no complete checkpoint, or has nothing left to train.
    """
    before = Run(resume) if resume else None
    finished = before is not None and before.info.info.status == "FINISHED"
    if before:
        _check_resumable(before, restore(before, trainer), experiment.training.epochs, finished=finished)
    with runs.start(experiment, resume=None if finished else before) as run:
        log_setting(run, trainer)
        if before and finished:
            _adopt(before, run, trainer.epoch)
        try:
            yield run
        except KeyboardInterrupt as error:
            if trainer.epoch > 1 or before:  # the first epoch's checkpoint may be missing
                runs.goes_on(error, experiment.name, runs.resuming(run))
            raise


def check_split(before: Run, experiment: ClassifySpec) -> None:
    """Refuse to resume a run with a validation split that holds images which it has learnt from.

    Raises:
        InputError: The experiment's split is drawn by another seed than the run's.
    """
    asked, had = str(experiment.data.split_seed), before.info.data.params.get("data.split_seed")
    if experiment.data.validation and had not in (None, asked):
        raise InputError(
            f"run {before.id} learnt from the split that data.split_seed: {had} draws, and {asked} draws another: "
            "leave the key as it was, or begin anew without --resume"
        )


def _check_resumable(before: Run, reached: int, epochs: int, *, finished: bool) -> None:
    if reached > epochs or (finished and reached == epochs):
        raise InputError(
            f"run {before.id} has reached epoch {reached} of {epochs}: nothing is left to train. "
            f"Ask for more with --epochs, e.g. --epochs {reached + 5}"
        )
    log.info("run %s is resumed after epoch %d", before.id, reached)


def _adopt(before: Run, run: Run, reached: int) -> None:
    """Copy the epochs of a finished run to the run that continues it."""
    run.tags({"trackdl.resumed_from": before.id})
    for name in pages.headlines_first(LOGGED_EACH_EPOCH):
        run.curve(name, [point for point in before.history(name) if point[0] <= reached])
    run.curve("batch_loss", before.history("batch_loss"))
    for kept in (CHECKPOINTS, HISTORY, PREDICTIONS):
        for path in before.artifacts(kept):
            with tempfile.TemporaryDirectory() as folder:
                run.file(before.fetch(path, Path(folder)), kept)


def log_setting(run: Run, trainer: Trainer) -> None:
    """Log the device and precision that `auto` stands for on this machine, and the number of threads."""
    run.tags(
        {
            "trackdl.device": trainer.device.type,
            "trackdl.precision": str(trainer.dtype).removeprefix("torch."),
            "trackdl.threads": torch.get_num_threads(),
        }
    )


def log_epoch(run: Run, trainer: Trainer, result: EpochResult, measured: Mapping[str, float]) -> None:
    """Log one epoch: its within-epoch curve and, at its step, its metrics; `measured` overrides those of its names."""
    metrics = {
        "train_loss": result.train_loss,
        "train_accuracy": result.train_accuracy,
        "fit_seconds": trainer.seconds,
        "images_per_second": result.examples / result.seconds,
        **measured,
    }
    run.metrics(metrics, step=result.epoch)
    run.curve("batch_loss", result.batch_losses)


def log_batches(run: Run, result: EpochResult) -> None:
    """Log every batch's loss, number of right predictions and size, as `history/epoch-N.safetensors`."""
    _log_tensors(run, HISTORY, f"epoch-{result.epoch:05d}", _batches(result))


def log_all_batches(run: Run, results: Sequence[EpochResult]) -> None:
    """Log the same for several epochs, [epochs, batches], and `epochs`, [epochs], as `history/batches.safetensors`."""
    batches = [_batches(result) for result in results]
    kept = {key: torch.stack([epoch[key] for epoch in batches]) for key in batches[0]}
    _log_tensors(run, HISTORY, "batches", kept | {"epochs": torch.tensor([result.epoch for result in results])})


def _batches(result: EpochResult) -> dict[str, torch.Tensor]:
    kept = {"losses": result.losses, "right": result.right, "sizes": result.sizes}
    return {key: torch.from_numpy(value) for key, value in kept.items()}


def log_outputs(run: Run, name: str, outputs: Mapping[int, torch.Tensor], targets: torch.Tensor) -> None:
    """Log a network's outputs by epoch, float32 [n, ...] each, as `predictions/NAME.safetensors`.

    The file has outputs [epochs, n, ...], epochs [epochs], and targets [n].
    """
    stacked = torch.stack(list(outputs.values()))
    epochs = torch.tensor(list(outputs), dtype=torch.int64)
    _log_tensors(run, PREDICTIONS, name, {"outputs": stacked, "epochs": epochs, "targets": targets})


def log_predictions(run: Run, name: str, evaluation: Evaluation, targets: torch.Tensor) -> None:
    """Log a network's outputs, float32 [n, ...], and the targets [n], as `predictions/NAME.safetensors`."""
    _log_tensors(run, PREDICTIONS, name, {"outputs": evaluation.outputs, "targets": targets})


def _log_tensors(run: Run, folder: str, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    with run.made(f"{folder}/{name}.safetensors") as path:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)


def save_checkpoint(run: Run, trainer: Trainer) -> None:
    """Log the training's complete state as the checkpoint of its epoch."""
    with run.made(_checkpoint(trainer.epoch)) as path:
        trainer.save(path)


def _checkpoint(epoch: int) -> str:
    return f"{CHECKPOINTS}/epoch-{epoch:05d}.safetensors"


def restore_epoch(run: Run, trainer: Trainer, epoch: int) -> None:
    """Restore a training's state after one of the run's epochs.

    Raises:
        TrackdlError: The epoch's checkpoint is missing or truncated.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer.load(run.fetch(_checkpoint(epoch), Path(folder)))


def restore(run: Run, trainer: Trainer) -> int:
    """Restore a training from a run's last complete checkpoint, and return the epoch that it had reached.

    Raises:
        InputError: The run has no checkpoint, or none that is complete and of this network.
    """
    paths = run.artifacts(CHECKPOINTS)
    for path in reversed(paths):
        with tempfile.TemporaryDirectory() as folder:
            try:
                trainer.load(run.fetch(path, Path(folder)))
            except TrackdlError as error:
                # A run that is killed while a file is copied leaves it truncated; that of the epoch before is complete.
                log.warning("run %s: %s is skipped: %s", run.id, path, error)
                continue
            return trainer.epoch
    found = "none of its checkpoints is complete" if paths else "it has no checkpoint"
    raise InputError(
        f"run {run.id} cannot be resumed: {found}. `--resume` takes a run of this task that has finished an epoch"
    )


def log_left_out(run: Run, left_out: Mapping[str, Sequence[str]]) -> None:
    """Log which images were left out as copies of training images, and how many, by the part that they were in."""
    if any(left_out.values()):
        run.table(left_out, "left_out.json")
        run.metrics({f"left_out_{part}": float(len(names)) for part, names in left_out.items()})
