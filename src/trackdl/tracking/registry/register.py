"""Registered models: logged with a run, registered, and made champion only if better.

The alias `champion` names the version in use. A new version takes it only with a better score on the same data, from a
model of synthetic data, or from one that is of no use any more (`files.broken`); otherwise it becomes `challenger`. The
decision is in the version's tags. A version that was not trained here may have an alias of its own instead.
"""

import hashlib
import importlib.metadata
import json
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.data.dataset import Dataset
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import AnyType, Map
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from torch import nn

from trackdl import serving, spec
from trackdl.data import training_images
from trackdl.errors import InputError
from trackdl.spec import TrainedSpec
from trackdl.system.paths import whole_file
from trackdl.tracking.pages import NOTE
from trackdl.tracking.registry import readme, versions
from trackdl.tracking.registry.files import DIGESTS, broken, digests, find, listing, verified
from trackdl.tracking.registry.versions import holder
from trackdl.tracking.runs import Run
from trackdl.tracking.store import client, defer_interrupts, translate_errors

# What a served model imports, pinned to the versions here; MLflow would take 5 s to infer it.
_SERVING_NEEDS = (
    "mlflow",
    "torch",
    "torchvision",
    "safetensors",
    "numpy",
    "pandas",
    "pillow",
    "pillow-heif",
    "pydantic",
    "opencv-python-headless",
    "scipy",
    "scikit-learn",
)
_OUTPUTS = Schema(
    [
        ColSpec(DataType.string, "label"),
        ColSpec(Map(DataType.double), "probabilities"),
        ColSpec(DataType.string, "model"),
        ColSpec(DataType.string, "version"),
    ]
)
# The only signature under which MLflow passes on pixels of every numeric type as well as texts; the model checks them.
IMAGES = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(object), (-1,))]),
    outputs=Schema([*_OUTPUTS.inputs, ColSpec(DataType.boolean, "unfamiliar", required=False)]),
)
# Of any type: in a column of whole numbers MLflow turns 54.5 into 54 and true into 1. The model checks every cell.
_ANY = AnyType()  # type: ignore[no-untyped-call]


def signature_of(card: serving.Card) -> ModelSignature:
    """Return the signature of a served model."""
    if not isinstance(card, serving.TableCard):
        return IMAGES
    return ModelSignature(inputs=Schema([ColSpec(_ANY, column.name) for column in card.columns]), outputs=_OUTPUTS)


MOST_SIGNS = 5000  # of a description: as many as MLflow's database takes
OWNER = "trackdl.report"  # the tag of a registered model that names its report


@dataclass(frozen=True)
class Score:
    """The score that decides between two versions of a model: the higher is better, on the same data.

    `why` says why this metric decides; `synthetic` data are simulated.
    """

    metric: str
    value: float
    why: str
    data_digest: str
    synthetic: bool = False


@dataclass(frozen=True)
class Decision:
    """A new version, the alias that it took, and the reason."""

    name: str
    version: str
    alias: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version} is now {self.alias}: {self.reason}"


@dataclass(frozen=True)
class FetchedModel:
    """A network from the registry, and its version."""

    model: nn.Module
    card: serving.Card
    name: str
    version: str
    run_id: str


def log_and_register(
    name: str,
    run: Run,
    model: nn.Module,
    card: serving.AnyCard,
    example: np.ndarray | pd.DataFrame,
    step: int,
    measured: Sequence[tuple[Dataset, Mapping[str, float]]],
    score: Score,
    about: readme.About,
    lineage: Mapping[str, Any] | None = None,
    alias: str | None = None,
    learnt: bytes = b"",
) -> Decision:
    """Log a network with a run (`log_model`), with a model card that says what it is, and register it (`register`).

    `measured` are metrics of the model, each group with the data set that it was measured on.
    """
    lineage = lineage or {}
    text = readme.write(name, about, score, alias, run, model, card, lineage, _pins())
    model_id, full = log_model(run, model, card, example, step, text, learnt, name)
    for dataset, metrics in measured:
        run.metrics(metrics, step=step, model_id=model_id, dataset=dataset)
    tags = {"trackdl.weights_sha256": full.weights_sha256, **lineage}
    return register(name, run, model_id, score, tags, alias, readme.note(name, about, run, model, card, lineage))


