"""The commands about what was done: `ledger`, `verify`, `doctor`. Nothing heavy is imported before a command runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from trackdl.console import say
from trackdl.errors import TrackdlError
from trackdl.spec import LedgerSpec

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
    def verify(file: Annotated[Path, typer.Argument(help="A ledger.json.")]) -> None:
        """Compute every figure of a ledger again from its runs' predictions and histories; exit 1 on any difference."""
        from trackdl.tasks import ledger as task

        found = task.verify(file)
        if found:
            raise TrackdlError("\n".join([f"{file}: {len(found)} differences:", *found]))
        say(f"{file}: every figure is what its runs' predictions and histories give")
