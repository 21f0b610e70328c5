"""Every command that the documents name exists, with the options and files that they give it."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest
import typer.main
import yaml

from support import ROOT
from tools import readme, reference
from trackdl import spec
from trackdl.apps import new
from trackdl.cli.app import app

COMMANDS = typer.main.get_command(app).commands
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"), ROOT / "benchmarks" / "README.md"]
)
NAMED = re.compile(r"(?:`|^ {4,}|\| )(?:\.venv/bin/)?trackdl ([a-z]+)([^`|\n]*)", re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(path) -> None:  # type: ignore[no-untyped-def]
    for name, rest in NAMED.findall(path.read_text(encoding="utf-8")):
        assert name in COMMANDS, f"{path.name}: trackdl {name}"
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in known | {"--help"}, f"{path.name}: trackdl {name} {option}"
        set_keys = dict(re.findall(r"--set ([a-z]\S*)=(\S+)", rest))
        assert not set_keys or spec.named(name, {key: yaml.safe_load(value) for key, value in set_keys.items()})


def test_the_manual_names_every_command_that_trains_or_shows() -> None:
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    named = {name for name, _ in NAMED.findall(text)} | set(re.findall(r"`([a-z]+)(?: [A-Z]+)?`", text))
    assert set(COMMANDS) - {"new", "verify", "card"} <= named


def commands(path: Path, program: str) -> list[list[str]]:
    """Return the words after `program` in each line of code of a document, and in each piece of code in its text."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(
        rf"(?:`|^ {{4,}})(?:[A-Z_]+=\S+ )*{re.escape(program)}((?: [^`\n]*)?)(?:`|$)", text, re.MULTILINE
    )
    return [shlex.split(words, comments=True) for words in found]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_other_programs_are_given_what_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    entries = set(yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"])
    for words in commands(path, "make"):
        named = {word for word in words if "=" not in word and word.islower()}
        assert named <= targets | entries, f"{path.name}: make {' '.join(words)}"
    for words in commands(path, "mlflow run"):
        entry = words[words.index("-e") + 1] if "-e" in words else "main"
        assert entry in entries, f"{path.name}: mlflow run {' '.join(words)}"
    for words in commands(path, "python"):
        file = ROOT / (words[1].replace(".", "/") + ".py" if words[0] == "-m" else words[0])
        assert file.exists(), f"{path.name}: python {' '.join(words)}"
        known = (
            re.findall(r'add_argument\(\s*"(--[a-z-]+)"', file.read_text(encoding="utf-8")) if file.is_file() else []
        )
        if "benchmarks" in file.parts:
            assert {word for word in words if word.startswith("--")} <= set(known), f"{path.name}: {' '.join(words)}"


def test_the_experiments_in_the_page_on_reports_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)]
    files = {re.findall("task: (.*)", block)[0]: block for block in blocks if block.lstrip().startswith("task:")}
    assert set(files) == set(new.TEMPLATES)
    files["letters"] = files.pop("classify")
    (report,) = [block for block in blocks if block.lstrip().startswith("title:")]
    for name, block in (files | {"report": report}).items():
        (tmp_path / f"{name}.yaml").write_text(block, encoding="utf-8")
    (tmp_path / "cells.csv").write_text("filters,batch_size,test_acc,test_loss,seconds\n8,32,0.5,1.0,9\n")
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))
    assert set(spec.experiments()) == set(files)
    assert spec.report().slug == "project-3"


def test_the_page_of_keys_is_made_from_the_schema() -> None:
    assert reference.KEYS.read_text(encoding="utf-8") == reference.keys_page(), "`make docs` makes it anew"


def test_the_readmes_table_is_the_committed_ledgers_head() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == readme.with_head(text, ROOT / "docs" / "ledger" / "ledger.json")


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
