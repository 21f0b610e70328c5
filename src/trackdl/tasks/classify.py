"""Train a network to classify images as an experiment file says, and register it.

With a validation split, each epoch is validated and the weights of the best epoch are kept; without one, those of the
last. The split is drawn at random, not by class, as `torch.utils.data.random_split` does. It has its own seed, so that
other experiments can use the same one; with several `seeds` each training draws its own.

Reports do not always say whether dropout was active while they validated. Each epoch is validated both ways: `val_loss`
and `val_accuracy` without dropout, as is usual; `val_loss_dropout` and `val_accuracy_dropout` with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from trackdl import ledger, serving
from trackdl.analysis.stats import mean_interval
from trackdl.data import training_images
from trackdl.data.images import ImageSet
from trackdl.errors import InputError
from trackdl.networks.build import arguments_of, count_parameters
from trackdl.serving import ImageCard
from trackdl.spec import ClassifySpec
from trackdl.system.console import print_table, progress, say
from trackdl.tasks import _pictures as pictures
from trackdl.tasks._pictures import CURVES
from trackdl.tracking import pages, runs, training_runs
from trackdl.tracking.registry import readme
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.tracking.runs import Run
from trackdl.training.devices import resolve_device, resolve_precision
from trackdl.training.image_splits import Splits, apart, split_images, trainer_for
from trackdl.training.trainer import EVALUATION_BATCH, EpochResult, Evaluation, Trainer, evaluate_with_dropout

TRAINS = (
    "_load",
    "_trainer",
    "_train",
    "_best_epoch",
    "_measure_kept",
)  # covered by the code digest, with all that they reach

TESTED = ("test_loss", "test_accuracy")
_UNFAMILIAR = 0.007  # this share of the images that a network knows counts as unfamiliar
# What a split had to do with the weights, as a model card says it.
_CHOSE = "This split chose the weights, those of the epoch with the best accuracy on it, so it is likely too high."
_DID_NOT_CHOOSE = "These examples did not choose the weights."
_UNKNOWN = "Whether these examples had a part in choosing the weights is not known."
KEPT = ("best_val_loss", "best_val_accuracy", "best_test_loss", "best_test_accuracy")


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

    experiment: ClassifySpec
    run: Run
    seeds: list[Run]
    decisions: list[Decision]
    rows: list[ledger.NumberRow]


def run(experiment: ClassifySpec, resume: str | None = None) -> Result:
    """Train, track and register, for one seed or several.

    Args:
        experiment: The protocol.
        resume: The id of a run to resume, as in `training_runs.training_run`. With several seeds it is their unfinished
            parent: finished seeds are kept, unfinished ones resume, missing ones start.

    Raises:
        InputError: There is no such run, it has nothing left to do or learnt from another split, or the registered
            model is another report's.
    """
    runs.close_abandoned(experiment.name)
    registry.check_free(registry.name_of(experiment))
    ledger.check_numbers(experiment)
    before = Run(resume) if resume else None
    if before:
        training_runs.check_split(before, experiment)
    if experiment.seeds == 1:
        one, made = _train_seed(experiment, resume)
        return Result(experiment, one, [one], [made], ledger.compare(experiment.numbers, one.history))
    if before and before.info.info.status == "FINISHED":
        raise InputError(f"run {before.id} has finished its {experiment.seeds} seeds; --resume the run of one of them")
    with runs.start(experiment, resume=before) as parent:
        _log_inputs(parent, experiment, _load(experiment))
        seeds, decisions = [], []
        for number in range(experiment.seeds):
            single = experiment.nth(number).model_copy(update={"seeds": 1})
            seed, decision = _seed_below(parent, single)
            seeds.append(seed)
            if decision:
                decisions.append(decision)
                above = f"one of [{experiment.seeds} seeds]({pages.run_page('', parent.experiment_id, parent.id)})"
                seed.describe(f"{_summary(Result(single, seed, [seed], [], []))} This is {above}.")
        _summarise(parent, seeds)
        pictures.draw_epochs(parent, experiment, None)
        rows = ledger.compare(experiment.numbers, parent.history)
    return Result(experiment, parent, seeds, decisions, rows)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, and how the models were registered; return a one-line summary."""
    label, count = result.experiment.label, len(result.seeds)
    whose = "one seed" if count == 1 else f"means of {count} seeds"
    of_epochs = [row for row in result.rows if row.metric in (*CURVES, *TESTED)]
    if of_epochs:
        columns, lines = ledger.table(of_epochs)
        print_table(f"{label}: per epoch, {whose}", columns, lines)
    columns, accuracies = _accuracies(result)
    print_table(f"{label}: accuracy, {whose}", columns, accuracies)
    for decision in result.decisions:
        say(str(decision))
    say(f"run {result.run.id}")
    return _summary(result)


