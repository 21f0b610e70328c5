"""One digest for the code that decides what a task's training gives, so that a finished run can stand for a new one.

It covers the task's module and what that imports of trackdl, step by step, but for the rooms that only show, keep or
serve results: changed colours of a plot, or a new command, leave every fit valid. What has a digest of its own is left
out too: the experiment as it was resolved, and the data's bytes. Comments, docstrings and layout do not count. A change
of the task's own module always counts, even where it only draws: a fit run again costs minutes, a number by other code
is wrong.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

__all__ = ["code_digest"]

PACKAGE = Path(__file__).resolve().parent

# These show, keep, find or serve what was computed, or have a digest of their own. What `stats` says is computed anew
# from what a run keeps.
ASIDE = {
    "cli",
    "cli_ledger",
    "cli_models",
    "code_digest",
    "comparison_text",
    "console",
    "data.fetchers",
    "data.packages",
    "data.sources",
    "databases",
    "drawing",
    "errors",
    "ledger",
    "paths",
    "plots",
    "plots_classifiers",
    "plots_grid",
    "plots_search",
    "processes",
    "serving",
    "spec",
    "spec_base",
    "stats",
    "tracking",
}


@cache
def code_digest(task: str, package: Path = PACKAGE) -> str | None:
    """Return the SHA-256, hex, of the code that decides a task's results.

    It depends on the Python version too, whose grammar the code is read by.

    Args:
        task: The task's name.
        package: The folder of trackdl's sources.

    Returns:
        The digest; None where there is no such task.
    """
    found: dict[str, ast.Module] = {}
    if not _module(f"tasks.{task}", package):
        return None
    _follow(f"tasks.{task}", package, found)
    lines = [f"{name} {hashlib.sha256(ast.dump(tree).encode()).hexdigest()}\n" for name, tree in sorted(found.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _follow(name: str, package: Path, found: dict[str, ast.Module]) -> None:
    """Add the module `name` (dotted, below the package) and what it imports to `found`."""
    file = _module(name, package)
    if file is None or name in found or {name, name.partition(".")[0]} & ASIDE:
        return
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found[name] = tree
    imported = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        _forget_docstring(node)
    for target in imported:
        if target.startswith("trackdl."):
            _follow(target.removeprefix("trackdl."), package, found)


def _module(name: str, package: Path) -> Path | None:
    base = package.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def _forget_docstring(node: ast.AST) -> None:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        node.body = node.body[1:]
