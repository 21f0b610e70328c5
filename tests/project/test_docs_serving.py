"""The commands that docs/serving.md names are ones that exist, with these options."""

import json
import re
import shlex

import click
import pytest
import typer
from mlflow.cli import cli as mlflow_cli

from support import ROOT
from trackdl.cli.app import app
from trackdl.serving.guard import FORMS

LINES = [line.strip() for line in (ROOT / "docs/serving.md").read_text().splitlines() if line.startswith("    ")]


def parse(command: click.Command, words: list[str]) -> None:
    """Let a command line be understood by its last command, without running it."""
    while isinstance(command, click.Group):
        words = words[1:]
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command = found
    command.make_context(words[0], words[1:])


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith(("trackdl ", "mlflow "))])
def test_a_command_is_understood(line: str) -> None:
    words = shlex.split(line)
    parse(typer.main.get_command(app) if words[0] == "trackdl" else mlflow_cli, words)


def test_every_command_for_models_is_told() -> None:
    told = {line.split()[1] for line in LINES if line.startswith("trackdl ")}
    assert told == {"predict", "evaluate", "serve", "demo", "ui", "models", "card", "promote"}


def test_the_request_and_the_answer_are_json() -> None:
    (asked,) = re.findall(r"curl -d '(.*?)'", "\n".join(LINES))
    assert set(json.loads(asked)) <= set(FORMS)
    (answer,) = [line for line in LINES if line.startswith("{")]
    assert set(json.loads(answer)["predictions"][0]) == {"label", "probabilities", "model", "version"}
