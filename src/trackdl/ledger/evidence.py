"""Finished runs as evidence: searching them, what is known of them, and their artifacts as bytes."""

import json
import math
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from trackdl.errors import TrackdlError
from trackdl.ledger.model import Ledger, RunFacts
from trackdl.ledger.recipes import LOGGED, recipe
from trackdl.tracking import runs
from trackdl.tracking.runs import Run
from trackdl.tracking.store import every_run
from trackdl.tracking.trials import PARENT

# What a run logged was computed in float32, its figure in the ledger in float64.
CLOSE = 1e-4


def finished(name: str, tags: Mapping[str, str]) -> list[Run]:
    """Return the finished runs of one of the report's experiments with these tags, newest first."""
    conditions = ["attributes.status = 'FINISHED'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
    return runs.find_own(name, " and ".join(conditions))


def models_below(run: Run) -> dict[str, str]:
    """Return the ids of the runs below `run` that evaluate one model each, by the model's name."""
    below = [model for group in _below(run.id) for model in _below(group)]
    return {_model(Run(model).info.data.tags): model for model in below}


def _below(run_id: str) -> list[str]:
    return [item.info.run_id for item in every_run(f"tags.`{PARENT}` = '{run_id}'")]


def facts(run_id: str) -> RunFacts:
    """Return what is known of a run, without its artifacts; a data digest of a run above it counts too.

    Raises:
        InputError: There is no such run.
        TrackdlError: It is not a task's run, or has no data digest.
    """
    info = Run(run_id).info
    tags, above = dict(info.data.tags), info.data.tags.get(PARENT)
    while above and "trackdl.data_digest" not in tags:
        parent = Run(above).info.data.tags
        if "trackdl.data_digest" in parent:
            tags["trackdl.data_digest"] = parent["trackdl.data_digest"]
        above = parent.get(PARENT)
    lacking = [key for key in ("trackdl.task", "trackdl.spec_digest", "trackdl.data_digest") if key not in tags]
    if lacking:
        raise TrackdlError(f"run {run_id} is no evidence: it lacks the tags {', '.join(lacking)}")
    model = _model(tags) if "trackdl.network" in tags else ""
    seed = None if model or tags.get("trackdl.kind") == "grid" else info.data.params.get("training.seed")
    return RunFacts(
        task=tags["trackdl.task"],
        name=info.info.run_name or "",
        model=model,
        seed=None if seed is None else int(seed),
        source=info.data.params.get("source", ""),
        experiment_id=info.info.experiment_id,
        started=datetime.fromtimestamp(info.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        version=tags.get("trackdl.version", ""),
        commit=tags.get("mlflow.source.git.commit"),
        uncommitted=tags.get("trackdl.uncommitted") == "true",
        spec_digest=tags["trackdl.spec_digest"],
        data_digest=tags["trackdl.data_digest"],
        code_digest=tags.get("trackdl.code_digest"),
        command=f"trackdl run runs:/{run_id}/experiment.yaml",
        artifacts={},
    )


def _model(tags: Mapping[str, str]) -> str:
    return f"{tags['trackdl.protocol']}/{tags['trackdl.network']}"


def facts_of_table(grid: str, origin: Mapping[str, Any], command: str) -> RunFacts:
    """Return what is known of a grid's committed table, which replaces runs.

    `origin` is how the table was made (`folder.origin_of`), `command` what makes it if the origin has none.
    """
    return RunFacts(
        task=grid,
        name=f"results/{grid}.csv, in the report's folder",
        model="",
        seed=None,
        source="",
        experiment_id="",
        started="",
        version=origin.get("versions", {}).get("trackdl", ""),
        commit=None,
        uncommitted=False,
        spec_digest=None,
        data_digest=origin.get("data"),
        code_digest=origin.get("code"),
        command=origin.get("command") or command,
        artifacts={},
    )


def fetch(run_id: str, path: str) -> bytes:
    """Return an artifact's bytes; those of `logged/METRIC` are the metric's values, as JSON, by epoch.

    Raises:
        TrackdlError: The run has no such artifact, or it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            if path.startswith(LOGGED):
                points = dict(Run(run_id).history(path.removeprefix(LOGGED)))
                return json.dumps(points, sort_keys=True).encode()
            return Run(run_id).fetch(path, Path(folder)).read_bytes()
        except (TrackdlError, OSError) as error:
            raise TrackdlError(f"run {run_id}: the artifact {path} is not available: {error}") from error


def contradictions(ledger: Ledger) -> list[str]:
    """Return, in words, where a figure differs from what its run logged."""
    history = cache(lambda run_id, metric: dict(Run(run_id).history(metric)))
    found = []
    for figure in ledger.figures:
        for item in figure.evidence:
            kind = ledger.experiments[figure.task].kind
            metric, step = recipe(kind, figure.metric, figure.epoch, item.seed).logged or (None, 0)
            logged = history(item.run, metric).get(step) if metric else None
            if logged is not None and not math.isclose(logged, item.value, rel_tol=CLOSE, abs_tol=CLOSE):
                name = f"{figure.task} {figure.metric} epoch {figure.epoch}, run {item.run}, seed {item.seed}"
                found.append(f"{name}: logged {logged}, but its artifacts say {item.value}")
    return found
