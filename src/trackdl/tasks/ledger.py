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
from trackdl.ledger import bundle, check, evidence, finder, folder, page
from trackdl.ledger.archive import Archive
from trackdl.ledger.build import build
from trackdl.ledger.model import Ledger, ReportFacts, Spread, Stamp
from trackdl.ledger.sources import FigureQuery, SeedRun, Sources
from trackdl.spec import Experiment, LedgerSpec, TableSpec, TrainedSpec, TransferSpec
from trackdl.system.console import counted, print_table, progress, say
from trackdl.system.machine import environment
from trackdl.system.paths import project_root, report_option, report_root, visible_files, whole_file
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


def run(experiment: LedgerSpec, bundle_at: Path | None = None) -> Result:
    """Start what is missing, if seeds are asked for; collect, judge, and write the page and the data.

    Args:
        experiment: The ledger's file.
        bundle_at: Where to write a bundle, too: a folder, or a .zip file.

    Raises:
        InputError: The ledger's file names what the report's folder does not have.
        TrackdlError: A run logged other metrics than its artifacts give.
    """
    runs.close_abandoned(experiment.name)
    archive = evidence.Store()
    search = finder.Finder(spec.experiments() | spec.recoveries(), archive, experiment.seeds)
    if bundle_at:
        bundle.check_place(bundle_at)
    data, html = (place() / name for name in ("ledger.json", "ledger.html"))
    _check_place(data)
    with runs.start(experiment) as run:
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
        if bundle_at:
            bundle.write(bundle_at, ledger, archive)
        counts = page.counts(ledger)
        run.metrics(
            {f"verdict_{name.replace(' ', '_')}": count for name, count in counts.items()}
            | {"settled": page.settled(counts), "settled_with_curves": page.settled(page.counts(ledger, points=True))}
        )
    own = spec.load(spec.experiment_file("ledger"), LedgerSpec)
    changed = experiment.model_copy(update={"seeds": own.seeds, "ui": own.ui}) != own
    option = f" --file runs:/{run.id}/experiment.yaml" if changed else ""
    checked = f"trackdl verify {bundle_at}" if bundle_at else f"trackdl {report_option()}verify {data}{option}"
    return Result(run, ledger, html, data, checked)


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
    verdicts = ", ".join(f"{name} {count}" for name, count in counts.items())
    judged, numbers = sum(counts.values()), len(ledger.entries)
    times = ", times left out" * (judged < numbers)
    more = f"; {len(ledger.head)} of {numbers} are shown above, all of them on the page" * (len(ledger.head) < numbers)
    say(f"{counted(judged, 'published number')}{times}: {verdicts}{more}")
    settled = f"reproduced or explained: {page.settled(counts):.1%}"
    if ledger.curves:
        curves = ", ".join(f"{name} {count}" for name, count in with_points.items())
        say(f"with every point of {counted(len(ledger.curves), 'curve')}, {sum(with_points.values())}: {curves}")
        settled += f" of the numbers, {page.settled(with_points):.1%} with every point of a curve"
    say(settled)
    if not any(entry.figure and entry.figure.interval == "seeds" for entry in ledger.entries):
        say(f"each is judged by one training; `trackdl {report_option()}ledger --seeds 5` settles more of them")
    for facts, words in page.of_other_code(ledger):
        say(f"{facts.name}, was made {words}")
    say(f"page {result.page}, data {result.data}; `{result.check}` computes all of it again")
    return f"The ledger: {verdicts}; {result.page}"


@dataclass(frozen=True)
class Checked:
    """What a check found: differences, in words, and what is not checked or differs without being wrong."""

    ledger: Ledger
    differences: list[str]
    notes: list[str]


def verify(place: Path, experiment: LedgerSpec | None = None, retrain: int = 0, seed: int | None = None) -> Checked:
    """Compute every figure of a ledger again from what its runs keep, and build the rest again.

    A bundle is checked by itself: by its own experiment files and evidence, without a store or data.

    Args:
        place: The ledger, with its runs in the store; or a bundle: a folder, or a .zip file.
        experiment: The experiment that made it; None for the report's ledger.yaml.
        retrain: How many figures of a bundle to train again.
        seed: Chooses which; None chooses at random.

    Raises:
        InputError: It is not a ledger, or another report's.
    """
    if not bundle.is_bundle(place):
        if retrain:
            raise InputError("--retrain takes a bundle: `trackdl ledger --bundle FOLDER` writes one")
        ledger = check.load(place)
        if ledger.report.slug != _report().slug:
            raise InputError(
                f"{place}: is the ledger of “{ledger.report.title}” ({ledger.report.slug}), and {report_root()} is the "
                f"folder of {_report().slug}; `trackdl --report DIR verify {place}` names its folder"
            )
        return _checked(ledger, experiment, evidence.Store(), [])
    with bundle.opened(place) as opened:
        ledger = check.parse(opened.read(bundle.LEDGER), f"{place}, {bundle.LEDGER}")
        strange, notes = _report_files(opened, ledger)
        with folder.copied(opened.root / ledger.files, ledger.folder):
            known = spec.experiments() | spec.recoveries()
            if changed := opened.changed():
                return Checked(
                    ledger, [*changed, "nothing else was checked: these are not the files that were bundled"], []
                )
            found = _checked(ledger, experiment, opened, [*strange, *opened.differences(ledger, known)])
            found.notes.extend(notes)
            if retrain and not found.differences:
                from trackdl.tasks import _retrain

                found.differences.extend(_retrain.differences(ledger, known, opened, retrain, seed))
            return found


