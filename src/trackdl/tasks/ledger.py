"""The ledger: every number of the report next to ours, with its evidence; `reports/ledger.html` and `ledger.json`.

Finished runs are found by the digests of their experiment, data and code, and are not run again. Missing runs are
started only if `seeds` is set.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trackdl import __version__, spec
from trackdl.data.greek.letters import load_letters
from trackdl.errors import InputError, TrackdlError
from trackdl.ledger import check, evidence, finder, page
from trackdl.ledger import hypotheses as grid_hypotheses
from trackdl.ledger.build import build
from trackdl.ledger.model import HypothesisEntry, Ledger, Spread
from trackdl.ledger.recipes import GRID_TABLE, PADDED_TABLE
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources, Stamp
from trackdl.spec import GridSpec, LedgerSpec, TrainedSpec
from trackdl.system.console import print_table, progress, say
from trackdl.system.paths import project_root, whole_file
from trackdl.tasks import _report_weights, _start
from trackdl.tracking import runs
from trackdl.tracking.runs import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The task's result: its run, the ledger, the two files, and the command that verifies the data."""

    run: Run
    ledger: Ledger
    page: Path
    data: Path
    check: str


def run(experiment: LedgerSpec) -> Result:
    """Start what is missing, if seeds are asked for; collect, judge, and write the page and the data.

    Raises:
        TrackdlError: A run logged other metrics than its artifacts give.
    """
    runs.close_abandoned("ledger")
    tasks = published()
    folder = project_root() / "reports"
    data, html = folder / "ledger.json", folder / "ledger.html"
    search = finder.Finder(experiment.seeds)
    with runs.start(experiment, name="ledger") as run:
        if experiment.seeds:
            search.fill(_trainings(experiment), _start.start)
        ledger = _collect(experiment, tasks, search, run)
        if wrong := evidence.contradictions(ledger):
            raise TrackdlError("\n".join(["runs logged other numbers than their artifacts hold:", *wrong]))
        for file, text in (
            (data, ledger.model_dump_json(indent=1) + "\n"),
            (html, page.render(ledger, experiment.ui)),
        ):
            with whole_file(file) as part:
                part.write_text(text, encoding="utf-8")
            run.file(file)
        counts = page.counts(ledger)
        run.metrics(
            {f"verdict_{name.replace(' ', '_')}": count for name, count in counts.items()}
            | {"settled": page.settled(counts), "settled_with_curves": page.settled(page.counts(ledger, points=True))}
        )
    own = spec.load(finder.experiment_file("ledger"), LedgerSpec)
    changed = experiment.model_copy(update={"seeds": own.seeds, "ui": own.ui}) != own
    option = f" --file runs:/{run.id}/experiment.yaml" if changed else ""
    return Result(run, ledger, html, data, f"trackdl verify {data}{option}")


def show(result: Result) -> str:
    """Print the ledger's head and where the page is; return a one-line summary."""
    ledger = result.ledger
    print_table("The ledger: the report's numbers next to ours", *page.head_table(ledger))
    counts, with_points = page.counts(ledger), page.counts(ledger, points=True)
    verdicts = ", ".join(f"{count} {name}" for name, count in counts.items())
    say(f"{len(ledger.entries)} published numbers judged one by one: {verdicts}")
    curves = ", ".join(f"{name} {count}" for name, count in with_points.items())
    say(f"with every point of {len(ledger.curves)} curves, {sum(with_points.values())}: {curves}")
    say(
        f"reproduced, or explained by a fault that is shown: {page.settled(counts):.1%} of the first, "
        f"{page.settled(with_points):.1%} of all"
    )
    for facts, words in page.of_other_code(ledger):
        say(f"{facts.name}, was made {words}")
    say(f"page {result.page}, data {result.data}; `{result.check}` computes all of it again")
    return f"The ledger: {verdicts}; {result.page}"


def verify(file: Path, experiment: LedgerSpec | None = None) -> list[str]:
    """Compute every figure of a ledger again from what its runs keep, and build the rest again.

    Spreads between seeds that the ledger borrowed are taken from the ledger itself, because the committed ledger that
    they came from may have changed.

    Args:
        file: The ledger.
        experiment: The experiment that made it; None for experiments/ledger.yaml.

    Returns:
        Each difference in words; empty if there is none.

    Raises:
        InputError: The file is not a ledger.
    """
    ledger = check.load(file)
    experiment = experiment or spec.load(finder.experiment_file("ledger"), LedgerSpec)
    borrowed, today = check.borrowed(ledger), committed()
    if other := [key for key, spread in borrowed.items() if spread != today.get(key)]:
        log.warning("%d borrowed spreads are not those of docs/ledger/ledger.json today: %s", len(other), other[0])
    store = (finder.facts, finder.fetch)
    return check.differences(ledger, experiment, published(), *store, hypotheses(), borrowed, finder.spec_digests)


def published() -> dict[str, TrainedSpec]:
    """Return the experiments whose published numbers the ledger holds, by task."""
    return {task: finder.load(task, {}) for task in finder.TASKS}


def hypotheses() -> list[HypothesisEntry]:
    """Return the report's seven hypotheses, judged on the committed tables of the grid and the padded grid."""
    grid, padded = (spec.load(finder.experiment_file(name), GridSpec) for name in ("grid", "grid-padded"))
    return grid_hypotheses.judged(grid, project_root() / GRID_TABLE, padded, project_root() / PADDED_TABLE)


def committed() -> dict[str, Spread]:
    """Return each number's spread between seeds in the committed ledger; empty if there is no such ledger."""
    file = project_root() / "docs" / "ledger" / "ledger.json"
    try:
        return check.spreads(check.load(file)) if file.is_file() else {}
    except InputError as error:
        # A ledger of another version must not prevent the one that replaces it.
        log.warning("spreads between seeds are not known: %s", error)
        return {}


def _trainings(experiment: LedgerSpec) -> list[finder.Training]:
    """Return the trainings that the ledger's figures come from."""
    trainings: list[finder.Training] = [(task, {}) for task in finder.TASKS]
    trainings += [
        (task, keys) for task, keys in experiment.as_reported.items() if task in finder.TASKS and _can_run(task, keys)
    ]
    trainings += [(item.task, item.set) for item in experiment.beyond if item.set and not item.tags]
    if any(task == "transfer" for task, _ in trainings) and load_letters().origin != "report":
        log.warning("the report's letters are not available: Task 3 is left out")
        trainings = [item for item in trainings if item[0] != "transfer"]
    return trainings


def _can_run(task: str, keys: Mapping[str, object]) -> bool:
    """Return whether a task can be run as the report had it: Task 3 needs the weights that the report published."""
    return not (task == "transfer" and keys.get("source") == _report_weights.URI) or _report_weights.try_register()


def _collect(experiment: LedgerSpec, tasks: Mapping[str, TrainedSpec], search: finder.Finder, run: Run) -> Ledger:
    stamp = Stamp(
        version=__version__,
        commit=run.info.data.tags.get("mlflow.source.git.commit"),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=experiment.seeds,
        current_code=finder.current_code(),
    )
    total = sum(len(task.numbers) + len(task.curves) for task in tasks.values())
    total += len(experiment.reported) + len(experiment.beyond)
    with progress("ledger, numbers", total) as advance:

        def pick(query: FigureQuery) -> Sequence[SeedRun]:
            advance(query.key)
            return search.pick(query)

        return build(experiment, tasks, Sources(pick, finder.facts, finder.fetch), hypotheses(), committed(), stamp)
