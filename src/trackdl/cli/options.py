"""The options of the commands that are tasks, and the experiment that follows from them and from a file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trackdl import spec
from trackdl.errors import InputError
from trackdl.system import paths

__all__ = [
    "BatchSize",
    "Device",
    "EngineName",
    "Epochs",
    "File",
    "Gpus",
    "LearningRate",
    "Precision",
    "Seed",
    "Set",
    "Workers",
    "chosen",
    "read",
    "resumable",
    "training",
]

File = Annotated[
    str | None, typer.Option(help="Experiment file, or runs:/RUN_ID/experiment.yaml; experiments/TASK.yaml by default.")
]
Epochs = Annotated[int | None, typer.Option(help="Epochs to train.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="The optimiser's learning rate.")]
Seed = Annotated[int | None, typer.Option(help="Decides first weights, order and dropout.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")]
Workers = Annotated[int | None, typer.Option(help="Number of single-threaded processes; by default one per core.")]
EngineName = Annotated[str, typer.Option("--engine", help="local: this machine's processes; ray: a Ray cluster.")]
Gpus = Annotated[float, typer.Option("--gpus-per-worker", help="With --engine ray: a part of a GPU, or several.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key; repeatable.")]


def resumable(resume: str | None, file: str | None, given: dict[str, Any]) -> str | None:
    """Return where the experiment is read from: the file, or the run that is gone on with."""
    if resume and (file or given.keys() - {"training.epochs"}):
        raise InputError("--resume goes on by the run's own experiment: beside it only --epochs can be given")
    return f"runs:/{resume}/experiment.yaml" if resume else file


def training(
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    seed: int | None,
    device: str | None,
    precision: str | None,
    set_: list[str] | None,
) -> dict[str, Any]:
    """Return the keys that the training options set, and those of --set."""
    given: dict[str, Any] = {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.optimizer.lr": lr,
        "training.seed": seed,
        "training.device": device,
        "training.precision": precision,
    }
    keys = chosen(given)
    for item in set_ or []:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InputError(f"--set {item}: expected KEY=VALUE, e.g. --set training.optimizer.momentum=0.9")
        keys[key] = spec.value_of(value, f"--set {item}")
    return keys


def chosen(given: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that were given a value."""
    return {key: value for key, value in given.items() if value is not None}


def read(file: str | None, kind: type[spec.Spec], overrides: dict[str, Any]) -> spec.Spec:
    """Read an experiment file from a path, from a run, or the task's own."""
    if file and file.startswith("runs:/"):
        from trackdl.tracking import runs

        with runs.download(file) as path:
            return spec.parse(path.read_text(encoding="utf-8"), file, kind, overrides)
    own = paths.project_root() / "experiments" / f"{spec.task_of(kind)}.yaml"
    return spec.load(Path(file) if file else own, kind, overrides)
