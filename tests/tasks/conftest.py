"""What the tests of one task share."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from support import ROOT
from support.ledger_files import DIGITS, MINE
from trackdl.ledger import folder as ledger_folder
from trackdl.spec import base as spec_base
from trackdl.system import paths
from trackdl.tasks import ledger, search


@pytest.fixture
def own_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str, own_studies: None) -> None:  # noqa: ARG001
    """Give a search stores, and a folder for its reports, of its own."""
    monkeypatch.setattr(search, "project_root", lambda: tmp_path)


# What the report's notebook is made to print: the loss of the first and the sixth batch of 64, of each epoch.
PRINTED = [
    {"task": "mnist", "cell": "5", "epoch": str(epoch), "what": "batch_loss", "of": str(seen), "value": "1.5"}
    for epoch in (1, 2)
    for seen in (0, 320)
]


@pytest.fixture
def root(tmp_path: Path, tracking: str, tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: ARG001
    """Give a project of one task, on tiny data, with a store of its own."""
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "ledger.yaml").write_text(MINE)
    (folder / "mnist.yaml").write_text(DIGITS)
    for name in ("report.yaml", "grid.yaml", "grid-padded.yaml", "search.yaml"):
        shutil.copy(ROOT / "experiments" / name, folder)
    fashion = yaml.safe_load((ROOT / "experiments" / "fashion.yaml").read_text())  # which the grids are of
    unpublished = {key: value for key, value in fashion.items() if key not in ("printed", "reported")}
    (folder / "fashion.yaml").write_text(json.dumps(unpublished))
    for module in (ledger, ledger_folder, paths):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.setattr(spec_base, "_table", lambda _: PRINTED)
    return tmp_path
