"""The commands for registered models, and the one that starts the pages of MLflow and Optuna."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from trackdl.errors import InputError
from trackdl.system.console import say_json

Name = Annotated[
    str, typer.Argument(metavar="MODEL|RUN", help="A registered model, e.g. greek-cnn, or the id of its run.")
]
Registered = Annotated[str, typer.Argument(metavar="MODEL", help="A registered model, e.g. greek-cnn.")]
Alias = Annotated[str | None, typer.Option(help="The version with this alias; champion by default.")]
Version = Annotated[int | None, typer.Option(min=1, help="This version, whatever its alias.")]
Host = Annotated[str, typer.Option(help="The address to listen on; by default only this machine can connect.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 picks a free one.")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--allowed-hosts", metavar="NAME", help="Another host name to accept in requests; repeatable."),
]
Browse = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def predict(
    model: Name,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Image files, folders, CSV tables; - is stdin.")
    ],
    alias: Alias = None,
    version: Version = None,
    top: Annotated[int, typer.Option(min=0, help="Number of classes to show; 0 means 3, or all with --json.")] = 0,
    split: Annotated[bool, typer.Option("--split", help="Read all signs (characters) of an image, in order.")] = False,
    json: Json = False,
) -> None:
    """Predict the classes of images or table rows with a registered model."""
    uri = _uri(model, alias, version)
    from trackdl.apps import predict as command

    command.show(command.predict(uri, files, split=split), top=top, as_json=json)


def evaluate(
    model: Name,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|CSV", help="Class folders, files named by their class, or a table with its target."
        ),
    ],
    alias: Alias = None,
    version: Version = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="MODEL[@ALIAS|/VERSION]|RUN", help="Compare it with this one, by McNemar's test."),
    ] = None,
    preprocessing: Annotated[
        list[str] | None,
        typer.Option(help="report or mnist, instead of the model's own; given twice, both are compared."),
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Take each sign (character) of an image as an example.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", metavar="FILE", help="The page; by default reports/evaluate.html."),
    ] = None,
    browse: Browse = False,
    json: Json = False,
) -> None:
    """Judge a model on labelled images or rows of yours: accuracy with interval, confusion, mistakes; a tracked run."""
    uri = _uri(model, alias, version)
    other = _uri(*_parts(against)) if against is not None else None
    words = [model, str(source), *_given(alias=alias, version=version, against=against)]
    words += [word for name in preprocessing or [] for word in ("--preprocessing", name)]
    from trackdl.apps import evaluate as command

    command.run(
        uri,
        source,
        other,
        preprocessing or [],
        split=split,
        output=output,
        browse=browse,
        as_json=json,
        command=shlex.join(["trackdl", "evaluate", *words, *(["--split"] if split else [])]),
    )


def serve(
    model: Name,
    host: Host = "127.0.0.1",
    port: Port = 5001,
    alias: Alias = None,
    version: Version = None,
    allowed_hosts: Hosts = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Follow the alias: load the new version when it moves.")
    ] = False,
) -> None:
    """Serve a registered model: MLflow's /invocations, /ping and /version, with limits on requests."""
    uri = _uri(model, alias, version)
    from trackdl.apps import serve as command

    command.serve(uri, host, port, allowed_hosts or [], reload=reload)


def demo(
    host: Host = "127.0.0.1",
    port: Port = 7860,
    allowed_hosts: Hosts = None,
    browse: Browse = False,
) -> None:
    """Serve a page to try the registered models: draw, show an image or fill in a row, and see the answer."""
    from trackdl.apps import demo as command

    command.serve(host, port, allowed_hosts or [], browse=browse)


def ui(browse: Annotated[bool, typer.Option("--open", help="Open the list of runs in a browser.")] = False) -> None:
    """Start the MLflow UI (port 5000 if it is free) and the Optuna dashboard on this machine; Ctrl-C stops both."""
    from trackdl.apps import ui as command

    command.run(browse=browse)


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Ids, the first digits of ids, or names of runs.")
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The page; by default reports/compare.html.")
    ] = None,
    browse: Browse = False,
    json: Json = False,
) -> None:
    """Compare runs: what differs, seeds as means with intervals, learning curves and images side by side."""
    from trackdl.apps import compare as command

    found = command.compare(runs)
    if json:
        say_json(found.as_json())
        return
    command.show(found)
    command.write(found, output, browse=browse)


