"""The search for a better network than an experiment's: a study over architecture and training together.

Workers train a trial epoch by epoch. This process alone asks the study, reports each epoch to its pruner, and writes to
the stores. A trial's state after each epoch is kept next to the studies' store until the trial ends, so
`trackdl search` continues wherever it was stopped, however it was stopped.
"""

import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trackdl import spec
from trackdl.data.images import load_images, validation_split
from trackdl.plots import grid as plots_grid
from trackdl.plots import search as plots_search
from trackdl.spec import ClassifySpec, SearchSpec
from trackdl.studies.driver import study_run
from trackdl.studies.search.driver import SearchDriver
from trackdl.studies.search.segments import SegmentResult, SegmentTask, train_segment
from trackdl.studies.search.study import SearchStudy, histories
from trackdl.studies.store import storage, study_lock
from trackdl.system.console import counted, print_table, progress, say
from trackdl.system.paths import project_root, report_root, whole_file
from trackdl.tracking import runs
from trackdl.tracking.runs import Run
from trackdl.training.image_splits import check_apart, with_size
from trackdl.workers.pool import Engine, count_workers, work_through

TRAINS = ("train_segment",)  # covered by the code digest, with all that they reach

log = logging.getLogger(__name__)

Train = Callable[[SegmentTask], SegmentResult]

WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "REFUSED": "refused before training"}


@dataclass(frozen=True)
class Result:
    """The task's result.

    Attributes:
        experiment: The search.
        run: The trials' parent run.
        study: The study.
        images: How many images were trained on in all, each as often as it was used.
        best: The best trial's experiment, if a trial is complete.
        file: The file that it was written to.
    """

    experiment: SearchSpec
    run: Run
    study: SearchStudy
    images: int
    best: ClassifySpec | None
    file: Path | None


def run(
    experiment: SearchSpec,
    workers: int | None = None,
    train: Train = train_segment,
    engine: Engine = work_through,
) -> Result:
    """Search until trials or minutes are used up; trials of earlier commands count, their minutes do not.

    Args:
        experiment: The search.
        workers: The number of single-threaded processes; one per core by default.
        train: Trains one segment, in a worker.
        engine: Distributes the segments over processes or machines.

    Raises:
        InputError: Another process is working on this study, or `workers` is not positive.
    """
    count = count_workers(workers)
    storage()  # reports an unusable store before anything else is done
    of = with_size(experiment.experiment)
    check_apart(of.data)
    experiment = experiment.model_copy(update={"experiment": of})
    images = load_images(of.data)
    name = experiment.study_name
    with study_lock(name):
        runs.close_abandoned(experiment.name)
        study = SearchStudy(experiment)
        study.check_data(images.digest)
        pruner = "none" if study.two else experiment.study.pruner
        tags = {"trackdl.sampler": experiment.study.sampler, "trackdl.pruner": pruner}
        with study_run(experiment, [study], tags) as parent:
            driver = SearchDriver(experiment, study, parent, images.emptied())
            try:
                driver.resume()
                _work(driver, count, train, engine)
                driver.finish()
            except BaseException:
                driver.abandon()
                raise
            best, file = _write_best(experiment, study, parent)
            each, _ = validation_split(len(images.train_labels), of.data.validation or 0, of.data.split_seed)
            trained = len(each) * sum(len(histories(trial)) for trial in study.trained())
            _summarise(study, parent, trained)
    return Result(experiment, parent, study, trained, best, file)


def _work(driver: SearchDriver, workers: int, train: Train, engine: Engine) -> None:
    settings = driver.experiment.study

    def count() -> int:
        return sum(number for state, number in driver.study.counts().items() if state in WORDS)

    ended = count()
    total = None if settings.minutes else settings.trials
    if ended >= settings.trials:
        log.warning(
            "%s has %d trials, those of earlier commands included, and no more than %d are asked for: none is added. "
            "--trials %d adds one",
            driver.study.name,
            ended,
            settings.trials,
            ended + 1,
        )
    with progress(f"{driver.study.name}, trials", total, ended, every=1) as advance:
        for opened, outcome in engine(train, driver.next_task, workers):
            words = driver.keep(opened, outcome)
            now = count()
            if now > ended:
                advance(words)
            ended = now


