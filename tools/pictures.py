"""Bring the README's pictures from the newest finished runs: `make pictures`, after `make run`."""

import tempfile
from pathlib import Path

from trackdl.tracking import runs

ROOT = Path(__file__).resolve().parents[1]

# The README's file: the task, what its run must say of itself, and the run's own picture.
PICTURES = {
    "mnist_training_curve.png": ("mnist", "", "training_curve_continued.png"),
    "greek_report.png": ("transfer", "params.`data.preprocessing` = 'report'", "letters.png"),
    "greek_mnist.png": ("transfer", "params.`data.preprocessing` = 'mnist'", "letters.png"),
    "greek_held_out.png": ("transfer", "params.`data.preprocessing` = 'mnist'", "held_out.png"),
    "heart_ablation.png": ("heart", "tags.`mlflow.runName` = 'heart'", "ablation.png"),
}


def main() -> None:
    """Bring every picture; a run that is missing is named, and the pictures before it are kept."""
    for name, (task, which, picture) in PICTURES.items():
        finished = "attributes.status = 'FINISHED'" + (f" and {which}" if which else "")
        found = runs.find(task, finished)
        if not found:
            raise SystemExit(f"{name}: there is no finished run of {task} ({which or 'any'}); `make run` makes one")
        with tempfile.TemporaryDirectory() as folder:
            content = found[0].fetch(f"pictures/{picture}", Path(folder)).read_bytes()
        (ROOT / "docs" / "pictures" / name).write_bytes(content)


if __name__ == "__main__":
    main()
