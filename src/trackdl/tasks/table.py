"""Networks on a table under several protocols, next to baselines; registers one of them.

Each protocol is a child run of the task's, and each network under a protocol a child run of that; so are the baselines
and the steps of the ablation. All have the same metric names: `test_...` on the test split, `cv_...` cross-validated.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from trackdl import ledger
from trackdl.analysis.scores import top_class
from trackdl.analysis.stats import Estimate
from trackdl.data.tables.schema import Schema
from trackdl.data.tables.table import Audit, Table, audit, load_table
from trackdl.errors import InputError, TrackdlError
from trackdl.networks.heart import HeartNet
from trackdl.plots import classifiers as plots_classifiers
from trackdl.plots import common as plots
from trackdl.serving import TableCard
from trackdl.spec import TableSpec
from trackdl.spec.table import ABLATION, BASELINE_GROUP
from trackdl.system.console import print_table, progress, say
from trackdl.tabular import tables
from trackdl.tabular.baselines import BaselineCandidate
from trackdl.tabular.comparison import Candidate, CrossValidated, cross_validate, fit_seeds, folds
from trackdl.tabular.logging import log_cross_validation, log_learning_curves, log_test
from trackdl.tabular.protocols import NetworkCandidate, Predictions
from trackdl.tracking import pages, runs
from trackdl.tracking.registry import readme
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.tracking.runs import Run
from trackdl.workers.process import attach_joblib

TRAINS = (
    "_candidates",
    "fit_seeds",
    "cross_validate",
    "folds",
    "load_table",
)  # covered by the code digest, with all that they reach

COMPARED = ("accuracy", "auc", "brier", "log_loss")
# What the rows had to do with the weights, as the model card says it.
_TESTED = "These rows did not choose the weights."
_CROSSED = "Networks that had not seen the row predicted it; the weights here are of one trained on the training rows."

Differences = dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Result:
    """The task's result: its run, the registered version, and its numbers.

    `metrics` are each model's. `against` are paired differences by model and score: between models and `_reference`,
    and between the ablation's steps and the model that they vary; empty without a cross-validation.
    """

    experiment: TableSpec
    run: Run
    decision: Decision
    rows: list[ledger.NumberRow]
    found: Audit
    metrics: dict[str, dict[str, float]]
    against: dict[str, Differences]
    table: Table


def run(experiment: TableSpec) -> Result:
    """Train, test, cross-validate and compare all models, and register the subject.

    Raises:
        InputError: The table is not as the experiment says, has too few rows of a class, or the registered model is
            another report's.
    """
    attach_joblib()
    runs.close_abandoned(experiment.name)
    registry.check_free(registry.name_of(experiment))
    ledger.check_numbers(experiment)
    name, seed = experiment.name, experiment.training.seed
    table = load_table(experiment.data, seed)
    try:
        parts = table.apart(folds(table.targets, experiment.folds, experiment.repeats, seed, table.schema.classes))
    except ValueError as error:
        raise InputError(f"cross-validation by --folds {experiment.folds}: {error}") from error
    models, steps, judged_once = _candidates(experiment, table.schema)
    with runs.start(experiment) as run:
        found = _log_inputs(run, experiment, table)
        seeds = [seed + number for number in range(experiment.seeds)]
        with progress(f"{name}, fits tested", len(models) * len(seeds)) as advance:
            tested = fit_seeds(models, table.train_rows, table.test_rows, seeds, advance)
        validated = {key: candidate for key, candidate in models.items() if key not in judged_once} | steps
        crossed: dict[str, CrossValidated] = {}
        if parts:
            with progress(f"{name}, fits cross-validated", len(validated) * len(parts)) as advance:
                crossed = cross_validate(validated, table.frame, parts, seed, advance)
        metrics = _log_models(run, experiment, tested, crossed, table, seeds)
        against = _compare(run, crossed, experiment)
        _draw(run, experiment, tested, crossed, against, table)
        _draw_protocols(run, experiment, metrics, table)
        decision = _register(run, experiment, tested, metrics, table)
        values = {f"{name}/{metric}": value for name, item in metrics.items() for metric, value in item.items()}
        numbers = experiment.numbers if table.origin == "report" else []
        rows = ledger.compare(numbers, lambda metric: [(0, values[metric])] if metric in values else [])
    return Result(experiment, run, decision, rows, found, metrics, against, table)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, the tables of all models, and how the model was registered.

    Returns:
        A one-line summary.
    """
    if result.rows:
        columns = ["metric", "report", "trackdl"]
        rows = [[row.metric, *ledger.table([row])[1][0][1:]] for row in result.rows]
        print_table(f"{result.experiment.label}: the report's numbers", columns, rows)
    table, experiment = result.table, result.experiment
    columns, rows = tables.holdout_table(result.metrics, experiment.seeds)
    print_table(f"The {len(table.test)} test rows, seed {experiment.training.seed} and all seeds", columns, rows)
    if models := result.against["models"]:
        columns, rows = tables.cross_validation_table(result.metrics, models)
        way = f"{experiment.repeats} × {experiment.folds} folds of {len(table.frame)} rows"
        print_table(f"Cross-validated, {way}; points and p: differences from {_reference(experiment)}", columns, rows)
    if steps := result.against["ablation"]:
        columns, rows = tables.cross_validation_table(result.metrics, steps)
        print_table(f"Ablation, likewise; points and p: differences from {_subject(experiment)}", columns, rows)
    say(tables.describe_audit(result.found, len(table.frame)))
    say(f"run {result.run.id}: {result.decision}")
    means = ", ".join(f"{name} {result.metrics[name]['test_accuracy_mean']:.1%}" for name in _ladder(experiment))
    seeds = "one seed" if experiment.seeds == 1 else f"mean of {experiment.seeds} seeds"
    return f"{experiment.label}, {seeds} on {len(table.test)} test rows: {means}."


