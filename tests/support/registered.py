"""Versions of a registered model, of a score that the test names."""

import numpy as np

from support import ROOT
from trackdl import spec
from trackdl.networks.digit import DigitNet
from trackdl.serving import ImageCard
from trackdl.tracking import runs
from trackdl.tracking.registry import register as registry
from trackdl.tracking.registry.register import Decision, Score
from trackdl.training.trainer import seeded

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)
CARD = ImageCard(
    network="DigitNet",
    arguments={"classes": 10},
    classes=list("0123456789"),
    mean=0.1307,
    std=0.3081,
    preprocessing="mnist",
)


def network(seed: int = 0) -> DigitNet:
    with seeded(seed):
        return DigitNet().eval()


def add(value: float, data: str = "d1", synthetic: bool = False, seed: int = 0, alias: str | None = None) -> Decision:
    with runs.start(EXPERIMENT) as run:
        model_id, _ = registry.log_model(run, network(seed), CARD, np.zeros((1, 28, 28)), 8)
        score = Score("test_accuracy", value, "a test says so", data, synthetic)
        return registry.register("mnist-cnn", run, model_id, score, {"trackdl.lineage": "x"}, alias)
