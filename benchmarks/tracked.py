"""The two sides that show what tracking costs: Task 1's fit with everything that the task records, and with nothing."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from sides import WORKS, Clock, Job
from torch import nn

from trackdl import spec
from trackdl.data.images import ImageSet, load_images, normalise
from trackdl.spec import MnistSpec
from trackdl.system.paths import project_root
from trackdl.tasks import mnist
from trackdl.tracking import runs, store
from trackdl.tracking import training_runs as epochs
from trackdl.tracking.runs import Run
from trackdl.training.trainer import Evaluation, Examples, Trainer


def fit_untracked(job: Job, clock: Clock) -> nn.Module:
    """Fit Task 1's network, tested before training and after each epoch, and keep no record."""
    images, experiment = _prepare(job)
    with clock("fit"):
        trainer, train, test = _start(images, experiment, job.limit)
        trainer.evaluate(test)
        for _ in trainer.fit(train, job.epochs):
            trainer.evaluate(test)
    return trainer.model


def fit_tracked(job: Job, clock: Clock) -> nn.Module:
    """Fit as `fit_untracked` with the task's records, in a store of its own; then draw the pictures and register.

    Creating the store, once on a machine, is outside of every clock.
    """
    images, experiment = _prepare(job)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        place = (Path(folder) / "artifacts").as_uri()
        os.environ["MLFLOW_EXPERIMENT_ID"] = store.client().create_experiment("benchmark", artifact_location=place)
        with clock("fit"), ExitStack() as stack:
            trainer, train, test = _start(images, experiment, job.limit)
            with clock("start"):
                run = stack.enter_context(runs.start(experiment, name="benchmark"))
                epochs.log_setting(run, trainer)
                mnist._log_inputs(run, images)
            evaluation = _test(run, trainer, test, clock)
            for result in trainer.fit(train, job.epochs):
                with clock("training metrics"):
                    epochs.log_epoch(run, trainer, result, {})
                evaluation = _test(run, trainer, test, clock)
                with clock("checkpoints"):
                    epochs.save_checkpoint(run, trainer)
            with clock("end"):
                stack.close()
        with clock("pictures"):
            mnist._draw(run, images, evaluation, "")
        with clock("registration"):
            mnist.register(run, trainer.model, trainer.epoch, evaluation, images)
            run.send()
    return trainer.model


def _prepare(job: Job) -> tuple[ImageSet, MnistSpec]:
    keys = {"training.epochs": job.epochs, "training.seed": job.seed}
    return load_images("mnist"), spec.load(project_root() / "experiments" / "mnist.yaml", MnistSpec, keys)


def _start(images: ImageSet, experiment: MnistSpec, limit: int | None) -> tuple[Trainer, Examples, Examples]:
    work = WORKS["mnist"]
    train = Examples(normalise(images.train_images[:limit], *work.mean_std), images.train_labels[:limit])
    test = Examples(normalise(images.test_images, *work.mean_std), images.test_labels)
    return Trainer(work.network, experiment.training, work.loss), train, test


def _test(run: Run, trainer: Trainer, test: Examples, clock: Clock) -> Evaluation:
    evaluation = trainer.evaluate(test)
    with clock("test metrics"):
        run.metrics({"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}, step=trainer.epoch)
    with clock("predictions"):
        epochs.log_predictions(run, f"test-epoch-{trainer.epoch:05d}", evaluation, test.targets)
    return evaluation
