"""The commands about what was done: `ledger`, `verify`, `doctor`. Nothing heavy is imported before a command runs."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from trackdl.errors import TrackdlError
from trackdl.spec import LedgerSpec
from trackdl.system.console import print_table, say

__all__ = ["add_to"]

Read = Callable[[str | None, type[LedgerSpec], dict[str, Any]], LedgerSpec]


def add_to(app: typer.Typer, read: Read) -> None:
    """Add the commands.

    Args:
        app: The command line.
        read: Reads an experiment file: its path or None, its kind, keys set otherwise.
    """

    @app.command()
    def ledger(
        file: Annotated[
            str | None, typer.Option(help="Experiment file, or runs:/RUN_ID/experiment.yaml; its own by default.")
        ] = None,
        seeds: Annotated[
            int | None, typer.Option(help="Have every training for so many seeds: run what is missing.")
        ] = None,
        ui: Annotated[str | None, typer.Option(help="The MLflow UI's address, which runs are linked to.")] = None,
    ) -> None:
        """Every number of the report beside ours, judged, with evidence: reports/ledger.html and ledger.json."""
        given = {key: value for key, value in {"seeds": seeds, "ui": ui}.items() if value is not None}
        experiment = read(file, LedgerSpec, given)
        from trackdl.tasks import ledger as task

        task.show(task.run(experiment))

    @app.command()
    def verify(
        data: Annotated[Path, typer.Argument(metavar="LEDGER", help="A ledger.json.")],
        file: Annotated[
            str | None, typer.Option(help="The file that was passed to `ledger --file`, if one was.")
        ] = None,
    ) -> None:
        """Compute every figure of a ledger again from its runs' predictions and histories; exit 1 on any difference."""
        from trackdl.tasks import ledger as task

        found = task.verify(data, read(file, LedgerSpec, {}) if file else None)
        if found:
            hint = [] if file else ["(a ledger of `trackdl ledger --file FILE` is checked with the same --file)"]
            raise TrackdlError("\n".join([f"{data}: {len(found)} differences:", *found, *hint]))
        say(f"{data}: every figure is what its runs' predictions and histories give")

    @app.command()
    def doctor(
        as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    ) -> None:
        """Check the machine and the stores, and say what to do; exit 1 on any fault."""
        from trackdl.doctor import examine as checks

        found = checks.examine()
        if as_json:
            say(json.dumps([asdict(item) for item in found], indent=1))
        else:
            rows = [[item.name, item.level, item.words, item.remedy] for item in found]
            print_table("trackdl doctor", ["check", "level", "found", "what to do"], rows, left=True)
        faults = [item.name for item in found if item.level == "fault"]
        if faults:
            raise TrackdlError(f"{len(faults)} faults: {', '.join(faults)}")