def _summary(result: Result) -> str:
    """Return the accuracies as a sentence."""
    lines = _accuracies(result)[1]
    parts = [f"{what}: {ours}" + (f" (the report {report})" if report else "") for what, report, ours, *_ in lines]
    return f"{result.experiment.label}: {'; '.join(parts)}."


def _accuracies(result: Result) -> tuple[list[str], list[list[str]]]:
    """Return the table of accuracies: the report's, ours, and over several seeds their interval and range."""
    experiment, total = result.experiment, result.experiment.training.epochs
    published = {(row.metric, total if row.epoch is None else row.epoch): row.published for row in result.rows}
    wanted = []
    if experiment.data.validation is None:
        wanted = [("test_accuracy", total, f"after {total} epochs, on the test images")]
    else:
        middle = [epoch for epoch in range(1, total + 1) if experiment.tested_after(epoch)]
        last = [(("test_accuracy", middle[-1], f"after {middle[-1]} epochs, on the test images"))] if middle else []
        wanted = [
            *last,
            ("best_val_accuracy", total, f"best of {total} epochs, on the validation split that chose it"),
            ("best_test_accuracy", total, "the same weights, on the test images"),
        ]
    lines = []
    for metric, step, words in wanted:
        values = [dict(seed.history(metric))[step] for seed in result.seeds]
        number = published.get((metric, step))
        line = [words, "" if number is None else f"{number:.2%}", f"{np.mean(values):.2%}"]
        if len(values) > 1:
            low, high = mean_interval(values, share=True)
            line += [f"{low:.2%} to {high:.2%}", f"{min(values):.2%} to {max(values):.2%}"]
        lines.append(line)
    several = ["95 % interval of the mean", "range"] if len(result.seeds) > 1 else []
    return ["accuracy", "report", "trackdl", *several], lines


def _load(experiment: ClassifySpec) -> Splits:
    dtype = resolve_precision(experiment.training.precision, resolve_device(experiment.training.device))
    return split_images(experiment.data, dtype)


def _log_inputs(run: Run, experiment: ClassifySpec, splits: Splits) -> None:
    log_images(run, experiment.data.name, splits.images)
    if splits.validation:
        name = f"{experiment.data.name}-validation"
        run.dataset(runs.describe_dataset(name, splits.split_digest, splits.images.source), "validation")
        # A default is no parameter, but beside other seeds it would be missing.
        run.tags({}, {"data.split_seed": experiment.data.split_seed})


def log_images(run: Run, name: str, images: ImageSet) -> None:
    """Log a data set of images as the run's input."""
    train = images.train_images.numpy(), images.train_labels.numpy()
    test = images.test_images.numpy(), images.test_labels.numpy()
    run.dataset(runs.describe_dataset(f"{name}-train", images.digest, images.source, train), "training")
    run.dataset(runs.describe_dataset(f"{name}-test", images.digest, images.source, test), "testing")
    run.tags({"trackdl.data_digest": images.digest})


def _seed_below(parent: Run, experiment: ClassifySpec) -> tuple[Run, Decision | None]:
    """Return a seed's run below `parent`: the finished one if there is one, else one that is resumed or started."""
    where = f"tags.`mlflow.parentRunId` = '{parent.id}' and params.`training.seed` = '{experiment.training.seed}'"
    last = "test_accuracy" if experiment.data.validation is None else "best_val_accuracy"
    for earlier in runs.find(experiment.name, where):
        finished = earlier.info.info.status == "FINISHED"
        if finished and experiment.training.epochs in dict(earlier.history(last)):
            return earlier, None
        if earlier.artifacts(training_runs.CHECKPOINTS):
            return _train_seed(experiment, earlier.id)
    return _train_seed(experiment, None)


def _train_seed(experiment: ClassifySpec, resume: str | None) -> tuple[Run, Decision]:
    splits, left_out = apart(experiment.data, _load(experiment))
    trainer = _trainer(experiment, splits)
    with training_runs.training_run(experiment, trainer, resume) as run:
        _log_inputs(run, experiment, splits)
        training_runs.log_left_out(run, left_out)
        if experiment.found_by:
            run.tags({"trackdl.role": "finalist", "trackdl.found_by": experiment.found_by})
        run.text(f"{trainer.model}\n", "network.txt")
        run.table(splits.images.classes, "classes.json")
        trainer, tested = _train(run, experiment, trainer, splits)
        # Not first: MLflow's comparison of runs begins with the metric that was logged first.
        run.metrics({"parameters": float(count_parameters(trainer.model))})
        if splits.validation is None:
            measured = {"test": tested}
        else:
            training_runs.restore_epoch(run, trainer, _best_epoch(run, experiment))
            measured = _measure_kept(run, trainer, splits, experiment.training.epochs)
            pictures.draw_epochs(run, experiment, trainer.epoch)
        pictures.draw_answers(run, splits.images, measured["test"])
        decision = register(run, experiment, trainer.model, trainer.epoch, measured, splits)
    return run, decision


