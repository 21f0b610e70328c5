"""A wheel, in an empty folder: it holds the report and the heart table, and trains, predicts and doubts by itself."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the files that Git knows, and unpack it: that is all that installing it does."""
    folder = tmp_path_factory.mktemp("wheel")
    named = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in named.stdout.decode().splitlines():
        if (ROOT / name).is_file() and not name.startswith(("docs/", "tests/")):
            target = folder / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "."]
    done = subprocess.run([*words, "-w", folder], cwd=folder / "checkout", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def run(wheel: Path, folder: Path, *words: str) -> str:
    settings = {key: value for key, value in os.environ.items() if not key.startswith(("TRACKDL_", "MLFLOW_"))}
    settings |= {"PYTHONPATH": str(wheel), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_what_a_checkout_has_beside_the_code(wheel: Path, tmp_path: Path) -> None:
    script = """
from pathlib import Path
from trackdl import spec
from trackdl.data.download.datasets import DATASETS, read
from trackdl.ledger import folder
from trackdl.system.paths import project_root, report_root
assert project_root() == Path.cwd()
assert folder.is_default()
print(*sorted(spec.load_any(file).name for file in report_root().glob("*.yaml") if file.name != "report.yaml"))
print(*sorted(read("heart")))
"""
    said = run(wheel, tmp_path, "-c", script).splitlines()
    assert said == ["data fashion grid grid-padded heart ledger mnist mnist-best mnist-fast search transfer", *said[1:]]
    assert said[1] == "heart.csv test_rows.txt train_rows.txt"
    assert run(wheel, tmp_path, "-m", "trackdl", "--version") == "trackdl 0.2.0\n"


@pytest.mark.slow
def test_a_report_of_ones_own_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    run(wheel, tmp_path, "-m", "trackdl", "new", "mine")
    said = run(wheel, tmp_path, "-m", "trackdl", "--report", "mine", "run", "mine/table.yaml")
    assert "champion" in said
    assert (tmp_path / "mlflow.db").is_file()
    assert "mine-table" in run(wheel, tmp_path, "-m", "trackdl", "models")
