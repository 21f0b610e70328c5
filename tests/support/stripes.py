"""A report of one's own with tiny images, striped, and a network that learns them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from trackdl import spec
from trackdl.tasks import classify

SIDE = 12
TRAINING = {"epochs": 1, "batch_size": 20, "optimizer": {"name": "adam", "lr": 0.01}, "seed": 1}


def report(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty report, the one in use."""
    folder = place / "report"
    folder.mkdir()
    (folder / "report.yaml").write_text("{title: Stripes, slug: stripes}\n")
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    return folder


def learn(folder: Path, network: dict[str, Any], classes: int = 3, colour: bool = False, seed: int = 0) -> None:
    """Train a network on stripes, whose row is their class, and register it as stripes-rows."""
    random = np.random.default_rng(seed)
    labels = np.arange(4 * classes) % classes
    images = random.integers(0, 90, (len(labels), SIDE, SIDE, *([3] if colour else []))).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label % SIDE, label // SIDE :] += 150
    parts = {"x_test": images[:classes], "y_test": labels[:classes], "x_train": images[classes:]}
    np.savez(folder / "rows.npz", **parts, y_train=labels[classes:])
    data = {"npz": "rows.npz", **({"colour": True} if colour else {})}
    kept = {"task": "classify", "data": data, "network": network, "training": TRAINING}
    (folder / "rows.yaml").write_text(yaml.safe_dump(kept))
    classify.run(spec.load(folder / "rows.yaml", spec.ClassifySpec))
