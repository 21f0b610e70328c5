"""The code's digest changes with what decides a fit, and with nothing else."""

from pathlib import Path

import pytest

from trackdl import spec
from trackdl.code_digest import PACKAGE, code_digest

TRAINING = '"""Fits."""\n\ndef fit() -> int:\n    """Fit."""\n    return 1\n'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    files = {
        "tasks/__init__.py": "",
        "tasks/toy.py": "from trackdl import plots, training\nfrom trackdl.data import images\n",
        "training.py": TRAINING,
        "plots.py": "COLOUR = 1\n",
        "data/__init__.py": "",
        "data/images.py": "SIDE = 28\n",
        "data/other.py": "SIDE = 28\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def changed(package: Path, name: str, text: str) -> bool:
    before = code_digest("toy", package)
    (package / name).write_text(text)
    code_digest.cache_clear()
    return code_digest("toy", package) != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("training.py", TRAINING.replace("return 1", "return 2")),
        ("data/images.py", "SIDE = 29\n"),
        ("tasks/toy.py", "from trackdl import training\n"),
    ],
)
def test_what_decides_a_fit_counts(package: Path, name: str, text: str) -> None:
    assert changed(package, name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plots.py", "COLOUR = 2\n"),
        ("data/other.py", "SIDE = 29\n"),
        ("training.py", TRAINING.replace("Fit", "Train") + "\n# a comment\n"),
    ],
)
def test_what_does_not_is_free(package: Path, name: str, text: str) -> None:
    assert not changed(package, name, text)


def test_every_task_that_trains_has_one_and_no_two_are_the_same() -> None:
    tasks = [spec.task_of(kind) for kind in spec.Experiment.__args__]
    digests = [code_digest(task, PACKAGE) for task in tasks]
    assert len(set(digests)) == len(tasks)
    assert None not in digests
    assert code_digest("nothing", PACKAGE) is None
