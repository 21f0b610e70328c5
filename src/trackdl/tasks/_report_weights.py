"""Register the network that the report's notebook starts Task 3 from, as `mnist-cnn` with the alias `report`.

It was not trained here. Its run tests it on the test digits; the run has no experiment digest, so it is never mistaken
for a training. The alias is separate from `champion`, and no training changes it.
"""

import logging

import torch
import torch.nn.functional as F

from trackdl import spec
from trackdl.data.download import report_weights
from trackdl.data.download.datasets import DATASETS
from trackdl.errors import DataMissing, InputError
from trackdl.networks.digit import DigitNet
from trackdl.spec import ClassifySpec
from trackdl.tasks import classify
from trackdl.tracking import runs, training_runs
from trackdl.tracking.registry import files
from trackdl.tracking.registry import register as registry
from trackdl.training.image_splits import split_images
from trackdl.training.trainer import Evaluation, outputs_of

log = logging.getLogger(__name__)

ALIAS, MODEL = "report", "mnist-cnn"
URI = f"models:/{MODEL}@{ALIAS}"
ORIGIN = {
    "trackdl.role": "report",
    "trackdl.weights_repository": "https://github.com/mahvashmaghrabi/CS6140_Project4",
    "trackdl.weights_commit": "d5f415f",
    "trackdl.weights_file": "results/model.pth",
    "trackdl.weights_file_sha256": DATASETS[report_weights.NAME].files[0].sha256,
}


def register() -> None:
    """Register the report's network with its test result, unless the registry has it already.

    Raises:
        InputError: The alias points to other weights, or the environment variable names the wrong ones.
        DataMissing: The weights, or the digits, are not available.
    """
    if files.exists(URI) and not files.broken(found := files.find(URI)):
        if found.tags.get("trackdl.weights_sha256") != report_weights.DIGEST:
            raise InputError(
                f"{URI} is version {found.version}, which does not hold the report's weights: the alias "
                f"was moved. Delete it on MLflow's page of {MODEL} and run again: the right one is registered"
            )
        return
    model = DigitNet()
    model.load_state_dict(report_weights.load_report_weights())
    experiment = spec.named("mnist")
    if not isinstance(experiment, ClassifySpec) or registry.name_of(experiment) != MODEL:
        raise InputError(f"{URI}: is the network of the seed's report; this report's folder does not train {MODEL}")
    splits = split_images(experiment.data, torch.float32)
    log.info("registering the report's own MNIST network as %s", URI)
    with runs.start("transfer", name="the report's MNIST network") as run:
        classify.log_images(run, experiment.data.name, splits.images)
        run.tags(ORIGIN)
        outputs, targets = outputs_of(model, splits.test.inputs), splits.test.targets
        right = int((outputs.argmax(dim=1) == targets).sum())
        evaluation = Evaluation(F.nll_loss(outputs, targets).item(), right, len(targets), outputs)
        training_runs.log_predictions(run, "test", evaluation, targets)
        classify.register(run, experiment, model, 0, {"test": evaluation}, splits, ORIGIN, ALIAS)


def try_register() -> bool:
    """Do as `register`; return whether the registry has the network now, after a warning if it does not."""
    try:
        register()
    except DataMissing as error:
        log.warning("the report's own MNIST network (%s) is not available: %s", URI, error)
        return False
    return True