def _write_best(experiment: SearchSpec, study: SearchStudy, run: Run) -> tuple[ClassifySpec | None, Path | None]:
    """Write the best trial's experiment to a file that `trackdl run` can run."""
    complete = study.best()
    if not complete:
        log.warning("no trial has been trained to its last epoch, so there is no best one yet; try more --minutes")
        return None, None
    values = {key: complete[0].params[key] for key in experiment.space}
    best = experiment.in_full(values).model_copy(update={"found_by": study.name})
    file = project_root() / "reports" / f"{study.name}-best.yaml"
    text = spec.to_yaml(best)
    with whole_file(file) as part:
        part.write_text(text, encoding="utf-8")
    run.text(text, "best.yaml")
    run.metrics({"best_val_accuracy": complete[0].values[0]})
    return best, file


def _summarise(study: SearchStudy, run: Run, images: int) -> None:
    counts = study.counts()
    run.metrics({f"trials_{state.lower()}": float(counts[state]) for state in WORDS})
    run.metrics({"images_trained": float(images)})
    curves = [
        (trial.number, [epoch.val_accuracy for epoch in histories(trial)], trial.state.name == "COMPLETE")
        for trial in study.trained()
    ]
    if curves:
        run.figure(plots_search.learning_curves(curves, study.name), "pictures/learning_curves.png")
    if study.two and study.best():
        points = [(t.values[1], t.values[0]) for t in study.trials() if t.state.name == "COMPLETE"]
        front = [(t.values[1], t.values[0]) for t in study.best()]
        run.figure(plots_search.pareto(points, front, study.name), "pictures/pareto.png")
    if importances := study.importances():
        run.table(importances, "importances.json")
        chart = plots_grid.importance_bars(importances, f"{study.name}, complete trials")
        run.figure(chart, "pictures/importances.png")


def _print_best(study: SearchStudy) -> None:
    best = study.best()[:5]
    varied = [key for key in study.spec.space if len({str(trial.params[key]) for trial in best}) > 1]
    columns = ["trial", *(key.rpartition(".")[2] for key in varied), "CPU s", "validation"]
    lines = [
        [
            str(trial.number),
            *(f"{value:.3g}" if isinstance(value := trial.params[key], float) else str(value) for key in varied),
            f"{sum(epoch.cpu_seconds for epoch in histories(trial)):.3g}",
            f"{trial.values[0]:.2%}",
        ]
        for trial in best
    ]
    title = "the Pareto front of accuracy and time" if study.two else "the best trials"
    print_table(f"{study.spec.label}: {title}; only keys in which they differ", columns, lines)


def _print_open(study: SearchStudy) -> None:
    """Print the trials with the most epochs, if any, of a study that has no complete one."""
    trained = sorted(((trial.number, histories(trial)) for trial in study.trained()), key=lambda pair: -len(pair[1]))
    lines = [[str(number), str(len(epochs)), f"{epochs[-1].val_accuracy:.2%}"] for number, epochs in trained[:5]]
    if lines:
        title = f"{study.spec.label}: no trial is complete yet; those with the most epochs"
        print_table(title, ["trial", "epochs", "validation"], lines)


def show(result: Result) -> str:
    """Print the best trials and how the trials ended; return a one-line summary."""
    study, best = result.study, result.study.best()
    if best:
        _print_best(study)
    else:
        _print_open(study)
    states = study.counts()
    counts = ", ".join(f"{states[state]} {words}" for state, words in WORDS.items())
    waiting = len(study.trained()) - sum(bool(histories(trial)) for trial in study.trials())
    counts += f", {waiting} to be continued by the next command" if waiting else ""
    say(f"{counted(len(study.trials()) + waiting, 'trial')}: {counts}; {result.images:,} images trained on")
    if result.file:
        # The report is named in any case: of a file that is not in its folder, `run` takes the file's own.
        words = shlex.join(["trackdl", "--report", str(report_root()), "run", str(result.file)])
        say(f"to train the best one in full: {words}")
    say(f"run {result.run.id}")
    found = f"best {best[0].values[0]:.2%} on the validation split that chose it" if best else "none complete yet"
    return f"{result.experiment.label}: {counted(len(study.trials()) + waiting, 'trial')} ({counts}); {found}."
