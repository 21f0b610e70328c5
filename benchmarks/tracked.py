"""The two sides that show what tracking costs: Task 1's fit with everything that the task records, and with nothing."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch
from sides import WORKS, Clock, Job
from torch import nn

from trackdl import spec
from trackdl.spec import ClassifySpec
from trackdl.system.paths import project_root
from trackdl.tasks import _pictures, classify
from trackdl.tracking import runs, store
from trackdl.tracking import training_runs as epochs
from trackdl.tracking.runs import Run
from trackdl.training.image_splits import Splits, split_images
from trackdl.training.trainer import Evaluation, Examples, Trainer


def fit_untracked(job: Job, clock: Clock) -> nn.Module:
    """Fit Task 1's network, tested before training and after each epoch, and keep no record."""
    splits, experiment = _prepare(job)
    with clock("fit"):
        trainer, train, test = _start(splits, experiment, job.limit)
        trainer.evaluate(test)
        for _ in trainer.fit(train, job.epochs):
            trainer.evaluate(test)
    return trainer.model


def fit_tracked(job: Job, clock: Clock) -> nn.Module:
    """Fit as `fit_untracked` with the task's records, in a store of its own; then draw the pictures and register.

    Creating the store, once on a machine, is outside of every clock.
    """
    splits, experiment = _prepare(job)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        place = (Path(folder) / "artifacts").as_uri()
        os.environ["MLFLOW_EXPERIMENT_ID"] = store.client().create_experiment("benchmark", artifact_location=place)
        with clock("fit"), ExitStack() as stack:
            trainer, train, test = _start(splits, experiment, job.limit)
            with clock("start"):
                run = stack.enter_context(runs.start(experiment, name="benchmark"))
                epochs.log_setting(run, trainer)
                classify._log_inputs(run, experiment, splits)
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
            _pictures.draw_answers(run, splits.images, evaluation)
        with clock("registration"):
            classify.register(run, experiment, trainer.model, trainer.epoch, {"test": evaluation}, splits)
            run.send()
    return trainer.model


def _prepare(job: Job) -> tuple[Splits, ClassifySpec]:
    keys = {"training.epochs": job.epochs, "training.seed": job.seed}
    experiment = spec.load(project_root() / "experiments" / "mnist.yaml", ClassifySpec, keys)
    return split_images(experiment.data, torch.float32), experiment


def _start(splits: Splits, experiment: ClassifySpec, limit: int | None) -> tuple[Trainer, Examples, Examples]:
    work, learn = WORKS["mnist"], splits.learn
    train = Examples(learn.inputs[:limit], learn.targets[:limit])
    return Trainer(work.network, experiment.training, work.loss), train, splits.test


def _test(run: Run, trainer: Trainer, test: Examples, clock: Clock) -> Evaluation:
    evaluation = trainer.evaluate(test)
    with clock("test metrics"):
        run.metrics({"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}, step=trainer.epoch)
    with clock("predictions"):
        epochs.log_predictions(run, f"test-epoch-{trainer.epoch:05d}", evaluation, test.targets)
    return evaluation
