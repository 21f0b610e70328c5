"""Task 3: train an MNIST network from the registry on Greek letters, and register it as `greek-cnn`.

As in the report, all weights are frozen, `fc2` is replaced, and the new head is trained on all letters. The report has
no held-out results, so each letter is also predicted by a network that was not trained on it, next to two baselines.
"""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from trackdl import ledger, spec
from trackdl.analysis.stats import exact_interval
from trackdl.data.catalogue import MNIST
from trackdl.data.greek.letters import Letters, load_letters
from trackdl.data.preprocessing.digits import to_digits
from trackdl.errors import InputError
from trackdl.networks.digit import DigitNet
from trackdl.networks.transfer import freeze, replace_head
from trackdl.plots import common as plots
from trackdl.serving import ImageCard
from trackdl.spec import MnistSpec, TransferSpec
from trackdl.system.console import print_table, progress, say
from trackdl.system.paths import project_root
from trackdl.tasks import _report_weights, mnist
from trackdl.tracking import runs, training_runs
from trackdl.tracking.registry import files
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, FetchedModel, Score
from trackdl.tracking.runs import Run
from trackdl.training.held_out import HeldOut, hold_out_each, splits
from trackdl.training.trainer import EpochResult, Evaluation, Examples, Trainer

TRAINS = ("_examples", "_trainer", "_train", "_hold_out")  # covered by the code digest, with all that they reach

log = logging.getLogger(__name__)

MODEL = "greek-cnn"
SUBJECT = "transferred"


@dataclass(frozen=True)
class Result:
    """The task's result: its run, the registered version, and its numbers."""

    experiment: TransferSpec
    run: Run
    decision: Decision
    rows: list[ledger.NumberRow]
    held_out: dict[str, HeldOut]
    unseen: Evaluation | None
    origin: str


def run(experiment: TransferSpec) -> Result:
    """Fetch the MNIST network from the registry, train its new head, and register it.

    If there is no champion yet, one is trained first; the report's own network is registered on first use.

    Raises:
        InputError: The registry does not have this network, and trackdl cannot make it.
        DataMissing: The report's own network is asked for, and its weights are not available.
    """
    runs.close_abandoned("transfer")
    letters = load_letters(_folder(experiment.data.folder))
    unseen = load_letters(_folder(experiment.data.test_folder)) if experiment.data.test_folder else None
    if unseen and unseen.classes != letters.classes:
        raise InputError(
            f"{experiment.data.test_folder}: classes {', '.join(unseen.classes)}, "
            f"but the network is trained on {', '.join(letters.classes)}"
        )
    source = _source(experiment.source)
    name = f"transfer {experiment.data.preprocessing}" + (
        " (synthetic letters)" if letters.origin == "synthetic" else ""
    )
    with runs.start(experiment, name=name) as run:
        examples = _examples(letters, experiment)
        _log_inputs(run, letters, source, unseen)
        trainer = _trainer(experiment, source, len(letters.classes))
        run.text(f"{trainer.model}\n", "network.txt")
        training_runs.log_setting(run, trainer)
        evaluation = _train(run, experiment, trainer, examples, letters)
        held_out = _hold_out(run, experiment, source, examples, letters)
        judged = _judge(run, trainer, _examples(unseen, experiment)) if unseen else None
        decision = _register(run, experiment, trainer, evaluation, held_out[SUBJECT], letters, source)
        rows = ledger.compare(experiment.numbers, run.history)
    return Result(experiment, run, decision, rows, held_out, judged, letters.origin)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, the held-out results, and how the model was registered.

    Returns:
        A one-line summary.
    """
    how = result.experiment.data.preprocessing
    letters = {"report": "the report's 27 letters", "own": "your letters", "synthetic": "SYNTHETIC letters"}[
        result.origin
    ]
    if result.rows and how == "report" and result.origin == "report":
        print_table("Task 3, Greek: the 27 training letters, as the report measured", *ledger.table(result.rows))
    folds = result.experiment.data.folds
    held_out = "leave-one-out" if folds is None else f"{folds} folds"
    title = f"Task 3, Greek: letters held out ({held_out}), preprocessing {how}, {letters}"
    rows = []
    for name, held in result.held_out.items():
        low, high = held.interval
        total = len(held.outputs)
        rows.append([name, f"{held.correct}/{total}", f"{held.accuracy:.1%}", f"{low:.1%} to {high:.1%}"])
    print_table(title, ["network", "right", "accuracy", "exact 95 % interval"], rows)
    if result.unseen:
        low, high = exact_interval(result.unseen.correct, result.unseen.total)
        right = f"{result.unseen.correct}/{result.unseen.total}"
        say(f"letters of {result.experiment.data.test_folder}: {right} right, 95 % interval {low:.1%} to {high:.1%}")
    say(f"run {result.run.id}: {result.decision}")
    right = ", ".join(f"{name} {held.correct} of {len(held.outputs)}" for name, held in result.held_out.items())
    return f"Task 3, Greek, preprocessing {how}, {letters}, each held out (the report held out none): {right}."


def _folder(named: str | None) -> Path | None:
    return Path(named).expanduser() if named else None


def _source(uri: str) -> FetchedModel:
    if uri == _report_weights.URI:
        _report_weights.register()
    elif not files.exists(uri):
        if uri != f"models:/{mnist.MODEL}@champion":
            raise InputError(f"{uri}: the registry has no such version or alias; `trackdl models` lists them")
        log.warning("the registry has no %s yet: training it first, with experiments/mnist.yaml", uri)
        mnist.show(mnist.run(spec.load(project_root() / "experiments" / "mnist.yaml", MnistSpec)))
    source = registry.fetch_model(uri)
    if not isinstance(source.model, DigitNet):
        raise InputError(f"{uri}: is a {type(source.model).__name__}; Task 3 transfers a DigitNet")
    return source


def _examples(letters: Letters, experiment: TransferSpec) -> Examples:
    mean, std = MNIST.mean_std
    digits = to_digits(letters.images, experiment.data.preprocessing, letters.names)
    return Examples((digits - mean) / std, letters.labels)


def _trainer(experiment: TransferSpec, source: FetchedModel, classes: int) -> Trainer:
    return Trainer(partial(_network, source, classes, frozen=True), experiment.training, F.nll_loss)


def _network(source: FetchedModel, classes: int, *, frozen: bool) -> nn.Module:
    """Return the source's network with a new head, its other weights frozen or not."""
    model = DigitNet(**source.card.arguments)
    model.load_state_dict(source.model.state_dict())
    if frozen:
        freeze(model)
    replace_head(model, classes)
    return model


