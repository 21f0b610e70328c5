"""Task 4: the report's networks on heart disease under four protocols, next to baselines; registers `heart-mlp`.

Each protocol is a child run of the task's, and each network under a protocol a child run of that; so are the baselines
and the steps of the ablation. All have the same metric names: `test_...` on the test split, `cv_...` cross-validated.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trackdl import ledger
from trackdl.analysis.stats import Estimate
from trackdl.data.heart.schema import FEATURES, TARGET
from trackdl.data.heart.table import CLASSES, Audit, HeartTable, audit, load_heart
from trackdl.errors import InputError, TrackdlError
from trackdl.networks.heart import HeartNet
from trackdl.plots import classifiers as plots_classifiers
from trackdl.serving import TableCard
from trackdl.spec import HeartSpec
from trackdl.system.console import print_table, progress, say
from trackdl.tabular import tables
from trackdl.tabular.baselines import BASELINES, BaselineCandidate
from trackdl.tabular.comparison import Candidate, CrossValidated, cross_validate, fit_seeds, folds
from trackdl.tabular.logging import log_cross_validation, log_learning_curves, log_test
from trackdl.tabular.protocols import Fitted, NetworkCandidate, Predictions
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.tracking.runs import Run

TRAINS = (
    "_candidates",
    "fit_seeds",
    "cross_validate",
    "folds",
    "load_heart",
)  # covered by the code digest, with all that they reach

MODEL = "heart-mlp"
HOME = "https://www.kaggle.com/datasets/fedesoriano/heart-failure-prediction"
BASELINE_GROUP, ABLATION = "baselines", "ablation"
# Every model is compared with this one, the simplest of the good ones.
REFERENCE = f"{BASELINE_GROUP}/logistic-regression"
COMPARED = ("accuracy", "auc", "brier")

Differences = dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Result:
    """The task's result: its run, the registered version, and its numbers.

    `metrics` are each model's. `against` are paired differences by model and score: between models and logistic
    regression, and between the ablation's steps and the model that they vary.
    """

    experiment: HeartSpec
    run: Run
    decision: Decision
    rows: list[ledger.NumberRow]
    found: Audit
    metrics: dict[str, dict[str, float]]
    against: dict[str, Differences]
    table: HeartTable


def run(experiment: HeartSpec) -> Result:
    """Train, test, cross-validate and compare all models, and register the first network under `improved`."""
    runs.close_abandoned("heart")
    data, seed = experiment.data, experiment.training.seed
    table = load_heart(_path(data.csv), _path(data.test_csv), data.test_share, seed)
    try:
        parts = folds(table.targets, experiment.folds, experiment.repeats, seed)
    except ValueError as error:
        raise InputError(f"cross-validation by --folds {experiment.folds}: {error}") from error
    models, steps, judged_once = _candidates(experiment)
    with runs.start(experiment, name="heart") as run:
        found = _log_inputs(run, table)
        seeds = [seed + number for number in range(experiment.seeds)]
        with progress("heart, fits tested", len(models) * len(seeds)) as advance:
            tested = fit_seeds(models, table.train_rows, table.test_rows, seeds, advance)
        validated = {name: candidate for name, candidate in models.items() if name not in judged_once} | steps
        with progress("heart, fits cross-validated", len(validated) * len(parts)) as advance:
            crossed = cross_validate(validated, table.frame, parts, seed, advance)
        metrics = _log_models(run, experiment, tested, crossed, table, seeds)
        against = _compare(run, crossed, _subject(experiment))
        _draw(run, tested, crossed, against, table)
        decision = _register(run, experiment, tested, metrics, table)
        rows = ledger.compare(experiment.numbers if table.origin == "report" else [], run.history)
    return Result(experiment, run, decision, rows, found, metrics, against, table)


def show(result: Result) -> str:
    """Print the published numbers next to the run's, the tables of all models, and how the model was registered.

    Returns:
        A one-line summary.
    """
    if result.rows:
        columns = ["metric", "report", "trackdl"]
        rows = [[row.metric, *ledger.table([row])[1][0][1:]] for row in result.rows]
        print_table("Task 4, heart disease: the report's protocol, its faults included", columns, rows)
    table, experiment = result.table, result.experiment
    columns, rows = tables.holdout_table(result.metrics, experiment.seeds)
    print_table(f"The {len(table.test)} test rows, seed {experiment.training.seed} and all seeds", columns, rows)
    columns, rows = tables.cross_validation_table(result.metrics, result.against["models"])
    way = f"{experiment.repeats} × {experiment.folds} folds of {len(table.frame)} rows"
    print_table(f"Cross-validated, {way}; differences to {REFERENCE}, p", columns, rows)
    if steps := result.against["ablation"]:
        columns, rows = tables.cross_validation_table(result.metrics, steps)
        print_table(f"Ablation, likewise; differences to {_subject(experiment)}, p", columns, rows)
    say(tables.describe_audit(result.found, len(table.frame)))
    say(f"run {result.run.id}: {result.decision}")
    first = experiment.networks[0].name
    shown = [*(f"{protocol}/{first}" for protocol in experiment.protocols), REFERENCE]
    means = ", ".join(f"{name} {result.metrics[name]['test_accuracy_mean']:.1%}" for name in shown)
    beside = " (the report 48 %, by a fault)" if result.rows else ""
    return f"Task 4, heart disease, mean of {experiment.seeds} seeds on {len(table.test)} test rows: {means}{beside}."


def _path(named: str | None) -> Path | None:
    return Path(named).expanduser() if named else None


def _subject(experiment: HeartSpec) -> str:
    """Return the name of the model that is registered and that the ablation varies."""
    return f"improved/{experiment.networks[0].name}"


def _candidates(experiment: HeartSpec) -> tuple[dict[str, Candidate], dict[str, Candidate], set[str]]:
    """Return the models, the ablation's steps, and the names of models that are not cross-validated."""
    networks, training = experiment.networks, experiment.training
    models: dict[str, Candidate] = {
        f"{name}/{network.name}": NetworkCandidate(network, protocol, training)
        for name, protocol in experiment.protocols.items()
        for network in networks
    }
    models |= {f"{BASELINE_GROUP}/{name}": BaselineCandidate(name) for name in BASELINES}
    steps: dict[str, Candidate] = {
        f"{ABLATION}/{name}": NetworkCandidate(networks[0], protocol, training)
        for name, protocol in experiment.variants().items()
    }
    once = {f"{name}/{item.name}" for name in experiment.protocols for item in networks if not item.cross_validate}
    return models, steps, once


