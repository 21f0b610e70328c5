"""The examples in docstrings hold."""

import doctest
import importlib
from pathlib import Path

import pytest

from support import ROOT

SOURCE = ROOT / "src"
MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_examples_hold(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(".".join(path.relative_to(SOURCE).with_suffix("").parts))
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed, capsys.readouterr().out