def _trainer(experiment: ClassifySpec, splits: Splits) -> Trainer:
    return trainer_for(experiment, splits.images)


def _train(run: Run, experiment: ClassifySpec, trainer: Trainer, splits: Splits) -> tuple[Trainer, Evaluation]:
    """Train to the last epoch, logging what is measured after each; return the trainer and the last test."""
    total = experiment.training.epochs
    pause = min(experiment.reload_after or total, total)
    tested, said = None, ""

    def within(done: int, of: int, loss: float) -> None:
        advance(f"loss {loss:.3f}{said}", done / of)

    if trainer.epoch == 0 and experiment.tested_after(0):
        measured, tested = _measure(run, experiment, trainer, splits)
        run.metrics(measured, step=0)
    with progress(f"{experiment.name}, seed {experiment.training.seed}, epochs", total, trainer.epoch) as advance:
        for stop in sorted({pause, total}):
            if trainer.epoch > stop:
                continue
            for result in trainer.fit(splits.learn, stop, within):
                measured, tested = _measure(run, experiment, trainer, splits)
                training_runs.log_epoch(run, trainer, result, measured)
                training_runs.log_batches(run, result)
                training_runs.save_checkpoint(run, trainer)
                words = _progress_words(measured, result)
                advance(words)
                said = f"; {words}"
            if splits.validation is None:
                pictures.draw_losses(run, experiment, splits.images, "" if stop == pause else "_continued")
            if stop != total:
                # The training starts over here, and reads weights and optimiser back from their files.
                trainer = _trainer(experiment, splits)
                training_runs.restore(run, trainer)
    return trainer, tested or trainer.evaluate(splits.test)


def _progress_words(measured: Mapping[str, float], result: EpochResult) -> str:
    speed = f"{result.examples / result.seconds:,.0f} images/s"
    part, key = ("validation", "val_accuracy") if "val_accuracy" in measured else ("test", "test_accuracy")
    return f"{part} accuracy {measured[key]:.2%}, {speed}" if key in measured else speed


def _measure(
    run: Run, experiment: ClassifySpec, trainer: Trainer, splits: Splits
) -> tuple[dict[str, float], Evaluation | None]:
    """Validate and test the network as the experiment says, and log the predictions; return metrics and test."""
    measured: dict[str, float] = {}
    if splits.validation and trainer.epoch:
        validated = trainer.evaluate(splits.validation)
        measured |= {"val_loss": validated.loss, "val_accuracy": validated.accuracy}
        training_runs.log_predictions(run, f"val-epoch-{trainer.epoch:05d}", validated, splits.validation.targets)
        # Of a network that drops nodes without a layer for it, only a part of the dropout could be switched on.
        whole = not getattr(trainer.model, "drops_without_layer", False)
        if whole and (noisy := evaluate_with_dropout(trainer, splits.validation)):
            measured |= {"val_loss_dropout": noisy.loss, "val_accuracy_dropout": noisy.accuracy}
            if trainer.epoch == experiment.training.epochs:
                name = f"val-dropout-epoch-{trainer.epoch:05d}"
                training_runs.log_predictions(run, name, noisy, splits.validation.targets)
    last = splits.validation is None and trainer.epoch == experiment.training.epochs
    if not (last or experiment.tested_after(trainer.epoch)):
        return measured, None
    tested = trainer.evaluate(splits.test)
    training_runs.log_predictions(run, f"test-epoch-{trainer.epoch:05d}", tested, splits.test.targets)
    return measured | {"test_loss": tested.loss, "test_accuracy": tested.accuracy}, tested


def _best_epoch(run: Run, experiment: ClassifySpec) -> int:
    """Return the epoch of the best validation accuracy, the first one of equals.

    The run has every epoch's checkpoint, so a training that was interrupted keeps the same weights.
    """
    points = [(epoch, value) for epoch, value in run.history("val_accuracy") if epoch <= experiment.training.epochs]
    return max(points, key=lambda point: (point[1], -point[0]))[0]


