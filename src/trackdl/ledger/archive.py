"""Where runs and their artifacts are kept: the store, or a bundle; and what the ledger knows of a run."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import load, save
from scipy.special import logsumexp

from trackdl.errors import TrackdlError
from trackdl.ledger.folder import shown_option
from trackdl.ledger.model import RunFacts
from trackdl.spec.base import Strict

PARENT = "mlflow.parentRunId"
COMMIT = "mlflow.source.git.commit"
MANY = 1000  # examples, whose losses are kept in half of the digits
_PRIVATE = ("trackdl.host", "trackdl.process", "trackdl.error")


class Record(Strict):
    """A run as the ledger sees it: `started` is UTC; `tags` are trackdl's own, the run above it, and the commit."""

    run: str
    name: str
    experiment_id: str
    started: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]


class Archive(Protocol):
    """What keeps runs."""

    def finished(self, task: str, tags: Mapping[str, str]) -> list[Record]:
        """Return the finished runs of one of the report's experiments with these tags, newest first."""
        ...

    def get(self, run: str) -> Record:
        """Return a run.

        Raises:
            InputError: There is no such run.
        """
        ...

    def below(self, run: str) -> list[Record]:
        """Return the runs whose parent is this one."""
        ...

    def fetch(self, run: str, path: str) -> bytes:
        """Return an artifact as the formulas read it (`condensed`).

        Raises:
            TrackdlError: It is not available.
        """
        ...


class Records:
    """Runs by their ids: what an archive can answer of them."""

    def __init__(self) -> None:
        self.runs: dict[str, Record] = {}

    def finished(self, task: str, tags: Mapping[str, str]) -> list[Record]:
        """Return the runs that are finished, of a task, and have the tags, newest first."""
        wanted = {"trackdl.task": task, **tags}.items()
        found = [one for one in self.runs.values() if one.status == "FINISHED" and wanted <= one.tags.items()]
        return sorted(found, key=lambda one: one.started, reverse=True)

    def below(self, run: str) -> list[Record]:
        """Return the runs whose parent is this one."""
        return [record for record in self.runs.values() if record.tags.get(PARENT) == run]


class Only(Records):
    """The runs of an archive that a ledger names, and those above them: what it left out does not count.

    Args:
        archive: The archive.
        named: The runs' ids.
    """

    def __init__(self, archive: Archive, named: Collection[str]) -> None:
        super().__init__()
        self._archive = archive
        for run in named:
            for record in lineage(archive, run):
                if record.run in self.runs:
                    break
                self.runs[record.run] = record

    def get(self, run: str) -> Record:
        """Return one of them, or any run that the archive has."""
        return self.runs.get(run) or self._archive.get(run)

    def fetch(self, run: str, path: str) -> bytes:
        """Return an artifact."""
        return self._archive.fetch(run, path)


def lineage(archive: Archive, run: str) -> Iterator[Record]:
    """Yield a run, the run above it, and so on."""
    seen: set[str] = set()
    above: str | None = run
    while above and above not in seen:
        record = archive.get(above)
        yield record
        seen.add(above)
        above = record.tags.get(PARENT)


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that evidence needs: nothing of the machine or its user."""
    return {
        key: value
        for key, value in sorted(tags.items())
        if (key.startswith("trackdl.") and key not in _PRIVATE) or key in (PARENT, COMMIT)
    }


def facts_of(archive: Archive, run: str) -> RunFacts:
    """Return what is known of a run, without its artifacts; a data digest of a run above it counts too.

    Raises:
        InputError: There is no such run.
        TrackdlError: It is not a task's run, or has no data digest.
    """
    record = archive.get(run)
    tags = dict(record.tags)
    for above in lineage(archive, run):
        if "trackdl.data_digest" in above.tags:
            tags["trackdl.data_digest"] = above.tags["trackdl.data_digest"]
            break
    lacking = [key for key in ("trackdl.task", "trackdl.spec_digest", "trackdl.data_digest") if key not in tags]
    if lacking:
        raise TrackdlError(f"run {run} is no evidence: it lacks the tags {', '.join(lacking)}")
    model = model_of(tags) if "trackdl.network" in tags else ""
    seed = None if model or tags.get("trackdl.kind") in ("grid", "recover") else record.params.get("training.seed")
    return RunFacts(
        task=tags["trackdl.task"],
        name=record.name,
        model=model,
        seed=None if seed is None else int(seed),
        source=record.params.get("source", ""),
        experiment_id=record.experiment_id,
        started=record.started,
        version=tags.get("trackdl.version", ""),
        commit=tags.get(COMMIT) or None,
        uncommitted=tags.get("trackdl.uncommitted") == "true",
        spec_digest=tags["trackdl.spec_digest"],
        data_digest=tags["trackdl.data_digest"],
        code_digest=tags.get("trackdl.code_digest"),
        command=f"trackdl {shown_option()}run runs:/{run}/experiment.yaml",
    )


def models_below(archive: Archive, run: str) -> dict[str, str]:
    """Return the ids of the runs below `run` that evaluate one model each, by the model's name."""
    below = [model for group in archive.below(run) for model in archive.below(group.run)]
    return {model_of(one.tags): one.run for one in below}


def model_of(tags: Mapping[str, str]) -> str:
    """Return which of an experiment's models a run evaluates: protocol and network."""
    return f"{tags['trackdl.protocol']}/{tags['trackdl.network']}"


def condensed(path: str, content: bytes) -> bytes:
    """Return an artifact as formulas read it: of a network's outputs, each example's predicted class and loss.

    Outputs, float32 [..., n, classes], become `labels`, uint8 or uint16 [..., n], and `losses` [..., n], the
    cross-entropies: a tenth of the size, and enough for accuracies, losses, and measures of classes. Losses of more
    than `MANY` examples are float16 with 8 significant bits: each is rounded by a 256th of itself at most, their mean
    by about a 10,000th. That the outputs gave these losses is not checkable any more; all other artifacts are kept as
    they are.
    """
    if not (path.startswith("predictions/") and path.endswith(".safetensors")):
        return content
    tensors = load(content)
    if "outputs" not in tensors:
        return content
    outputs, targets = tensors.pop("outputs").astype(np.float64), tensors["targets"].astype(np.int64)
    small = np.uint8 if outputs.shape[-1] <= 256 else np.uint16
    chosen = np.take_along_axis(outputs, np.broadcast_to(targets, outputs.shape[:-1])[..., None], axis=-1)[..., 0]
    losses = np.minimum(logsumexp(outputs, axis=-1) - chosen, 65_000).astype(np.float32)
    if len(targets) > MANY:
        bits = losses.view(np.uint32)
        # Of 24 bits, the last 16 are rounded, to the nearest and halves to even, so that means keep theirs.
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
        losses = rounded.astype(np.uint32).view(np.float32).astype(np.float16)
    kept = {"labels": outputs.argmax(axis=-1).astype(small), "losses": losses}
    rest = {name: tensor for name, tensor in tensors.items() if name != "targets"}
    return save({**kept, "targets": targets.astype(small), **rest})


def parsed(content: bytes) -> Any:
    """Return a JSON value of which no object has a key twice: the other value would never be looked at.

    Raises:
        ValueError: It is no such JSON.
    """
    return json.loads(content, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r:.80} occurs twice in one object")
    return found
