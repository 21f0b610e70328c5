"""Task 2: train the report's Fashion-MNIST network as the report did, and register it as `fashion-cnn`.

The report trains one network twice: for 10 epochs, after which it is tested (89.81 %), and as its "best" configuration
for 20 epochs, keeping the weights of the best validation epoch (90.19 % on the validation split, which the report calls
test). Network, settings and split are the same, and with the same seed the first 10 of 20 epochs are the training of
10. So one fit covers both: it is tested after `test_after` epochs, as the first training was, and once more at the end
with the weights that were kept.

The training images are split at random, not stratified, like the report's `random_split`. The split has its own seed,
so that other tasks can use the same one; with several `seeds` each training draws its own, as the report's two did.

The report's `test` function is lost, so it is unknown whether dropout was active while it validated. Each epoch is
validated both ways: `val_loss` and `val_accuracy` without dropout, as is usual; `val_loss_dropout` and
`val_accuracy_dropout` with it.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trackdl import ledger
from trackdl.analysis.stats import mean_interval
from trackdl.data.catalogue import FASHION
from trackdl.data.images import ImageSet, load_images, normalise, validation_split
from trackdl.errors import InputError
from trackdl.networks.fashion import FashionNet
from trackdl.plots import common as plots
from trackdl.serving import ImageCard
from trackdl.spec import FashionSpec
from trackdl.system.console import print_table, progress, say
from trackdl.tracking import runs, training_runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.tracking.runs import Run
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.trainer import Evaluation, Examples, Trainer, evaluate_with_dropout

TRAINS = (
    "_load",
    "_trainer",
    "_train",
    "_best_epoch",
    "_measure",
)  # covered by the code digest, with all that they reach

MODEL = "fashion-cnn"
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
KEPT = ("best_val_loss", "best_val_accuracy", "best_test_loss", "best_test_accuracy")


@dataclass(frozen=True)
class Splits:
    """The three splits, normalised; `split_digest` identifies the validation split."""

    images: ImageSet
    learn: Examples
    validation: Examples
    test: Examples
    split_digest: str


@dataclass(frozen=True)
class Result:
    """The task's result.

    Attributes:
        experiment: The protocol.
        run: The run of the only seed, or the parent of several seeds' runs.
        seeds: Each seed's run.
        decisions: How the models of this call were registered.
        rows: The published numbers next to the run's: those of one seed, or the means of several.
    """

    experiment: FashionSpec
    run: Run
    seeds: list[Run]
    decisions: list[Decision]
    rows: list[ledger.NumberRow]


def run(experiment: FashionSpec, resume: str | None = None) -> Result:
    """Train, track and register, for one seed or several.

    Args:
        experiment: The protocol.
        resume: The id of a run to resume, as in `training_runs.training_run`. With several seeds it is their unfinished
            parent: finished seeds are kept, unfinished ones resume, missing ones start.

    Raises:
        InputError: There is no such run, or it has nothing left to do.
    """
    runs.close_abandoned("fashion")
    before = Run(resume) if resume else None
    if experiment.seeds == 1:
        one, made = _train_seed(experiment, resume)
        return Result(experiment, one, [one], [made], ledger.compare(experiment.numbers, one.history))
    if before and before.info.info.status == "FINISHED":
        raise InputError(f"run {before.id} has finished its {experiment.seeds} seeds; --resume the run of one of them")
    with runs.start(experiment, resume=before, name=f"fashion, {experiment.seeds} seeds") as parent:
        _log_inputs(parent, _load(experiment))
        seeds, decisions = [], []
        for number in range(experiment.seeds):
            seed, decision = _seed_below(parent, experiment.nth(number).model_copy(update={"seeds": 1}))
            seeds.append(seed)
            decisions += [decision] if decision else []
        _summarise(parent, seeds)
        _draw_curves(parent, experiment)
        rows = ledger.compare(experiment.numbers, parent.history)
    return Result(experiment, parent, seeds, decisions, rows)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, and how the models were registered; return a one-line summary."""
    count = len(result.seeds)
    whose = "one seed" if count == 1 else f"means of {count} seeds"
    of_epochs = [row for row in result.rows if row.metric in CURVES]
    if of_epochs:
        title = f"Task 2, Fashion-MNIST: training and validation per epoch, {whose}"
        columns, lines = ledger.table(of_epochs)
        print_table(title, [column.replace("_", " ") for column in columns], lines)  # spaces fold, underscores don't
    columns, accuracies = _accuracies(result)
    print_table(f"Task 2, Fashion-MNIST: accuracy, {whose}", columns, accuracies)
    for decision in result.decisions:
        say(str(decision))
    say(f"run {result.run.id}")
    parts = [f"{what}: {ours}" + (f" (the report {report})" if report else "") for what, report, ours, *_ in accuracies]
    return f"Task 2, Fashion-MNIST: {'; '.join(parts)}."


