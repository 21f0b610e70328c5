"""`trackdl new`: a folder that is understood as it is; nothing is written over."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from trackdl import spec
from trackdl.apps import new
from trackdl.cli.app import app
from trackdl.errors import InputError


def test_every_template_is_a_valid_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My report: 2nd"
    names = new.make(folder, ",".join(new.TEMPLATES))
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    monkeypatch.setenv("TRACKDL_REPORT", str(folder))
    assert (spec.report().title, spec.report().slug) == ("My report: 2nd", "my-report-2nd")
    experiments = spec.experiments()
    assert {one.task for one in experiments.values()} == set(new.TEMPLATES)
    assert experiments["transfer"].source == "models:/my-report-2nd-digits@champion"
    assert not [path for path in folder.iterdir() if "SLUG" in path.read_text() or "TITLE" in path.read_text()]


@pytest.mark.parametrize(("first", "second"), [("日本", "中国"), ("--", "++")])
def test_names_without_latin_letters_have_slugs_of_their_own(first: str, second: str, tmp_path: Path) -> None:
    slugs = []
    for name in (first, second):
        new.make(tmp_path / name)
        slugs.append(spec.load(tmp_path / name / "report.yaml", spec.ReportSpec).slug)
    assert slugs[0] != slugs[1]


def test_a_folder_may_be_called_as_a_place_of_the_template(tmp_path: Path) -> None:
    new.make(tmp_path / "TITLE SLUG")
    made = spec.load(tmp_path / "TITLE SLUG" / "report.yaml", spec.ReportSpec)
    assert (made.title, made.slug) == ("TITLE SLUG", "title-slug")


def test_a_place_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to: Not a directory"):
        new.make(tmp_path / "file" / "below")


def test_only_what_is_asked_for_and_what_it_needs_is_written(tmp_path: Path) -> None:
    assert new.make(tmp_path / "a", "grid") == ["report.yaml", "digits.yaml", "grid.yaml"]
    assert new.make(tmp_path / "b") == ["report.yaml", "digits.yaml", "grid.yaml", "table.yaml"]


@pytest.mark.parametrize("kinds", ["clasify", "", "classify,", "grid,grids"])
def test_a_wrong_kind_names_the_kinds(kinds: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are classify, transfer, grid, search, table"):
        new.make(tmp_path / "a", kinds)
    assert not (tmp_path / "a").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="is not empty, it has a, b, c and 1 more"):
        new.make(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        new.make(tmp_path / "a")
    assert len(list(tmp_path.iterdir())) == 4


def test_the_command_says_what_to_do_next_and_twice_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    first = CliRunner().invoke(app, ["new", str(folder), "--from", "table"])
    assert first.exit_code == 0
    assert f"trackdl --report {folder} main" in first.output
    assert f"trackdl run {folder / 'table.yaml'}" in first.output
    second = CliRunner().invoke(app, ["new", str(folder)])
    assert isinstance(second.exception, InputError)
    assert yaml.safe_load((folder / "report.yaml").read_text())["slug"] == "mine"
