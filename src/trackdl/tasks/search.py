"""The search for a Fashion-MNIST network that beats the report's: a study over architecture and training together.

Workers train a trial epoch by epoch; this process asks the study, lets its pruner look at each epoch, and alone writes
to the stores. A trial's state after each epoch lies beside the studies' store until the trial ends, so `trackdl search`
goes on where it was stopped, however it was stopped.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from joblib import cpu_count

from trackdl import plots_grid, plots_search, spec
from trackdl.console import print_table, progress, say
from trackdl.errors import InputError
from trackdl.paths import project_root, whole_file
from trackdl.segments import Epoch, SegmentResult, SegmentTask, train_segment
from trackdl.spec import FashionSpec, SearchSpec
from trackdl.studies.search import RUN, SearchStudy, SearchTrial, histories
from trackdl.studies.store import alone, storage_folder
from trackdl.tracking import runs, trials
from trackdl.tracking.runs import Run
from trackdl.workers import Engine, Failed, Lost, work_through

__all__ = ["Result", "run", "show"]

log = logging.getLogger(__name__)

Train = Callable[[SegmentTask], SegmentResult]

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}
WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Result:
    """What the task leaves: the search, the run above the trials, the study, and the best experiment, if there is."""

    experiment: SearchSpec
    run: Run
    study: SearchStudy
    best: FashionSpec | None
    file: Path | None


@dataclass(frozen=True)
class _Open:
    """A trial in work."""

    trial: SearchTrial
    experiment: FashionSpec
    run: Run
    state: Path


class _Driver:
    """Asks the study, hands out epochs, keeps what comes back: the only writer to both stores."""

    def __init__(self, experiment: SearchSpec, study: SearchStudy, parent: Run) -> None:
        self.experiment, self.study, self.parent = experiment, study, parent
        self.ready: deque[_Open] = deque()
        self.busy: dict[int, _Open] = {}
        minutes = experiment.study.minutes
        self.deadline = monotonic() + 60 * minutes if minutes else None
        for trial in study.interrupted():
            self._begin(trial)

    def next_task(self) -> tuple[_Open, SegmentTask] | None:
        """Return the next epoch to train: of a trial in work, else of a new one, while there is time."""
        if self.deadline and monotonic() > self.deadline:
            return None
        while not self.ready:
            if len(self.study.trials()) >= self.experiment.study.trials:
                return None
            self._begin(self.study.ask())
        opened = self.ready.popleft()
        self.busy[opened.trial.number] = opened
        state = opened.state.read_bytes() if opened.state.exists() else None
        # The checkpoint counts: where the two differ, the process was killed between writing one and the other.
        reached = len(opened.trial.history) if state else 0
        return opened, SegmentTask(opened.experiment, state, reached + 1)

    def _begin(self, trial: SearchTrial) -> None:
        if why := self.experiment.refusal(trial.values):
            # Known before anything is trained, so it is no failure.
            self.study.prune(trial, why)
            return
        experiment = self.experiment.experiment(trial.values)
        name = f"{self.study.name}, trial {trial.number}"
        tags = {"trackdl.task": "search", "trackdl.trial": f"{self.study.name}/{trial.number}"}
        run = trials.open_trial(self.parent, trial.run_id, name, trial.values, tags)
        trial.note(RUN, run.id)
        trial.note("mlflow_page", trials.page(run))
        run.text(spec.to_yaml(experiment), "experiment.yaml")
        state = storage_folder() / "studies" / self.study.name / f"trial-{trial.number:05d}.safetensors"
        self.ready.append(_Open(trial, experiment, run, state))

    def keep(self, opened: _Open, outcome: SegmentResult | Failed | Lost) -> str:
        """Take an epoch's outcome into the stores, and return a few words on it."""
        trial = opened.trial
        del self.busy[trial.number]
        if isinstance(outcome, Failed | Lost):
            why = str(outcome.error) if isinstance(outcome, Failed) else "its worker was killed, twice; out of memory?"
            self.study.fail(trial, why)
            self._end(opened, "FAIL", why)
            log.warning("trial %d failed: %s", trial.number, why)
            return f"trial {trial.number} failed"
        given_up = self.study.keep(trial, outcome.epochs)
        with whole_file(opened.state) as part:
            part.write_bytes(outcome.state)
        last = trial.history[-1]
        words = f"trial {trial.number}, epoch {last.epoch}: {last.val_accuracy:.2%}"
        if last.epoch >= self.experiment.training.epochs:
            self.study.complete(trial)
            self._end(opened, "COMPLETE", "", outcome.parameters)
            return f"{words}, complete"
        if given_up:
            self.study.prune(trial, f"after epoch {last.epoch}, by {self.experiment.study.pruner}")
            self._end(opened, "PRUNED", f"after epoch {last.epoch}", outcome.parameters)
            return f"{words}, pruned"
        self.ready.append(opened)
        return words

    def _end(self, opened: _Open, state: str, why: str, parameters: int | None = None) -> None:
        history = opened.trial.history
        curves = {
            name: [(epoch.epoch, float(getattr(epoch, name))) for epoch in history]
            for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        }
        single = {"cpu_seconds": sum(epoch.cpu_seconds for epoch in history), "epochs": float(len(history))}
        if parameters is not None:
            single["parameters"] = float(parameters)
        trials.log_once(opened.run, {**curves, **{name: [(0, value)] for name, value in single.items()}})
        if history:
            courses = [(opened.trial.number, [epoch.val_accuracy for epoch in history], state == "COMPLETE")]
            opened.run.figure(plots_search.courses(courses, f"Trial {opened.trial.number}"), "pictures/course.png")
        opened.run.tags({"trackdl.trial_state": state, **({"trackdl.why": why} if why else {})})
        trials.close_trial(opened.run, STATUS[state])
        opened.state.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the trials that the time has run out for: they have no value, and what they showed stays."""
        for opened in self.ready:
            self.study.prune(opened.trial, "the study's time was up")
            self._end(opened, "PRUNED", "the study's time was up")
        self.ready.clear()

    def abandon(self) -> None:
        """Mark the runs of open trials KILLED; the next command takes the trials up."""
        for opened in (*self.ready, *self.busy.values()):
            trials.close_trial(opened.run, "KILLED")


def run(
    experiment: SearchSpec,
    workers: int | None = None,
    train: Train = train_segment,
    engine: Engine = work_through,
) -> Result:
    """Search until trials or minutes are used up; trials of earlier commands count, their minutes do not.

    Args:
        experiment: The search.
        workers: How many processes of one thread; one for each core by default.
        train: Trains one segment, in a worker.
        engine: Spreads the segments over processes or machines.

    Raises:
        InputError: Another process works on this study, or there are to be no workers.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: at least one is needed")
    name = experiment.study_name
    with alone(name):
        runs.close_abandoned("search")
        study = SearchStudy(experiment)
        known = trials.study_run("search", name)
        with runs.start(experiment, resume=known, name=name) as parent:
            if known is None:
                trials.adopt(parent, [t.user_attrs[RUN] for t in study.trials() if RUN in t.user_attrs])
            settings = experiment.study
            pruner = "none" if study.two else settings.pruner
            parent.tags({"trackdl.study": name, "trackdl.sampler": settings.sampler, "trackdl.pruner": pruner})
            driver = _Driver(experiment, study, parent)
            try:
                _work(driver, workers or cpu_count(), train, engine)
            except BaseException:
                driver.abandon()
                raise
            driver.stop()
            best, file = _write_best(experiment, study, parent)
            _summarise(experiment, study, parent)
    return Result(experiment, parent, study, best, file)


