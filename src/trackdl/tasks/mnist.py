"""Task 1: train the report's MNIST network as the report did, and register it as `mnist-cnn`.

The network is tested before training and after every epoch. After `reload_after` epochs the training is discarded and
resumed from its checkpoint, as in the report.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import nn

from trackdl import ledger
from trackdl.data.catalogue import MNIST
from trackdl.data.images import ImageSet, load_images, normalise
from trackdl.networks.digit import DigitNet
from trackdl.plots import common as plots
from trackdl.serving import ImageCard
from trackdl.spec import MnistSpec
from trackdl.system.console import print_table, progress, say
from trackdl.tracking import runs, training_runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.tracking.runs import Run
from trackdl.training.trainer import Evaluation, Examples, Trainer

TRAINS = ("_trainer", "_train")  # covered by the code digest, with all that they reach

MODEL = "mnist-cnn"


@dataclass(frozen=True)
class Result:
    """The task's result: its run, the registered version, and the published numbers next to its own."""

    run: Run
    decision: Decision
    rows: list[ledger.NumberRow]


def run(experiment: MnistSpec, resume: str | None = None) -> Result:
    """Train, track and register.

    Args:
        experiment: The protocol.
        resume: The id of a run to resume, as in `training_runs.training_run`.
    """
    runs.close_abandoned("mnist")
    images = load_images("mnist")
    trainer = _trainer(experiment)
    with training_runs.training_run(experiment, trainer, resume, "mnist") as run:
        _log_inputs(run, images)
        trainer, evaluation = _train(run, experiment, trainer, images)
        decision = register(run, trainer.model, trainer.epoch, evaluation, images)
        rows = ledger.compare(experiment.numbers, run.history)
    return Result(run, decision, rows)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, and how the model was registered; return a one-line summary."""
    print_table("Task 1, MNIST: the 10,000 test digits, untrained and after each epoch", *ledger.table(result.rows))
    say(f"run {result.run.id}: {result.decision}")
    epoch, accuracy = result.run.history("test_accuracy")[-1]
    reported = [row.published for row in result.rows if (row.metric, row.epoch) == ("test_accuracy", epoch)]
    beside = f" (the report {reported[0]:.2%})" if reported else ""
    return f"Task 1, MNIST: after {epoch} epochs {accuracy:.2%} of the test digits are right{beside}."


def _log_inputs(run: Run, images: ImageSet) -> None:
    run.dataset(runs.describe_dataset("mnist-train", images.digest, MNIST.source), "training")
    run.dataset(runs.describe_dataset("mnist-test", images.digest, MNIST.source), "testing")
    run.tags({"trackdl.data_digest": images.digest})


def _trainer(experiment: MnistSpec) -> Trainer:
    return Trainer(DigitNet, experiment.training, F.nll_loss)


def _train(run: Run, experiment: MnistSpec, trainer: Trainer, images: ImageSet) -> tuple[Trainer, Evaluation]:
    """Train to the last epoch, logging figures where the report shows them; return the trainer and the last test."""
    train = Examples(normalise(images.train_images, *MNIST.mean_std, dtype=trainer.dtype), images.train_labels)
    test = Examples(normalise(images.test_images, *MNIST.mean_std), images.test_labels)
    total = experiment.training.epochs
    pause = min(experiment.reload_after or total, total)
    evaluation = _measure(run, trainer, test)
    with progress("mnist, epochs", total, trainer.epoch) as advance:
        for stop in sorted({pause, total}):
            if trainer.epoch > stop:
                continue
            for result in trainer.fit(train, stop):
                training_runs.log_epoch(run, trainer, result, {})
                training_runs.log_batches(run, result)
                evaluation = _measure(run, trainer, test)
                training_runs.save_checkpoint(run, trainer)
                advance(f"test accuracy {evaluation.accuracy:.2%}, {result.examples / result.seconds:,.0f} images/s")
            _draw(run, images, evaluation, "" if stop == pause else "_continued")
            if stop != total:
                # The report starts over here, and reads weights and optimiser back from their files.
                trainer = _trainer(experiment)
                training_runs.restore(run, trainer)
    return trainer, evaluation


def _measure(run: Run, trainer: Trainer, test: Examples) -> Evaluation:
    """Test the current network and log the prediction for each example."""
    evaluation = trainer.evaluate(test)
    run.metrics({"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}, step=trainer.epoch)
    training_runs.log_predictions(run, f"test-epoch-{trainer.epoch:05d}", evaluation, test.targets)
    return evaluation


def _draw(run: Run, images: ImageSet, evaluation: Evaluation, suffix: str) -> None:
    """Log the report's figures: digits with labels, digits with predictions, and the learning curve so far."""
    digits, truth = images.test_images[:9].numpy(), images.test_labels[:9].tolist()
    predictions = evaluation.outputs[:9].argmax(dim=1).tolist()
    run.figure(plots.image_grid(digits, [f"Truth: {t}" for t in truth], "Test digits", 3), "pictures/test_digits.png")
    captions = [f"Prediction: {p}" for p in predictions]
    run.figure(plots.image_grid(digits, captions, "Predictions", 3), f"pictures/predictions{suffix}.png")
    tested = [(epoch * len(images.train_labels), loss) for epoch, loss in run.history("test_loss")]
    curve = plots.loss_curves(run.history("batch_loss"), tested, "Training the MNIST network")
    run.figure(curve, f"pictures/training_curve{suffix}.png")


def register(
    run: Run,
    model: nn.Module,
    epoch: int,
    evaluation: Evaluation,
    images: ImageSet,
    lineage: Mapping[str, str] | None = None,
    alias: str | None = None,
) -> Decision:
    """Log an MNIST network with its result on the test digits, and register it.

    Args:
        run: The open run.
        model: The network.
        epoch: The epoch that its weights are from.
        evaluation: Its result on the test digits.
        images: MNIST.
        lineage: Further tags of the version.
        alias: As in `registry.register`.
    """
    mean, std = MNIST.mean_std
    classes = list(images.classes)
    arguments = {"classes": len(classes)}
    card = ImageCard(
        network="DigitNet", arguments=arguments, classes=classes, mean=mean, std=std, preprocessing=MNIST.preprocessing
    )
    measured = {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}
    on = [(runs.describe_dataset("mnist-test", images.digest, MNIST.source), measured)]
    why = "the report's protocol has no validation split"
    score = Score("test_accuracy", evaluation.accuracy, why, images.digest)
    example = images.test_images[:2].numpy()
    return registry.log_and_register(MODEL, run, model, card, example, epoch, on, score, lineage, alias)
