"""Bring the README's pictures from the newest finished runs, and take its screenshots: `make pictures`.

Needs the runs of `make run`, and for the screenshots Chromium and Playwright; a study for the dashboard's.

The report's letters are not ours to publish, so the letters shown are synthetic ones: `trackdl transfer` with each
preprocessing where the report's cannot be had (TRACKDL_GREEK_DIR unset, no network) makes those runs.
"""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from tools import screens
from trackdl.apps import demo, ui
from trackdl.apps.serve import listening
from trackdl.tracking import runs

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "docs" / "pictures"

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
        (PLACE / name).write_bytes(content)
    screenshots()


def screenshots() -> None:
    """Take the README's screenshots: two runs compared, the newest study, the demo with a letter drawn."""
    with demo_running() as address, screens.opened(viewport={"width": 1180, "height": 760}) as page:
        page.goto(address)
        screens.draw(page, screens.ALPHA)
        page.locator(".label").first.wait_for()
        page.screenshot(path=PLACE / "demo.png")
    compared = runs.find("mnist", "attributes.status = 'FINISHED'")[:1] + runs.find("fashion", "")[:1]
    with ui.shown() as pages, screens.opened(viewport={"width": 1400, "height": 900}) as page:
        for shown in pages:
            if shown.name == "MLflow":
                experiment = compared[0].info.info.experiment_id
                screens.compare_runs(page, shown.address, experiment, [run.id for run in compared])
                page.get_by_text("test_accuracy").first.wait_for()
                page.screenshot(path=PLACE / "mlflow_comparison.png")
            else:
                screens.open_study(page, shown.address)
                page.screenshot(path=PLACE / "optuna_study.png")


@contextmanager
def demo_running() -> Iterator[str]:
    """Serve the demo of the registered models while the block runs; give its address."""
    app = demo.build(demo.load(), ["127.0.0.1"])
    with listening("127.0.0.1", 0) as (listener, address):
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