def _subject(experiment: TableSpec) -> str:
    """Return the name of the model that is registered and that the ablation varies."""
    return f"{experiment.registered}/{experiment.networks[0].name}"


def _reference(experiment: TableSpec) -> str:
    """Return the model that every other is compared with: logistic regression, if it is there, as it is simple."""
    if not experiment.baselines:
        return _subject(experiment)
    simple = "logistic-regression"
    return f"{BASELINE_GROUP}/{simple if simple in experiment.baselines else experiment.baselines[0]}"


def _ladder(experiment: TableSpec) -> list[str]:
    """Return the first network under each protocol, in their order, and the reference."""
    first = experiment.networks[0].name
    return list(dict.fromkeys([*(f"{name}/{first}" for name in experiment.protocols), _reference(experiment)]))


def _candidates(experiment: TableSpec, schema: Schema) -> tuple[dict[str, Candidate], dict[str, Candidate], set[str]]:
    """Return the models, the ablation's steps, and the names of models that are not cross-validated."""
    networks, training = experiment.networks, experiment.training
    models: dict[str, Candidate] = {
        f"{name}/{network.name}": NetworkCandidate(network, protocol, training, schema)
        for name, protocol in experiment.protocols.items()
        for network in networks
    }
    models |= {f"{BASELINE_GROUP}/{name}": BaselineCandidate(name, schema) for name in experiment.baselines}
    steps: dict[str, Candidate] = {
        f"{ABLATION}/{name}": NetworkCandidate(networks[0], protocol, training, schema)
        for name, protocol in experiment.variants().items()
    }
    once = {f"{name}/{item.name}" for name in experiment.protocols for item in networks if not item.cross_validate}
    return models, steps, once


def _log_inputs(run: Run, experiment: TableSpec, table: Table) -> Audit:
    for part in ("train", "test"):
        rows = table.train_rows if part == "train" else table.test_rows
        made = runs.describe_dataset(f"{experiment.name}-{part} ({table.origin})", table.digest, table.source, rows)
        run.dataset(made, "training" if part == "train" else "testing")
    run.tags({"trackdl.data_digest": table.digest, "trackdl.data_origin": table.origin})
    found = audit(table)
    run.table(asdict(found), "audit.json")
    return found


