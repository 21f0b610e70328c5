"""Task `main`: the whole report, step by step, each step the run of its own task below one parent run."""

from collections.abc import Callable

from trackdl import spec
from trackdl.console import say
from trackdl.paths import project_root
from trackdl.spec import FashionSpec, HeartSpec, LedgerSpec, MainSpec, MnistSpec, SearchSpec, Step, TransferSpec
from trackdl.tasks import fashion, heart, ledger, mnist, search, transfer
from trackdl.tracking import runs

__all__ = ["run"]


def run(experiment: MainSpec) -> None:
    """Run every step, print its figures beside the report's, and sum all up; the ledger's head comes after that.

    All steps' experiment files are read before the first step begins, so a wrong one is told at once.
    """
    steps = [(step.task, _prepare(step)) for step in experiment.steps]
    runs.close_abandoned("main")
    sums: list[str] = []
    with runs.start(experiment, name="main"):
        for number, (task, start) in enumerate(steps, 1):
            if task == "ledger":
                _sum_up(sums)
            say(f"[{number}/{len(steps)}] {task}")
            sums.append(start())
    if steps[-1][0] != "ledger":
        _sum_up(sums)
    say("\n`make ui` shows the runs with their curves and pictures, and the registered models.")


def _sum_up(sums: list[str]) -> None:
    say("\nIn short\n")
    for line in sums:
        say(line)
    say()


def _prepare(step: Step) -> Callable[[], str]:
    """Read a step's experiment; return what runs it, prints its result and returns that in a line."""
    path = project_root() / "experiments" / f"{step.task}.yaml"
    if step.task == "mnist":
        digits = spec.load(path, MnistSpec, step.set)
        return lambda: mnist.show(mnist.run(digits))
    if step.task == "fashion":
        clothes = spec.load(path, FashionSpec, step.set)
        return lambda: fashion.show(fashion.run(clothes))
    if step.task == "transfer":
        letters = spec.load(path, TransferSpec, step.set)
        return lambda: transfer.show(transfer.run(letters))
    if step.task == "search":
        wider = spec.load(path, SearchSpec, step.set)
        return lambda: search.show(search.run(wider))
    if step.task == "ledger":
        beside = spec.load(path, LedgerSpec, step.set)
        return lambda: ledger.show(ledger.run(beside))
    hearts = spec.load(path, HeartSpec, step.set)
    return lambda: heart.show(heart.run(hearts))