def _random_network(classes: int) -> nn.Module:
    """Return an untrained network, frozen except for its head."""
    model = DigitNet()
    freeze(model)
    replace_head(model, classes)
    return model


def _log_inputs(run: Run, letters: Letters, source: FetchedModel, unseen: Letters | None) -> None:
    run.dataset(runs.describe_dataset(f"greek ({letters.origin})", letters.digest, "greek letters"), "training")
    if unseen:
        run.dataset(runs.describe_dataset("greek, unseen", unseen.digest, "greek letters"), "testing")
    run.tags(
        {
            "trackdl.data_digest": letters.digest,
            "trackdl.data_origin": letters.origin,
            "trackdl.synthetic": str(letters.origin == "synthetic").lower(),
            **_lineage(source),
        }
    )


def _lineage(source: FetchedModel) -> dict[str, str]:
    return {
        "trackdl.source_model": source.name,
        "trackdl.source_version": source.version,
        "trackdl.source_run": source.run_id,
        "trackdl.source_weights_sha256": source.card.weights_sha256,
    }


def _train(run: Run, experiment: TransferSpec, trainer: Trainer, examples: Examples, letters: Letters) -> Evaluation:
    """Train on all letters. The report's "test" is on the same letters, so here it is logged as training accuracy."""
    log.info("%s", trainer.model)

    def measure() -> Evaluation:
        evaluation = trainer.evaluate(examples)
        measured[trainer.epoch] = {"train_loss": evaluation.loss, "train_accuracy": evaluation.accuracy}
        outputs[trainer.epoch] = evaluation.outputs
        return evaluation

    measured: dict[int, dict[str, float]] = {}
    outputs: dict[int, Tensor] = {}
    results: list[EpochResult] = []
    measure()
    run.metrics(measured[0], step=0)
    with progress(f"transfer {experiment.data.preprocessing}, epochs", experiment.training.epochs) as advance:
        for result in trainer.fit(examples, experiment.training.epochs):
            results.append(result)
            evaluation = measure()
            training_runs.log_epoch(run, trainer, result, measured[result.epoch])
            advance(f"{evaluation.correct}/{evaluation.total} training letters, loss {evaluation.loss:.4f}")
    training_runs.log_outputs(run, "train-epochs", outputs, examples.targets)
    training_runs.log_all_batches(run, results)
    tested = [(epoch * len(examples), loss) for epoch, loss in run.history("train_loss")]
    curve = plots.loss_curves(run.history("batch_loss"), tested, f"Learning {letters.origin} letters", "All letters")
    run.figure(curve, "pictures/training_curve.png")
    captions = [letters.classes[index] for index in evaluation.outputs.argmax(dim=1)]
    mean, std = MNIST.mean_std
    shown = (examples.inputs[:, 0] * std + mean).numpy()
    grid = plots.image_grid(shown, captions, f"Network inputs ({letters.origin} letters) and predictions", 9)
    run.figure(grid, "pictures/letters.png")
    return evaluation