def _log_models(
    run: Run,
    experiment: TableSpec,
    tested: Mapping[str, list[Predictions]],
    crossed: Mapping[str, CrossValidated],
    table: Table,
    seeds: list[int],
) -> dict[str, dict[str, float]]:
    """Log a run for each group of models, and in it a run for each model; return all metrics by model."""
    metrics: dict[str, dict[str, float]] = {}
    names = [*tested, *(name for name in crossed if name not in tested)]
    losses = {name: "broadcast" if one.faults else one.loss for name, one in experiment.protocols.items()}
    for group in dict.fromkeys(name.partition("/")[0] for name in names):
        with runs.start(experiment, name=group) as group_run:
            # A parameter too: MLflow's comparison of runs draws these, not tags.
            group_run.tags({"trackdl.protocol": group}, {"protocol": group})
            for name in (name for name in names if name.startswith(f"{group}/")):
                with runs.start(experiment, name=name) as model_run:
                    model = name.partition("/")[2]
                    tags = {"trackdl.protocol": group, "trackdl.network": model}
                    model_run.tags(tags, {"protocol": group, "model": model})
                    model_run.table(table.schema.classes, "classes.json")
                    found: dict[str, float] = {}
                    if name in tested:
                        by_seed = dict(zip(seeds, tested[name], strict=True))
                        loss = losses.get(group)
                        own = loss if loss != "broadcast" else None
                        found |= log_test(model_run, by_seed, table.targets, table.test, own)
                        if loss:
                            _log_network(model_run, by_seed, loss)
                    if name in crossed:
                        found |= log_cross_validation(model_run, crossed[name])
                    _describe(model_run, name, found, run, experiment)
                metrics[name] = found
            for name, last in _draw_losses(group_run, group, tested, losses.get(group, "")).items():
                metrics[name]["batch_loss"] = last
            # The group's run gets the metrics of its first model, for comparing runs.
            first = next(name for name in names if name.startswith(f"{group}/"))
            group_run.metrics(metrics[first])
            _describe(group_run, first, metrics[first], run, experiment)
    run.frame(pd.DataFrame([{"model": name, **found} for name, found in metrics.items()]), "models.json")
    return metrics


def _describe(run: Run, name: str, found: Mapping[str, float], whole: Run, experiment: TableSpec) -> None:
    """Describe a model's run, or its group's, by the model's accuracies, below the task's run `whole`."""
    parts = {"test_accuracy": "on the test rows", "cv_accuracy": "cross-validated"}
    accuracies = ", ".join(f"{found[key]:.2%} {words}" for key, words in parts.items() if key in found)
    above = f"[{experiment.label}]({pages.run_page('', whole.experiment_id, whole.id)})"
    words = f"{name}: accuracy {accuracies}. This is a part of {above}."
    run.describe(words, runs.command(whole.id))


def _log_network(run: Run, predictions: Mapping[int, Predictions], loss: str) -> None:
    """Log a network's trainings by seed."""
    networks = {seed: made.fitted for seed, made in predictions.items() if made.fitted}
    log_learning_curves(run, {seed: item.learning_curves for seed, item in networks.items()}, loss)
    first = next(iter(networks.values())).model.members[0]
    if isinstance(first, HeartNet):
        run.text(f"{first.layers}\n", "network.txt")


def _draw_losses(group_run: Run, group: str, tested: Mapping[str, list[Predictions]], loss: str) -> dict[str, float]:
    """Draw the loss curves of a protocol's networks; return the last batch's loss, which the report prints, of each."""
    batches, means, last = {}, {}, {}
    for name, predictions in tested.items():
        if name.startswith(f"{group}/") and (fitted := predictions[0].fitted):
            network, curves = name.partition("/")[2], [curve.epochs for curve in fitted.learning_curves]
            points = [point for result in curves[0] for point in result.batch_losses]
            # The batch losses of several members would hide each other.
            batches[network] = points if len(curves) == 1 else []
            means[network] = [[(item.epoch * item.examples, item.train_loss) for item in curve] for curve in curves]
            last[name] = points[-1][1]
    if means:
        words = {"bce": "Binary cross-entropy", "cross_entropy": "Cross-entropy"}.get(loss, "Mean squared error")
        figure = plots_classifiers.loss_panels(batches, means, f"Training loss, {group}", words)
        group_run.figure(figure, "pictures/loss_curves.png")
    return last


def _compare(run: Run, crossed: Mapping[str, CrossValidated], experiment: TableSpec) -> dict[str, Differences]:
    """Return the differences between models and the reference, and between steps and the model they vary."""
    reference, subject = _reference(experiment), _subject(experiment)

    def differences(names: list[str], to: str) -> Differences:
        return {
            name: {metric: crossed[name].minus(crossed[to], metric) for metric in COMPARED}
            for name in names
            if name != to
        }

    steps = [name for name in crossed if name.startswith(f"{ABLATION}/")]
    models = [name for name in crossed if name not in steps]
    against = {"models": differences(models, reference), "ablation": differences(steps, subject)}
    tables = {
        kind: {name: {metric: asdict(item) for metric, item in found.items()} for name, found in group.items()}
        for kind, group in against.items()
    }
    run.table({"reference": {"models": reference, "ablation": subject}, **tables}, "comparisons.json")
    return against


