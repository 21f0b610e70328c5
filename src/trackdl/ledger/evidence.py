"""The store as an archive of runs; and whether what runs logged agrees with their artifacts."""

import json
import math
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from trackdl.errors import TrackdlError
from trackdl.ledger.archive import PARENT, Record, condensed, kept_tags
from trackdl.ledger.model import Ledger
from trackdl.ledger.recipes import LOGGED, recipe
from trackdl.tracking import runs
from trackdl.tracking.runs import Run
from trackdl.tracking.store import every_run

# What a run logged was computed in float32, its figure in the ledger of losses in float16.
CLOSE = 3e-4


class Store:
    """The tracking store as an archive (`archive.Archive`)."""

    def finished(self, task: str, tags: Mapping[str, str]) -> list[Record]:
        """Return the finished runs of one of the report's experiments with these tags, newest first."""
        conditions = ["attributes.status = 'FINISHED'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
        return [_record(run) for run in runs.find_own(task, " and ".join(conditions))]

    def get(self, run: str) -> Record:
        """Return a run.

        Raises:
            InputError: There is no such run.
        """
        return _record(Run(run))

    def below(self, run: str) -> list[Record]:
        """Return the runs whose parent is this one."""
        return [_record(Run(item.info.run_id)) for item in every_run(f"tags.`{PARENT}` = '{run}'")]

    def fetch(self, run: str, path: str) -> bytes:
        """Return an artifact, condensed; that of `logged/METRIC` is the metric's values, as JSON, by epoch.

        Raises:
            TrackdlError: The run has no such artifact, or it cannot be read.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                if path.startswith(LOGGED):
                    points = dict(Run(run).history(path.removeprefix(LOGGED)))
                    return json.dumps(points, sort_keys=True).encode()
                return condensed(path, Run(run).fetch(path, Path(folder)).read_bytes())
            except (TrackdlError, OSError) as error:
                raise TrackdlError(f"run {run}: the artifact {path} is not available: {error}") from error


def _record(run: Run) -> Record:
    info = run.info
    return Record(
        run=run.id,
        name=info.info.run_name or "",
        experiment_id=info.info.experiment_id,
        started=datetime.fromtimestamp(info.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        status=info.info.status,
        tags=kept_tags(info.data.tags),
        params=dict(sorted(info.data.params.items())),
    )


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
