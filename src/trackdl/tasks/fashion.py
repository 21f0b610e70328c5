"""Task 2: the report's Fashion-MNIST network, trained as the report did, tracked and registered as `fashion-cnn`.

The report trains one network twice: for 10 epochs, then tested (89.81 %), and as its "best" configuration for 20
epochs, the weights of the best validation epoch kept (90.19 % on validation, which the report calls test). Network,
settings and split are the same, and the first 10 epochs of 20 are, seed for seed, the training of 10. So this is one
fit: tested after `test_after` epochs, as the first training was, and again, once, with the weights that were kept.

The training images are split as by the report's `random_split`: at random, not by class. The split has a seed of its
own, so that other tasks can use the same one; several trainings of `seeds` each draw another, as the report's two did.

The report's `test` function is lost, so nobody knows whether dropout was at work while it validated. Each epoch is
judged both ways: `val_loss` and `val_accuracy` without it, as is usual; `val_loss_dropout` and `val_accuracy_dropout`
with it.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trackdl import ledger
from trackdl.analysis.stats import mean_interval
from trackdl.data.images import FASHION_MEAN_STD, ImageSet, load_images, normalise, validation_split
from trackdl.errors import InputError
from trackdl.networks.fashion import FashionNet
from trackdl.plots import common as plots
from trackdl.serving import PictureCard
from trackdl.spec import FashionSpec
from trackdl.system.console import print_table, progress, say
from trackdl.tracking import runs
from trackdl.tracking import training_runs as epochs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.tracking.runs import Run
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.trainer import Evaluation, Examples, Trainer, evaluate_with_dropout

__all__ = ["Result", "run", "show"]

MODEL = "fashion-cnn"
HOME = "https://github.com/zalandoresearch/fashion-mnist"
CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
KEPT = ("best_val_loss", "best_val_accuracy", "best_test_loss", "best_test_accuracy")


@dataclass(frozen=True)
class Pictures:
    """The data, ready: what is learnt from, what chooses, what tests; `split_digest` is of what chooses."""

    images: ImageSet
    learn: Examples
    validation: Examples
    test: Examples
    split_digest: str


@dataclass(frozen=True)
class Result:
    """What the task leaves.

    Attributes:
        experiment: The protocol.
        run: Of one seed, its run; of several, the run that theirs stand below.
        seeds: Each seed's run.
        decisions: What became of the models registered by this call.
        rows: The published numbers beside the run's: those of one seed, or the means of several.
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
        resume: The id of a run to go on from, as `epochs.training_run` does. Of several seeds it is the unfinished run
            above theirs: finished seeds stay, unfinished ones go on, missing ones begin.

    Raises:
        InputError: There is no such run, or nothing is left for it to do.
    """
    runs.close_abandoned("fashion")
    before = Run(resume) if resume else None
    if experiment.seeds == 1:
        one, made = _train_seed(experiment, resume)
        return Result(experiment, one, [one], [made], ledger.compare(experiment.numbers, one.history))
    if before and before.info.info.status == "FINISHED":
        raise InputError(f"run {before.id} has finished its {experiment.seeds} seeds; each is a run to --resume itself")
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
    """Print the published numbers beside the run's, and what became of the models; return it all in a line."""
    count = len(result.seeds)
    whose = "one seed" if count == 1 else f"means of {count} seeds"
    of_epochs = [row for row in result.rows if row.metric in CURVES]
    if of_epochs:
        title = f"Task 2, Fashion-MNIST: training and validation each epoch, {whose}"
        columns, lines = ledger.table(of_epochs)
        print_table(title, [column.replace("_", " ") for column in columns], lines)  # spaces fold, underscores don't
    columns, accuracies = _accuracies(result)
    print_table(f"Task 2, Fashion-MNIST: accuracy, {whose}", columns, accuracies)
    for decision in result.decisions:
        say(str(decision))
    say(f"run {result.run.id}")
    told = [f"{what}: {ours}" + (f" (the report {report})" if report else "") for what, report, ours, *_ in accuracies]
    return f"Task 2, Fashion-MNIST: {'; '.join(told)}."