def _work(driver: _Driver, workers: int, train: Train, engine: Engine) -> None:
    settings = driver.experiment.study
    ended = sum(driver.study.count(state) for state in STATUS)
    total = None if settings.minutes else settings.trials
    with progress(f"{driver.study.name}, trials", total, ended, every=1) as advance:
        for opened, outcome in engine(train, driver.next_task, workers):
            words = driver.keep(opened, outcome)
            now = sum(driver.study.count(state) for state in STATUS)
            if now > ended:
                advance(words)
            ended = now


def _write_best(experiment: SearchSpec, study: SearchStudy, run: Run) -> tuple[FashionSpec | None, Path | None]:
    """Write the best trial's experiment to a file that `trackdl fashion --file` runs as it is."""
    complete = study.best()
    if not complete:
        log.warning("no trial was trained to its last epoch: there is no best one yet; more --minutes may bring one")
        return None, None
    values = {key: complete[0].params[key] for key in experiment.space}
    best = experiment.experiment(values | experiment.finalist).model_copy(update={"found_by": study.name})
    file = project_root() / "reports" / f"{study.name}-best.yaml"
    text = spec.to_yaml(best)
    with whole_file(file) as part:
        part.write_text(text, encoding="utf-8")
    run.text(text, "best.yaml")
    run.metrics({"best_val_accuracy": complete[0].values[0]})
    return best, file