def _report_files(opened: bundle.Bundle, ledger: Ledger) -> tuple[list[str], list[str]]:
    """Return where a bundle's files of the report are not those that are here; or a note that there are none here."""
    try:
        mine = bundle.report_files() if ledger.report.slug == _report().slug else {}
    except InputError:
        mine = {}
    if not mine:
        return [], ["what the report prints is taken from the bundle: the report itself is not here to compare"]
    root = opened.root / ledger.files
    theirs = {path.relative_to(root).as_posix() for path in visible_files(root) if path.is_file()}
    return [
        f"{ledger.files}/{name}: is not the file of the report that is here, {report_root() / name}"
        for name in sorted(mine.keys() | theirs)
        if name not in theirs or mine.get(name) != opened.read(f"{ledger.files}/{name}")
    ], []


def _checked(ledger: Ledger, experiment: LedgerSpec | None, archive: Archive, differences: list[str]) -> Checked:
    experiment = experiment or spec.load(spec.experiment_file("ledger"), LedgerSpec)
    experiments = spec.experiments() | spec.recoveries()
    borrowed, today = check.borrowed(ledger), committed()
    strange = [
        f"{key}: its spread between seeds is borrowed, and not that of docs/ledger/ledger.json"
        for key, spread in borrowed.items()
        if spread != today.get(key)
    ]
    found = check.differences(ledger, experiment, experiments, _report(), archive, borrowed)
    return Checked(
        ledger,
        [*differences, *found, *strange, *_other_data(ledger, experiments)],
        _notes(ledger, experiments, archive),
    )


def _other_data(ledger: Ledger, experiments: Mapping[str, Experiment]) -> list[str]:
    """Return where a ledger's data are not those that its experiment files name, as far as they are known here."""
    found = []
    for name, stated in ledger.data.items():
        known = _known_data(experiments[name]) if name in experiments else None
        if known not in (None, stated):
            found.append(f"data.{name}: the ledger says {stated[:12]}…, but the experiment's data are {known[:12]}…")
    return found


def _known_data(experiment: Experiment) -> str | None:
    """Return the digest of an experiment's data; None if they are not here: a check fetches nothing."""
    if isinstance(experiment, TableSpec):
        table = finder.known_table(experiment)
        return table.digest if table else None
    try:
        return finder.data_digest(experiment)
    except (TrackdlError, OSError):
        return None


def _notes(ledger: Ledger, experiments: Mapping[str, Experiment], archive: Archive) -> list[str]:
    """Return what a ledger leaves open, and what cannot be checked here."""
    notes = [f"no evidence to check: {words}" for words in check.unproven(ledger)]
    unseen = sorted(name for name in ledger.data if name in experiments and _known_data(experiments[name]) is None)
    if unseen:
        notes.append(f"the data of {', '.join(unseen)} are not here: which they were is taken from the evidence")
    today = finder.Finder(experiments, archive, stated=ledger).code_here(ledger.code)
    if other := sorted(name for name, digest in today.items() if digest != ledger.code[name]):
        notes.append(f"made by other code than is installed: {', '.join(other)}; the figures are checked all the same")
    return notes


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
        folder=folder.shown_path(),
        version=__version__,
        commit=run.info.data.tags.get("mlflow.source.git.commit") or None,
        environment=environment(),
        data={},
        code={},
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=experiment.seeds,
        current_code=search.current_code,
    )
    with progress("ledger, numbers", None, every=500) as advance:

        def pick(query: FigureQuery) -> Sequence[SeedRun]:
            advance(query.key)
            return search.pick(query)

        made = build(experiment, search.experiments, Sources(pick, search.facts, search.fetch), committed(), stamp)
    # Of which data and code runs must be is known when all figures were looked for.
    return made.model_copy(update={"data": search.data, "code": search.code})
