"""Imports run one way, and the heavy libraries stay behind their faces."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "trackdl"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each room may import from itself and from those that stand after it.
ORDER = [
    {"__main__"},
    {"cli"},
    {"cli_models", "cli_ledger", "cli_options"},
    {"doctor"},
    {"tasks", "apps"},
    {"grid_after", "grid_driver", "grid_conclusions", "grid_hypotheses", "search_driver"},
    {"tracking"},
    {"studies"},
    {"engines"},
    {"drawing"},
    {"segments", "workers", "crossfit", "validation", "serving", "comparison", "estimator", "checkup"},
    {"baselines"},
    {"protocols"},
    {"training"},
    {"plots_classifiers", "plots_search", "plots_grid", "comparison_text", "selection", "ledger"},
    {"verdicts"},
    {"contrasts"},
    {
        "augmentation",
        "grid_table",
        "plots",
        "models",
        "data",
        "devices",
        "checkpoints",
        "stats",
        "console",
        "report_faults",
        "recipes",
    },
    {"spec"},
    {"spec_grid", "spec_search"},
    {"spec_fashion", "spec_heart", "spec_hypotheses", "spec_ledger"},
    {"spec_base"},
    {"databases"},
    {"paths", "errors", "code_digest", "processes"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# Who alone may import what.
FACES = {
    "mlflow": {"tracking", "serving"},
    "optuna": {"studies"},
    "typer": {"cli", "cli_ledger", "cli_models", "cli_options"},
}
HEAVY = {"torch", "torchvision", "mlflow", "optuna", "sklearn", "pandas", "matplotlib", "scipy", "numpy"}


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path, *, top_only: bool = False) -> set[str]:
    """Return the dotted names that a module imports, anywhere in it or at its top only."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not imported(path)
        return
    here = room(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "trackdl" and parts[1] in LEVEL and parts[1] != here:
            assert LEVEL[parts[1]] > LEVEL[here], f"{here} imports {name}"
        assert here in FACES.get(parts[0], {here}), f"{here} imports {name}"


@pytest.mark.parametrize(
    "name",
    [path.stem for path in MODULES if path.stem.startswith(("spec", "cli"))] + ["errors", "paths", "console"],
)
def test_what_answers_at_once_imports_nothing_heavy(name: str) -> None:
    assert not {module.split(".")[0] for module in imported(PACKAGE / f"{name}.py", top_only=True)} & HEAVY


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from trackdl.cli import app;"
        "done = CliRunner().invoke(app, ['mnist', '--help']); assert done.exit_code == 0, done.output;"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_small_and_say_what_they_do(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert len(text.splitlines()) <= 320
