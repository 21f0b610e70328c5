"""Registered models: their versions, the history of their aliases, and which versions are stale.

MLflow keeps no history of an alias, so every move is a tag of the registered model, `trackdl.history.ALIAS.TIME`, e.g.
"version 2 after 1: a better score".
A version whose source (tag `trackdl.source_model`) is no longer its model's champion is stale (tag `trackdl.stale`),
unless the source has an alias of its own, which no training takes.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from trackdl.errors import InputError, TrackdlError
from trackdl.tracking.registry.files import DIGESTS, find, verified
from trackdl.tracking.store import client, every, translate_errors

log = logging.getLogger(__name__)

_HISTORY = "trackdl.history."
STALE = "trackdl.stale"


@dataclass(frozen=True)
class Move:
    """The move of an alias to `version`; `why` is a comparison of scores or a person's words, `when` UTC, ISO 8601."""

    alias: str
    version: str
    replaced: str | None
    why: str
    when: str


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        created: When it was registered, UTC, ISO 8601.
        decided_by: The metric that decides between versions, of which `score` is the value, with the reason.
        source: The version it was trained from, e.g. "mnist-cnn version 1"; empty if from none.
        stale: Why it is stale; empty if it is not.
        synthetic: Whether it was trained on simulated data.
        checkable: Whether its files' digests were kept.
    """

    version: str
    aliases: list[str]
    created: str
    run_id: str
    decided_by: str
    score: float | None
    metrics: dict[str, float]
    source: str
    stale: str
    synthetic: bool
    checkable: bool


@dataclass(frozen=True)
class Model:
    """A registered model: its versions and the moves of its aliases, both newest first."""

    name: str
    versions: list[Version]
    history: list[Move]


def holder(name: str, alias: str) -> ModelVersion | None:
    """Return the version that holds an alias, or None."""
    try:
        return client().get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # MLflow raises either for a missing alias.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def move(name: str, alias: str, version: str, why: str) -> Move:
    """Move an alias to a version, record the move, and mark versions that became stale by it."""
    before = holder(name, alias)
    client().set_registered_model_alias(name, alias, version)
    when = datetime.now(UTC).isoformat(timespec="microseconds")
    made = Move(alias, str(version), str(before.version) if before else None, why, when)
    # A tag's key may hold no plus sign.
    key = f"{_HISTORY}{alias}.{when.removesuffix('+00:00')}"
    client().set_registered_model_tag(name, key, f"version {made.version} after {made.replaced or 'none'}: {why}")
    if alias == "champion":
        _mark_stale(name)
    return made


def promote(name: str, version: str, why: str, *, force: bool = False) -> Move:
    """Make a version the champion, which may be an older one.

    Args:
        name: The registered model.
        version: The version.
        why: A person's reason, kept with the move.
        force: Whether it may take other inputs than the champion now, or tell other classes apart.

    Raises:
        InputError: There is no such version, it is the champion already, no reason is given, or it needs `force`.
        TrackdlError: The version's files are not those that were registered, or no model.
    """
    if not why.strip():
        raise InputError("--why is empty: give the reason why this version is better; it is kept with the version")
    found = find(f"models:/{name}/{version}")
    with translate_errors(f"promoting {name} version {version}"):
        before = holder(name, "champion")
        if before is not None and str(before.version) == str(found.version):
            raise InputError(f"{name} version {version} is the champion already")
        now = _promises(found)
        if before is not None and not force:
            for what, known in _promises_of_champion(before).items():
                if now[what] != known:
                    raise InputError(
                        f"{name} version {version} {what} {now[what]}, and its champion, version {before.version},"
                        f" {known}: those who use it do not expect that. --force makes it champion all the same"
                    )
        made = move(name, "champion", str(found.version), why.strip())
        for key, value in (("why", made.why), ("when", made.when), ("replaced", made.replaced or "nobody")):
            client().set_model_version_tag(name, str(found.version), f"trackdl.promoted_{key}", value)
        return made


def _promises_of_champion(found: ModelVersion) -> dict[str, str]:
    try:
        return _promises(found)
    except TrackdlError:  # nobody can use it
        return {}


def _promises(found: ModelVersion) -> dict[str, str]:
    """Return what users of a version rely on."""
    from trackdl import serving  # loads PyTorch, which a list of versions does without

    with verified(found) as folder:
        _, card = serving.read_model(folder / "data" / "model")
    if isinstance(card, serving.TableCard):
        takes = f"rows of {', '.join(column.name for column in card.columns)}"
    else:
        takes = f"{'colour' if card.colour else 'grey'} images of {card.size}×{card.size} pixels"
    return {"tells apart": ", ".join(card.classes), "takes": takes}


def _mark_stale(name: str) -> None:
    """Update the tag `trackdl.stale` of all versions that were trained from a model."""
    models = registered()
    for found in (version for model in models for version in _versions(model)):
        if found.tags.get("trackdl.source_model") == name:
            _mark(found, models)


def mark_if_stale(found: ModelVersion) -> None:
    """Mark a new version that was trained from a version other than its source's champion."""
    if "trackdl.source_model" in found.tags:
        _mark(found, registered())


