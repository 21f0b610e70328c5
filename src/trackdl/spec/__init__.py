"""Experiment files: their schema and how they are read. Imports nothing heavy."""

from trackdl.spec.base import Augmentation, Optimizer, Printed, Reported, TrainedSpec, Training
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.experiments import (
    KINDS,
    STEPS,
    DataSpec,
    Experiment,
    Preprocessing,
    TransferSpec,
    digest,
    flatten,
    task_of,
    to_yaml,
)
from trackdl.spec.files import (
    MAX_BYTES,
    Spec,
    changed,
    experiment_file,
    experiments,
    load,
    load_any,
    logged,
    named,
    parse,
    recoveries,
    recovery_of,
    report,
    value_of,
)
from trackdl.spec.grid import GridSpec
from trackdl.spec.images import ImageData
from trackdl.spec.ledger import LedgerSpec
from trackdl.spec.recover import RecoverSpec
from trackdl.spec.report import ReportSpec, Step
from trackdl.spec.search import SearchSpec
from trackdl.spec.table import TableSpec

__all__ = [
    "KINDS",
    "MAX_BYTES",
    "STEPS",
    "Augmentation",
    "ClassifySpec",
    "DataSpec",
    "Experiment",
    "GridSpec",
    "ImageData",
    "LedgerSpec",
    "Optimizer",
    "Preprocessing",
    "Printed",
    "RecoverSpec",
    "ReportSpec",
    "Reported",
    "SearchSpec",
    "Spec",
    "Step",
    "TableSpec",
    "TrainedSpec",
    "Training",
    "TransferSpec",
    "changed",
    "digest",
    "experiment_file",
    "experiments",
    "flatten",
    "load",
    "load_any",
    "logged",
    "named",
    "parse",
    "recoveries",
    "recovery_of",
    "report",
    "task_of",
    "to_yaml",
    "value_of",
]
