"""Finds the finished runs that figures are computed from, and starts those that are missing.

A run counts if it ran the same experiment on today's data by today's code; the newest of several is taken. The grid's
committed table replaces hours of runs: it counts while its data are today's, whichever code made it.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from trackdl import spec
from trackdl.data.download.datasets import DATASETS
from trackdl.data.heart.table import load_heart
from trackdl.errors import TrackdlError
from trackdl.ledger import evidence
from trackdl.ledger.model import RunFacts
from trackdl.ledger.recipes import GRID_ORIGIN, GRID_TABLE, recipe
from trackdl.ledger.sources import FigureQuery, SeedRun
from trackdl.spec import TRAINED, GridSpec, HeartSpec, TrainedSpec, TransferSpec
from trackdl.system.code_digest import code_digest, words_of
from trackdl.system.paths import project_root
from trackdl.tracking.registry import files
from trackdl.tracking.registry import register as registry
from trackdl.tracking.runs import Run

log = logging.getLogger(__name__)

TASKS = tuple(TRAINED)
# The id of a committed table, which is used in place of a run.
CHECKOUT = "checkout"
SOURCE = "trackdl.source_weights_sha256"
# The most seeds looked for if no number is given.
MOST_SEEDS = 100

# A task, and the keys of its experiment that are set otherwise.
Training = tuple[str, Mapping[str, object]]


class Finder:
    """Finds the runs of figures by experiment, data and code.

    Args:
        seeds: How many seeds of each training; None takes all that exist.
    """

    def __init__(self, seeds: int | None) -> None:
        self.seeds = seeds
        self._seed_runs = cache(self._find)
        self._models = cache(lambda run_id: evidence.models_below(Run(run_id)))

    def pick(self, query: FigureQuery) -> Sequence[SeedRun]:
        """Return the runs that a figure is computed from, by seed; empty if there are none."""
        if query.task == "grid":
            files = recipe(query.task, query.metric, query.epoch, 0).artifacts
            exist = all((project_root() / path).is_file() for path in files)
            return [SeedRun(CHECKOUT, 0)] if exist and self._grid_counts else []
        if query.task not in TASKS:
            return []
        if query.tags:
            return _tagged(query)
        found = (self._seed_runs(query.task, _key(changes)) for changes in _alternatives(query))
        seed_runs = next((item for item in found if item), [])
        if query.task != "heart" or not seed_runs:
            return seed_runs
        model = recipe(query.task, query.metric, query.epoch, 0).model
        return [SeedRun(self._models(seed_run.run)[model], seed_run.seed) for seed_run in seed_runs]

    def fill(self, trainings: Iterable[Training], start: Callable[[TrainedSpec], object]) -> None:
        """Start every training that is missing for the seeds that were asked for.

        Args:
            trainings: The trainings; duplicates are started once.
            start: Runs an experiment to its end.
        """
        unique = {(TASKS.index(task), _key(changes)): task for task, changes in trainings}
        for (_, changes), task in sorted(unique.items()):
            for experiment in self._by_seed(task, changes):
                # Looked up for each seed: training MNIST's seeds may have moved the champion that Task 3 starts from.
                source = _champion(experiment) if isinstance(experiment, TransferSpec) else {}
                if _newest(experiment, source) is None:
                    log.info("%s, seed %d is missing: running it", task, experiment.training.seed)
                    start(experiment)
        self._seed_runs.cache_clear()

    @cached_property
    def _grid_counts(self) -> bool:
        """Whether the grid's committed table was made from today's data."""
        grid = spec.load(experiment_file("grid"), GridSpec)
        counts = bool(_grid_origin().get("data") == DATASETS[grid.data.dataset].digest)
        if not counts:
            log.warning("%s is left out: it was made from other data than today's", GRID_TABLE)
        return counts

    def _by_seed(self, task: str, changes: str) -> Iterator[TrainedSpec]:
        """Yield the experiment with each seed; Task 4 trains its seeds within one run."""
        base = load(task, json.loads(changes))
        yield base
        if not isinstance(base, HeartSpec):
            for number in range(1, self.seeds or MOST_SEEDS):
                yield base.nth(number)

    def _find(self, task: str, changes: str) -> list[SeedRun]:
        seed_runs: list[SeedRun] = []
        source: dict[str, str] = {}
        for experiment in self._by_seed(task, changes):
            run = _newest(experiment, source)
            if run is None:
                # Seeds are counted without a gap, so that nobody chooses among them.
                break
            if isinstance(experiment, TransferSpec):
                # All seeds start from one network, the newest run's.
                source = {SOURCE: run.info.data.tags[SOURCE]}
            within = experiment.seeds if isinstance(experiment, HeartSpec) else 1
            seed_runs += [SeedRun(run.id, experiment.training.seed + number) for number in range(within)]
        return seed_runs


def spec_digests(query: FigureQuery, seed: int) -> set[str]:
    """Return the digests of the experiments that a figure's run with a seed may have run; empty for any experiment."""
    if query.task not in TASKS or query.tags:
        return set()
    bases = [load(query.task, changes) for changes in _alternatives(query)]
    return {spec.digest(base if isinstance(base, HeartSpec) else base.nth(seed - base.training.seed)) for base in bases}