def _log_inputs(run: Run, table: HeartTable) -> Audit:
    source = HOME if table.origin == "report" else "a table of the user's"
    for part in ("train", "test"):
        made = runs.describe_dataset(f"heart-{part} ({table.origin})", table.digest, source)
        run.dataset(made, "training" if part == "train" else "testing")
    run.tags({"trackdl.data_digest": table.digest, "trackdl.data_origin": table.origin})
    found = audit(table)
    run.table(asdict(found), "audit.json")
    pairs = {name: float(len(value)) for name, value in asdict(found).items() if isinstance(value, list)}
    run.metrics({f"audit_{name}": count for name, count in pairs.items()})
    run.metrics({f"audit_zeros_{name}": float(count) for name, count in found.zeros.items()})
    return found


def _log_models(
    run: Run,
    experiment: HeartSpec,
    tested: Mapping[str, list[Predictions]],
    crossed: Mapping[str, CrossValidated],
    table: HeartTable,
    seeds: list[int],
) -> dict[str, dict[str, float]]:
    """Log a run for each group of models, and in it a run for each model; return all metrics by model."""
    metrics: dict[str, dict[str, float]] = {}
    names = [*tested, *(name for name in crossed if name not in tested)]
    for group in dict.fromkeys(name.partition("/")[0] for name in names):
        with runs.start(experiment, name=group) as group_run:
            group_run.tags({"trackdl.protocol": group})
            for name in (name for name in names if name.startswith(f"{group}/")):
                with runs.start(experiment, name=name) as model_run:
                    model_run.tags({"trackdl.protocol": group, "trackdl.network": name.partition("/")[2]})
                    found: dict[str, float] = {}
                    if name in tested:
                        by_seed = dict(zip(seeds, tested[name], strict=True))
                        found |= log_test(model_run, by_seed, table.targets, table.test)
                        _log_network(model_run, {seed: made.fitted for seed, made in by_seed.items()})
                    if name in crossed:
                        found |= log_cross_validation(model_run, crossed[name])
                run.metrics({f"{name}/{metric}": value for metric, value in found.items()})
                metrics[name] = found
            _draw_losses(run, group_run, group, tested)
            # The group's run gets the metrics of its first model, for comparing runs.
            group_run.metrics(metrics[next(name for name in names if name.startswith(f"{group}/"))])
    return metrics


def _log_network(run: Run, fitted: Mapping[int, Fitted | None]) -> None:
    """Log a network's trainings by seed; a baseline has none."""
    networks = {seed: item for seed, item in fitted.items() if item is not None}
    if not networks:
        return
    log_learning_curves(run, {seed: item.learning_curves for seed, item in networks.items()})
    first = next(iter(networks.values())).model.members[0]
    if isinstance(first, HeartNet):
        run.text(f"{first.layers}\n", "network.txt")


