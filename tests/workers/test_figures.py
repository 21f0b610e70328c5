"""Pictures drawn in another process: handed over in order, here and once, whatever becomes of that process."""

from collections.abc import Iterator

import psutil
import pytest

from support.forked import workers_of
from trackdl.plots import search as plots_search
from trackdl.workers.figures import Studio

COURSE = [(1, [0.5, 0.6], True)]


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio()
    yield made
    made.close()


def test_pictures_come_in_order(studio: Studio) -> None:
    taken: list[tuple[int, bytes]] = []
    for number in range(3):
        studio.draw(lambda png, n=number: taken.append((n, png)), plots_search.learning_curves, COURSE, str(number))
    assert not taken
    studio.deliver(everything=True)
    assert [number for number, _ in taken] == [0, 1, 2]
    assert all(png.startswith(b"\x89PNG") for _, png in taken)


@pytest.mark.parametrize("busy", [True, False])
def test_a_process_that_is_killed_loses_no_picture(busy: bool, studio: Studio) -> None:
    taken: list[bytes] = []
    before = workers_of(psutil.Process())
    studio.draw(taken.append, plots_search.learning_curves, COURSE, "first")
    if not busy:
        studio.deliver(everything=True)
    (drawing,) = [worker for worker in workers_of(psutil.Process()) if worker not in before]
    drawing.kill()
    psutil.wait_procs([drawing])
    studio.draw(taken.append, plots_search.learning_curves, COURSE, "second")
    studio.deliver(everything=True)
    assert len(taken) == 2


def test_a_figure_that_cannot_be_drawn_is_told(studio: Studio) -> None:
    studio.draw(lambda _: None, plots_search.learning_curves, [("no", "such"), "course"], "")
    with pytest.raises((TypeError, ValueError, IndexError)):
        studio.deliver(everything=True)
