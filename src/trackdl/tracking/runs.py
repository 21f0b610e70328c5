"""MLflow runs: opened, written to, ended with their true status, and found again.

    with runs.start(experiment) as run:
        run.metrics({"test_accuracy": 0.98}, step=8)

A run that ends by Ctrl-C or a signal is KILLED, by an error FAILED. A run whose process was killed is found by the next
command of its task (`close_abandoned`).
"""

import functools
import importlib.metadata
import json
import logging
import math
import os
import platform
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import psutil
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset import Dataset
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.numpy_dataset import NumpyDataset
from mlflow.data.pandas_dataset import PandasDataset
from mlflow.entities import Run as MlflowRun
from mlflow.entities import RunStatus

from trackdl import __version__, spec
from trackdl.errors import InputError
from trackdl.spec import ClassifySpec, Experiment
from trackdl.system import outages, processes
from trackdl.system.code_digest import PACKAGE, code_digest, words_of
from trackdl.system.findings import first_few
from trackdl.system.paths import project_root, report_option, report_root
from trackdl.tracking import outbox, pages
from trackdl.tracking.pages import NOTE, PARENT, TABLES
from trackdl.tracking.spool import Record, waiting
from trackdl.tracking.store import client, defer_interrupts, every_run, home_experiment, translate_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # a third of a second, and most commands draw nothing

log = logging.getLogger(__name__)

# MLflow takes at most this many metrics in one call.
BATCH = 1000
SEND_EVERY = 2.0  # seconds
SYSTEM_METRICS_EVERY = 5

MAIN = "trackdl.main"  # a step's tag: the run of the whole report
_WIDEST = 900  # pixels of a picture in a run's description
# Of a run's name.
_SEEDS = ("seed", "split_seed", "seeds", "found_by")
_MOST_NAMED, _MOST_SIGNS = 4, 30


