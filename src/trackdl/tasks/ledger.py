"""The ledger: every number of the report beside ours, with its evidence; `reports/ledger.html` and `ledger.json`.

Runs that are there are found by the digests of what they ran, of its data and of its code, and are not run again. With
`seeds`, what is missing is run first; without, nothing is.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from trackdl import __version__, spec
from trackdl.data.download.datasets import DATASETS
from trackdl.data.greek.letters import load_letters
from trackdl.data.heart.table import load_heart
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import check, evidence, page
from trackdl.ledger import hypotheses as grid_hypotheses
from trackdl.ledger.build import build
from trackdl.ledger.model import HypothesisEntry, Ledger, RunFacts
from trackdl.ledger.recipes import GRID_ORIGIN, GRID_TABLE, PADDED_TABLE, recipe
from trackdl.ledger.rule import Spread
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources, Stamp
from trackdl.spec import TRAINED, GridSpec, HeartSpec, LedgerSpec, TrainedSpec, TransferSpec
from trackdl.system.code_digest import code_digest, words_of
from trackdl.system.console import print_table, progress, say
from trackdl.system.paths import project_root, whole_file
from trackdl.tasks import _report_weights, _start
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.runs import Run

__all__ = ["Result", "committed", "hypotheses", "published", "run", "show", "verify"]

log = logging.getLogger(__name__)

TASKS = tuple(TRAINED)
# Stands for a run where a table in the checkout does.
CHECKOUT = "checkout"
SOURCE = "trackdl.source_weights_sha256"
# Where nobody asks for a number of seeds, so many are looked for at most.
MOST_SEEDS = 100


@dataclass(frozen=True)
class Result:
    """What the task leaves: its run, the ledger, the two files, and the command that checks the data."""

    run: Run
    ledger: Ledger
    page: Path
    data: Path
    check: str


def run(experiment: LedgerSpec) -> Result:
    """Run what is missing, if seeds are asked for; collect, judge, and write the page and the data.

    Raises:
        TrackdlError: A run's metrics are not what its artifacts say.
    """
    runs.close_abandoned("ledger")
    tasks = published()
    finder = Finder(experiment.seeds)
    with runs.start(experiment, name="ledger") as run:
        if experiment.seeds:
            finder.fill(experiment)
        made = _collect(experiment, tasks, finder, run)
        if wrong := evidence.contradictions(made):
            raise TrackdlError("\n".join(["runs logged other numbers than their artifacts hold:", *wrong]))
        folder = project_root() / "reports"
        data, html = folder / "ledger.json", folder / "ledger.html"
        with whole_file(data) as part:
            part.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
        with whole_file(html) as part:
            part.write_text(page.render(made, experiment.ui), encoding="utf-8")
        for file in (data, html):
            run.file(file)
        told = page.counts(made)
        run.metrics({f"verdict_{name.replace(' ', '_')}": count for name, count in told.items()})
        run.metrics(
            {"settled": page.settled(told), "settled_with_curves": page.settled(page.counts(made, points=True))}
        )
    own = spec.load(_file("ledger"), LedgerSpec)
    other = experiment.model_copy(update={"seeds": own.seeds, "ui": own.ui}) != own
    named = f" --file runs:/{run.id}/experiment.yaml" if other else ""
    return Result(run, made, html, data, f"trackdl verify {data}{named}")


def show(result: Result) -> str:
    """Print the ledger's head and where the page is; return it in a line."""
    print_table("The ledger: the report's numbers beside ours", *page.head_table(result.ledger))
    counts, every = page.counts(result.ledger), page.counts(result.ledger, points=True)
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"{len(result.ledger.entries)} published numbers judged one by one: {told}")
    curves = ", ".join(f"{name} {count}" for name, count in every.items())
    say(f"with every point of {len(result.ledger.curves)} curves, {sum(every.values())}: {curves}")
    say(
        f"reproduced, or explained by a fault that is shown: {page.settled(counts):.1%} of the first, "
        f"{page.settled(every):.1%} of all"
    )
    say(f"page {result.page}, data {result.data}; `{result.check}` computes all of it again")
    return f"The ledger: {told}; {result.page}"


def verify(file: Path, experiment: LedgerSpec | None = None) -> list[str]:
    """Compute every figure of a ledger again from what its runs keep, and build the rest anew.

    Spreads between seeds that it borrowed are taken as it says: the committed ledger they are of may be another today.

    Args:
        file: The ledger.
        experiment: What it was made by; None for experiments/ledger.yaml.

    Returns:
        Each difference in words; none where all is as the ledger says.

    Raises:
        InputError: The file is no ledger.
    """
    ledger = check.load(file)
    experiment = experiment or spec.load(_file("ledger"), LedgerSpec)
    borrowed, today = check.borrowed(ledger), committed()
    if other := [key for key, spread in borrowed.items() if spread != today.get(key)]:
        log.warning("%d borrowed spreads are not those of docs/ledger/ledger.json today: %s", len(other), other[0])
    return check.differences(ledger, experiment, published(), _facts, _fetch, hypotheses(), borrowed, _digests)


