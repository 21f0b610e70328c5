"""Imports run one way, and the heavy libraries stay behind their faces."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = ROOT / "src" / "trackdl"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OF_NO_ROOM = {"benchmarks", "faults", "project", "support"}  # folders of tests/ that span the rooms, or serve all

# The rooms as docs/architecture.md lists them: each may import from itself and from those that stand below it.
ORDER = re.findall(
    r"^\| `([a-z_]+)(?:/|\.py)` \|", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.M
)
LEVEL = {room: level for level, room in enumerate(ORDER)}

# Who alone may import what.
FACES = {
    "mlflow": {"tracking", "serving"},
    "optuna": {"studies"},
    "ray": {"workers"},
    "typer": {"cli"},
}
HEAVY = {"torch", "torchvision", "mlflow", "optuna", "sklearn", "pandas", "matplotlib", "scipy", "numpy"}
LIGHT = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in ("spec", "cli")]
LIGHT += [PACKAGE / "errors.py", PACKAGE / "system" / "paths.py", PACKAGE / "system" / "console.py"]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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


def test_every_room_stands_in_the_table_and_every_row_is_a_room() -> None:
    assert set(ORDER) == {room(path) for path in MODULES} - {"__init__", "__main__"}
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not imported(path)
        return
    here = room(path)
    level = LEVEL.get(here, -1)  # `__main__` stands above all
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "trackdl" and parts[1] in LEVEL and parts[1] != here:
            assert LEVEL[parts[1]] > level, f"{here} imports {name}"
        assert here in FACES.get(parts[0], {here}), f"{here} imports {name}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Within a room too: modules that need each other cannot be read one after the other."""
    names = {".".join(("trackdl", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    below = {
        name: {found for item in imported(path, top_only=True) if (found := _module(item, names)) and found != name}
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' -> '.join([*above, name])}"
        if name not in done:
            for item in sorted(below[name]):
                visit(item, (*above, name))
            done.add(name)

    for name in names:
        visit(name, ())


def _module(name: str, names: dict[str, Path]) -> str | None:
    """Return the module that an imported name is, or lies in."""
    for found in (name, name.rpartition(".")[0]):
        if found in names:
            return found
        if f"{found}.__init__" in names:
            return f"{found}.__init__"
    return None


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_answers_at_once_imports_nothing_heavy(path: Path) -> None:
    assert not {module.split(".")[0] for module in imported(path, top_only=True)} & HEAVY


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from trackdl.cli.app import app;"
        "done = CliRunner().invoke(app, ['mnist', '--help']); assert done.exit_code == 0, done.output;"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "idle"), [("models", {"sklearn", "torch", "matplotlib"}), ("predict", {"sklearn", "matplotlib"})]
)
def test_what_lists_or_predicts_loads_nothing_idle(module: str, idle: set[str]) -> None:
    code = f"import sys; import trackdl.apps.{module}; print(sorted({idle!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_say_what_they_do(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no docstring"


def test_tests_lie_where_the_rooms_do() -> None:
    places = {path.relative_to(ROOT / "tests").parts[0].removesuffix(".py").removeprefix("test_") for path in TESTS}
    assert places - OF_NO_ROOM - {"conftest"} <= set(ORDER)


def test_no_test_imports_another() -> None:
    """What tests share lies in tests/support, which their processes find too."""
    tests = {path.stem for path in TESTS if path.stem == "conftest" or path.stem.startswith("test_")}
    for path in TESTS:
        for name in imported(path):
            assert not tests & set(name.split(".")), f"{path}: {name}"
