"""The code's digest changes with what decides a fit, and with nothing else: tried on copies of the package."""

import re
import shutil
from pathlib import Path

import pytest

from support import ROOT
from trackdl import spec
from trackdl.spec import KINDS, TRAINED
from trackdl.system.code_digest import PACKAGE, code_digest, words_of

WORDS = {
    task: words_of(spec.flatten(spec.load(ROOT / "experiments" / f"{task}.yaml", kind)))
    for task, kind in TRAINED.items()
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "trackdl", ignore=shutil.ignore_patterns("__pycache__"))


def changed(package: Path, tasks: tuple[str, ...] = tuple(TRAINED)) -> set[str]:
    """Return the tasks whose digest is another one in the changed copy."""
    return {
        task for task in tasks if code_digest(task, WORDS[task], package) != code_digest(task, WORDS[task], PACKAGE)
    }


def edit(package: Path, name: str, before: str, after: str) -> None:
    text = (package / name).read_text(encoding="utf-8")
    assert text.count(before) >= 1, f"{name} has no {before!r} any more"
    (package / name).write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "before", "after", "tasks"),
    [
        pytest.param("networks/fashion.py", 'if model.padding == "same" else 0', "", {"fashion"}, id="padding"),
        pytest.param("tasks/fashion.py", "F.cross_entropy", "F.nll_loss", {"fashion"}, id="loss"),
        pytest.param("tasks/mnist.py", "F.nll_loss", "F.cross_entropy", {"mnist"}, id="loss of the trainer"),
        pytest.param("tasks/transfer.py", "frozen=True)", "frozen=False)", {"transfer"}, id="frozen weights"),
        pytest.param("data/images.py", "torch.randperm", "torch.arange", {"fashion"}, id="split"),
        pytest.param("training/trainer.py", ".argmax(dim=1)", ".argmin(dim=1)", set(TRAINED), id="evaluation"),
        pytest.param(
            "networks/fashion.py", '"relu": nn.ReLU', '"relu": nn.ReLU6', {"fashion"}, id="the activation in use"
        ),
        pytest.param("networks/digit.py", "nn.Dropout2d()", "nn.Dropout2d(0.2)", {"mnist", "transfer"}, id="dropout"),
        pytest.param("training/held_out.py", "LeaveOneOut()", "LeaveOneOut", {"transfer"}, id="held out"),
        pytest.param("tabular/faults.py", "argmax(dim=1)", "argmin(dim=1)", {"heart"}, id="the report's fault"),
        pytest.param(
            "data/preprocessing/digits.py",
            "_REPORT_SCALE = ",
            "_REPORT_SCALE = 2 * ",
            {"transfer"},
            id="preprocessing",
        ),
        pytest.param("spec/heart.py", '"shuffle": self.shuffle', '"shuffle": True', {"heart"}, id="protocol"),
    ],
)
def test_what_decides_a_fit_counts(package: Path, name: str, before: str, after: str, tasks: set[str]) -> None:
    edit(package, name, before, after)
    assert changed(package) == tasks


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        pytest.param(
            "networks/fashion.py", '"silu": nn.SiLU,', '"silu": nn.SiLU,\n    "mish": nn.Mish,', id="an activation"
        ),
        pytest.param("networks/fashion.py", '{"gelu", "silu"}', '{"gelu", "silu", "mish"}', id="a non-monotone one"),
        pytest.param("spec/fashion.py", '"gelu", "silu"]', '"gelu", "silu", "mish"]', id="its name in the schema"),
        pytest.param(
            "networks/heart.py", "class HeartNet(", "class Unused:\n    x = 1\n\n\nclass HeartNet(", id="a class"
        ),
        pytest.param("training/trainer.py", "class Trainer:", "# Why not.\nclass Trainer:", id="a comment"),
        pytest.param("training/trainer.py", "the training has ", "this fit has ", id="a message"),
        pytest.param("training/trainer.py", '"""Write a checkpoint', '"""Keep a checkpoint', id="a docstring"),
        pytest.param("analysis/hypotheses.py", "is not decidable by this grid", "stays open", id="a verdict's words"),
        pytest.param("plots/common.py", "def ", "COLOUR = 1\n\n\ndef ", id="plots"),
        pytest.param("tracking/runs.py", "def _git(", "def _gitt(", id="tracking"),
        pytest.param("spec/base.py", "seed: int = Field(ge=0", "seed: int = Field(ge=-1", id="a key's range"),
        pytest.param(
            "data/download/datasets.py", "_LOCK_SECONDS = 1800.0", "_LOCK_SECONDS = 900.0", id="bringing data"
        ),
    ],
)
def test_what_does_not_is_free(package: Path, name: str, before: str, after: str) -> None:
    edit(package, name, before, after)
    assert changed(package) == set()


def test_a_renamed_module_is_free(package: Path) -> None:
    (package / "training" / "optim.py").rename(package / "training" / "optimisation.py")
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"trackdl\.training\.optim\b", "trackdl.training.optimisation", text), encoding="utf-8")
    assert changed(package) == set()


def test_a_moved_definition_is_free_and_so_is_a_module_imported_whole(package: Path) -> None:
    text = (package / "training" / "devices.py").read_text(encoding="utf-8")
    (package / "system" / "machine.py").write_text(text)
    (package / "training" / "devices.py").write_text(
        "from trackdl.system.machine import one_thread, resolve_device, resolve_precision\n"
    )
    edit(
        package,
        "training/trainer.py",
        "from trackdl.training.devices import deterministic, resolve_device, resolve_precision",
        "from trackdl.system import machine\nfrom trackdl.system.machine import deterministic",
    )
    edit(package, "training/trainer.py", "resolve_device(", "machine.resolve_device(")
    edit(package, "training/trainer.py", "resolve_precision(", "machine.resolve_precision(")
    assert changed(package) == set()


def test_every_task_that_trains_has_one_and_no_two_are_the_same() -> None:
    digests = {task: digest for task in KINDS if (digest := code_digest(task))}
    assert len(set(digests.values())) == len(digests)
    assert set(digests) == {*TRAINED, "grid", "search"}
    assert code_digest("ledger") is None
