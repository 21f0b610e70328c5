"""The rule of which runs count, for who makes a ledger and who checks one; and starting those that are missing.

A run counts if it ran the same experiment on the same data by the same code; the newest of several is taken. Seeds are
counted upwards without a gap. A grid's committed table replaces hours of runs: it counts while its data are the same,
whichever code made it.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache

from trackdl import spec
from trackdl.data.download.datasets import DATASETS
from trackdl.data.greek.letters import read_folders
from trackdl.data.readers import digest_of
from trackdl.data.tables.table import Table, load_table
from trackdl.errors import TrackdlError
from trackdl.ledger import folder
from trackdl.ledger.archive import Archive, Record, facts_of, models_below
from trackdl.ledger.model import Ledger, RunFacts
from trackdl.ledger.recipes import recipe
from trackdl.ledger.sources import FigureQuery, SeedRun
from trackdl.ledger.words import is_cell
from trackdl.spec import (
    ClassifySpec,
    Experiment,
    GridSpec,
    RecoverSpec,
    SearchSpec,
    TableSpec,
    TrainedSpec,
    TransferSpec,
)
from trackdl.spec.keys import with_keys
from trackdl.system.code_digest import code_digest, words_of
from trackdl.system.paths import data_root, in_report
from trackdl.tracking.registry import files
from trackdl.tracking.registry import register as registry
from trackdl.training.image_splits import with_size

log = logging.getLogger(__name__)

SOURCE = "trackdl.source_weights_sha256"
# The most seeds looked for if no number is given.
MOST_SEEDS = 100

# An experiment's name, and the keys that are set otherwise.
Training = tuple[str, Mapping[str, object]]
Tables = GridSpec | RecoverSpec  # whose evidence is one table


class Finder:
    """Finds the runs of figures by experiment, data and code; of each training so many seeds, or all that exist.

    Args:
        experiments: The report's, by name.
        archive: Where the runs are.
        seeds: How many.
        stated: A ledger, of whose data and code runs must be; without one they must be of today's.

    Attributes:
        data: The digest of each experiment's data that was asked for, as a ledger states it.
        code: Likewise that of each training's code.
    """

    def __init__(
        self,
        experiments: Mapping[str, Experiment],
        archive: Archive,
        seeds: int | None = None,
        stated: Ledger | None = None,
    ) -> None:
        self.experiments = experiments
        self.archive = archive
        self.seeds = seeds
        self.data: dict[str, str] = {}
        self.code: dict[str, str] = {}
        self._stated = stated
        self._seed_runs = cache(self._find)
        self._models = cache(lambda run: models_below(archive, run))

    def pick(self, query: FigureQuery) -> Sequence[SeedRun]:
        """Return the runs that a figure is computed from, by seed; empty if there are none."""
        experiment = self.experiments[query.task]
        if query.tags:
            return self._tagged(query)
        if isinstance(experiment, Tables):
            return self._of_grid(query, experiment)
        seed_runs = self._seed_runs(query.task, _key(query.set))
        if not seed_runs and query.or_own:
            seed_runs = self._seed_runs(query.task, _key({}))
        model = recipe(query.kind, query.metric, query.epoch, 0).model
        if not model:
            return seed_runs
        below = [(self._models(seed_run.run), seed_run.seed) for seed_run in seed_runs]
        for models, _ in below:
            if model not in models:
                raise TrackdlError(f"the run has no model {model}; it has {', '.join(sorted(models)) or 'none'}")
        return [SeedRun(models[model], seed) for models, seed in below]

    def fill(self, trainings: Iterable[Training], start: Callable[[TrainedSpec], object]) -> None:
        """Start every training that is missing for the seeds that were asked for, once; `start` runs it to its end."""
        places = list(self.experiments)
        unique = {(places.index(name), _key(changes)): name for name, changes in trainings}
        for (_, changes), name in sorted(unique.items()):
            for experiment in self._by_seed(name, changes):
                # Looked up for each seed: an earlier training may have moved the champion that a transfer starts from.
                source = _champion(experiment) if isinstance(experiment, TransferSpec) else {}
                if self._newest(experiment, source, changes) is None:
                    log.info("%s, seed %d is missing: running it", name, experiment.training.seed)
                    start(experiment)
        self._seed_runs.cache_clear()

    def facts(self, run: str) -> RunFacts:
        """Return what is known of a run, or of a grid's committed table."""
        if not run.startswith(folder.COMMITTED):
            return facts_of(self.archive, run)
        grid = run.removeprefix(folder.COMMITTED)
        origin = folder.origin_of(grid)
        return RunFacts(
            task=grid,
            name=f"results/{grid}.csv, in the report's folder",
            version=origin.get("versions", {}).get("trackdl", ""),
            data_digest=origin.get("data"),
            code_digest=origin.get("code"),
            command=origin.get("command") or folder.command_of(self.experiments[grid]),
        )

    def fetch(self, run: str, path: str) -> bytes:
        """Return an artifact of a run, or of a committed table.

        Raises:
            TrackdlError: It cannot be read.
        """
        return folder.read_committed(run, path) if run.startswith(folder.COMMITTED) else self.archive.fetch(run, path)

    @property
    def current_code(self) -> dict[str, str]:
        """The code digest of each experiment whose figures may come from other code: of those with a table."""
        return {
            name: self._code(name, one.task, spec.flatten(one))
            for name, one in self.experiments.items()
            if isinstance(one, Tables) and folder.committed_file(name, folder.TABLE).is_file()
        }

    def code_here(self, trainings: Iterable[str]) -> dict[str, str]:
        """Return the digests of today's code of trainings, whatever a ledger states of it.

        Trainings go by their names: an experiment's, and the keys that are set otherwise.
        """
        found = {}
        for training in trainings:
            name, _, changes = training.partition(" ")
            if name in self.experiments and "trackdl." not in changes:
                one = self._sized(self._base(name, json.loads(changes or "{}")))
                found[training] = str(code_digest(one.task, words_of(spec.flatten(one))))
        return found

    def _of_grid(self, query: FigureQuery, experiment: Tables) -> list[SeedRun]:
        """Return the table of a grid, once for each training of a cell that is not judged by the mean of folds."""
        run = self._table(query, experiment)
        if not run:
            return []
        if isinstance(experiment, GridSpec) and is_cell(query.metric) and experiment.judge.by != "folds":
            return [SeedRun(run, seed) for seed in range(1, experiment.fits + 1)]
        return [SeedRun(run, 0)]

    def _table(self, query: FigureQuery, experiment: Tables) -> str:
        """Return the committed table of a grid or, without one, its newest finished run; empty if there is none."""
        if folder.committed_file(query.task, folder.TABLE).is_file():
            needed = (
                recipe(query.kind, query.metric, query.epoch, 0).artifacts
                if isinstance(experiment, GridSpec)
                else (folder.TABLE, folder.ORIGIN)
            )
            if not all(folder.committed_file(query.task, artifact).is_file() for artifact in needed):
                return ""
            if folder.origin_of(query.task).get("data") == self._data(query.task):
                return f"{folder.COMMITTED}{query.task}"
            log.warning("results/%s.csv is left out: it was made from other data", query.task)
            return ""
        run = self._newest(self._sized(experiment), {})
        return run.run if run else ""

    def _sized(self, experiment: Experiment) -> Experiment:
        """Return a grid or a recovery with the size that its newest run found its images to have.

        The images themselves may not be here: a bundle has none.
        """
        if not isinstance(experiment, Tables) or experiment.experiment.data.side is not None:
            return experiment
        runs = self.archive.finished(experiment.name, {"trackdl.data_digest": self._data(experiment.name)})
        size = next((run.params["experiment.data.size"] for run in runs if "experiment.data.size" in run.params), "")
        with suppress(ValueError):  # there is none, or the evidence was tampered with
            return with_keys(experiment, {"experiment.data.size": int(size)})
        return experiment

    def _data(self, name: str) -> str:
        """Return the digest of an experiment's data; empty if a ledger states none."""
        if self._stated:
            return self._stated.data.get(name, "")
        if name not in self.data:
            self.data[name] = data_digest(self.experiments[name])
        return self.data[name]

    def _code(self, training: str, kind: str, parameters: Mapping[str, object]) -> str:
        """Return the digest of a training's code; empty if a ledger states none."""
        if self._stated:
            return self._stated.code.get(training, "")
        return self.code.setdefault(training, str(code_digest(kind, words_of(parameters))))

    def _base(self, name: str, changes: Mapping[str, object]) -> Experiment:
        """Return an experiment with single keys set otherwise, of one seed if each has a run of its own."""
        base = spec.changed(self.experiments[name], changes)
        return base.model_copy(update={"seeds": 1}) if isinstance(base, ClassifySpec) else base

    def _by_seed(self, name: str, changes: str) -> Iterator[TrainedSpec]:
        """Yield the experiment with each seed; a table's experiment trains its seeds within one run."""
        base = self._base(name, json.loads(changes))
        if not isinstance(base, TrainedSpec):
            return
        yield base
        if not isinstance(base, TableSpec):
            for number in range(1, self.seeds or MOST_SEEDS):
                yield base.nth(number)

    def _find(self, name: str, changes: str) -> list[SeedRun]:
        seed_runs: list[SeedRun] = []
        source: dict[str, str] = {}
        for experiment in self._by_seed(name, changes):
            run = self._newest(experiment, source, changes)
            if run is None:
                # Seeds are counted without a gap, so that nobody chooses among them.
                break
            if isinstance(experiment, TransferSpec):
                # All seeds start from one network, the newest run's.
                source = {SOURCE: run.tags[SOURCE]}
            within = experiment.seeds if isinstance(experiment, TableSpec) else 1
            seed_runs += [SeedRun(run.run, experiment.training.seed + number) for number in range(within)]
        return seed_runs

    def _tagged(self, query: FigureQuery) -> list[SeedRun]:
        """Return the newest run for each seed that has the tags and the code, and ran the newest's experiment."""
        tags = {**query.tags, "trackdl.data_digest": self._data(query.task)}
        training = f"{query.task} {_key(query.tags)}"
        found = [run for run in self.archive.finished(query.task, tags) if self._is_by_the_code(run, training)]
        newest: dict[int, str] = {}
        for run in found:
            if _without_seed(run) == _without_seed(found[0]):
                newest.setdefault(int(run.params.get("training.seed", 0)), run.run)
        first = min(newest, default=0)
        consecutive = [seed for place, seed in enumerate(sorted(newest)) if seed == first + place]
        return [SeedRun(newest[seed], seed) for seed in consecutive]

    def _is_by_the_code(self, run: Record, training: str) -> bool:
        kind = run.tags.get("trackdl.kind", run.tags["trackdl.task"])
        return run.tags.get("trackdl.code_digest") == self._code(training, kind, run.params)

    def _newest(
        self, experiment: Experiment | TrainedSpec, tags: Mapping[str, str], changes: str = "{}"
    ) -> Record | None:
        """Return the newest finished run, with these tags, of exactly this experiment on the data, by the code."""
        training = experiment.name if changes == "{}" else f"{experiment.name} {changes}"
        digests = {
            "trackdl.spec_digest": spec.digest(experiment),
            "trackdl.code_digest": self._code(training, experiment.task, spec.flatten(experiment)),
            "trackdl.data_digest": self._data(experiment.name),
        }
        return next(iter(self.archive.finished(experiment.name, {**tags, **digests})), None)


