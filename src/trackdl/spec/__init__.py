"""Experiment files: their schema and how they are read. Imports nothing heavy."""

from trackdl.spec.base import Augmentation, Optimizer, Printed, Reported, TrainedSpec, Training
from trackdl.spec.experiments import (
    KINDS,
    STEPS,
    TRAINED,
    DataSpec,
    Experiment,
    MainSpec,
    MnistSpec,
    Preprocessing,
    Step,
    TransferSpec,
    digest,
    flatten,
    task_of,
    to_yaml,
)
from trackdl.spec.fashion import FashionSpec
from trackdl.spec.files import MAX_BYTES, Spec, load, parse, value_of
from trackdl.spec.grid import GridSpec
from trackdl.spec.heart import HeartSpec
from trackdl.spec.ledger import LedgerSpec
from trackdl.spec.search import SearchSpec

__all__ = [
    "KINDS",
    "MAX_BYTES",
    "STEPS",
    "TRAINED",
    "Augmentation",
    "DataSpec",
    "Experiment",
    "FashionSpec",
    "GridSpec",
    "HeartSpec",
    "LedgerSpec",
    "MainSpec",
    "MnistSpec",
    "Optimizer",
    "Preprocessing",
    "Printed",
    "Reported",
    "SearchSpec",
    "Spec",
    "Step",
    "TrainedSpec",
    "Training",
    "TransferSpec",
    "digest",
    "flatten",
    "load",
    "parse",
    "task_of",
    "to_yaml",
    "value_of",
]
