"""Bring the README's pictures from the newest finished runs: `make pictures`, after `make run`.

The report's letters are not ours to publish, so the letters shown are synthetic ones: `trackdl transfer` with each
preprocessing where the report's cannot be had (TRACKDL_GREEK_DIR unset, no network) makes those runs.
"""

import tempfile
from pathlib import Path

from trackdl.tracking import runs

ROOT = Path(__file__).resolve().parents[1]

SYNTHETIC, PREPROCESSING = "tags.`trackdl.synthetic`", "params.`data.preprocessing`"

# The README's file: the task, what its run must say of itself, and the run's own picture.
PICTURES = {
    "fashion_training_curve.png": ("fashion", "", "training_curve.png"),
    "mnist_training_curve.png": ("mnist", "", "training_curve_continued.png"),
    "synthetic_report.png": ("transfer", f"{SYNTHETIC} = 'true' and {PREPROCESSING} = 'report'", "letters.png"),
    "synthetic_mnist.png": ("transfer", f"{SYNTHETIC} = 'true' and {PREPROCESSING} = 'mnist'", "letters.png"),
    "greek_held_out.png": ("transfer", f"{SYNTHETIC} = 'false' and {PREPROCESSING} = 'report'", "held_out.png"),
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