def facts(run: str) -> RunFacts:
    """Return what is known of a run, or of the grid's committed table."""
    return evidence.facts_of_table("grid", GRID_TABLE, _grid_origin()) if run == CHECKOUT else evidence.facts(run)


def fetch(run: str, path: str) -> bytes:
    """Return an artifact of a run, or one of the grid's committed files.

    Raises:
        TrackdlError: It cannot be read.
    """
    if run != CHECKOUT:
        return evidence.fetch(run, path)
    if path not in (GRID_TABLE, GRID_ORIGIN):
        raise TrackdlError(f"{path} is not a committed table")
    try:
        return (project_root() / path).read_bytes()
    except OSError as error:
        raise TrackdlError(f"{path} cannot be read: {error.strerror}") from error


def current_code() -> dict[str, str]:
    """Return today's code digest of each task whose figures may come from other code: of the grid."""
    grid = spec.load(experiment_file("grid"), GridSpec)
    return {"grid": str(code_digest("grid", words_of(spec.flatten(grid))))}


@cache
def data_digest(task: str) -> str:
    """Return the digest of the data set that the report used."""
    if task == "heart":
        return load_heart().digest
    return DATASETS["greek" if task == "transfer" else task].digest


def experiment_file(name: str) -> Path:
    """Return the path of a committed experiment file."""
    return project_root() / "experiments" / f"{name}.yaml"


def load(task: str, changes: Mapping[str, object]) -> TrainedSpec:
    """Return a task's own experiment with single keys set otherwise."""
    return spec.load(experiment_file(task), TRAINED[task], changes)


def _key(changes: Mapping[str, object]) -> str:
    return json.dumps(changes, sort_keys=True)


def _alternatives(query: FigureQuery) -> list[dict[str, object]]:
    """Return the changed keys of the experiments whose runs a figure can be computed from, the preferred first."""
    return [dict(query.set), {}] if query.or_own and query.set else [dict(query.set)]


def _tagged(query: FigureQuery) -> list[SeedRun]:
    """Return the newest run for each seed, by today's code, that has the tags and ran the newest run's experiment."""
    tags = {**query.tags, "trackdl.data_digest": data_digest(query.task)}
    found = [run for run in evidence.finished(query.task, tags) if _by_todays_code(run)]
    newest: dict[int, str] = {}
    for run in found:
        if _without_seed(run) == _without_seed(found[0]):
            newest.setdefault(int(run.info.data.params.get("training.seed", 0)), run.id)
    return [SeedRun(newest[seed], seed) for seed in sorted(newest)]


def _by_todays_code(run: Run) -> bool:
    data = run.info.data
    return data.tags["trackdl.code_digest"] == code_digest(data.tags["trackdl.task"], words_of(data.params))


def _without_seed(run: Run) -> dict[str, str]:
    seeds = ("training.seed", "data.split_seed")
    return {key: value for key, value in run.info.data.params.items() if key not in seeds}


def _champion(experiment: TransferSpec) -> dict[str, str]:
    """Return the tag of runs that start from the network that a new run would start from; empty if there is none."""
    source = experiment.source
    return {SOURCE: registry.fetch_model(source).card.weights_sha256} if files.exists(source) else {}


def _newest(experiment: TrainedSpec, tags: Mapping[str, str]) -> Run | None:
    """Return the newest finished run, with these tags, of exactly this experiment on today's data by today's code."""
    task = experiment.task
    digests = {
        "trackdl.spec_digest": spec.digest(experiment),
        "trackdl.code_digest": str(code_digest(task, words_of(spec.flatten(experiment)))),
        "trackdl.data_digest": data_digest(task),
    }
    return next(iter(evidence.finished(task, {**tags, **digests})), None)


def _grid_origin() -> dict[str, Any]:
    """Return what `grid.json` holds on how the grid's table was made; empty without the file."""
    file = project_root() / GRID_ORIGIN
    try:
        origin: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise TrackdlError(f"{GRID_ORIGIN} cannot be read: {error}") from error
    return origin
