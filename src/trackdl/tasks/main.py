"""Task `main`: the whole report, step by step, each step the run of its own task below one parent run."""

from collections.abc import Callable
from functools import partial

from trackdl import spec
from trackdl.console import say
from trackdl.paths import project_root
from trackdl.spec import FashionSpec, HeartSpec, MainSpec, MnistSpec, Step, TransferSpec
from trackdl.tasks import fashion, heart, mnist, transfer
from trackdl.tracking import runs

__all__ = ["run"]

Show = Callable[[], None]


def run(experiment: MainSpec) -> None:
    """Run every step, then print each one's figures beside the report's.

    All steps' experiment files are read before the first step begins, so a wrong one is told at once.
    """
    steps = [(step.task, _prepare(step)) for step in experiment.steps]
    runs.close_abandoned("main")
    results: list[Show] = []
    with runs.start(experiment, name="main"):
        for number, (task, start) in enumerate(steps, 1):
            say(f"[{number}/{len(steps)}] {task}")
            results.append(start())
    say("\nWhat was measured, beside the report's numbers\n")
    for show in results:
        show()
        say()
    say("`make ui` shows the runs with their curves and pictures, and the registered models.")


def _prepare(step: Step) -> Callable[[], Show]:
    """Read a step's experiment; return what runs it, which returns what prints its result."""
    path = project_root() / "experiments" / f"{step.task}.yaml"
    if step.task == "mnist":
        digits = spec.load(path, MnistSpec, step.set)
        return lambda: partial(mnist.show, mnist.run(digits))
    if step.task == "fashion":
        clothes = spec.load(path, FashionSpec, step.set)
        return lambda: partial(fashion.show, fashion.run(clothes))
    if step.task == "transfer":
        letters = spec.load(path, TransferSpec, step.set)
        return lambda: partial(transfer.show, transfer.run(letters))
    hearts = spec.load(path, HeartSpec, step.set)
    return lambda: partial(heart.show, heart.run(hearts))
