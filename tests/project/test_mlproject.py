"""Entry points, commands, files and kinds have the same names, and there is one list of pins."""

import importlib.util
import inspect
import subprocess

import pytest
import yaml

from support import ROOT
from tools import conda_env
from trackdl import spec
from trackdl.cli.app import app
from trackdl.errors import InputError
from trackdl.ledger.recipes import recipe

ENTRIES = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
OF_NO_EXPERIMENT = {"evaluate", "examine", "recover", "run"}  # they ask what to work on


def test_entry_points_are_commands_and_those_of_experiments_have_files() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(ENTRIES) <= commands
    files = {path.stem for path in (ROOT / "experiments").glob("*.yaml")}
    of_experiments = set(ENTRIES) - OF_NO_EXPERIMENT - {"main"}
    assert of_experiments <= files
    assert {stem.partition("-")[0] for stem in files - {"report"}} == of_experiments


def test_a_kind_has_a_module_and_a_class() -> None:
    kinds = {spec.task_of(kind) for kind in spec.Experiment.__args__}
    assert kinds == set(spec.KINDS)
    assert {path.stem for path in (ROOT / "src/trackdl/tasks").glob("[a-z]*.py")} == kinds


@pytest.mark.parametrize("kind", spec.STEPS)
def test_what_main_can_run_has_a_run_and_a_show(kind: str) -> None:
    module = importlib.import_module(f"trackdl.tasks.{kind}")
    needed = [item for item in inspect.signature(module.run).parameters.values() if item.default is item.empty]
    assert len(needed) == 1
    assert inspect.signature(module.show).return_annotation is str


def test_the_ledger_knows_what_every_kind_measures() -> None:
    for kind in set(spec.STEPS) - {"ledger"}:
        with pytest.raises(InputError, match=f"'bleu' is no metric of a {kind} experiment; its metrics are "):
            recipe(kind, "bleu", 1, 1)


def test_entry_points_run_the_working_tree() -> None:
    for name, entry in ENTRIES.items():
        argument = "".join(f" {{{parameter}}}" for parameter in entry["parameters"]) if name in OF_NO_EXPERIMENT else ""
        assert entry["command"] == f"python src/trackdl {name}{argument}"


def test_make_runs_the_whole_report_and_each_entry_point_that_needs_no_parameter() -> None:
    def told(target: str) -> str:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "warning" not in done.stderr
        return done.stdout

    assert "mlflow run . -e data" in told("run")
    assert told("run").rstrip().endswith(told("main").splitlines()[-1])
    for name in {name for name, entry in ENTRIES.items() if "parameters" not in entry}:
        assert f"mlflow run . -e {name} " in told(name)


def test_conda_env_is_made_from_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert (ROOT / "conda.yaml").read_text() == conda_env.render(lock)
    pips = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"][-1]["pip"]
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(pips)
    assert all("==" in pin for pin in pips)


def test_no_lock_names_an_address() -> None:
    for name in ["conda.yaml", *(path.name for path in ROOT.glob("requirements*.lock"))]:
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert "index" not in "".join(line for line in text.splitlines() if line.startswith("-"))


def test_every_dependency_is_importable() -> None:
    for module in ("mlflow", "torch", "typer", "pydantic", "safetensors"):
        assert importlib.util.find_spec(module)