def published() -> dict[str, TrainedSpec]:
    """Return the experiments whose published numbers the ledger holds, by task."""
    return {task: _load(task, {}) for task in TASKS}


def hypotheses() -> list[HypothesisEntry]:
    """Return the report's seven hypotheses, judged on the grid's committed table, with the padded one's word beside."""
    grid, padded = (spec.load(_file(name), GridSpec) for name in ("grid", "grid-padded"))
    return grid_hypotheses.judged(grid, project_root() / GRID_TABLE, padded, project_root() / PADDED_TABLE)


def committed() -> dict[str, Spread]:
    """Return how far seeds lie apart by the committed ledger, number by number; nothing where there is none."""
    file = project_root() / "docs" / "ledger" / "ledger.json"
    try:
        return check.spreads(check.load(file)) if file.is_file() else {}
    except InputError as error:
        # One of another version must not stand in the way of the one that replaces it.
        log.warning("spreads between seeds are not known: %s", error)
        return {}


def _digests(want: FigureQuery, seed: int) -> set[str]:
    """Return the digests of the experiments one of which a figure's run by a seed must have run; none: of any."""
    if want.task not in TASKS or want.tags:
        return set()
    bases = [_load(want.task, changes) for changes in _experiments(want)]
    return {spec.digest(_nth(base, seed - base.training.seed)) for base in bases}


def _experiments(want: FigureQuery) -> list[dict[str, object]]:
    """Return the keys set otherwise in the experiments whose runs can stand for a figure, the first choice first."""
    return [dict(want.set), {}] if want.or_own and want.set else [dict(want.set)]


def _nth(base: TrainedSpec, number: int) -> TrainedSpec:
    """Return the experiment for the seed `number` above its own; Task 4 has its seeds within."""
    return base if isinstance(base, HeartSpec) else base.nth(number)


def _facts(run: str) -> RunFacts:
    if run != CHECKOUT:
        return evidence.facts(run)
    return evidence.facts_of_table("grid", GRID_TABLE, _grid_origin())


def _grid_origin() -> dict[str, Any]:
    """Return what stands beside the grid's table of its making; nothing where nothing does."""
    file = project_root() / GRID_ORIGIN
    try:
        origin: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise TrackdlError(f"{GRID_ORIGIN} cannot be read: {error}") from error
    return origin


def _fetch(run: str, path: str) -> bytes:
    if run != CHECKOUT:
        return evidence.fetch(run, path)
    if path not in (GRID_TABLE, GRID_ORIGIN):
        raise TrackdlError(f"{path} is no table that lies in the checkout in place of runs")
    try:
        return (project_root() / path).read_bytes()
    except OSError as error:
        raise TrackdlError(f"{path} cannot be read: {error.strerror}") from error


def _file(task: str) -> Path:
    return project_root() / "experiments" / f"{task}.yaml"


def _load(task: str, changes: Mapping[str, object]) -> TrainedSpec:
    """Return a task's own experiment with single keys set otherwise."""
    return spec.load(_file(task), TRAINED[task], changes)


class Finder:
    """Finds the runs of figures by what they ran, on which data, by which code; runs what is missing.

    Args:
        seeds: How many seeds of each training; None takes those that are there.
    """

    def __init__(self, seeds: int | None) -> None:
        self.seeds = seeds
        self._members = cache(self._find)
        self._models = cache(lambda run_id: evidence.models_below(Run(run_id)))

    def pick(self, want: FigureQuery) -> Sequence[SeedRun]:
        """Return the runs that a figure is computed from, by seed; none where there are none."""
        if want.task == "grid":
            files = recipe(want.task, want.metric, want.epoch, 0).artifacts
            there = all((project_root() / path).is_file() for path in files)
            return [SeedRun(CHECKOUT, 0)] if there and _grid_is_todays() else []
        if want.task not in TASKS:
            return []
        if want.tags:
            return _tagged(want)
        found = (self._members(want.task, json.dumps(changes, sort_keys=True)) for changes in _experiments(want))
        seed_runs = next((item for item in found if item), [])
        if want.task != "heart" or not seed_runs:
            return seed_runs
        model = recipe(want.task, want.metric, want.epoch, 0).model
        return [SeedRun(self._models(seed_run.run)[model], seed_run.seed) for seed_run in seed_runs]

    def fill(self, experiment: LedgerSpec) -> None:
        """Run every training that is missing for the seeds that were asked for."""
        wanted = {(task, "{}") for task in TASKS}
        wanted |= {
            (str(task), json.dumps(keys, sort_keys=True))
            for task, keys in experiment.as_reported.items()
            if task in TASKS and _can_run(task, keys)
        }
        changed = [item for item in experiment.beyond if item.set and not item.tags]
        wanted |= {(item.task, json.dumps(item.set, sort_keys=True)) for item in changed}
        if any(task == "transfer" for task, _ in wanted) and load_letters().origin != "report":
            log.warning("the report's letters are not here: Task 3 is left out")
            wanted = {item for item in wanted if item[0] != "transfer"}
        for task, changes in sorted(wanted, key=lambda item: (TASKS.index(item[0]), item[1])):
            for one in self._by_seed(task, json.loads(changes)):
                # Asked anew each time: training MNIST's seeds may have moved the champion that Task 3 starts from.
                source = _champion(one) if isinstance(one, TransferSpec) else {}
                if _newest(one, source) is None:
                    log.info("%s, seed %d is missing: running it", task, one.training.seed)
                    _start.start(one)
        self._members.cache_clear()

    def _by_seed(self, task: str, changes: dict[str, object]) -> Iterator[TrainedSpec]:
        """Return the experiment by each seed; Task 4 has its seeds within."""
        base = _load(task, changes)
        yield base
        if not isinstance(base, HeartSpec):
            for number in range(1, self.seeds or MOST_SEEDS):
                yield _nth(base, number)

    def _find(self, task: str, changes: str) -> list[SeedRun]:
        seed_runs: list[SeedRun] = []
        source: dict[str, str] = {}
        for one in self._by_seed(task, json.loads(changes)):
            found = _newest(one, source)
            if found is None:
                # Seeds are counted without a gap, so that nobody chooses among them.
                break
            if isinstance(one, TransferSpec):
                # All seeds start from one network, the newest run's.
                source = {SOURCE: found.info.data.tags[SOURCE]}
            inner = one.seeds if isinstance(one, HeartSpec) else 1
            seed_runs += [SeedRun(found.id, one.training.seed + number) for number in range(inner)]
        return seed_runs


