"""The commands for registered models: ask, serve, try, list, promote; and the pages of MLflow and Optuna."""

from typing import Annotated

import typer

from trackdl.errors import InputError

__all__ = ["add_to"]

Name = Annotated[str, typer.Argument(metavar="MODEL", help="A registered model, e.g. greek-cnn.")]
Alias = Annotated[str | None, typer.Option(help="The version with this alias; champion by default.")]
Version = Annotated[int | None, typer.Option(min=1, help="This version, whatever its alias.")]
Host = Annotated[str, typer.Option(help="The address to listen at; the default is this machine only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (predict, serve, demo, ui, models, promote):
        app.command()(command)


def predict(
    model: Name,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Pictures, folders, CSV tables; - is stdin.")],
    alias: Alias = None,
    version: Version = None,
    top: Annotated[int, typer.Option(min=0, help="Show so many classes of each; 0: three, or all as JSON.")] = 0,
    json: Json = False,
) -> None:
    """Ask a registered model what stands on pictures, or what it makes of rows."""
    uri = _uri(model, alias, version)
    from trackdl.apps import predict as command

    command.show(command.predict(uri, files), top=top, as_json=json)


def serve(
    model: Name,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 5001,
    alias: Alias = None,
    version: Version = None,
) -> None:
    """Serve a registered model: MLflow's /invocations, /ping and /version, with limits on what may be sent."""
    uri = _uri(model, alias, version)
    from trackdl.apps import serve as command

    command.serve(uri, host, port)


def demo(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
) -> None:
    """Open a page to draw on: what each registered model of pictures says, and what it was shown."""
    from trackdl.apps import demo as command

    command.serve(host, port)


def ui() -> None:
    """Start the MLflow UI (port 5000, if it is free) and the Optuna dashboard on this machine; Ctrl-C stops both."""
    from trackdl.apps import ui as command

    command.run()


def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Only these.")] = None,
    json: Json = False,
) -> None:
    """List registered models: versions, aliases, metrics, lineage, and the history of each alias."""
    from trackdl.apps import models as command

    command.list_models(names or [], as_json=json)


def promote(
    model: Name,
    version: Annotated[int, typer.Argument(min=1, help="The new champion; an older one is a rollback.")],
    why: Annotated[str, typer.Option(help="The reason, kept with the model.")],
) -> None:
    """Make a version the champion; whom it replaced, why and when are kept."""
    from trackdl.apps import models as command

    command.promote(model, str(version), why)


def _uri(model: str, alias: str | None, version: int | None) -> str:
    if alias and version:
        raise InputError("--alias and --version both name a version: give one")
    if not model or set(model) & set("/:@%\"'"):
        raise InputError(
            f"{model!r}: give a registered model's name, e.g. greek-cnn, and --alias or --version beside it"
        )
    return f"models:/{model}/{version}" if version else f"models:/{model}@{alias or 'champion'}"
