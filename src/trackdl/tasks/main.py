"""Task `main`: the whole report, step by step, each step the run of its own task below one parent run."""

from collections.abc import Callable

from trackdl import spec
from trackdl.errors import DataMissing
from trackdl.spec import KINDS, MainSpec, Step
from trackdl.system.console import say
from trackdl.system.paths import project_root
from trackdl.tasks import _start
from trackdl.tracking import runs

__all__ = ["run"]


def run(experiment: MainSpec) -> None:
    """Run every step, print its figures beside the report's, and sum all up; the ledger's head comes after that.

    All steps' experiment files are read before the first step begins, so a wrong one is told at once.
    """
    steps = [(step, _prepare(step)) for step in experiment.steps]
    runs.close_abandoned("main")
    sums: list[str] = []
    with runs.start(experiment, name="main"):
        for number, (step, start) in enumerate(steps, 1):
            if step.task == "ledger":
                _sum_up(sums)
            say(f"[{number}/{len(steps)}] {step.task}")
            try:
                sums.append(start())
            except DataMissing as error:
                if not step.optional:
                    raise
                say(f"passed over: {error}")
    if steps[-1][0].task != "ledger":
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
    experiment = spec.load(path, KINDS[step.task], step.set)
    return lambda: _start.start(experiment)
