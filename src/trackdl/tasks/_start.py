"""Start a task from another one, by its name."""

from importlib import import_module

from trackdl.errors import InputError
from trackdl.spec import Experiment, GridSpec, RecoverSpec, SearchSpec, TrainedSpec
from trackdl.training.devices import resolve_device


def check_device(experiment: Experiment | TrainedSpec) -> None:
    """Refuse an experiment whose training is to use a device that this machine lacks, before anything is made.

    Raises:
        InputError: This machine does not have the device.
    """
    trained = experiment.experiment if isinstance(experiment, GridSpec | SearchSpec | RecoverSpec) else experiment
    if isinstance(trained, TrainedSpec):
        resolve_device(trained.training.device)


def start(experiment: Experiment | TrainedSpec, **how: object) -> str:
    """Run an experiment of a kind in `spec.STEPS`; print its result and return it as a line, which describes its run.

    Raises:
        InputError: As the task; a key that shows to be wrong while it runs is named with its file.
    """
    module = import_module(f"trackdl.tasks.{experiment.task}")
    try:
        result = module.run(experiment, **how)
    except InputError as error:
        if str(error).startswith("key '"):
            raise InputError(f"{experiment.name}.yaml: {error}") from error
        raise
    summary = str(module.show(result))
    result.run.describe(summary)
    return summary
