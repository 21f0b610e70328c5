"""A task begun by another: found by its name, which its module has too."""

from importlib import import_module

from trackdl.spec import Experiment, TrainedSpec

__all__ = ["start"]


def start(experiment: Experiment | TrainedSpec) -> str:
    """Run an experiment of a task of `spec.STEPS`, print its result and return that in a line."""
    module = import_module(f"trackdl.tasks.{experiment.task}")
    return str(module.show(module.run(experiment)))