def _hold_out(
    run: Run, experiment: TransferSpec, source: FetchedModel, examples: Examples, letters: Letters
) -> dict[str, HeldOut]:
    """Predict every letter by a network that was not trained on it; the two baselines use the same splits."""
    classes = len(letters.classes)
    networks = {
        SUBJECT: partial(_network, source, classes, frozen=True),
        "random features": partial(_random_network, classes),
        "all layers trained": partial(_network, source, classes, frozen=False),
    }
    parts = splits(examples.targets, experiment.data.folds, experiment.training.seed)
    held_out = {}
    with progress("letters held out, networks", len(networks)) as advance:
        for name, network in networks.items():
            held = hold_out_each(network, experiment.training, F.nll_loss, examples, parts)
            held_out[name] = held
            suffix = "" if name == SUBJECT else "_" + name.replace(" ", "_")
            low, high = held.interval
            bounds = {f"val_accuracy{suffix}_low": low, f"val_accuracy{suffix}_high": high}
            run.metrics({f"val_accuracy{suffix}": held.accuracy, **bounds}, step=experiment.training.epochs)
            advance(f"{name}: {held.correct}/{len(examples)}")
    rows = [
        {
            "letter": letter,
            "truth": letters.classes[truth],
            **{n: letters.classes[h.outputs[i].argmax()] for n, h in held_out.items()},
        }
        for i, (letter, truth) in enumerate(zip(letters.names, examples.targets, strict=True))
    ]
    run.table({"rows": rows}, "predictions/held_out.json")
    bars = plots.accuracy_bars(
        list(held_out),
        [held.accuracy for held in held_out.values()],
        [held.interval for held in held_out.values()],
        f"Greek letters ({letters.origin}), preprocessing {experiment.data.preprocessing}",
    )
    run.figure(bars, "pictures/held_out.png")
    run.tags(
        {"trackdl.validation": "leave-one-out" if experiment.data.folds is None else f"{experiment.data.folds}-fold"}
    )
    return held_out


def _judge(run: Run, trainer: Trainer, unseen: Examples) -> Evaluation:
    evaluation = trainer.evaluate(unseen)
    low, high = exact_interval(evaluation.correct, evaluation.total)
    values = {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}
    run.metrics({**values, "test_accuracy_low": low, "test_accuracy_high": high}, step=trainer.epoch)
    training_runs.log_predictions(run, "test", evaluation, unseen.targets)
    return evaluation


def _register(
    run: Run,
    experiment: TransferSpec,
    trainer: Trainer,
    evaluation: Evaluation,
    held_out: HeldOut,
    letters: Letters,
    source: FetchedModel,
) -> Decision:
    how = experiment.data.preprocessing
    mean, std = MNIST.mean_std
    classes = list(letters.classes)
    arguments = {"classes": len(classes)}
    card = ImageCard(network="DigitNet", arguments=arguments, classes=classes, mean=mean, std=std, preprocessing=how)
    example = (to_digits(letters.images[:2], how)[:, 0] * 255).round().numpy()
    final = {"train_loss": evaluation.loss, "train_accuracy": evaluation.accuracy, "val_accuracy": held_out.accuracy}
    on = [(runs.describe_dataset(f"greek ({letters.origin})", letters.digest, "greek letters"), final)]
    why = "every letter is predicted by a network that was not trained on it"
    score = Score("val_accuracy", held_out.accuracy, why, letters.digest, synthetic=letters.origin == "synthetic")
    lineage = {**_lineage(source), "trackdl.preprocessing": how}
    return registry.log_and_register(MODEL, run, trainer.model, card, example, trainer.epoch, on, score, lineage)
