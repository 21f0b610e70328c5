"""What waits for the tracking store arrives: whole, in order, whoever sends it, and nobody waits long for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from conftest import ROOT
from trackdl import spec
from trackdl.tracking import letters, outbox, runs, store
from trackdl.tracking.letters import Letter
from trackdl.tracking.runs import Run

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.MnistSpec)

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.fixture(autouse=True)
def _own_outbox() -> Iterator[None]:
    outbox._stores.clear()
    yield
    outbox._stores.clear()


@pytest.fixture
def run(tracking: str) -> Run:  # noqa: ARG001
    """A run of another process's."""
    return Run(store.client().create_run("0").info.run_id)


def tag(name: str) -> Letter:
    return Letter("tags", {"tags": {name: "told"}})


def told(run: Run) -> set[str]:
    return {name for name, value in mlflow.MlflowClient().get_run(run.id).data.tags.items() if value == "told"}


Post = Callable[[str, Letter], None]


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Post], list[str]]:
    """Give what puts something before each posting; what was posted is listed."""
    post = outbox._post

    def before(step: Post) -> list[str]:
        names: list[str] = []

        def stepped(run_id: str, letter: Letter) -> None:
            step(run_id, letter)
            post(run_id, letter)
            names.extend(letter.content.get("tags", [letter.kind]))

        monkeypatch.setattr(outbox, "_post", stepped)
        return names

    return before


def test_what_is_kept_while_another_process_sends_arrives_too(run: Run, posted: Callable[[Post], list[str]]) -> None:
    def keep_another(run_id: str, letter: Letter) -> None:
        if letter == tag("first"):
            letters.keep(run_id, tag("second"))

    names = posted(keep_another)
    letters.keep(run.id, tag("first"))
    outbox.send_waiting()
    assert names == ["first", "second"]
    assert told(run) == {"first", "second"}
    assert not letters.run_folders()


def test_what_is_kept_as_its_folder_is_swept_stays(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = letters.sweep

    def keep_before(folder: Path) -> None:
        letters.keep(run.id, tag("second"))
        sweep(folder)

    monkeypatch.setattr(outbox, "sweep", keep_before)
    letters.keep(run.id, tag("first"))
    outbox.send_waiting()
    assert told(run) == {"first"}
    assert len(letters.waiting(run.id)) == 1


def test_what_a_process_that_was_killed_left_half_kept_or_half_thrown_away_is_swept(run: Run) -> None:
    letters.keep(run.id, tag("first"))
    (folder,) = letters.run_folders()
    for name in (".part-1", ".sent-1/00000001"):
        (folder / name).mkdir(parents=True)
    outbox.send_waiting()
    assert told(run) == {"first"}
    assert not letters.run_folders()
