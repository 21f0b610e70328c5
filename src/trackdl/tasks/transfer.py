"""Train a registered image network on other images, and register the result.

The head, its last linear layer, is replaced and trained on all images; the other weights are frozen unless the file
says otherwise. Each image is also predicted by a network that was not trained on it, next to two baselines.
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import combinations

import pandas as pd
from torch import Tensor, nn

from trackdl import ledger, serving, spec
from trackdl.analysis.answers import Paired, mcnemar
from trackdl.analysis.stats import exact_interval, holm
from trackdl.data import training_images
from trackdl.data.greek.letters import Letters, Prepare, apart, load_letters, read_folders
from trackdl.data.readers import class_folders
from trackdl.errors import Diverged, InputError
from trackdl.networks.build import arguments_of, build, count_parameters
from trackdl.networks.head import Frozen, freeze, replace_head, set_dropout_of_maps
from trackdl.plots import common as plots
from trackdl.serving import ImageCard, ServedImages
from trackdl.spec import ClassifySpec, TransferSpec
from trackdl.system.console import print_table, progress, say
from trackdl.system.paths import in_report
from trackdl.tasks import _report_weights, classify
from trackdl.tasks._pictures import draw_answered
from trackdl.tracking import runs, training_runs
from trackdl.tracking.registry import files, readme
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, FetchedModel, Score
from trackdl.tracking.runs import Run
from trackdl.training.held_out import HeldOut, Split, folds_for, hold_out_each, splits
from trackdl.training.optim import Loss, loss_of
from trackdl.training.trainer import EpochResult, Evaluation, Examples, Trainer
from trackdl.workers.process import attach_joblib

TRAINS = ("_prepare", "_trainer", "_train", "_hold_out")  # covered by the code digest, with all that they reach

log = logging.getLogger(__name__)

SUBJECT = "transferred"
MOST_DRAWN = 81
# What the images had to do with the weights, as the model card says it.
_HELD_OUT = "A network that had not seen the image predicted it; the weights here are of one trained on all of them."
_UNSEEN = "These images did not choose the weights."


@dataclass(frozen=True)
class Source:
    """The network from the registry, and its card."""

    fetched: FetchedModel
    card: ImageCard


@dataclass(frozen=True)
class Result:
    """The task's result: its run, the registered version, and its numbers.

    `compared` has each two networks on the held-out images, with p by Holm; `way` is how images were held out.
    """

    experiment: TransferSpec
    run: Run
    decision: Decision
    rows: list[ledger.NumberRow]
    held_out: dict[str, HeldOut]
    compared: list[tuple[str, str, Paired, float]]
    way: str
    unseen: Evaluation | None
    origin: str
    left_out: dict[str, list[str]]


def run(experiment: TransferSpec) -> Result:
    """Fetch the source from the registry, train its new head, and register it.

    If there is no champion of the experiment `of` yet, it is trained first; the network that the seed's report starts
    from is registered on first use.

    Raises:
        InputError: The registry does not have this network, and trackdl cannot make it.
        DataMissing: The report's own network is asked for, and its weights are not available.
    """
    attach_joblib()
    runs.close_abandoned(experiment.name)
    registry.check_free(registry.name_of(experiment))
    ledger.check_numbers(experiment)
    data = experiment.data
    if folders := [in_report(named) for named in (data.folder, data.test_folder) if named]:
        class_folders(folders, data.rename)  # what is wrong with them is said before anything is trained
    source = _source(experiment)
    letters, unseen, left_out = apart(*_letters(experiment, source.card))
    synthetic = " (synthetic letters)" if letters.origin == "synthetic" else ""
    name = f"{runs.title(experiment)}{synthetic}"
    with runs.start(experiment, name=name) as run:
        examples = Examples(source.card.normalise(letters.inputs), letters.labels)
        _log_inputs(run, experiment, letters, source, unseen)
        training_runs.log_left_out(run, left_out)
        trainer = _trainer(experiment, source, len(letters.classes))
        run.text(f"{trainer.model}\n", "network.txt")
        run.table(letters.classes, "classes.json")
        training_runs.log_setting(run, trainer)
        evaluation = _train(run, experiment, trainer, examples)
        # Not first: MLflow's comparison of runs begins with the metric that was logged first.
        run.metrics({"parameters": float(count_parameters(trainer.model))})
        folds = experiment.data.folds or folds_for(letters.labels)
        way = "leave-one-out" if folds is None else f"{folds}-fold"
        run.tags({"trackdl.validation": way})
        held_out = _hold_out(run, experiment, source, examples, letters, folds)
        _draw(run, experiment, letters, held_out)
        compared = _compare(run, held_out, examples)
        judged = None
        if unseen:
            judged = _judge(run, trainer, Examples(source.card.normalise(unseen.inputs), unseen.labels))
        decision = _register(run, experiment, trainer, evaluation, held_out[SUBJECT], judged, letters, source, way)
        rows = ledger.compare(experiment.numbers, run.history)
    return Result(experiment, run, decision, rows, held_out, compared, way, judged, letters.origin, left_out)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, the held-out results, and how the model was registered.

    Returns:
        A one-line summary.
    """
    experiment, label = result.experiment, result.experiment.label
    how = f"preprocessing {experiment.data.preprocessing}, " if experiment.data.preprocessing else ""
    count = len(next(iter(result.held_out.values())).outputs)
    letters = {"report": f"the report's {count} letters", "own": f"{count} images", "synthetic": "SYNTHETIC letters"}[
        result.origin
    ]
    if result.rows and result.origin != "synthetic":
        print_table(f"{label}: the images that it learnt from", *ledger.table(result.rows))
    chosen = "" if experiment.data.folds else f", because there are {count}"
    title = f"{label}: images held out ({result.way}{chosen}), {how}{letters}"
    rows = []
    for name, held in result.held_out.items():
        low, high = held.interval
        total = len(held.outputs)
        rows.append([name, f"{held.correct}/{total}", f"{held.accuracy:.1%}", f"{low:.1%} to {high:.1%}"])
    print_table(title, ["network", "right", "accuracy", "exact 95 % interval"], rows)
    if result.compared:
        title = f"The same images, McNemar's exact test, {len(result.compared)} comparisons (Holm)"
        cells = [
            [first, second, str(test.only_first), str(test.only_second), f"{test.p:.2g}", f"{p:.2g}"]
            for first, second, test, p in result.compared
        ]
        print_table(title, ["first", "second", "only first right", "only second right", "p", "p by Holm"], cells)
    if result.unseen:
        low, high = exact_interval(result.unseen.correct, result.unseen.total)
        right = f"{result.unseen.correct}/{result.unseen.total}"
        say(f"images of {result.experiment.data.test_folder}: {right} right, 95 % interval {low:.1%} to {high:.1%}")
    for part, left in result.left_out.items():
        if left:
            say(f"left out of the {part} images, as copies of training images: {len(left)}; see left_out.json")
    say(f"run {result.run.id}: {result.decision}")
    right = ", ".join(f"{name} {held.correct} of {len(held.outputs)}" for name, held in result.held_out.items())
    tests = "; ".join(f"{first} and {second} {p:.2g}" for first, second, _, p in result.compared)
    tests = f" McNemar's exact test, p by Holm over {len(result.compared)}: {tests}." if tests else ""
    start = f"from {experiment.source.removeprefix('models:/')}, "
    return f"{label}, {start}{how}{letters}, each held out ({result.way}): {right}.{tests}"