def _mark(found: ModelVersion, models: Sequence[RegisteredModel]) -> None:
    if reason := _stale(found, _aliases(models)):
        client().set_model_version_tag(found.name, str(found.version), STALE, reason)
    elif STALE in found.tags:
        client().delete_model_version_tag(found.name, str(found.version), STALE)


def _aliases(models: Sequence[RegisteredModel]) -> dict[str, dict[str, str]]:
    """Return the version that holds each alias, by model and alias."""
    return {model.name: {alias: str(version) for alias, version in model.aliases.items()} for model in models}


def _stale(found: ModelVersion, aliases: Mapping[str, Mapping[str, str]]) -> str:
    """Return why a version is stale, or an empty text."""
    name, version = found.tags.get("trackdl.source_model", ""), found.tags.get("trackdl.source_version")
    held = aliases.get(name, {})
    if "champion" not in held or any(held[alias] == version for alias in held if alias != "challenger"):
        return ""
    return f"its source {name} version {version} is no longer champion; version {held['champion']} is"


def registered() -> list[RegisteredModel]:
    """Return all registered models."""
    return every(lambda token: client().search_registered_models(page_token=token))


def _versions(model: RegisteredModel) -> list[ModelVersion]:
    found = every(lambda token: client().search_model_versions(f"name = '{model.name}'", page_token=token))
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def every_model() -> list[Model]:
    """Return all registered models with their versions and the moves of their aliases."""
    with translate_errors("the registered models"):
        models = registered()
        return [_model(model, _aliases(models)) for model in models]


def _model(model: RegisteredModel, aliases: Mapping[str, Mapping[str, str]]) -> Model:
    versions = [_version(found, aliases) for found in _versions(model)]
    moves = []
    for key, text in model.tags.items():
        try:
            moves += [_move(key, text)] if key.startswith(_HISTORY) else []
        except ValueError:
            log.warning("%s: its tag %s is no record of a move, and is left out", model.name, key)
    return Model(model.name, versions, sorted(moves, key=lambda made: made.when, reverse=True))


def _move(key: str, text: str) -> Move:
    """Read the record of a move.

    Raises:
        ValueError: It is none.
    """
    alias, _, when = key.removeprefix(_HISTORY).partition(".")
    found = re.fullmatch(r"version (\S+) after (\S+): (.*)", text, re.DOTALL)
    if not (found and when):
        raise ValueError(key)
    version, replaced, why = found.groups()
    return Move(alias, version, None if replaced == "none" else replaced, why, f"{when}+00:00")


def _version(found: ModelVersion, aliases: Mapping[str, Mapping[str, str]]) -> Version:
    tags = found.tags
    held = sorted(alias for alias, version in aliases[found.name].items() if version == str(found.version))
    source = f"{tags.get('trackdl.source_model')} version {tags.get('trackdl.source_version')}"
    return Version(
        version=str(found.version),
        aliases=held,
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        run_id=found.run_id or "",
        decided_by=tags.get("trackdl.decided_by", ""),
        score=score_of(found),
        metrics=_metrics(found),
        source=source if "trackdl.source_model" in tags else "",
        stale=_stale(found, aliases),
        synthetic=tags.get("trackdl.synthetic") == "true",
        checkable=DIGESTS in tags,
    )


def score_of(found: ModelVersion) -> float | None:
    """Return the score that a version is compared by; None without one."""
    try:
        return float(found.tags["trackdl.score"])
    except (KeyError, ValueError):
        return None


def _metrics(found: ModelVersion) -> dict[str, float]:
    logged_as = (found.source or "").removeprefix("models:/")
    if not logged_as.startswith("m-"):
        return {}
    try:
        logged = client().get_logged_model(logged_as)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {metric.key: metric.value for metric in logged.metrics or []}