def examine(
    model: Name,
    alias: Alias = None,
    version: Version = None,
    image: Annotated[
        str | None, typer.Option(metavar="FILE", help="The image to look at; by default the first test example.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", metavar="FILE", help="The page; by default reports/examine-MODEL.html."),
    ] = None,
    browse: Browse = False,
    json: Json = False,
) -> None:
    """Look inside a registered network: layers, filters, feature maps, mistakes, and what an answer depends on."""
    uri = _uri(model, alias, version)
    from trackdl.apps import examine as command
    from trackdl.apps import html_page

    html_page.claim(output, "examine")  # before minutes of work
    found = command.examine(uri, image)
    again = shlex.join(["trackdl", "examine", found.name, *_given(version=found.version, image=image)])
    kept = command.keep(found, output, again, browse=browse)
    command.show(found, kept, as_json=json)


def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help="Only these.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every version, with metrics and lineage, and every move of an alias.")
    ] = False,
    json: Json = False,
) -> None:
    """List registered models: the versions that have an alias, with their scores, and the newest version."""
    from trackdl.apps import models as command

    command.list_models(names or [], as_json=json, everything=everything)


def card(
    model: Name,
    alias: Alias = None,
    version: Version = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there, e.g. to README.md.")] = None,
) -> None:
    """Print a registered model's card, in Hugging Face's format: what it is, its scores, and how it was made."""
    uri = _uri(model, alias, version)
    from trackdl.apps import models as command

    command.card(uri, output)


def promote(
    model: Registered,
    version: Annotated[
        int, typer.Argument(metavar="VERSION", min=1, help="The new champion; an older version is a rollback.")
    ],
    why: Annotated[str, typer.Option(help="The reason, kept with the model.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even if its classes or inputs are not the champion's.")
    ] = False,
) -> None:
    """Make a version the champion; the version it replaces, the reason and the time are recorded."""
    from trackdl.apps import models as command

    command.promote(model, str(version), why, force=force)


def _parts(address: str) -> tuple[str, str | None, int | None]:
    """Return the model, or the run, the alias and the version of MODEL, MODEL@ALIAS, MODEL/VERSION or RUN."""
    if address.startswith("runs:/"):
        return address, None, None
    name, sign, rest = re.fullmatch("(?:models:/)?([^@/]*)([@/]?)(.*)", address, re.DOTALL).groups()  # type: ignore[union-attr]
    if not name or (sign == "@" and not rest):
        raise InputError(f"--against {address!r}: give MODEL, MODEL@ALIAS or MODEL/VERSION")
    if sign == "/" and not (rest.isdecimal() and int(rest)):
        raise InputError(f"--against {address}: {rest!r} is no version; give MODEL, MODEL@ALIAS or MODEL/VERSION")
    return name, rest if sign == "@" else None, int(rest) if sign == "/" else None


def _given(**options: object) -> list[str]:
    """Return the options of a command that have a value, as words."""
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]


def _uri(model: str, alias: str | None, version: int | None) -> str:
    if alias and version:
        raise InputError("--alias and --version both name a version: give only one")
    if re.fullmatch("[0-9a-f]{32}", run := model.removeprefix("runs:/")):
        if alias or version:
            raise InputError(f"run {run} names one version itself: --alias and --version go with a model's name")
        return f"runs:/{run}"
    if not model or set(model) & set("/:@%\"'"):
        raise InputError(
            f"{model!r}: give a registered model's name, e.g. greek-cnn, or the id of the run that registered it; "
            "--alias or --version name a version"
        )
    return f"models:/{model}/{version}" if version else f"models:/{model}@{alias or 'champion'}"


COMMANDS = {"Look": (ui, compare, examine, demo), "Models": (models, card, promote, predict, evaluate, serve)}