def _letters(experiment: TransferSpec, card: ImageCard) -> tuple[Letters, Letters | None]:
    """Return the images to train on, and those that are only tested on, if there are any."""
    data, prepare, colour = experiment.data, _prepare(card, experiment), card.colour
    folders = [in_report(named) for named in (data.folder, data.test_folder) if named]
    if data.folder:
        found = read_folders(folders, data.rename, prepare, colour=colour)
        return found[0], found[1] if data.test_folder else None
    letters = load_letters(prepare=prepare, colour=colour)
    unseen = read_folders(folders, data.rename, prepare, colour=colour)[0] if folders else None
    if unseen and unseen.classes != letters.classes:
        classes = f"{', '.join(unseen.classes)}, but the network is trained on {', '.join(letters.classes)}"
        raise InputError(f"{data.test_folder}: classes {classes}")
    return letters, unseen


def _source(experiment: TransferSpec) -> Source:
    uri = experiment.source
    if uri == _report_weights.URI:
        _report_weights.register()
    elif not files.exists(uri):
        before = spec.named(experiment.of) if experiment.of else None
        if not isinstance(before, ClassifySpec) or uri != f"models:/{registry.name_of(before)}@champion":
            raise InputError(f"{uri}: the registry has no such version or alias; `trackdl models` lists them")
        log.warning("the registry has no %s yet: training it first, with %s.yaml", uri, before.name)
        classify.show(classify.run(before))
    found = registry.fetch_model(uri)
    if not isinstance(found.card, ImageCard):
        raise InputError(f"{uri}: is a model of table rows; a transfer starts from a model of images")
    return Source(found, found.card)