def _draw_losses(run: Run, group_run: Run, group: str, tested: Mapping[str, list[Predictions]]) -> None:
    """Draw the loss curves of a protocol's networks; log the last batch's loss, which the report prints, to `run`."""
    batches, means = {}, {}
    for name, predictions in tested.items():
        if name.startswith(f"{group}/") and (fitted := predictions[0].fitted):
            network, curves = name.partition("/")[2], [curve.epochs for curve in fitted.learning_curves]
            points = [point for result in curves[0] for point in result.batch_losses]
            # The batch losses of several members would hide each other.
            batches[network] = points if len(curves) == 1 else []
            means[network] = [[(item.epoch * item.examples, item.train_loss) for item in curve] for curve in curves]
            run.metrics({f"{name}/batch_loss": points[-1][1]})
            loss = "Binary cross-entropy" if fitted.arguments["logits"] else "Mean squared error"
    if means:
        figure = plots_classifiers.loss_panels(batches, means, f"Training loss, {group}", loss)
        group_run.figure(figure, "pictures/loss_curves.png")


def _compare(run: Run, crossed: Mapping[str, CrossValidated], subject: str) -> dict[str, Differences]:
    """Return the differences between models and logistic regression, and between steps and the model they vary."""

    def differences(names: list[str], to: str) -> Differences:
        return {
            name: {metric: crossed[name].minus(crossed[to], metric) for metric in COMPARED}
            for name in names
            if name != to
        }

    steps = [name for name in crossed if name.startswith(f"{ABLATION}/")]
    models = [name for name in crossed if name not in steps]
    against = {"models": differences(models, REFERENCE), "ablation": differences(steps, subject)}
    tables = {
        kind: {name: {metric: asdict(item) for metric, item in found.items()} for name, found in group.items()}
        for kind, group in against.items()
    }
    run.table({"reference": {"models": REFERENCE, "ablation": subject}, **tables}, "comparisons.json")
    return against


def _draw(
    run: Run,
    tested: Mapping[str, list[Predictions]],
    crossed: Mapping[str, CrossValidated],
    against: Mapping[str, Differences],
    table: HeartTable,
) -> None:
    targets = table.targets[table.test]
    roc: dict[str, dict[str, plots_classifiers.Judged]] = {}
    calibration: dict[str, dict[str, plots_classifiers.Judged]] = {}
    for name, predictions in tested.items():
        group, _, model = name.partition("/")
        roc.setdefault(group, {})[model] = (targets, predictions[0].probabilities)
        if name in crossed:
            held_out = crossed[name].table()
            judged = (held_out["target"].to_numpy(), held_out["probability"].to_numpy())
            calibration.setdefault(group, {})[model] = judged
    title = f"The {len(targets)} test rows"
    run.figure(plots_classifiers.roc_panels(roc, title), "pictures/roc.png")
    figure = plots_classifiers.calibration_panels(calibration, "Calibration, all rows, each held out")
    run.figure(figure, "pictures/calibration.png")
    labels = {name.replace("/", "\n"): (targets, item[0].labels) for name, item in tested.items()}
    run.figure(plots_classifiers.confusion_grid(labels, CLASSES, title, 6), "pictures/confusion.png")
    if steps := against["ablation"]:
        charted = {
            title: {name.removeprefix(f"{ABLATION}/"): found[metric] for name, found in steps.items()}
            for metric, title in (("accuracy", "Accuracy"), ("auc", "AUC"))
        }
        title = "Ablation, cross-validated: paired differences with corrected 95 % intervals"
        run.figure(plots_classifiers.difference_chart(charted, title, "improved"), "pictures/ablation.png")


def _register(
    run: Run,
    experiment: HeartSpec,
    tested: Mapping[str, list[Predictions]],
    metrics: Mapping[str, Mapping[str, float]],
    table: HeartTable,
) -> Decision:
    subject = _subject(experiment)
    fitted = tested[subject][0].fitted
    if fitted is None or fitted.preparation is None:
        raise TrackdlError(f"{subject}: a model of raw rows needs inputs with the encoding one-hot")
    card = TableCard(
        network="HeartNets", arguments=fitted.arguments, classes=list(CLASSES), preparation=fitted.preparation
    )
    example = table.test_rows.head(2)[[column.name for column in FEATURES]].reset_index(drop=True)
    mine = metrics[subject]
    on = [(runs.describe_dataset(f"heart-test ({table.origin})", table.digest, TARGET.name), mine)]
    scheme = f"{experiment.repeats} × {experiment.folds} folds"
    why = f"every row is predicted by networks that were not trained on it, {scheme}"
    score = Score("cv_accuracy", mine["cv_accuracy"], why, table.digest)
    lineage = {"trackdl.protocol": subject}
    return registry.log_and_register(MODEL, run, fitted.model, card, example, 0, on, score, lineage)