def data_digest(experiment: Experiment) -> str:
    """Return the digest of an experiment's data, as its runs have it."""
    if isinstance(experiment, TransferSpec):
        data = experiment.data
        if data.folder is None:
            return DATASETS["greek"].digest
        return read_folders([in_report(data.folder)], data.rename)[0].digest
    if isinstance(experiment, TableSpec):
        return load_table(experiment.data, experiment.training.seed).digest
    if isinstance(experiment, GridSpec | SearchSpec | RecoverSpec):
        return digest_of(with_size(experiment.experiment).data)
    if isinstance(experiment, ClassifySpec):
        return digest_of(experiment.data)
    raise TypeError(f"an experiment of the kind {experiment.task} has no data")


def known_table(experiment: TableSpec) -> Table | None:
    """Return an experiment's table; None if it is not here: nothing is fetched."""
    data = experiment.data
    name = "" if data.csv or data.sklearn else str(data.dataset)
    if name and not (data_root() / name / f"{name}.csv").is_file():
        return None
    try:
        return load_table(data, experiment.training.seed)
    except (TrackdlError, OSError):
        return None


def _key(changes: Mapping[str, object]) -> str:
    return json.dumps(dict(changes), sort_keys=True)


def _without_seed(run: Record) -> dict[str, str]:
    seeds = ("training.seed", "data.split_seed")
    return {key: value for key, value in run.params.items() if key not in seeds}


def _champion(experiment: TransferSpec) -> dict[str, str]:
    """Return the tag of runs that start from the network that a new run would start from; empty if there is none."""
    source = experiment.source
    return {SOURCE: registry.fetch_model(source).card.weights_sha256} if files.exists(source) else {}