def _tagged(want: FigureQuery) -> list[SeedRun]:
    """Return the runs with the tags that were asked for, of the experiment that the newest of them ran, by seed."""
    tags = {**want.tags, "trackdl.data_digest": _data_digest(want.task)}
    found = [run for run in evidence.finished(want.task, tags) if _by_todays_code(run)]
    newest: dict[int, str] = {}
    for item in found:
        if _without_seed(item) == _without_seed(found[0]):
            newest.setdefault(_seed_of(item), item.id)
    return [SeedRun(newest[seed], seed) for seed in sorted(newest)]


def _grid_is_todays() -> bool:
    """Return whether the grid's committed table is of today's data and code; else it is left out, as a run is."""
    grid = spec.load(_file("grid"), GridSpec)
    wanted = {
        "data": DATASETS[grid.data.dataset].digest,
        "code": code_digest("grid", words_of(spec.flatten(grid))),
    }
    made = _grid_origin()
    if other := [key for key, digest in wanted.items() if made.get(key) != digest]:
        log.warning("%s is left out: it was made by other %s than today's", GRID_TABLE, " and ".join(other))
    return not other


def _by_todays_code(run: Run) -> bool:
    data = run.info.data
    return data.tags["trackdl.code_digest"] == code_digest(data.tags["trackdl.task"], words_of(data.params))


def _without_seed(run: Run) -> dict[str, str]:
    drawn = ("training.seed", "data.split_seed")
    return {key: value for key, value in run.info.data.params.items() if key not in drawn}


def _can_run(task: str, keys: Mapping[str, object]) -> bool:
    """Return whether a task can be run as the report had it: Task 3 needs the weights that the report published."""
    return not (task == "transfer" and keys.get("source") == _report_weights.URI) or _report_weights.try_register()


def _collect(experiment: LedgerSpec, tasks: Mapping[str, TrainedSpec], finder: Finder, run: Run) -> Ledger:
    stamp = Stamp(
        version=__version__,
        commit=run.info.data.tags.get("mlflow.source.git.commit"),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=experiment.seeds,
    )
    total = sum(len(mine.numbers) + len(mine.curves) for mine in tasks.values())
    total += len(experiment.reported) + len(experiment.beyond)
    with progress("ledger, numbers", total) as advance:

        def pick(want: FigureQuery) -> Sequence[SeedRun]:
            advance(want.key)
            return finder.pick(want)

        return build(experiment, tasks, Sources(pick, _facts, _fetch), hypotheses(), committed(), stamp)


def _champion(one: TransferSpec) -> dict[str, str]:
    """Return the tag of runs that start from the network that a new run would start from."""
    return {SOURCE: registry.fetch_model(one.source).card.weights_sha256} if registry.exists(one.source) else {}


def _newest(one: TrainedSpec, more: Mapping[str, str]) -> Run | None:
    """Return the newest finished run of exactly this experiment on today's data by today's code."""
    tags = {
        **more,
        "trackdl.spec_digest": spec.digest(one),
        "trackdl.code_digest": str(code_digest(one.task, words_of(spec.flatten(one)))),
        "trackdl.data_digest": _data_digest(one.task),
    }
    return next(iter(evidence.finished(one.task, tags)), None)


@cache
def _data_digest(task: str) -> str:
    """Return the digest of the data that the report used."""
    if task == "heart":
        return load_heart().digest
    return DATASETS["greek" if task == "transfer" else task].digest


def _seed_of(run: Run) -> int:
    return int(run.info.data.params.get("training.seed", 0))
