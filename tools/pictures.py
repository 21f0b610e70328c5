"""Copy the README's figures from the newest finished runs, and take a screenshot of the demo: `make pictures`.

Needs the runs of `make run` with the report's letters (TRACKDL_GREEK_DIR), and for the screenshot Chromium and
Playwright. We may not publish the report's letters: the letters shown are synthetic.
"""

import tempfile
from pathlib import Path
from typing import get_args

import numpy as np

from tools import screens
from trackdl.apps import demo
from trackdl.data.greek.synthetic import render_letters
from trackdl.data.preprocessing.digits import to_digit
from trackdl.plots import common as plots
from trackdl.spec import Preprocessing
from trackdl.tracking import runs

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "docs" / "pictures"

FIRST = "params.`training.seed` = '1'"  # the seed whose figures the README shows

# The README's file: the task, the filter of its run, and the run's own figure.
PICTURES = {
    "fashion_training_curve.png": ("fashion", f"params.`training.epochs` = '20' and {FIRST}", "training_curve.png"),
    "grid_effects.png": ("grid", "tags.`trackdl.pruner` = 'none'", "effects.png"),
    "mnist_training_curve.png": ("mnist", FIRST, "training_curve_continued.png"),
    "greek_held_out.png": (
        "transfer",
        f"tags.`trackdl.synthetic` = 'false' and params.`data.preprocessing` = 'report' and {FIRST}",
        "held_out.png",
    ),
    "heart_ablation.png": ("heart", "tags.`mlflow.runName` LIKE 'heart%'", "ablation.png"),
    "heart_protocols.png": ("heart", "tags.`mlflow.runName` LIKE 'heart%'", "protocols.png"),
}


def main() -> None:
    """Make every figure; nothing is written before all runs are found."""
    contents = {}
    for name, (task, which, picture) in PICTURES.items():
        finished = "attributes.status = 'FINISHED'" + (f" and {which}" if which else "")
        found = runs.find(task, finished)
        if not found:
            raise SystemExit(f"{name}: there is no finished run of {task} ({which or 'any'}); `make run` makes one")
        with tempfile.TemporaryDirectory() as folder:
            contents[name] = found[0].fetch(f"pictures/{picture}", Path(folder)).read_bytes()
    for name, content in contents.items():
        (PLACE / name).write_bytes(content)
    synthetic_letters()
    screenshot()


def synthetic_letters() -> None:
    """Draw the network's inputs of synthetic letters for each preprocessing."""
    drawn = [(name, picture) for name, pictures in sorted(render_letters().items()) for picture in pictures]
    for how in get_args(Preprocessing):
        shown = np.stack([to_digit(picture, how).numpy() for _, picture in drawn])
        figure = plots.image_grid(shown, [name for name, _ in drawn], f"Synthetic letters, preprocessing {how}", 9)
        figure.savefig(PLACE / f"synthetic_{how}.png", dpi=150)


def screenshot() -> None:
    """Take a screenshot of the demo, with a digit drawn."""
    with (
        screens.served(demo.build(demo.load(), ["127.0.0.1"])) as address,
        screens.opened(viewport={"width": 1180, "height": 760}) as page,
    ):
        page.goto(address)
        page.select_option("#model", "mnist-cnn")
        screens.draw(page, screens.TWO)
        page.get_by_text("What the network sees").click()
        page.locator(".near canvas").first.wait_for()  # the last to come
        page.screenshot(path=PLACE / "demo.png", full_page=True)


if __name__ == "__main__":
    main()
