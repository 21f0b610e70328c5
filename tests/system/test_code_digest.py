"""The code's digest changes with what decides a fit, and with nothing else: tried on copies of the package."""

import ast
import re
import shutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from trackdl import spec
from trackdl.system.code_digest import PACKAGE, code_digest, words_of

EXPERIMENTS = {name: spec.named(name) for name in ("mnist", "fashion", "transfer", "heart")}
EXPERIMENTS["layers"] = spec.named(
    "fashion", {"network": {"layers": ["flatten", {"repeat": 2, "layers": ["tanh"]}, {"dense": "classes"}]}}
)
CLASSIFIED = {"mnist", "fashion", "layers"}
IMAGES = CLASSIFIED | {"transfer"}
WORDS = {name: words_of(spec.flatten(experiment)) for name, experiment in EXPERIMENTS.items()}


@pytest.fixture(scope="module", autouse=True)
def _parsed_once() -> Iterator[None]:
    """Parse what stands in several copies of the package once: each differs from the others in a file or two.

    A file ends with the end of a line; a definition that is parsed again, to be changed, does not.
    """
    parse, parse_once = ast.parse, cache(ast.parse)

    def parsed(text: str | bytes, *more: object, **how: object) -> ast.AST:
        whole = isinstance(text, str) and text.endswith("\n")  # libraries parse bytes
        return parse_once(text) if whole and not more and not how else parse(text, *more, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ast, "parse", parsed)
        patch.setattr(ast, "unparse", cache(ast.unparse))
        yield


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return shutil.copytree(PACKAGE, tmp_path / "trackdl", ignore=shutil.ignore_patterns("__pycache__"))


def changed(package: Path, experiments: Mapping[str, spec.Experiment] = EXPERIMENTS) -> set[str]:
    """Return the experiments whose digest is another one in the changed copy."""
    found = set()
    for name, experiment in experiments.items():
        words = words_of(spec.flatten(experiment))
        if code_digest(experiment.task, words, package) != code_digest(experiment.task, words, PACKAGE):
            found.add(name)
    return found


def edit(package: Path, name: str, before: str, after: str) -> None:
    text = (package / name).read_text(encoding="utf-8")
    assert text.count(before) >= 1, f"{name} has no {before!r} any more"
    (package / name).write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "before", "after", "tasks"),
    [
        pytest.param(
            "networks/fashion.py", '0 if model.padding == "none" else', "", {"fashion", "transfer"}, id="padding"
        ),
        pytest.param("training/optim.py", "else F.cross_entropy", "else F.nll_loss", IMAGES, id="loss"),
        pytest.param("tasks/classify.py", "trainer.evaluate(splits.test)", "None", CLASSIFIED, id="test"),
        pytest.param(
            "networks/head.py", "requires_grad_(False)", "requires_grad_(True)", {"transfer"}, id="frozen weights"
        ),
        pytest.param("data/images.py", "torch.randperm", "torch.arange", CLASSIFIED, id="split"),
        pytest.param("networks/layers.py", "nn.MaxPool2d(", "nn.AvgPool2d(", {"layers", "transfer"}, id="a layer"),
        pytest.param(
            "networks/fashion.py", '"tanh": nn.Tanh', '"tanh": nn.ReLU', {"layers", "transfer"}, id="a layer's word"
        ),
        pytest.param("spec/network.py", "// stride + 1", "// stride", IMAGES, id="shapes"),
        pytest.param("training/trainer.py", ".argmax(dim=1)", ".argmin(dim=1)", set(EXPERIMENTS), id="evaluation"),
        pytest.param(
            "networks/fashion.py",
            '"relu": nn.ReLU',
            '"relu": nn.ReLU6',
            {"fashion", "transfer", "heart"},
            id="the activation in use",
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
        pytest.param("spec/table.py", '"shuffle": self.shuffle', '"shuffle": True', {"heart"}, id="protocol"),
    ],
)
def test_what_decides_a_fit_counts(package: Path, name: str, before: str, after: str, tasks: set[str]) -> None:
    edit(package, name, before, after)
    assert changed(package) == tasks


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        pytest.param("spec/network.py", '{"gelu", "silu"}', '{"gelu", "silu", "mish"}', id="a non-monotone one"),
        pytest.param("spec/network.py", '"gelu", "silu"]', '"gelu", "silu", "mish"]', id="its name in the schema"),
        pytest.param(
            "networks/heart.py", "class HeartNet(", "class Unused:\n    x = 1\n\n\nclass HeartNet(", id="a class"
        ),
        pytest.param("training/trainer.py", "class Trainer:", "# Why not.\nclass Trainer:", id="a comment"),
        pytest.param("training/trainer.py", "the training has ", "this fit has ", id="a message"),
        pytest.param("training/trainer.py", '"""Write a checkpoint', '"""Keep a checkpoint', id="a docstring"),
        pytest.param("analysis/hypotheses.py", "is not decidable by this grid", "stays open", id="a verdict's words"),
        pytest.param("plots/common.py", "def ", "COLOUR = 1\n\n\ndef ", id="plots"),
        pytest.param("tasks/_pictures.py", "[:_WORST]", "[:6]", id="a task's pictures"),
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


def test_an_activation_that_is_added_counts_for_a_transfer_alone_which_may_start_from_any_network(
    package: Path,
) -> None:
    edit(package, "networks/fashion.py", '"silu": nn.SiLU,', '"silu": nn.SiLU,\n    "mish": nn.Mish,')
    assert changed(package) == {"transfer"}


@pytest.mark.parametrize("task", sorted({experiment.task for experiment in EXPERIMENTS.values()}))
def test_what_a_task_says_it_trains_by_is_there(task: str) -> None:
    module = import_module(f"trackdl.tasks.{task}")
    assert all(callable(getattr(module, name)) for name in module.TRAINS)


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
    digests = {task: digest for task in spec.KINDS if (digest := code_digest(task))}
    assert len(set(digests.values())) == len(digests)
    assert set(digests) == {*(experiment.task for experiment in EXPERIMENTS.values()), "grid", "recover", "search"}
    assert code_digest("ledger") is None
