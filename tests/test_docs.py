"""Every `trackdl` command that the documents name exists, with the options that they give it."""

import re

import pytest
import typer.main

from conftest import ROOT
from trackdl.cli import app

COMMANDS = typer.main.get_command(app).commands
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMED = re.compile(r"(?:`|^ {4,}|\| )(?:\.venv/bin/)?trackdl ([a-z]+)([^`|\n]*)", re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(path) -> None:  # type: ignore[no-untyped-def]
    for name, rest in NAMED.findall(path.read_text(encoding="utf-8")):
        assert name in COMMANDS, f"{path.name}: trackdl {name}"
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in known | {"--help"}, f"{path.name}: trackdl {name} {option}"


def test_the_readme_names_commands() -> None:
    assert len(NAMED.findall((ROOT / "README.md").read_text(encoding="utf-8"))) > 5


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
