"""Take the README's screenshots of MLflow, Optuna and `trackdl compare`: `make pictures`.

They show a report that anybody can run in minutes: the one that `trackdl new` writes, on scikit-learn's 1,797 digits,
with two learning rates of three seeds each and a search, in stores of their own. Needs Chromium and Playwright.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(__file__).resolve().parents[1] / "docs" / "pictures"
RATES = ("0.003", "0.0003")


def main() -> None:
    """Run the report in a temporary folder, and take the screenshots."""
    with tempfile.TemporaryDirectory() as folder:
        # Before trackdl is imported, which reads them.
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.environ["TRACKDL_STORAGE"] = f"sqlite:///{folder}/optuna.db"
        report = Path(folder) / "report"
        trackdl("new", report, "--from", "search")
        for rate in RATES:
            trackdl("run", report / "digits.yaml", "--epochs", "10", "--lr", rate, "--set", "seeds=3")
        trackdl("run", report / "search.yaml", "--set", "study.trials=40")
        screenshots(Path(folder))


def trackdl(*words: str | Path) -> None:
    """Run a command of trackdl's; end with it if it fails."""
    subprocess.run([sys.executable, "-m", "trackdl", *map(str, words)], check=True)  # noqa: S603 - words of ours


def screenshots(folder: Path) -> None:
    """Open each page and write its picture; `folder` takes the comparison's page."""
    from tools import screens
    from trackdl.apps import compare, ui
    from trackdl.tracking import runs

    compared = [run.id for run in runs.find("digits", "tags.`mlflow.runName` LIKE '%3 seeds%'")]
    if len(compared) != len(RATES):
        raise SystemExit(f"expected {len(RATES)} runs of three seeds, found {len(compared)}")
    page_of = folder / "compare.html"
    compare.write(compare.compare(compared[::-1]), page_of, browse=False)
    with ui.shown() as (pages, listed), screens.opened(viewport={"width": 1400, "height": 900}) as page:
        for shown in pages:
            if shown.name == "MLflow":
                page.goto(listed)
                page.get_by_text("Run Name").first.wait_for()
                screens.close_assistant(page)
                page.get_by_text("digits").first.wait_for()
                page.screenshot(path=PLACE / "mlflow_runs.png")
            else:
                screens.open_study(page, shown.address)
                page.screenshot(path=PLACE / "optuna_study.png")
        page.goto(page_of.as_uri())
        page.screenshot(path=PLACE / "comparison.png")


if __name__ == "__main__":
    main()