def _measure_kept(run: Run, trainer: Trainer, splits: Splits, step: int) -> dict[str, Evaluation]:
    """Validate the weights that were kept, and test them once, logging the prediction for each test image."""
    if splits.validation is None:
        raise ValueError("without a validation split the last epoch's weights are kept")
    validated, tested = trainer.evaluate(splits.validation), trainer.evaluate(splits.test)
    values = (validated.loss, validated.accuracy, tested.loss, tested.accuracy)
    run.metrics({**dict(zip(KEPT, values, strict=True)), "best_epoch": trainer.epoch}, step=step)
    training_runs.log_predictions(run, "test", tested, splits.test.targets)
    return {"val": validated, "test": tested}


def _summarise(parent: Run, seeds: list[Run]) -> None:
    """Log the seeds' means per epoch, and an interval for each metric of a test or of the weights that were kept."""
    for metric in pages.headlines_first((*CURVES, *TESTED, *KEPT)):
        histories = [dict(seed.history(metric)) for seed in seeds]
        shared = sorted(set.intersection(*(set(history) for history in histories)))
        values = {step: [history[step] for history in histories] for step in shared}
        parent.curve(metric, [(step, float(np.mean(values[step]))) for step in shared])
        if metric not in CURVES:
            intervals = {step: mean_interval(values[step]) for step in shared}
            parent.curve(f"{metric}_low", [(step, low) for step, (low, _) in intervals.items()])
            parent.curve(f"{metric}_high", [(step, high) for step, (_, high) in intervals.items()])


def register(
    run: Run,
    experiment: ClassifySpec,
    model: nn.Module,
    epoch: int,
    measured: Mapping[str, Evaluation],
    splits: Splits,
    lineage: Mapping[str, str] | None = None,
    alias: str | None = None,
) -> Decision:
    """Log a network with its results, and register it.

    Args:
        run: The open run.
        experiment: What it was trained by, or would have been.
        model: The network.
        epoch: The epoch that its weights are from.
        measured: Its results on the splits "val", which decides if there is one, and "test".
        splits: The images.
        lineage: Further tags of the version.
        alias: As in `registry.register`.
    """
    images, name = splits.images, experiment.data.name
    digests = {"val": splits.split_digest, "test": images.digest}
    described = {"val": f"{name}-validation", "test": f"{name}-test"}
    on = [
        (
            runs.describe_dataset(described[part], digests[part], images.source),
            {f"{part}_loss": evaluation.loss, f"{part}_accuracy": evaluation.accuracy},
        )
        for part, evaluation in measured.items()
    ]
    decides = "val" if "val" in measured else "test"
    why = (
        "the test images are kept for the end" if decides == "val" else "the report's protocol has no validation split"
    )
    score = Score(f"{decides}_accuracy", measured[decides].accuracy, why, digests[decides])
    card = image_card(model, images)
    card = card.model_copy(update={"least_energy": _least_energy(serving.ServedImages(model, card), splits)})
    tags = {"trackdl.epoch": str(epoch), **(lineage or {})}
    example = serving.as_pixels(images.test_images[:2])
    roles = {"val": _CHOSE, "test": _DID_NOT_CHOOSE if alias is None else _UNKNOWN}
    results = [
        readme.of_examples(f"{part}_accuracy", one.correct, one.total, described[part], words, roles[part])
        for part, words in (("val", "validation"), ("test", "test"))
        if (one := measured.get(part))
    ]
    about = readme.About(experiment, name, results)
    names = [f"{file.parent.name}/{file.name}" for file in images.files[0]]
    learnt = training_images.to_file(images.train_images, names)
    return registry.log_and_register(
        registry.name_of(experiment), run, model, card, example, epoch, on, score, about, tags, alias, learnt
    )


def _least_energy(served: serving.ServedImages, splits: Splits) -> float:
    """Return the energy that all but `_UNFAMILIAR` of the validation images have, or without these of 10,000 others."""
    examples = splits.validation or splits.learn.select(torch.arange(min(len(splits.learn), 10_000)))
    served.model.eval()
    ready = examples.to(next(served.model.parameters()).device, torch.float32)
    energies = torch.cat([served.energies(batch.float())[1] for batch in ready.batches(EVALUATION_BATCH)])
    return float(energies.double().quantile(_UNFAMILIAR))


def image_card(model: nn.Module, images: ImageSet) -> ImageCard:
    """Return the card of a network that was trained on these images."""
    return ImageCard(
        network=type(model).__name__,
        arguments=arguments_of(model),
        classes=list(images.classes),
        mean=images.mean,
        std=images.std,
        preprocessing=images.preprocessing,
        size=images.side,
        colour=images.channels == 3,
    )