def _accuracies(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the table of accuracies: the report's, ours, and over several seeds their interval and range."""
    after, total = result.experiment.test_after, result.experiment.training.epochs
    published = {(row.metric, row.epoch): row.published for row in result.rows}
    wanted = [
        ("best_val_accuracy", total, f"best of {total} epochs, on the validation split that chose it"),
        ("best_test_accuracy", total, "the same weights, on the test images"),
    ]
    if after and after <= total:
        wanted.insert(0, ("test_accuracy", after, f"after {after} epochs, on the test images"))
    lines = []
    for metric, step, words in wanted:
        values = [dict(seed.history(metric))[step] for seed in result.seeds]
        number = published.get((metric, step))
        line = [words, "" if number is None else f"{number:.2%}", f"{np.mean(values):.2%}"]
        if len(values) > 1:
            low, high = mean_interval(values)
            line += [f"{low:.2%} to {high:.2%}", f"{min(values):.2%} to {max(values):.2%}"]
        lines.append(line)
    several = ["95 % interval of the mean", "range"] if len(result.seeds) > 1 else []
    return ["accuracy", "report", "trackdl", *several], lines


def _load(experiment: FashionSpec) -> Splits:
    images = load_images("fashion")
    learn, back = validation_split(len(images.train_labels), experiment.data.validation, experiment.data.split_seed)
    dtype = resolve_precision(experiment.training.precision, resolve_device(experiment.training.device))

    def examples(pixels: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32) -> Examples:
        return Examples(normalise(pixels, *FASHION.mean_std, dtype), labels)

    return Splits(
        images=images,
        # Only training images need the training's precision; evaluation is always in float32.
        learn=examples(images.train_images[learn], images.train_labels[learn], dtype),
        validation=examples(images.train_images[back], images.train_labels[back]),
        test=examples(images.test_images, images.test_labels),
        split_digest=hashlib.sha256(images.digest.encode() + back.numpy().tobytes()).hexdigest(),
    )


def _log_inputs(run: Run, splits: Splits) -> None:
    digest = splits.images.digest
    run.dataset(runs.describe_dataset("fashion-train", digest, FASHION.source), "training")
    run.dataset(runs.describe_dataset("fashion-validation", splits.split_digest, FASHION.source), "validation")
    run.dataset(runs.describe_dataset("fashion-test", digest, FASHION.source), "testing")
    run.tags({"trackdl.data_digest": digest})


def _seed_below(parent: Run, experiment: FashionSpec) -> tuple[Run, Decision | None]:
    """Return a seed's run below `parent`: the finished one if there is one, else one that is resumed or started."""
    where = f"tags.`mlflow.parentRunId` = '{parent.id}' and params.`training.seed` = '{experiment.training.seed}'"
    for earlier in runs.find("fashion", where):
        finished = earlier.info.info.status == "FINISHED"
        if finished and experiment.training.epochs in dict(earlier.history("best_val_accuracy")):
            return earlier, None
        if earlier.artifacts(training_runs.CHECKPOINTS):
            return _train_seed(experiment, earlier.id)
    return _train_seed(experiment, None)


def _train_seed(experiment: FashionSpec, resume: str | None) -> tuple[Run, Decision]:
    splits = _load(experiment)
    trainer = _trainer(experiment, splits)
    with training_runs.training_run(experiment, trainer, resume, f"fashion, seed {experiment.training.seed}") as run:
        _log_inputs(run, splits)
        if experiment.found_by:
            run.tags({"trackdl.role": "finalist", "trackdl.found_by": experiment.found_by})
        run.text(f"{trainer.model}\n", "network.txt")
        _train(run, experiment, trainer, splits)
        kept = _best_epoch(run, experiment)
        training_runs.restore_epoch(run, trainer, kept)
        validated, tested = _measure(run, trainer, splits, experiment.training.epochs)
        _draw_curves(run, experiment)
        _draw_predictions(run, splits.images, tested)
        decision = _register(run, experiment, trainer, splits, validated, tested)
    return run, decision


def _trainer(experiment: FashionSpec, splits: Splits) -> Trainer:
    classes = len(splits.images.classes)
    return Trainer(lambda: FashionNet(experiment.model, classes), experiment.training, F.cross_entropy)


def _train(run: Run, experiment: FashionSpec, trainer: Trainer, splits: Splits) -> None:
    total = experiment.training.epochs
    with progress(f"fashion, seed {experiment.training.seed}, epochs", total, trainer.epoch) as advance:
        for result in trainer.fit(splits.learn, total):
            validated = trainer.evaluate(splits.validation)
            measured = {"val_loss": validated.loss, "val_accuracy": validated.accuracy}
            training_runs.log_predictions(run, f"val-epoch-{result.epoch:05d}", validated, splits.validation.targets)
            if experiment.model.dropout:
                noisy = evaluate_with_dropout(trainer, splits.validation)
                measured |= {"val_loss_dropout": noisy.loss, "val_accuracy_dropout": noisy.accuracy}
                if result.epoch == total:
                    name = f"val-dropout-epoch-{result.epoch:05d}"
                    training_runs.log_predictions(run, name, noisy, splits.validation.targets)
            if result.epoch == experiment.test_after:
                tested = trainer.evaluate(splits.test)
                measured |= {"test_loss": tested.loss, "test_accuracy": tested.accuracy}
                training_runs.log_predictions(run, f"test-epoch-{result.epoch:05d}", tested, splits.test.targets)
            training_runs.log_epoch(run, trainer, result, measured)
            training_runs.log_batches(run, result)
            training_runs.save_checkpoint(run, trainer)
            speed = result.examples / result.seconds
            advance(f"validation accuracy {validated.accuracy:.2%}, {speed:,.0f} images/s")


def _best_epoch(run: Run, experiment: FashionSpec) -> int:
    """Return the epoch of the best validation accuracy, the first one of equals.

    The run has every epoch's checkpoint, so a training that was interrupted keeps the same weights.
    """
    points = [(epoch, value) for epoch, value in run.history("val_accuracy") if epoch <= experiment.training.epochs]
    return max(points, key=lambda point: (point[1], -point[0]))[0]


def _measure(run: Run, trainer: Trainer, splits: Splits, step: int) -> tuple[Evaluation, Evaluation]:
    """Validate the weights that were kept, and test them once, logging the prediction for each test image."""
    validated, tested = trainer.evaluate(splits.validation), trainer.evaluate(splits.test)
    values = (validated.loss, validated.accuracy, tested.loss, tested.accuracy)
    run.metrics({**dict(zip(KEPT, values, strict=True)), "best_epoch": trainer.epoch}, step=step)
    training_runs.log_predictions(run, "test", tested, splits.test.targets)
    return validated, tested


def _summarise(parent: Run, seeds: list[Run]) -> None:
    """Log the seeds' means per epoch, and an interval for each metric of the weights that were kept."""
    for metric in (*CURVES, "test_loss", "test_accuracy", *KEPT):
        histories = [dict(seed.history(metric)) for seed in seeds]
        shared = sorted(set.intersection(*(set(history) for history in histories)))
        values = {step: [history[step] for history in histories] for step in shared}
        parent.curve(metric, [(step, float(np.mean(values[step]))) for step in shared])
        if metric not in CURVES:
            intervals = {step: mean_interval(values[step]) for step in shared}
            parent.curve(f"{metric}_low", [(step, low) for step, (low, _) in intervals.items()])
            parent.curve(f"{metric}_high", [(step, high) for step, (_, high) in intervals.items()])


def _draw_curves(run: Run, experiment: FashionSpec) -> None:
    reports: dict[str, list[tuple[int, float]]] = {metric: [] for metric in CURVES}
    for item in experiment.numbers:
        if item.metric in reports and item.epoch is not None and not item.series:
            reports[item.metric].append((item.epoch, item.value))
    ours = {metric: run.history(metric) for metric in CURVES}
    one = experiment.seeds == 1
    whose = f"seed {experiment.training.seed}" if one else f"means of {experiment.seeds} seeds"
    kept = _best_epoch(run, experiment) if one else None
    figure = plots.epoch_curves(ours, reports, kept, f"Fashion-MNIST, {whose}")
    run.figure(figure, "pictures/training_curve.png")


def _draw_predictions(run: Run, images: ImageSet, tested: Evaluation) -> None:
    captions = [images.classes[index] for index in tested.outputs[:15].argmax(dim=1).tolist()]
    grid = plots.image_grid(images.test_images[:15].numpy(), captions, "Predictions for test images", 5)
    run.figure(grid, "pictures/predictions.png")


def _register(
    run: Run,
    experiment: FashionSpec,
    trainer: Trainer,
    splits: Splits,
    validated: Evaluation,
    tested: Evaluation,
) -> Decision:
    mean, std = FASHION.mean_std
    images = splits.images
    card = ImageCard(
        network="FashionNet",
        arguments=experiment.model.model_dump() | {"classes": len(images.classes)},
        classes=list(images.classes),
        mean=mean,
        std=std,
        preprocessing=FASHION.preprocessing,
    )
    on = [
        (
            runs.describe_dataset(name, digest, FASHION.source),
            {f"{part}_loss": evaluation.loss, f"{part}_accuracy": evaluation.accuracy},
        )
        for name, digest, part, evaluation in (
            ("fashion-validation", splits.split_digest, "val", validated),
            ("fashion-test", images.digest, "test", tested),
        )
    ]
    why = "the test images are kept for the end"
    score = Score("val_accuracy", validated.accuracy, why, splits.split_digest)
    example, lineage = images.test_images[:2].numpy(), {"trackdl.epoch": trainer.epoch}
    return registry.log_and_register(MODEL, run, trainer.model, card, example, trainer.epoch, on, score, lineage)
