"""The GPU against the CPU: the same experiments on both, through the command line; agreement, repeatability, speed.

    python benchmarks/gpu.py            # a fit, a grid's cell, a search's trial, a transfer and a served answer
    python benchmarks/gpu.py --json

Each experiment runs on the CPU and twice on the GPU, each time in a store of its own, in a temporary folder. The
figures of CPU and GPU must agree within `BOUNDS`: the devices draw dropout from other random numbers, and round
otherwise. Where there is no GPU, it says so and checks nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import columns, in_a_fresh_process, say

SIDES = {"gpu": "cuda", "gpu again": "cuda", "cpu": "cpu"}
# Experiments in their order, each with the metric that is compared, and how far CPU and GPU may differ.
BOUNDS = {
    "fit": ("test_accuracy", 0.02),
    "grid": ("best_val_accuracy", 0.03),
    "search": ("best_val_accuracy", 0.03),
    "transfer": ("val_accuracy", 0.15),
}
SAME_LABELS = 0.8  # the share of images that the two networks must give the same label
NETWORK = (
    "{family: conv, padding: none, conv_layers: 2, filter_size: 3, filters: 32, dense_nodes: 128, dropout: 0.2,"
    " pool_size: 2, activation: relu}"
)
HOW = "seed: 1, precision: float32, device: DEVICE"
TRAINING = f"{{epochs: EPOCHS, batch_size: 100, optimizer: {{name: adam, lr: 0.001}}, {HOW}}}"
FILES = {
    "report": "title: GPU check\nslug: gpu-check\n",
    "fit": f"task: classify\ndata: {{dataset: fashion, per_class: 2000}}\nnetwork: {NETWORK}\ntraining: {TRAINING}\n",
    "grid": "task: grid\nof: fit\njudge: {folds: 2}\nspace: {network.filters: [32]}\nset: {training.epochs: 2}\n"
    "fresh_seeds: 2\ntiming: {batches: 5, repeats: 1}\n",
    "search": "task: search\nof: fit\nset: {training.epochs: 2, data.validation: 0.2}\n"
    "space: {network.filters: [16, 32]}\nstudy: {trials: 1}\n",
    "transfer": "task: transfer\nof: fit\nsource: models:/gpu-check-fit@champion\ndata: {folder: signs, folds: 3}\n"
    f"training: {{epochs: 20, batch_size: 5, optimizer: {{name: sgd, lr: 0.05, momentum: 0.5}}, {HOW}}}\n",
}


def main() -> None:
    """Check and print, or say that there is no GPU; exit with 1 if a figure is out of bounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="of the fit")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    gpu = _gpu()
    if gpu is None:
        print("no GPU that torch can use is on this machine: nothing was checked")
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {side: _measure(Path(folder) / side.replace(" ", "-"), side, options.epochs) for side in SIDES}
    result = {"gpu": gpu, "steps": _compare(found), "served": _served(found)}
    print(json.dumps(result) if options.json else _table(result))
    agree = result["served"]["same_label"] >= SAME_LABELS * result["served"]["images"]
    sys.exit(0 if agree and all(step["within"] for step in result["steps"]) else 1)


def _gpu() -> str | None:
    """Return the GPU's name, asked in a process of its own, whose memory on the GPU goes with it."""
    words = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    name = subprocess.run([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return name or None


def _measure(folder: Path, side: str, epochs: int) -> dict[str, Any]:
    """Run every experiment on a side, in new stores; return each one's figures, and a served answer."""
    report = folder / "report"
    report.mkdir(parents=True)
    for name, text in FILES.items():
        text = text.replace("EPOCHS", str(epochs)).replace("DEVICE", SIDES[side])
        (report / f"{name}.yaml").write_text(text, encoding="utf-8")
    os.environ |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "TRACKDL_STORAGE": f"sqlite:///{folder / 'optuna.db'}",
        "TRACKDL_REPORT": str(report),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    images = report / "signs"
    in_a_fresh_process("gpu_side.py", "draw", str(images))
    found: dict[str, Any] = {}
    for name, (metric, _) in BOUNDS.items():
        say(f"{side}: {name}")
        _trackdl("run", str(report / f"{name}.yaml"))
        found[name] = in_a_fresh_process("gpu_side.py", "figures", name, metric)
    answered = json.loads(_trackdl("predict", "gpu-check-fit", "--json", *map(str, sorted(images.rglob("*.png")))))
    return found | {"served": [one["label"] for one in answered]}


def _trackdl(*arguments: str) -> str:
    command = [sys.executable, "-m", "trackdl", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _compare(found: dict[str, Any]) -> list[dict[str, Any]]:
    steps = []
    for name, (metric, bound) in BOUNDS.items():
        cpu, gpu, again = (found[side][name] for side in ("cpu", "gpu", "gpu again"))
        steps.append(
            {
                "step": name,
                "metric": metric,
                "cpu": cpu["value"],
                "gpu": gpu["value"],
                "bound": bound,
                "within": abs(cpu["value"] - gpu["value"]) <= bound,
                "same_bits": gpu["digest"] == again["digest"],
                "rates": [cpu["rate"], gpu["rate"]],
            }
        )
    return steps


def _served(found: dict[str, Any]) -> dict[str, Any]:
    """Compare the answers of the networks that were trained on CPU and GPU; both are served on the CPU."""
    pairs = list(zip(found["cpu"]["served"], found["gpu"]["served"], strict=True))
    return {"same_label": sum(one == other for one, other in pairs), "images": len(pairs)}


def _table(result: dict[str, Any]) -> str:
    rows = [["step", "metric", "CPU", "GPU", "bound", "", "GPU twice", "images/s: CPU", "GPU", "ratio"]]
    for step in result["steps"]:
        cpu, gpu = step["rates"]
        speed = [f"{cpu:,.0f}", f"{gpu:,.0f}", f"{gpu / cpu:.1f}"] if cpu and gpu else ["", "", ""]
        rows.append(
            [
                step["step"],
                step["metric"],
                f"{step['cpu']:.2%}",
                f"{step['gpu']:.2%}",
                f"{100 * step['bound']:.0f} points",
                "within" if step["within"] else "OUT OF BOUNDS",
                "same bits" if step["same_bits"] else "other bits",
                *speed,
            ]
        )
    served = result["served"]
    words = f"served by the CPU, the two networks agree on {served['same_label']} of {served['images']} images"
    return "\n".join([result["gpu"], "", *columns(rows), "", words])


if __name__ == "__main__":
    main()