def log_model(
    run: Run,
    model: nn.Module,
    card: serving.AnyCard,
    example: np.ndarray | pd.DataFrame,
    step: int,
    text: str = "",
    learnt: bytes = b"",
    name: str = "model",
) -> tuple[str, serving.AnyCard]:
    """Log a network with a run as an MLflow LoggedModel; return its id, and the card with the weights' SHA-256.

    `example` is an input: pixels [n, size, size], in colour [n, size, size, 3], 0 to 255, or raw rows. `step` is the
    epoch of the weights; MLflow links the run's metrics at this step to the model. `text` is its model card, and
    `learnt` the file of the images that it was trained on (`data.training_images`), if there are any; `name` is what
    MLflow's pages call it.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "model"
        full = serving.write_model(data, model, card)
        for file, content in ((readme.FILE, text.encode()), (training_images.FILE, learnt)):
            if content:
                with whole_file(data / file) as part:
                    part.write_bytes(content)
        # Interrupted half-way, the model would stay PENDING.
        with translate_errors(f"logging the model of run {run.id}"), defer_interrupts():
            info = mlflow.pyfunc.log_model(
                name=re.sub(r"[/:.%\"']", "-", name),  # the signs that MLflow refuses
                loader_module="trackdl.serving",
                data_path=str(data),
                code_paths=[str(_own_code(Path(folder)))],
                signature=signature_of(card),
                input_example=example.astype(np.float32) if isinstance(example, np.ndarray) else example,
                pip_requirements=_pins(),
                step=step,
                metadata={"weights_sha256": full.weights_sha256},
            )
    return str(info.model_id), full


def _own_code(folder: Path) -> Path:
    """Return a writable copy of the code: MLflow keeps the modes of files, and an installation may be read-only."""
    package, copy = Path(serving.__file__).parents[1], folder / "trackdl"
    for file in package.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            (copy / file.relative_to(package)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy / file.relative_to(package))
    return copy


def _pins() -> list[str]:
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in _SERVING_NEEDS]


def register(
    name: str,
    run: Run,
    model_id: str,
    score: Score,
    lineage: Mapping[str, Any],
    alias: str | None = None,
    description: str = "",
) -> Decision:
    """Register a run's LoggedModel as a version of the registered model `name`, and give it its alias.

    `lineage` are further tags of the version; with an `alias` of its own it does not compete to be champion.
    `description` is Markdown for the version's page, which also says how the decision was made.
    """
    with translate_errors(f"registering {name}"):
        _create_if_missing(name)
        old = None if alias else holder(name, "champion")
        if alias:
            reason = "it does not compete to be champion"
        else:
            better, reason = _decide(score, old)
            alias = "champion" if better else "challenger"
        decided = {
            "trackdl.decided_by": f"{score.metric} ({score.why})",
            "trackdl.score": repr(score.value),
            "trackdl.score_data": score.data_digest,
            "trackdl.synthetic": str(score.synthetic).lower(),
            "trackdl.decision": f"{alias}: {reason}",
        }
        if old is not None:
            decided |= {"trackdl.rival": old.version, "trackdl.rival_score": old.tags.get("trackdl.score", "unknown")}
        tags = {**{key: str(value) for key, value in lineage.items()}, **decided}
        listed = digests(model_id)
        run.text(listed, listing(model_id))
        tags[DIGESTS] = hashlib.sha256(listed.encode()).hexdigest()
        words = f"It became {alias} when it was registered ({reason}).\n\n{description}"[:MOST_SIGNS]
        with defer_interrupts():  # a version is never left without its alias
            made = client().create_model_version(
                name, f"models:/{model_id}", run.id, tags=tags, description=words, model_id=model_id
            )
            versions.move(name, alias, str(made.version), reason)
        # As `mlflow.register_model` does: the model's page then shows it as registered.
        of_model = [{"name": name, "version": str(made.version)}]
        client().set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(of_model), NOTE: words})
        versions.mark_if_stale(made)
    return Decision(name, str(made.version), alias, reason)


def name_of(experiment: TrainedSpec) -> str:
    """Return the name under which an experiment's network is registered."""
    return experiment.register_as or f"{spec.report().slug}-{experiment.name}"


def check_free(name: str) -> None:
    """Check that a registered model is not another report's, since two reports never compete for one champion.

    Raises:
        InputError: It is.
    """
    with translate_errors(f"looking for the registered model {name}"):
        try:
            owner = client().get_registered_model(name).tags.get(OWNER)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return
    if owner and owner != spec.report().slug:
        raise InputError(
            f"the registered model {name} is of the report {owner}, and this one is {spec.report().slug}: "
            "give another name in the experiment's key 'register'"
        )


def _create_if_missing(name: str) -> None:
    try:
        report = spec.report()
        words = f"Networks of the report {report.by}. `champion` is the best version, `challenger` the newest other one"
        words += f"; `trackdl models {shlex.quote(name)}` lists the scores by which that was decided."
        client().create_registered_model(name, tags={OWNER: report.slug}, description=words)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _decide(score: Score, old: ModelVersion | None) -> tuple[bool, str]:
    if old is None:
        return True, "there was none before"
    was = f"version {old.version}"
    if DIGESTS not in old.tags:
        return True, f"{was} was registered without its files' digests and is no longer loaded"
    if reason := broken(old):
        return True, f"{was} is no rival: {reason}"
    if old.tags.get("trackdl.synthetic") == "true" and not score.synthetic:
        return True, f"{was} learnt from synthetic data"
    if old.tags.get("trackdl.score_data") != score.data_digest:
        return False, f"{was} was scored on other data, so the two cannot be compared"
    before = versions.score_of(old)
    if before is None:
        return True, f"{was} has no score"
    words = f"{score.metric} {score.value:.4f} against {before:.4f} of {was}"
    return score.value > before, words if score.value != before else f"{words}, a tie"


def fetch_model(uri: str) -> FetchedModel:
    """Load the network at `models:/NAME@ALIAS` or `models:/NAME/VERSION`; the artifact's own code is not run.

    Raises:
        InputError: There is no such model, version or alias.
        TrackdlError: Its files are missing or were changed.
    """
    found = find(uri)
    with verified(found) as folder:
        model, card = serving.read_model(folder / "data" / "model")
    return FetchedModel(model, card, found.name, str(found.version), found.run_id or "")
