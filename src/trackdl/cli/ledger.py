"""The commands that judge and check, and `new`. Nothing heavy is imported before a command runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trackdl.cli import options
from trackdl.errors import InputError, TrackdlError
from trackdl.spec import LedgerSpec
from trackdl.system.console import counted, print_table, say, say_json


def ledger(
    file: options.File = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds of every training; what is missing is run. Without it, nothing is run."),
    ] = None,
    ui: Annotated[str | None, typer.Option(help="The MLflow UI's address, for links to runs.")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Also write the evidence there, to check anywhere: a folder, or a .zip file."
        ),
    ] = None,
) -> None:
    """Compare every published number with ours, with verdicts and evidence: reports/ledger.html and ledger.json."""
    if file and bundle:
        raise InputError("--bundle takes the report's own ledger.yaml: put what --file has there")
    experiment = options.read(file, LedgerSpec, options.chosen({"seeds": seeds, "ui": ui}))
    options.start(experiment, bundle_at=bundle)


def verify(
    data: Annotated[Path, typer.Argument(metavar="LEDGER", help="A ledger.json, or a bundle: a folder or .zip file.")],
    file: Annotated[str | None, typer.Option(help="The file that was passed to `ledger --file`, if any.")] = None,
    retrain: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Also train the runs behind N of a bundle's figures again, each of another experiment.",
        ),
    ] = 0,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The random seed by which --retrain chooses; a new one by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print differences and notes as JSON.")] = False,
) -> None:
    """Compute every figure of a ledger again from its evidence; exit 1 on any difference.

    A bundle (`trackdl ledger --bundle`) brings its evidence along: it needs no store and no data. The runs of any other
    ledger must be in the store.
    """
    from trackdl.ledger.bundle import is_bundle
    from trackdl.tasks import ledger as task

    found = task.verify(data, options.read(file, LedgerSpec, {}) if file else None, retrain, seed)
    if as_json:
        say_json({"differences": found.differences, "notes": found.notes})
        raise typer.Exit(1 if found.differences else 0)
    for note in found.notes:
        say(f"note: {note}")
    if found.differences:
        hint = (
            []
            if file or is_bundle(data)
            else ["(a ledger of `trackdl ledger --file FILE` is checked with the same --file)"]
        )
        raise TrackdlError(
            "\n".join([f"{data}: {counted(len(found.differences), 'difference')}:", *found.differences, *hint])
        )
    say(f"{data}: every figure agrees with its runs' predictions and histories")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check the machine and the stores, and name remedies; exit 1 on any fault."""
    from trackdl.doctor import examine as checks

    findings = checks.examine()
    if as_json:
        say_json([asdict(item) for item in findings])
    else:
        rows = [[item.name, item.level, item.words, item.remedy] for item in findings]
        print_table("trackdl doctor", ["check", "level", "found", "what to do"], rows, left=True)
    faults = [item.name for item in findings if item.level == "fault"]
    if faults:
        raise TrackdlError(f"{counted(len(faults), 'fault')}: {', '.join(faults)}")


def relocate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be changed.")] = False,
    without_artifacts: Annotated[
        bool, typer.Option("--without-artifacts", help="Do it even if no artifact is at the new place.")
    ] = False,
) -> None:
    """Update the paths of artifacts after a checkout was copied or renamed, with a backup of the database."""
    from trackdl.tracking import store
    from trackdl.tracking.relocate import relocate as command

    done = command(store.address(), dry_run=dry_run, without_artifacts=without_artifacts)
    say(done.words() if done else "The store was not moved: there is nothing to do.")


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The report's folder; it must be empty or new.")],
    kinds: Annotated[
        str, typer.Option("--from", metavar="KINDS", help="classify, transfer, grid, search, table; with commas.")
    ] = "classify,grid,table",
) -> None:
    """Write a folder of commented experiment files, which run as they are, to describe a report of your own."""
    from trackdl.apps import new as command

    command.show(folder, command.make(folder, kinds))


COMMANDS = {"Evidence": (ledger, verify), "Set up and check": (new, doctor, relocate)}
