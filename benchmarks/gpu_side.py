"""A part of `gpu.py`, in a process of its own: prints its result as one line of JSON, the last on standard output.

python benchmarks/gpu_side.py draw FOLDER           # images of three kinds of clothes, in class folders
python benchmarks/gpu_side.py figures fit test_accuracy    # of an experiment's runs
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

SIGNS = 12  # images of each class


def draw(folder: Path) -> None:
    """Write test images of Fashion-MNIST's first three classes as files."""
    from trackdl.data.images import load_images
    from trackdl.spec import ImageData

    images = load_images(ImageData(dataset="fashion"))
    for label in range(3):
        (folder / f"class-{label}").mkdir(parents=True)
        for number, pixels in enumerate(images.test_images[images.test_labels == label][:SIGNS]):
            Image.fromarray(pixels.numpy()).resize((112, 112)).save(folder / f"class-{label}" / f"{number:02}.png")


def figures(task: str, metric: str) -> dict[str, Any]:
    """Return an experiment's metric, a digest of all that its runs measured, and the images/s that they log."""
    from trackdl.tracking.store import client, every_experiment

    runs = client().search_runs(every_experiment(), f"tags.`trackdl.task` = '{task}'", order_by=["start_time DESC"])
    measured = {
        name: value
        for run in runs
        for name, value in sorted(run.data.metrics.items())
        if not any(part in name for part in ("seconds", "per_second", "system/", "time", "ms"))
    }
    rates = [run.data.metrics["images_per_second"] for run in runs if "images_per_second" in run.data.metrics]
    value = next(run.data.metrics[metric] for run in runs if metric in run.data.metrics)
    digest = hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()
    return {"value": value, "digest": digest, "rate": max(rates, default=None)}


if __name__ == "__main__":
    done = draw(Path(sys.argv[2])) if sys.argv[1] == "draw" else figures(*sys.argv[2:])
    print(json.dumps(done))
