"""A task has one name in five places, and there is one list of pins."""

import importlib.util
import inspect
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from support import ROOT
from tools import conda_env
from trackdl import spec
from trackdl.cli.app import app
from trackdl.ledger import page
from trackdl.spec.ledger import Measuring

ENTRIES = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]


def test_one_name_in_all_places() -> None:
    names = set(ENTRIES)
    files = {path.stem for path in (ROOT / "experiments").glob("*.yaml")}
    assert names <= files
    assert {stem.partition("-")[0] for stem in files} == names  # behind a hyphen: another experiment of the task
    assert {path.stem for path in (ROOT / "src/trackdl/tasks").glob("[a-z]*.py")} == names
    assert {spec.task_of(kind) for kind in spec.Experiment.__args__} == names
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names <= commands


@pytest.mark.parametrize("name", spec.STEPS)
def test_what_main_can_run_has_a_run_and_a_show(name: str) -> None:
    module = importlib.import_module(f"trackdl.tasks.{name}")
    needed = [item for item in inspect.signature(module.run).parameters.values() if item.default is item.empty]
    assert len(needed) == 1
    assert inspect.signature(module.show).return_annotation is str


def test_what_the_ledger_tells_of_has_a_title_and_a_class() -> None:
    assert set(spec.TRAINED) <= set(get_args(Measuring)) == set(page.TITLES)
    assert list(spec.TRAINED)[:4] == ["mnist", "fashion", "transfer", "heart"]
    with pytest.raises(ValidationError, match="mnist, fashion"):
        spec.Step(task="grid")


def test_entry_points_run_the_working_tree() -> None:
    for name, entry in ENTRIES.items():
        assert entry["command"] == f"python src/trackdl {name}"


def test_conda_env_is_made_from_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert (ROOT / "conda.yaml").read_text() == conda_env.render(lock)
    pips = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][-1]["pip"]
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(pips)
    assert all("==" in pin for pin in pips)


def test_no_lock_names_an_address() -> None:
    for name in ("requirements.lock", "conda.yaml", "requirements-bench.lock"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "index" not in "".join(line for line in text.splitlines() if line.startswith("-"))


def test_every_dependency_is_importable() -> None:
    for module in ("mlflow", "torch", "typer", "pydantic", "safetensors"):
        assert importlib.util.find_spec(module)
