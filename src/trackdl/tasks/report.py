"""`trackdl main`: the whole report, step by step.

Each step is a run of its own experiment, with the id of main's run as the tag `trackdl.main`; main's run has the steps'
headline metrics, as TASK/METRIC.
"""

from collections.abc import Callable

from trackdl import spec
from trackdl.errors import DataMissing, InputError
from trackdl.spec import STEPS, ReportSpec, Step
from trackdl.system.console import say
from trackdl.tasks import _start
from trackdl.tracking import pages, runs
from trackdl.tracking.store import every_run


def run(experiment: ReportSpec) -> None:
    """Run every step, print its numbers next to the report's, and summarise; the ledger's headlines come last.

    The experiment files of all steps are read before the first step starts, so an invalid one is reported at once.

    Raises:
        InputError: An experiment file is not valid, or is of a kind that cannot be a step.
    """
    steps = [(step, _prepare(step)) for step in experiment.steps or _all_steps()]
    runs.close_abandoned(experiment.name)
    sums: list[str] = []
    with runs.start(experiment) as run:
        for number, (step, start) in enumerate(steps, 1):
            if step.task == "ledger":
                _sum_up(sums)
            say(f"[{number}/{len(steps)}] {step.task}")
            try:
                sums.append(start())
            except DataMissing as error:
                if not step.optional:
                    raise
                say(f"skipped: {error}")
        run.describe("\n".join(f"- {line}" for line in sums))
        for of_step in every_run(f"tags.`{runs.MAIN}` = '{run.id}'"):
            task, found = of_step.data.tags["trackdl.task"], of_step.data.metrics
            run.metrics({f"{task}/{name}": found[name] for name in pages.HEADLINES if name in found})
            run.metrics({name: found[name] for name in (pages.SETTLED,) if name in found})
    if steps[-1][0].task != "ledger":
        _sum_up(sums)
    say()
    say("`trackdl ui` shows the runs with their curves and figures, and the registered models.")


def _sum_up(sums: list[str]) -> None:
    say()
    say("In short")
    say()
    for line in sums:
        say(line)
    say()


def _prepare(step: Step) -> Callable[[], str]:
    """Read a step's experiment; return a function that runs it, prints its result and returns a one-line summary."""
    experiment = spec.named(step.task, step.set)
    if experiment.task not in STEPS:
        raise InputError(f"step {step.task}: is of the kind {experiment.task}; a step is one of {', '.join(STEPS)}")
    _start.check_device(experiment)
    return lambda: _start.start(experiment)


def _all_steps() -> list[Step]:
    """Return every experiment of the report, and then the ledger."""
    return [*(Step(task=name) for name in spec.experiments()), Step(task="ledger")]