class Run:
    """An MLflow run, open or ended.

    Metrics are sent together: a call costs milliseconds on SQLite and more through a server, so they wait for up to two
    seconds, or until something is read back or a file is logged.
    """

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.logged: set[str] | None = None  # names of its metrics, if only one process logs them (`trials`)
        self._pictures: list[str] = []  # in Markdown; only those that were logged here
        self._tables: list[dict[str, str]] = []
        self._waiting: list[dict[str, Any]] = []
        self._sent = time.monotonic()

    @property
    def info(self) -> MlflowRun:
        """The run as MLflow has it now."""
        with outbox.wait_for_store(f"run {self.id}", self.id):
            return client().get_run(self.id)

    @cached_property
    def experiment_id(self) -> str:
        """The id of MLflow's experiment that the run is in."""
        return str(self.info.info.experiment_id)

    def tags(self, tags: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> None:
        """Set tags, and parameters, which can be set only once."""
        parts = {"tags": tags, "params": params or {}}
        texts = {part: {key: str(value) for key, value in items.items()} for part, items in parts.items()}
        outbox.deliver(self.id, Record("tags", texts))

    def metrics(
        self, values: Mapping[str, float], step: int = 0, *, model_id: str | None = None, dataset: Dataset | None = None
    ) -> None:
        """Log one value for each metric, headlines first, optionally of the LoggedModel `model_id` on `dataset`."""
        on = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
        points = ((key, step, values[key]) for key in pages.headlines_first(values))
        self._log(points, model_id=model_id, **on)

    def curve(self, name: str, points: Iterable[tuple[int, float]]) -> None:
        """Log (step, value) points of one metric."""
        self._log((name, step, value) for step, value in points)

    def _log(self, points: Iterable[tuple[str, int, float]], **common: str | None) -> None:
        now = int(time.time() * 1000)
        self._waiting += [{"key": k, "value": v, "step": step, "timestamp": now, **common} for k, step, v in points]
        if len(self._waiting) >= BATCH or time.monotonic() - self._sent > SEND_EVERY:
            self.send()

    def send(self) -> None:
        """Send the metrics that wait."""
        while self._waiting:
            outbox.deliver(self.id, Record("metrics", {"metrics": self._waiting[:BATCH]}))
            del self._waiting[:BATCH]
        self._sent = time.monotonic()

    def history(self, name: str) -> list[tuple[int, float]]:
        """Return all (step, value) points of a metric, by step; of several at one step, the last one logged."""
        self.send()
        with outbox.wait_for_store(f"run {self.id}", self.id):
            points = client().get_metric_history(self.id, name)
        latest = {point.step: point.value for point in sorted(points, key=lambda point: point.timestamp)}
        return sorted(latest.items())

    def dataset(self, dataset: Dataset, context: str) -> None:
        """Log a data set as an input of the run; `context` is its use, e.g. "training"."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer")  # no value is missing
            entity = dict(dataset._to_mlflow_entity())
        outbox.deliver(self.id, Record("input", {"dataset": entity, "context": context}))

    def file(self, path: Path, folder: str | None = None) -> None:
        """Log a file as an artifact, in `folder` of the run's artifacts; metrics that wait are sent first."""
        self.send()
        outbox.deliver(self.id, Record("file", {"folder": folder}, path))

    def text(self, text: str, name: str) -> None:
        """Log a text as the artifact `name`."""
        self.content(text.encode(), name)

    def table(self, rows: Any, name: str) -> None:
        """Log a JSON value as the artifact `name`."""
        self.text(json.dumps(rows, indent=2, default=str), name)

    def frame(self, frame: pd.DataFrame, name: str) -> None:
        """Log a table as the artifact `name` (.json), as `mlflow.log_table` does: MLflow's pages show it as a table."""
        self.text(frame.to_json(orient="split", index=False), name)
        self._tables.append({"path": name, "type": "table"})
        self.tags({TABLES: json.dumps(self._tables)})

    def describe(self, summary: str, again: str | None = None) -> None:
        """Describe the run on its page, in Markdown: its result (`summary`), how it is repeated, and its figures.

        `again` is the command that repeats it, if that is not to run its experiment.
        """
        shown = sorted(self._pictures, key=lambda picture: "curve" not in picture)
        kept = [item["path"] for item in self._tables]
        again = f"`{again or command(self.id)}` runs it again."
        again += f" Its tables are among the artifacts: {', '.join(kept)}." if kept else ""
        self.tags({NOTE: "\n\n".join([summary, again, *shown])})

    def figure(self, figure: "Figure", name: str) -> bytes:
        """Log a figure as the artifact `name`, in the format of the name's ending; return its content."""
        with self.made(name) as path:
            figure.savefig(path)
            content = path.read_bytes()
        # MLflow's pages show a picture at its own width, which must not be more than theirs.
        sign = "!" if figure.get_figwidth() * figure.dpi <= _WIDEST else ""
        self._pictures.append(f"{sign}[{name}]({pages.artifact(self.id, name)})")
        return content

    def content(self, content: bytes, name: str) -> None:
        """Log the artifact `name` by its content."""
        with self.made(name) as path:
            path.write_bytes(content)

    @contextmanager
    def made(self, name: str) -> Iterator[Path]:
        """Yield a path for the artifact `name`; the file there is logged when the block ends."""
        folder, _, file = name.rpartition("/")
        with tempfile.TemporaryDirectory() as made:
            yield Path(made) / file
            self.file(Path(made) / file, folder or None)

    def artifacts(self, folder: str, most: float = math.inf) -> list[str]:
        """Return the paths of the files of at most `most` bytes in `folder` of the run's artifacts, sorted."""
        with outbox.wait_for_store(f"run {self.id}", self.id):
            found = client().list_artifacts(self.id, folder)
        return sorted(item.path for item in found if not item.is_dir and (item.file_size or 0) <= most)

    def fetch(self, path: str, into: Path) -> Path:
        """Download an artifact to the folder `into` and return its path."""
        with outbox.wait_for_store(f"run {self.id}, artifact {path}", self.id):
            return Path(client().download_artifacts(self.id, path, str(into)))


@contextmanager
def start(experiment: Experiment | str, *, resume: Run | None = None, name: str | None = None) -> Iterator[Run]:
    """Open a run for `experiment`, nested in the one that is open, and end it with its true status.

    The steps of a report are not nested in its run, which would hide them in MLflow's list: the tag `trackdl.main` of
    each is the id of that run.

    `mlflow run` has already created a run, which it names in MLFLOW_RUN_ID; the first call uses that one, if it is new.

    A run has its task and its process as tags from the start, so `close_abandoned` finds it even if its process ends
    while the run is being started, or if Ctrl-C in a call of a tracking server leaves the run unknown to this process.

    Args:
        experiment: What is run; its settings become the run's parameters, its text the artifact `experiment.yaml`.
            For a run of no experiment, the name of its task: nothing that searches for trainings finds the run.
        resume: Continue this run instead of a new one.
        name: What MLflow's pages call the run; by default what tells it apart (`title`).

    Raises:
        InputError: MLFLOW_RUN_ID names a run that has ended, or that another command has begun.
    """
    made_by_caller = os.environ.pop("MLFLOW_RUN_ID", None)
    run_id = resume.id if resume else made_by_caller and _new(made_by_caller)
    tags = {"trackdl.host": socket.gethostname(), "trackdl.process": processes.tag()}
    if isinstance(experiment, str):
        tags["trackdl.task"] = experiment
    else:
        report = spec.report().slug
        tags |= {"trackdl.task": experiment.name, "trackdl.kind": experiment.task, "trackdl.report": report}
    mlflow.set_system_metrics_sampling_interval(SYSTEM_METRICS_EVERY)  # type: ignore[no-untyped-call]
    outer = mlflow.active_run()
    nested = outer is not None
    main = outer.info.run_id if outer and outer.data.tags.get("trackdl.kind") == "report" else ""
    if main:
        tags[MAIN] = main
    name = name or (experiment if isinstance(experiment, str) else title(experiment))
    settings = {"nested": nested, "run_name": name, "tags": tags, "log_system_metrics": not nested}
    status = RunStatus.FINISHED
    run = None
    try:
        with outbox.wait_for_store("starting a run", run_id):
            where = {"run_id": run_id} if run_id else {"experiment_id": home_experiment()}
            with defer_interrupts(), outages.one_call(mlflow.get_tracking_uri()):
                active = mlflow.start_run(**where, **settings)  # type: ignore[arg-type]
                run = Run(active.info.run_id)
                if main and PARENT in active.data.tags:
                    client().delete_tag(run.id, PARENT)
        with translate_errors(f"run {run.id}"):
            _record(run, experiment)
        yield run
        run.send()
    except KeyboardInterrupt as error:
        status = RunStatus.KILLED
        if run is not None and isinstance(experiment, ClassifySpec) and experiment.seeds > 1:
            goes_on(error, experiment.name, resuming(run))
        if run is not None and not nested:
            words = "; ".join(goes_on(error).values()) or "the same command runs it again"
            log.warning("run %s is marked KILLED, and keeps what it has logged; %s", run.id, words)
        raise
    except BaseException:
        status = RunStatus.FAILED
        raise
    finally:
        if run is not None:
            try:
                run.send()
            finally:
                outbox.end(run.id, RunStatus.to_string(status))


def title(experiment: Experiment) -> str:
    """Return what tells an experiment's run apart: its name, what differs from the report's own file, and its seeds."""
    settings, file = spec.flatten(experiment), spec.experiment_file(experiment.name)
    try:
        own = spec.flatten(spec.named(experiment.name)) if file.is_file() else settings
    except InputError:
        own = settings  # this experiment is from another file, which is valid
    changed = {key: value for key, value in settings.items() if value != own.get(key)}
    given = in_words({key: value for key, value in changed.items() if key.rpartition(".")[2] not in _SEEDS})
    seed, seeds = settings.get("training.seed"), settings.get("seeds", 1)
    seeded = f"{seeds} seeds" if seeds > 1 else "" if seed is None else f"seed {seed}"
    return ", ".join(filter(None, [experiment.name, given, seeded]))


def in_words(settings: Mapping[str, Any]) -> str:
    """Return settings by dotted key as part of a run's name, without their sections.

    Examples:
        >>> in_words({"training.optimizer.lr": 0.02, "training.epochs": 2})
        'lr=0.02, 2 epochs'
    """
    parts = []
    for key, value in list(settings.items())[:_MOST_NAMED]:
        name, text = key.rpartition(".")[2], f"{value:.4g}" if isinstance(value, float) else str(value)
        short = text if len(text) <= _MOST_SIGNS else "…"
        parts.append(f"{value} epoch{'s' * (value != 1)}" if name == "epochs" else f"{name}={short}")
    return ", ".join([*parts, *(["…"] if len(settings) > _MOST_NAMED else [])])


def goes_on(error: KeyboardInterrupt, name: str = "", words: str = "") -> dict[str, str]:
    """Note on an interruption how an experiment can be continued, and return all such notes, by experiment.

    A run replaces the note of a run below it that has the same name.

    Args:
        error: The interruption, which carries the notes to whoever reports it.
        name: The experiment's name; empty to add nothing.
        words: How to continue it.
    """
    found: dict[str, str] = error.__dict__.setdefault("goes_on", {})
    if name:
        found[name] = words
    return found


def resuming(run: Run) -> str:
    """Return the words that name the command by which a training's run goes on."""
    return f"this goes on: {command(run.id)} --resume {run.id}"


def command(run_id: str) -> str:
    """Return the command that runs a run's experiment again; it names the report, if that is not the project's own."""
    return f"trackdl {report_option()}run runs:/{run_id}/experiment.yaml"


def check_report(run_id: str) -> None:
    """Check that a run is of the report at hand, whose folder its experiment's relative paths and model names take.

    Raises:
        InputError: There is no such run, or it is of another report.
    """
    own = spec.report().slug
    found = Run(run_id).info.data.tags.get("trackdl.report", own)
    if found != own:
        raise InputError(
            f"run {run_id} is of the report {found}, and {report_root()} is the folder of {own}: "
            "`trackdl --report DIR ...` names its folder"
        )


def _new(run_id: str) -> str:
    """Return the id of the run that MLFLOW_RUN_ID names, if nothing has been done in it yet.

    Raises:
        InputError: It has ended, was deleted, or another command has begun it.
    """
    with outbox.wait_for_store("MLFLOW_RUN_ID"):
        found = client().get_run(run_id)
    status, task = found.info.status, found.data.tags.get("trackdl.task")
    if found.info.lifecycle_stage != "active":
        wrong = "is deleted"
    elif task:
        wrong = f"belongs to the task {task} ({status})"
    elif status not in ("RUNNING", "SCHEDULED"):
        wrong = f"has ended ({status})"
    else:
        return run_id
    raise InputError(
        f"MLFLOW_RUN_ID names the run {run_id}, which {wrong}. Only a new run is used, which `mlflow run` makes "
        "for its command: `unset MLFLOW_RUN_ID`, and this command makes its own"
    )


def _record(run: Run, experiment: Experiment | str) -> None:
    """Log the experiment, the versions and the code."""
    tags = {
        "trackdl.version": __version__,
        "trackdl.python": platform.python_version(),
        "trackdl.torch": importlib.metadata.version("torch"),
        "trackdl.mlflow": importlib.metadata.version("mlflow"),
    }
    (commit, diff), edited = _checkout(run.info.data.tags.get("mlflow.parentRunId", run.id)), _edited()
    # MLflow takes the commit of any repository that the script lies in, which may be one around an installed trackdl.
    tags["mlflow.source.git.commit"] = commit
    if commit:
        tags["trackdl.uncommitted"] = str(bool(diff or edited)).lower()
    fresh = {}
    if not isinstance(experiment, str):
        known, settings = run.info.data.params, spec.flatten(experiment)
        fresh = {key: value for key, value in settings.items() if key not in known}
        tags["trackdl.spec_digest"] = spec.digest(experiment)
        tags["trackdl.code_digest"] = "" if edited else code_digest(experiment.task, words_of(settings)) or ""
        run.text(spec.to_yaml(experiment), "experiment.yaml")
    run.tags(tags, fresh)
    if diff:
        run.text(diff, "uncommitted.diff")
    if edited:
        log.warning(
            "%s changed after this command began: what it has loaded is not known, so run %s will not count as one of "
            "today's code",
            first_few(edited),
            run.id,
        )


def _edited() -> list[str]:
    """Return the modules of trackdl that were written after this process began: it may have loaded what was before."""
    began = psutil.Process().create_time()
    return [str(file.relative_to(PACKAGE)) for file in sorted(PACKAGE.rglob("*.py")) if file.stat().st_mtime > began]


@functools.lru_cache(maxsize=1)  # a table's runs have dozens of children, and git takes three processes
def _checkout(run: str) -> tuple[str, str]:  # noqa: ARG001 - the key: a run and its children are of one state
    """Return the commit that the code of a run and its children is of, or an empty text, and the diff from it."""
    return _git("rev-parse", "HEAD").strip(), _git("diff", "HEAD") + _untracked()


def _untracked() -> str:
    """Return the modules that lie in the package but are not in git, as a diff; ignored ones are imported too."""
    found = ""
    for name in filter(None, _git("ls-files", "--others", "-z", "--", ":(glob)src/trackdl/**/*.py").split("\0")):
        lines = (project_root() / name).read_text(encoding="utf-8", errors="replace").splitlines()
        found += "\n".join(["--- /dev/null", f"+++ b/{name}", *(f"+{line}" for line in lines), ""])
    return found


def _git(*arguments: str) -> str:
    """Return the output of git in the checkout that this code is of, or an empty text without a checkout or git."""
    root = project_root()
    if not (root / ".git").exists() or root / "src" / "trackdl" != PACKAGE:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def describe_dataset(
    name: str, digest: str, source: str, content: pd.DataFrame | tuple[Any, Any] | None = None
) -> Dataset:
    """Describe a data set to MLflow, which keeps 32 digits of its SHA-256.

    Args:
        name: What MLflow's pages call it.
        digest: Its SHA-256.
        source: A web address, or words.
        content: A table, or inputs and targets as arrays, for a schema and a profile; neither is kept.
    """
    web, short = source.startswith("http"), digest[:32]
    made = HTTPDatasetSource(source) if web else CodeDatasetSource({"source": source})  # type: ignore[no-untyped-call]
    if isinstance(content, pd.DataFrame):
        return PandasDataset(content, made, name=name, digest=short)
    if content is not None:
        return NumpyDataset(content[0], made, content[1], name=name, digest=short)
    return MetaDataset(made, name=name, digest=short)  # type: ignore[abstract]  # it is not abstract


def find(task: str, where: str = "") -> list[Run]:
    """Return the runs of a task in all experiments, newest first; `where` is a further MLflow filter."""
    found = every_run(f"tags.`trackdl.task` = '{task}'" + (f" and {where}" if where else ""))
    return [Run(item.info.run_id) for item in found]


def find_own(experiment: str, where: str) -> list[Run]:
    """Return the runs that `find` finds of one of this report's experiments."""
    return find(experiment, f"tags.`trackdl.report` = '{spec.report().slug}' and {where}")


def close_abandoned(task: str) -> list[Run]:
    """Mark a task's runs KILLED that are RUNNING although their process on this machine is gone; return them.

    Each is warned of. Records that earlier commands could not send are sent first.
    """
    client()
    with translate_errors("sending the records that were kept"):
        sent = outbox.send_waiting(outages.PATIENCE)
    closed = []
    for run in find(task, "attributes.status = 'RUNNING'"):
        if not sent and waiting(run.id):
            continue  # its end may be among the records that another process is sending
        tags = run.info.data.tags
        if tags.get("trackdl.host") != socket.gethostname() or processes.alive(tags.get("trackdl.process", "")):
            continue
        outbox.deliver(run.id, Record("end", {"status": RunStatus.to_string(RunStatus.KILLED), "time": None}))
        closed.append(run)
        log.warning("run %s of %s was left RUNNING by a process that is gone; it is now marked KILLED", run.id, task)
    return closed


@contextmanager
def download(uri: str) -> Iterator[Path]:
    """Yield a local copy of an artifact, e.g. `runs:/ID/experiment.yaml`; it is removed when the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        client()
        with translate_errors(uri):
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
        yield path
