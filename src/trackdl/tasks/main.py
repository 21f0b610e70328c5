"""Task `main`: the whole report, step by step, each step the run of its own task below one parent run."""

from trackdl import spec
from trackdl.console import say
from trackdl.paths import project_root
from trackdl.spec import MainSpec, MnistSpec, Step, TransferSpec
from trackdl.tasks import mnist, transfer
from trackdl.tracking import runs

__all__ = ["run"]


def run(experiment: MainSpec) -> None:
    """Run every step, then print each one's figures beside the report's.

    All steps' experiment files are read before the first step begins, so a wrong one is told at once.
    """
    steps = [_read(step) for step in experiment.steps]
    runs.close_abandoned("main")
    results: list[mnist.Result | transfer.Result] = []
    with runs.start(experiment, name="main"):
        for number, step in enumerate(steps, 1):
            say(f"[{number}/{len(steps)}] {step.task}")
            results.append(mnist.run(step) if isinstance(step, MnistSpec) else transfer.run(step))
    say("\nWhat was measured, beside the report's numbers\n")
    for result in results:
        mnist.show(result) if isinstance(result, mnist.Result) else transfer.show(result)
        say()
    say("`make ui` shows the runs with their curves and pictures, and the registered models.")


def _read(step: Step) -> MnistSpec | TransferSpec:
    path = project_root() / "experiments" / f"{step.task}.yaml"
    return spec.load(path, MnistSpec, step.set) if step.task == "mnist" else spec.load(path, TransferSpec, step.set)
