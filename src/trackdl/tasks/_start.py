"""Start a task from another one, by its name."""

from importlib import import_module

from trackdl.spec import Experiment, TrainedSpec


def start(experiment: Experiment | TrainedSpec, **how: object) -> str:
    """Run an experiment of a kind in `spec.STEPS`, print its result and return a one-line summary."""
    module = import_module(f"trackdl.tasks.{experiment.task}")
    return str(module.show(module.run(experiment, **how)))
