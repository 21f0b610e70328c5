"""The example reports, every step of them in a short form on tiny data, and their ledgers verify."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ROOT
from support.pictures import blobs
from trackdl import spec
from trackdl.ledger import folder as ledger_folder
from trackdl.ledger.build import numbers_of
from trackdl.networks.layers import gabor_bank
from trackdl.system import paths
from trackdl.tasks import _start, grid, ledger
from trackdl.tracking.registry import register as registry

NUMBERS = {
    "shen-liu": {"mnist": 0, "fashion": 2, "best": 3, "grid": 2, "greek": 19, "heart": 5},
    "tran": {"mnist": 0, "greek": 0, "grid": 163, "fashion": 0},
}
SHORT = {
    "mnist": {"training.epochs": 1, "reload_after": None},
    "fashion": {"training.epochs": 1},
    "best": {"training.epochs": 1},
    "greek": {"training.epochs": 1, "data.folds": 2},
    "heart": {"training.epochs": 2, "seeds": 1, "folds": 0},
}
# One cell of each grid, and few seeds.
GRIDS = {
    "shen-liu": {"network.with.kernel": [2], "network.with.filters": [32], "network.with.drop": [0.25]},
    "tran": {
        "network.with.dropout": [0.5], "network.with.fc_hidden": [32],
        "training.batch_size": [32], "training.epochs": [5],
    },
}  # fmt: skip


@pytest.fixture
def example(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tracking: str,  # noqa: ARG001
    own_studies: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Put a copy of an example in use, with a store of its own and tiny data."""
    folder = shutil.copytree(ROOT / "examples" / request.param, tmp_path / request.param)
    shutil.copytree(ROOT / "data" / "heart", tmp_path / "data" / "heart")
    arrays = zip(("x_train", "y_train", "x_test", "y_test"), (*blobs(600, 0), *blobs(100, 1)), strict=True)
    np.savez(folder / "tiny.npz", **dict(arrays))
    for file in folder.glob("*.yaml"):
        file.write_text(re.sub("dataset: (mnist|fashion)", "npz: tiny.npz", file.read_text()))
    for module in (ledger, ledger_folder, paths):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path / request.param))
    return str(request.param)


@pytest.mark.parametrize("name", NUMBERS)
def test_all_published_numbers_are_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDL_REPORT", str(ROOT / "examples" / name))
    assert {one: len(numbers_of(made)) for one, made in spec.experiments().items()} == NUMBERS[name]
    assert spec.report().slug == name


@pytest.mark.slow
@pytest.mark.parametrize("example", NUMBERS, indirect=True)
def test_a_short_form_runs_whole_and_its_ledger_verifies(example: str, tmp_path: Path) -> None:
    for step in spec.report().steps:
        if step.task == "ledger":
            continue
        keys = SHORT.get(step.task, {})
        if step.task == "grid":
            keys = {"space": GRIDS[example], "seeds": 1, "fresh_seeds": 2, "hypotheses": [], "reported_table": ""}
            keys |= {"timing": {"batches": 1, "repeats": 1}}
        _start.start(spec.named(step.task, keys))
    made = ledger.run(spec.load(spec.experiment_file("ledger"), spec.LedgerSpec))
    assert made.data == tmp_path / "reports" / example / "ledger.json"
    assert len(made.ledger.entries) == sum(NUMBERS[example].values())
    assert ledger.verify(made.data).differences == []


@pytest.mark.slow
@pytest.mark.parametrize("example", ["filters"], indirect=True)
def test_fixed_and_learnt_filters_are_trained_and_compared(example: str) -> None:
    for name in ("learnt", "gabor"):
        _start.start(spec.named(name, {"training.epochs": 1}))
        first = registry.fetch_model(f"models:/{example}-{name}@champion").model.layers[0].weight
        assert torch.equal(first, gabor_bank(16, 1, 5)) == (name == "gabor")
    keys = {"judge": {"folds": 2}, "training.epochs": 1, "timing": {"batches": 1, "repeats": 1}}
    made = grid.run(spec.named("compared", keys))
    assert sorted(made.table["fixed"]) == ["gabor", "gabor", "none", "none"]