def _accuracies(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the table of what was measured on what: the report's number, ours, the seeds' interval and each seed's."""
    after, total = result.experiment.test_after, result.experiment.training.epochs
    published = {(row.metric, row.epoch): row.published for row in result.rows}
    wanted = [
        ("best_val_accuracy", total, f"best of {total} epochs, on the validation pictures that chose it"),
        ("best_test_accuracy", total, "the same weights, on the test pictures"),
    ]
    if after and after <= total:
        wanted.insert(0, ("test_accuracy", after, f"after {after} epochs, on the test pictures"))
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


def _load(experiment: FashionSpec) -> Pictures:
    images = load_images("fashion")
    learn, back = validation_split(len(images.train_labels), experiment.data.validation, experiment.data.split_seed)
    dtype = resolve_precision(experiment.training.precision, resolve_device(experiment.training.device))

    def examples(pixels: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32) -> Examples:
        return Examples(normalise(pixels, *FASHION_MEAN_STD, dtype), labels)

    return Pictures(
        images=images,
        # Only these are trained on, so only these need the precision of the training; evaluation is in float32.
        learn=examples(images.train_images[learn], images.train_labels[learn], dtype),
        validation=examples(images.train_images[back], images.train_labels[back]),
        test=examples(images.test_images, images.test_labels),
        split_digest=hashlib.sha256(images.digest.encode() + back.numpy().tobytes()).hexdigest(),
    )


def _log_inputs(run: Run, pictures: Pictures) -> None:
    digest = pictures.images.digest
    run.dataset(runs.describe_dataset("fashion-train", digest, HOME), "training")
    run.dataset(runs.describe_dataset("fashion-validation", pictures.split_digest, HOME), "validation")
    run.dataset(runs.describe_dataset("fashion-test", digest, HOME), "testing")
    run.tags({"trackdl.data_digest": digest})


def _seed_below(parent: Run, experiment: FashionSpec) -> tuple[Run, Decision | None]:
    """Return a seed's run below `parent`: the finished one where it stands, else one that goes on or begins."""
    where = f"tags.`mlflow.parentRunId` = '{parent.id}' and params.`training.seed` = '{experiment.training.seed}'"
    for earlier in runs.find("fashion", where):
        finished = earlier.info.info.status == "FINISHED"
        if finished and experiment.training.epochs in dict(earlier.history("best_val_accuracy")):
            return earlier, None
        if earlier.artifacts(epochs.CHECKPOINTS):
            return _train_seed(experiment, earlier.id)
    return _train_seed(experiment, None)


def _train_seed(experiment: FashionSpec, resume: str | None) -> tuple[Run, Decision]:
    pictures = _load(experiment)
    trainer = _trainer(experiment, pictures)
    with epochs.training_run(experiment, trainer, resume, f"fashion, seed {experiment.training.seed}") as run:
        _log_inputs(run, pictures)
        if experiment.found_by:
            run.tags({"trackdl.role": "finalist", "trackdl.found_by": experiment.found_by})
        run.text(f"{trainer.model}\n", "network.txt")
        _train(run, experiment, trainer, pictures)
        kept = _best_epoch(run, experiment)
        epochs.restore_epoch(run, trainer, kept)
        validated, tested = _measure(run, trainer, pictures, experiment.training.epochs)
        _draw_curves(run, experiment)
        _draw_predictions(run, pictures.images, tested)
        decision = _register(run, experiment, trainer, pictures, validated, tested)
    return run, decision


def _arguments(experiment: FashionSpec, pictures: Pictures) -> dict[str, Any]:
    return experiment.model.model_dump() | {"classes": len(pictures.images.classes)}


def _trainer(experiment: FashionSpec, pictures: Pictures) -> Trainer:
    arguments = _arguments(experiment, pictures)
    return Trainer(lambda: FashionNet(**arguments), experiment.training, F.cross_entropy)


def _train(run: Run, experiment: FashionSpec, trainer: Trainer, pictures: Pictures) -> None:
    total = experiment.training.epochs
    with progress(f"fashion, seed {experiment.training.seed}, epochs", total, trainer.epoch) as advance:
        for result in trainer.fit(pictures.learn, total):
            validated = trainer.evaluate(pictures.validation)
            measured = {"val_loss": validated.loss, "val_accuracy": validated.accuracy}
            epochs.log_predictions(run, f"val-epoch-{result.epoch:05d}", validated, pictures.validation.targets)
            if experiment.model.dropout:
                noisy = evaluate_with_dropout(trainer, pictures.validation)
                measured |= {"val_loss_dropout": noisy.loss, "val_accuracy_dropout": noisy.accuracy}
                if result.epoch == total:
                    name = f"val-dropout-epoch-{result.epoch:05d}"
                    epochs.log_predictions(run, name, noisy, pictures.validation.targets)
            if result.epoch == experiment.test_after:
                tested = trainer.evaluate(pictures.test)
                measured |= {"test_loss": tested.loss, "test_accuracy": tested.accuracy}
                epochs.log_predictions(run, f"test-epoch-{result.epoch:05d}", tested, pictures.test.targets)
            epochs.log_epoch(run, trainer, result, measured)
            epochs.log_batches(run, result)
            epochs.save_checkpoint(run, trainer)
            speed = result.examples / result.seconds
            advance(f"validation accuracy {validated.accuracy:.2%}, {speed:,.0f} images/s")


def _best_epoch(run: Run, experiment: FashionSpec) -> int:
    """Return the epoch of the best validation accuracy, of equals the first.

    Every epoch's checkpoint lies with the run, so a training that was stopped in between keeps the same weights.
    """
    points = [(epoch, value) for epoch, value in run.history("val_accuracy") if epoch <= experiment.training.epochs]
    return max(points, key=lambda point: (point[1], -point[0]))[0]


def _measure(run: Run, trainer: Trainer, pictures: Pictures, step: int) -> tuple[Evaluation, Evaluation]:
    """Validate the weights that were kept, and test them, once; keep each test picture's outcome with the run."""
    validated, tested = trainer.evaluate(pictures.validation), trainer.evaluate(pictures.test)
    values = (validated.loss, validated.accuracy, tested.loss, tested.accuracy)
    run.metrics({**dict(zip(KEPT, values, strict=True)), "best_epoch": trainer.epoch}, step=step)
    epochs.log_predictions(run, "test", tested, pictures.test.targets)
    return validated, tested


def _summarise(parent: Run, seeds: list[Run]) -> None:
    """Log the seeds' means, epoch for epoch, and the interval of each figure of the weights kept."""
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
    said = tested.outputs[:15].argmax(dim=1).tolist()
    captions = [images.classes[index] for index in said]
    grid = plots.picture_grid(images.test_images[:15].numpy(), captions, "What the network says of test pictures", 5)
    run.figure(grid, "pictures/predictions.png")


def _register(
    run: Run,
    experiment: FashionSpec,
    trainer: Trainer,
    pictures: Pictures,
    validated: Evaluation,
    tested: Evaluation,
) -> Decision:
    mean, std = FASHION_MEAN_STD
    images = pictures.images
    card = PictureCard(
        network="FashionNet",
        arguments=_arguments(experiment, pictures),
        classes=list(images.classes),
        mean=mean,
        std=std,
        preprocessing="fashion",
    )
    model_id, card = registry.log_model(run, trainer.model, card, images.test_images[:2].numpy(), trainer.epoch)
    for name, digest, part, evaluation in (
        ("fashion-validation", pictures.split_digest, "val", validated),
        ("fashion-test", images.digest, "test", tested),
    ):
        values = {f"{part}_loss": evaluation.loss, f"{part}_accuracy": evaluation.accuracy}
        on = runs.describe_dataset(name, digest, HOME)
        run.metrics(values, step=trainer.epoch, model_id=model_id, dataset=on)
    why = "the test pictures are kept for the end"
    score = Score("val_accuracy", validated.accuracy, why, pictures.split_digest)
    lineage = {"trackdl.weights_sha256": card.weights_sha256, "trackdl.epoch": trainer.epoch}
    return registry.register(MODEL, run, model_id, score, lineage)
