"""Cross-validated predictions: every example is held out once from the network that predicts it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneOut, StratifiedKFold
from torch import Tensor, nn

from trackdl.analysis.stats import exact_interval
from trackdl.spec import Training
from trackdl.training.devices import one_thread
from trackdl.training.optim import Loss
from trackdl.training.trainer import Examples, Trainer

MOST_ONE_BY_ONE = 100  # examples that are held out one by one
Split = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class HeldOut:
    """Predictions for held-out examples.

    Attributes:
        outputs: float32 [n, classes]; row i comes from a network that was not trained on example i.
        correct: How many predictions are correct.
    """

    outputs: Tensor
    correct: int

    @property
    def accuracy(self) -> float:
        """The fraction of correct predictions."""
        return self.correct / len(self.outputs)

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's exact 95 % interval."""
        return exact_interval(self.correct, len(self.outputs))


def folds_for(targets: Tensor) -> int | None:
    """Return how many folds suit the number of examples: None, which is leave-one-out, for few, else at most ten."""
    few = len(targets) <= MOST_ONE_BY_ONE
    return None if few else max(2, min(10, int(np.unique(targets.numpy(), return_counts=True)[1].min())))


def splits(targets: Tensor, folds: int | None, seed: int) -> list[Split]:
    """Return (training, held out) indices: leave-one-out where `folds` is None, else stratified folds.

    Raises:
        ValueError: Every class has fewer examples than there are folds.
    """
    made = LeaveOneOut() if folds is None else StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    return list(made.split(np.zeros(len(targets)), targets.numpy()))


def hold_out_each(
    build: Callable[[], nn.Module], settings: Training, loss: Loss, examples: Examples, parts: list[Split]
) -> HeldOut:
    """Train one network per split, with the same settings and seed, and predict the examples held out from it.

    The fits run in parallel on all cores, with one thread each; the results do not depend on the number of cores.

    Args:
        build: Makes the network; must be picklable in memory, so a module-level function or a partial of one.
        settings: The training settings of every fit.
        loss: The loss of every fit.
        examples: All examples.
        parts: The splits from `splits`; together they hold out every example once.
    """
    work = (delayed(_fit_one)(build, settings, loss, examples, part) for part in parts)
    answers = Parallel(n_jobs=min(cpu_count(), len(parts)), backend="loky", inner_max_num_threads=1)(work)
    outputs = torch.cat([torch.from_numpy(answer) for answer in answers])
    order = torch.from_numpy(np.concatenate([held for _, held in parts])).argsort()
    outputs = outputs[order]
    return HeldOut(outputs, int((outputs.argmax(dim=1) == examples.targets).sum()))


@one_thread()
def _fit_one(
    build: Callable[[], nn.Module], settings: Training, loss: Loss, examples: Examples, part: Split
) -> NDArray[np.float32]:
    learn, held = (torch.from_numpy(indices) for indices in part)
    trainer = Trainer(build, settings, loss)
    for _ in trainer.fit(examples.select(learn), settings.epochs):
        pass
    answer: NDArray[np.float32] = trainer.evaluate(examples.select(held)).outputs.numpy()
    return answer