def _draw(
    run: Run,
    experiment: TableSpec,
    tested: Mapping[str, list[Predictions]],
    crossed: Mapping[str, CrossValidated],
    against: Mapping[str, Differences],
    table: Table,
) -> None:
    targets = table.targets[table.test]
    classes = table.schema.classes
    roc: dict[str, dict[str, plots_classifiers.Judged]] = {}
    calibration: dict[str, dict[str, plots_classifiers.Judged]] = {}
    for name, predictions in tested.items():
        group, _, model = name.partition("/")
        roc.setdefault(group, {})[model] = (targets, predictions[0].probabilities)
        if name in crossed:
            calibration.setdefault(group, {})[model] = top_class(*crossed[name].held_out)
    title = f"The {len(targets)} test rows"
    if len(classes) == 2:
        run.figure(plots_classifiers.roc_panels(roc, title), "pictures/roc.png")
    if calibration:
        positive = classes[1] if len(classes) == 2 else "the predicted class"
        figure = plots_classifiers.calibration_panels(calibration, "Calibration, all rows, each held out", positive)
        run.figure(figure, "pictures/calibration.png")
    labels = {name.replace("/", "\n"): (targets, item[0].labels) for name, item in tested.items()}
    run.figure(plots_classifiers.confusion_grid(labels, classes, title, 6), "pictures/confusion.png")
    if steps := against["ablation"]:
        charted = {
            title: {name.removeprefix(f"{ABLATION}/"): found[metric] for name, found in steps.items()}
            for metric, title in (("accuracy", "Accuracy"), ("auc", "AUC"))
        }
        title = "Ablation, cross-validated: paired differences with corrected 95 % intervals"
        run.figure(plots_classifiers.difference_chart(charted, title, experiment.registered), "pictures/ablation.png")


def _draw_protocols(run: Run, experiment: TableSpec, metrics: Mapping[str, Mapping[str, float]], table: Table) -> None:
    """Log what each protocol makes of the same network, next to the reference."""
    names = _ladder(experiment)
    values = [metrics[name]["test_accuracy"] for name in names]
    bounds = [(metrics[name]["test_accuracy_low"], metrics[name]["test_accuracy_high"]) for name in names]
    title = f"{experiment.label}, by protocol"
    of, chosen = f"the {len(table.test)} test rows", names.index(_subject(experiment))
    run.figure(plots.accuracy_bars(names, values, bounds, title, of, chosen), "pictures/protocols.png")


def _register(
    run: Run,
    experiment: TableSpec,
    tested: Mapping[str, list[Predictions]],
    metrics: Mapping[str, Mapping[str, float]],
    table: Table,
) -> Decision:
    subject, schema = _subject(experiment), table.schema
    fitted, mine = tested[subject][0].fitted, metrics[subject]
    if fitted is None:
        raise TrackdlError(f"{subject} is no network")
    card = TableCard(
        network="HeartNets",
        arguments=fitted.arguments,
        classes=list(schema.classes),
        preparation=fitted.preparation,
        columns=list(schema.columns),
        target=schema.target,
    )
    example = table.test_rows.head(2)[[column.name for column in schema.columns]].reset_index(drop=True)
    on = [(runs.describe_dataset(f"{experiment.name}-test ({table.origin})", table.digest, schema.target), mine)]
    if experiment.folds:
        scheme = f"{experiment.repeats} × {experiment.folds} folds"
        why = f"every row is predicted by networks that were not trained on it, {scheme}"
        score = Score("cv_accuracy", mine["cv_accuracy"], why, table.digest)
    else:
        score = Score("test_accuracy", mine["test_accuracy"], "there is no cross-validation", table.test_digest)
    right = int((tested[subject][0].labels == table.targets[table.test]).sum())
    data = f"{experiment.name} ({table.origin})"
    results = [readme.of_examples("test_accuracy", right, len(table.test), on[0][0].name, "test", _TESTED)]
    if experiment.folds:
        over = f"Student's t, corrected for overlapping folds, over {scheme} of {len(table.frame):,} rows"
        value, *interval = (mine[f"cv_accuracy{end}"] for end in ("", "_low", "_high"))
        results.append(readme.Result("cv_accuracy", value, interval, over, data, "cross-validation", _CROSSED))
    about = readme.About(experiment, data, results)
    return registry.log_and_register(
        registry.name_of(experiment),
        run,
        fitted.model,
        card,
        example,
        0,
        on,
        score,
        about,
        {"trackdl.protocol": subject},
    )