def _summarise(experiment: SearchSpec, study: SearchStudy, run: Run) -> None:
    told = study.trials()
    run.metrics({f"trials_{state.lower()}": float(study.count(state)) for state in STATUS})
    run.metrics({"images_trained": float(_images(experiment, study))})
    courses = [
        (trial.number, [epoch.val_accuracy for epoch in histories(trial)], trial.state.name == "COMPLETE")
        for trial in told
    ]
    if any(course for _, course, _ in courses):
        run.figure(plots_search.courses(courses, study.name), "pictures/courses.png")
    if study.two and study.best():
        points = [(t.values[1], t.values[0]) for t in told if t.state.name == "COMPLETE"]
        front = [(t.values[1], t.values[0]) for t in study.best()]
        run.figure(plots_search.pareto(points, front, study.name), "pictures/pareto.png")
    if importances := study.importances():
        run.table(importances, "importances.json")
        chart = plots_grid.importance_bars(importances, f"{study.name}, complete trials")
        run.figure(chart, "pictures/importances.png")


def _images(experiment: SearchSpec, study: SearchStudy) -> int:
    """Return how many pictures were trained on in all."""
    epochs: list[Epoch] = [epoch for trial in study.trials() for epoch in histories(trial)]
    return round(len(epochs) * 60_000 * (1 - experiment.data.validation))


def show(result: Result) -> str:
    """Print the best trials and how the trials ended; return it in a line."""
    study, spec_ = result.study, result.experiment
    best = study.best()[:5]
    varied = [key for key in spec_.space if len({str(trial.params[key]) for trial in best}) > 1]
    columns = ["trial", *(key.rpartition(".")[2] for key in varied), "CPU s", "validation"]
    lines = [
        [
            str(trial.number),
            *(f"{value:.3g}" if isinstance(value := trial.params[key], float) else str(value) for key in varied),
            f"{sum(epoch.cpu_seconds for epoch in histories(trial)):.0f}",
            f"{trial.values[0]:.2%}",
        ]
        for trial in best
    ]
    title = "the Pareto front of accuracy and time" if study.two else "the best trials"
    print_table(f"Task 2, search: {title}; keys in which they differ", columns, lines)
    counts = ", ".join(f"{study.count(state)} {words}" for state, words in WORDS.items())
    say(f"{len(study.trials())} trials: {counts}; {_images(spec_, study):,} pictures trained on")
    if result.file:
        say(f"the best one, whole: trackdl fashion --file {result.file}")
    say(f"run {result.run.id}")
    found = f"best {best[0].values[0]:.2%} on the validation pictures that chose it" if best else "none complete yet"
    return f"Task 2, search: {len(study.trials())} trials ({counts}); {found} (the report 90.19%)."