def _prepare(card: ImageCard, experiment: TransferSpec) -> Prepare:
    """Return what makes an image the input of the source's network, float32 [channels, size, size] in 0..1."""
    how = experiment.data.preprocessing or card.preprocessing
    return ServedImages(nn.Identity(), card.model_copy(update={"preprocessing": how})).to_input


def _loss(experiment: TransferSpec, source: Source) -> Loss:
    return loss_of(experiment.training, source.fetched.model)


def _trainer(experiment: TransferSpec, source: Source, classes: int) -> Trainer:
    network = partial(_network, source, classes, experiment.frozen, experiment.dropout_maps)
    return Trainer(network, experiment.training, _loss(experiment, source))


def _network(
    source: Source, classes: int, frozen: Frozen, dropout_maps: float | None, *, trained: bool = True
) -> nn.Module:
    """Return the source's network with a new head; `trained`: with its weights, else with random ones."""
    model = build(source.card.network, source.card.arguments)
    if trained:
        model.load_state_dict(source.fetched.model.state_dict())
    if dropout_maps is not None:
        set_dropout_of_maps(model, dropout_maps)
    freeze(model, frozen)
    replace_head(model, classes)
    return model


def _origin(experiment: TransferSpec) -> str:
    return experiment.data.folder or "greek letters"


def _log_inputs(run: Run, experiment: TransferSpec, letters: Letters, source: Source, unseen: Letters | None) -> None:
    run.dataset(
        runs.describe_dataset(f"{experiment.name} ({letters.origin})", letters.digest, _origin(experiment)),
        "training",
    )
    if unseen:
        run.dataset(
            runs.describe_dataset(f"{experiment.name}, unseen", unseen.digest, _origin(experiment)),
            "testing",
        )
    run.tags(
        {
            "trackdl.data_digest": letters.digest,
            "trackdl.data_origin": letters.origin,
            "trackdl.synthetic": str(letters.origin == "synthetic").lower(),
            **_lineage(source),
        }
    )


def _lineage(source: Source) -> dict[str, str]:
    return {
        "trackdl.source_model": source.fetched.name,
        "trackdl.source_version": source.fetched.version,
        "trackdl.source_run": source.fetched.run_id,
        "trackdl.source_weights_sha256": source.card.weights_sha256,
    }


def _train(run: Run, experiment: TransferSpec, trainer: Trainer, examples: Examples) -> Evaluation:
    """Train on all images; what a report calls a test on the same images is logged as training accuracy."""
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
    with progress(f"{experiment.name}, epochs", experiment.training.epochs) as advance:
        for result in trainer.fit(examples, experiment.training.epochs):
            results.append(result)
            evaluation = measure()
            training_runs.log_epoch(run, trainer, result, measured[result.epoch])
            advance(f"{evaluation.correct}/{evaluation.total} training images, loss {evaluation.loss:.4f}")
    training_runs.log_outputs(run, "train-epochs", outputs, examples.targets)
    training_runs.log_all_batches(run, results)
    return evaluation


def _hold_out(
    run: Run, experiment: TransferSpec, source: Source, examples: Examples, letters: Letters, folds: int | None
) -> dict[str, HeldOut]:
    """Predict every letter by a network that was not trained on it; the two baselines use the same splits."""
    classes = len(letters.classes)
    networks = {
        SUBJECT: partial(_network, source, classes, experiment.frozen, experiment.dropout_maps),
        "random features": partial(_network, source, classes, "body", experiment.dropout_maps, trained=False),
        "all layers trained": partial(_network, source, classes, "nothing", experiment.dropout_maps),
    }
    parts, loss = _parts(examples, folds, experiment.training.seed), _loss(experiment, source)
    held_out = {}
    with progress("images held out, networks", len(networks)) as advance:
        for name, network in networks.items():
            try:
                held = hold_out_each(network, experiment.training, loss, examples, parts)
            except Diverged as error:
                if name == SUBJECT:
                    raise
                log.warning("the baseline %s is left out: %s", name, error)
                run.tags({f"trackdl.diverged.{name.replace(' ', '_')}": str(error)})
                continue
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
    return held_out


