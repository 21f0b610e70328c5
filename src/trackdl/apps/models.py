"""`trackdl models` and `trackdl promote`: which versions there are, who is champion since when, and moving it."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from trackdl.errors import InputError
from trackdl.system.console import print_table, say
from trackdl.tracking.registry import versions
from trackdl.tracking.registry.versions import Model, Version

__all__ = ["list_models", "promote"]


def list_models(names: Sequence[str], *, as_json: bool) -> None:
    """Print registered models: versions with aliases, score, metrics and lineage, and every move of an alias.

    Args:
        names: Which; all where there are none.
        as_json: Print one JSON array.

    Raises:
        InputError: One of the names is no registered model.
    """
    found = versions.every_model()
    unknown = set(names) - {model.name for model in found}
    if unknown:
        known = ", ".join(model.name for model in found) or "none"
        raise InputError(f"no registered model {', '.join(sorted(unknown))}; registered are: {known}")
    chosen = [model for model in found if not names or model.name in names]
    if as_json:
        say(json.dumps([asdict(model) for model in chosen], indent=1, ensure_ascii=False))
        return
    if not chosen:
        say("No model is registered yet. `trackdl mnist` registers mnist-cnn; `make run` registers all.")
    for model in chosen:
        _print(model)


def promote(name: str, version: str, why: str) -> None:
    """Make a version the champion and say what that changed."""
    made = versions.promote(name, version, why)
    say(f"{name} version {made.version} is now champion, in place of {_of(made.replaced)}: {made.why}")
    for model in versions.every_model():
        for item in model.versions:
            if item.stale and item.aliases and item.source.startswith(f"{name} version"):
                say(f"{model.name} version {item.version} ({', '.join(item.aliases)}) is stale: {item.stale}")


def _of(version: str | None) -> str:
    return f"version {version}" if version else "nobody"


def _print(model: Model) -> None:
    heads = ["version", "alias", "score", "metrics", "registered", "trained from", "run", "remarks"]
    print_table(model.name, heads, [_row(item) for item in model.versions])
    for moved in model.history:
        say(f"  {moved.when[:19]}Z {moved.alias}: version {moved.version} after {_of(moved.replaced)}: {moved.why}")
    say()


def _row(item: Version) -> list[str]:
    remarks = ["stale: " + item.stale] if item.stale else []
    remarks += ["synthetic data"] if item.synthetic else []
    remarks += [] if item.checkable else ["no digests: is not loaded"]
    score = "" if item.score is None else f"{item.decided_by.split(' ')[0]} {item.score:.4f}"
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in sorted(item.metrics.items()))
    aliases, run = ", ".join(item.aliases), item.run_id[:8]
    return [item.version, aliases, score, metrics, item.created[:19] + "Z", item.source, run, "; ".join(remarks)]
