"""`trackdl models`, `card` and `promote`: list versions and their aliases' history, show one, choose a champion."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trackdl.errors import InputError
from trackdl.spec.keys import meant
from trackdl.system.console import counted, print_table, say, say_json
from trackdl.system.paths import whole_file
from trackdl.tracking.registry import versions
from trackdl.tracking.registry.versions import Model, Version


def list_models(names: Sequence[str], *, as_json: bool, everything: bool = False) -> None:
    """Print registered models: a row for each version that has an alias, and for the newest one.

    Args:
        names: Only these models; without any, all are printed.
        as_json: Print one JSON array of all that is known.
        everything: Print all versions, with metrics and lineage, and every move of an alias.

    Raises:
        InputError: A name is not that of a registered model.
    """
    found = versions.every_model()
    unknown = set(names) - {model.name for model in found}
    if unknown:
        known = ", ".join(model.name for model in found) or "none"
        near = "".join(meant(name, [model.name for model in found]) for name in sorted(unknown))
        raise InputError(f"no registered model {', '.join(sorted(unknown))}; {near}registered: {known}")
    chosen = [model for model in found if not names or model.name in names]
    if as_json:
        say_json([asdict(model) for model in chosen])
        return
    if not chosen:
        say("No model is registered yet. `trackdl mnist` registers mnist-cnn; `trackdl main` registers all.")
    for model in chosen:
        if everything:
            _print_all(model)
        else:
            _print(model)


def card(uri: str, output: Path | None) -> None:
    """Print the model card of the version at `uri`, or write it to a file."""
    from trackdl.tracking.registry import readme  # loads PyTorch, which a list of models does without

    text = readme.read(uri)
    if output is None:
        say(text.rstrip("\n"), whole=True)
        return
    with whole_file(output) as part:
        part.write_text(text, encoding="utf-8")
    say(f"the model card of {uri} is in {output}")


def promote(name: str, version: str, why: str, *, force: bool = False) -> None:
    """Make a version the champion, and print what that changed."""
    move = versions.promote(name, version, why, force=force)
    say(f"{name} version {move.version} is now champion, in place of {_replaced(move.replaced)}: {move.why}")
    for model in versions.every_model():
        for item in model.versions:
            if item.stale and item.aliases and item.source.startswith(f"{name} version"):
                say(f"{model.name} version {item.version} ({', '.join(item.aliases)}) is stale: {item.stale}")


def _replaced(version: str | None) -> str:
    return f"version {version}" if version else "none"


def _print(model: Model) -> None:
    shown = [item for item in model.versions if item.aliases or item is model.versions[0]]
    rows = [[item.version, ", ".join(item.aliases), score(item), item.created[:10], _remarks(item)] for item in shown]
    columns = ["version", "alias", "score", "date", "remarks"]
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    print_table(model.name, [columns[index] for index in used], [[row[index] for index in used] for row in rows])
    if left := len(model.versions) - len(shown):
        say(f"  {counted(left, 'version')} without an alias not shown: trackdl models {model.name} --all")
    say()


def _print_all(model: Model) -> None:
    heads = ["version", "alias", "score", "metrics", "registered", "trained from", "run", "remarks"]
    print_table(model.name, heads, [_row(item) for item in model.versions])
    for move in model.history:
        say(f"  {move.when[:19]}Z {move.alias}: version {move.version} after {_replaced(move.replaced)}: {move.why}")
    say()


def score(version: Version) -> str:
    """Return the metric that decided about a version, and its value; nothing if there is none."""
    return "" if version.score is None else f"{version.decided_by.split(' ')[0]} {version.score:.4f}"


def _remarks(item: Version) -> str:
    remarks = ["stale: " + item.stale] if item.stale else []
    remarks += ["synthetic data"] if item.synthetic else []
    remarks += [] if item.checkable else ["no digests: cannot be loaded"]
    return "; ".join(remarks)


def _row(item: Version) -> list[str]:
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in sorted(item.metrics.items()))
    aliases, run = ", ".join(item.aliases), item.run_id[:8]
    return [item.version, aliases, score(item), metrics, item.created[:19] + "Z", item.source, run, _remarks(item)]