def _draw(run: Run, experiment: TransferSpec, letters: Letters, held_out: dict[str, HeldOut]) -> None:
    """Log the learning curve, the accuracy on images held out, and the answers to them."""
    of = f"({letters.origin} images)"
    tested = [(epoch * len(letters.labels), loss) for epoch, loss in run.history("train_loss")]
    curve = plots.loss_curves(run.history("batch_loss"), tested, f"{experiment.label}: learning {of}", "All images")
    run.figure(curve, "pictures/training_curve.png")
    accuracies, intervals = [held.accuracy for held in held_out.values()], [held.interval for held in held_out.values()]
    title = f"{experiment.label} {of}"
    bars = plots.accuracy_bars(list(held_out), accuracies, intervals, title, "images held out")
    run.figure(bars, "pictures/held_out.png")
    said = held_out[SUBJECT].outputs.argmax(dim=1)
    title = f"Answers of networks that had not seen the image {of}; wrong ones framed"
    draw_answered(run, letters.inputs[:MOST_DRAWN], letters.labels, said, letters.classes, title, "letters")


def _compare(run: Run, held_out: Mapping[str, HeldOut], examples: Examples) -> list[tuple[str, str, Paired, float]]:
    """Test each two networks on the same held-out images, and log the tests."""
    right = {name: (held.outputs.argmax(dim=1) == examples.targets).tolist() for name, held in held_out.items()}
    pairs = list(combinations(right, 2))
    tests = [mcnemar(right[first], right[second]) for first, second in pairs]
    found = [(*pair, test, p) for pair, test, p in zip(pairs, tests, holm([test.p for test in tests]), strict=True)]
    rows = [{"first": first, "second": second, **asdict(test), "p_holm": p} for first, second, test, p in found]
    run.frame(pd.DataFrame(rows), "predictions/mcnemar.json")
    against = [(second, p) for first, second, _, p in found if first == SUBJECT]
    run.metrics({f"mcnemar_p_holm_{second.replace(' ', '_')}": p for second, p in against})
    return found


def _parts(examples: Examples, folds: int | None, seed: int) -> list[Split]:
    try:
        return splits(examples.targets, folds, seed)
    except ValueError as error:
        raise InputError(f"key 'data.folds': {error}") from error


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
    judged: Evaluation | None,
    letters: Letters,
    source: Source,
    way: str,
) -> Decision:
    model, how = trainer.model, experiment.data.preprocessing or source.card.preprocessing
    # The source's least energy is of another head, and a few letters give none.
    changed = {
        "arguments": arguments_of(model),
        "classes": list(letters.classes),
        "preprocessing": how,
        "least_energy": None,
    }
    card = source.card.model_copy(update=changed)
    example = (serving.as_pixels(letters.inputs[:2]) * 255).round()
    final = {"train_loss": evaluation.loss, "train_accuracy": evaluation.accuracy, "val_accuracy": held_out.accuracy}
    on = [
        (
            runs.describe_dataset(f"{experiment.name} ({letters.origin})", letters.digest, _origin(experiment)),
            final,
        )
    ]
    why = "every letter is predicted by a network that was not trained on it"
    score = Score("val_accuracy", held_out.accuracy, why, letters.digest, synthetic=letters.origin == "synthetic")
    lineage = {**_lineage(source), "trackdl.preprocessing": str(how)}
    name, total = on[0][0].name, len(held_out.outputs)
    results = [readme.of_examples("val_accuracy", held_out.correct, total, name, way, _HELD_OUT)]
    if judged:
        unseen = f"{experiment.name}, unseen"
        results.append(readme.of_examples("test_accuracy", judged.correct, judged.total, unseen, "test", _UNSEEN))
    about = readme.About(experiment, name, results)
    learnt = training_images.to_file(letters.squares, letters.names)
    return registry.log_and_register(
        registry.name_of(experiment),
        run,
        trainer.model,
        card,
        example,
        trainer.epoch,
        on,
        score,
        about,
        lineage,
        learnt=learnt,
    )
