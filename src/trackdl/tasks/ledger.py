"""The ledger: every number of the report next to ours, with its evidence; `ledger.html` and `ledger.json`.

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
from trackdl.ledger import check, evidence, finder, folder, page
from trackdl.ledger.build import build
from trackdl.ledger.model import Ledger, ReportFacts, Spread
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources, Stamp
from trackdl.spec import Experiment, LedgerSpec, TrainedSpec, TransferSpec
from trackdl.system.console import print_table, progress, say
from trackdl.system.paths import project_root, report_root, whole_file
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
        InputError: The ledger's file names what the report's folder does not have.
        TrackdlError: A run logged other metrics than its artifacts give.
    """
    runs.close_abandoned(experiment.name)
    search = finder.Finder(spec.experiments(), experiment.seeds)
    data, html = (place() / name for name in ("ledger.json", "ledger.html"))
    _check_place(data)
    with runs.start(experiment, name="ledger") as run:
        if experiment.seeds:
            search.fill(_trainings(experiment, search.experiments), _start.start)
        ledger = _collect(experiment, search, run)
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
    own = spec.load(spec.experiment_file("ledger"), LedgerSpec)
    changed = experiment.model_copy(update={"seeds": own.seeds, "ui": own.ui}) != own
    report = "" if folder.is_default() else f"--report {report_root()} "
    option = f" --file runs:/{run.id}/experiment.yaml" if changed else ""
    return Result(run, ledger, html, data, f"trackdl {report}verify {data}{option}")


def _check_place(data: Path) -> None:
    """Refuse to write over the ledger of another report, which has the same slug."""
    try:
        before = check.load(data).report.title if data.exists() else _report().title
    except InputError:
        return  # an older or half ledger names no report
    if not folder.is_default() and before != _report().title:
        raise InputError(
            f"{data.parent} has the ledger of {before!r}. Give report.yaml a slug of its own; if only the title has "
            "changed, delete that folder"
        )


def place() -> Path:
    """Return the folder of the ledger's files: reports/ for the project's own report, reports/SLUG for any other."""
    own = project_root() / "reports"
    return own if folder.is_default() else own / spec.report().slug


def show(result: Result) -> str:
    """Print the ledger's head and where the page is; return a one-line summary."""
    ledger = result.ledger
    print_table(f"The ledger of {spec.report().by}: its numbers next to ours", *page.head_table(ledger))
    counts, with_points = page.counts(ledger), page.counts(ledger, points=True)
    verdicts = ", ".join(f"{count} {name}" for name, count in counts.items())
    numbers = len(ledger.entries)
    more = f"; {len(ledger.head)} of {numbers} are shown above, all of them on the page" * (len(ledger.head) < numbers)
    say(f"{sum(counts.values())} published number{'s' * (numbers != 1)}, times left out: {verdicts}{more}")
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
        experiment: The experiment that made it; None for the report's ledger.yaml.

    Returns:
        Each difference in words; empty if there is none.

    Raises:
        InputError: The file is not a ledger, or another report's.
    """
    ledger, report = check.load(file), _report()
    if ledger.report.slug != report.slug:
        raise InputError(
            f"{file}: is the ledger of “{ledger.report.title}” ({ledger.report.slug}), and {report_root()} is the "
            f"folder of {report.slug}; `trackdl --report DIR verify {file}` names its folder"
        )
    experiment = experiment or spec.load(spec.experiment_file("ledger"), LedgerSpec)
    borrowed, today = check.borrowed(ledger), committed()
    if other := [key for key, spread in borrowed.items() if spread != today.get(key)]:
        log.warning("%d borrowed spreads are not those of docs/ledger/ledger.json today: %s", len(other), other[0])
    search = finder.Finder(spec.experiments())
    store = (search.facts, search.fetch)
    return check.differences(ledger, experiment, search.experiments, report, *store, borrowed, search.spec_digests)


def _report() -> ReportFacts:
    return ReportFacts(**spec.report().model_dump(include=set(ReportFacts.model_fields)))


def committed() -> dict[str, Spread]:
    """Return each number's spread between seeds in the committed ledger; empty if there is none of this report."""
    file = project_root() / "docs" / "ledger" / "ledger.json"
    try:
        ledger = check.load(file) if file.is_file() else None
        return check.spreads(ledger) if ledger and ledger.report.slug == spec.report().slug else {}
    except InputError as error:
        # A ledger of another version must not prevent the one that replaces it.
        log.warning("spreads between seeds are not known: %s", error)
        return {}


def _trainings(experiment: LedgerSpec, experiments: Mapping[str, Experiment]) -> list[finder.Training]:
    """Return the trainings that the ledger's figures come from."""
    trained = {name: one for name, one in experiments.items() if isinstance(one, TrainedSpec)}
    trainings: list[finder.Training] = [(name, {}) for name, one in trained.items() if one.numbers or one.curves]
    trainings += [(name, keys) for name, keys in experiment.as_reported.items() if name in trained and _can_run(keys)]
    trainings += [(item.task, item.set) for item in experiment.beyond if item.task in trained and not item.tags]
    greek = {name for name, one in trained.items() if isinstance(one, TransferSpec) and not one.data.folder}
    if greek & {name for name, _ in trainings} and load_letters().origin != "report":
        log.warning("the report's letters are not available: %s is left out", " and ".join(sorted(greek)))
        trainings = [item for item in trainings if item[0] not in greek]
    return trainings


def _can_run(keys: Mapping[str, object]) -> bool:
    """Return whether an experiment can be run as the report had it: it may need the weights that a report published."""
    return keys.get("source") != _report_weights.URI or _report_weights.try_register()


def _collect(experiment: LedgerSpec, search: finder.Finder, run: Run) -> Ledger:
    stamp = Stamp(
        report=_report(),
        version=__version__,
        commit=run.info.data.tags.get("mlflow.source.git.commit"),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=experiment.seeds,
        current_code=search.current_code,
    )
    with progress("ledger, numbers", None, every=500) as advance:

        def pick(query: FigureQuery) -> Sequence[SeedRun]:
            advance(query.key)
            return search.pick(query)

        return build(experiment, search.experiments, Sources(pick, search.facts, search.fetch), committed(), stamp)
