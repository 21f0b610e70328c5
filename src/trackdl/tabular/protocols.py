"""Task 4's networks under a protocol: from rows of the table to a fitted network and what it says of other rows.

Everything is fitted on the training rows alone; the rows that are judged change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import Tensor

from trackdl.data.heart.inputs import Preparation, label_encoded
from trackdl.data.heart.table import HeartDataset
from trackdl.networks.heart import HeartNet, HeartNets
from trackdl.spec.base import Training
from trackdl.spec.heart import HeartNetwork, HeartProtocol
from trackdl.tabular.faults import argmax_over_one_column, broadcast_mse
from trackdl.training.trainer import EpochResult, Examples, Loss, Trainer

__all__ = ["Fitted", "History", "NetworkCandidate", "Outcome"]

SEEDS_APART = 1_000_003


@dataclass
class History:
    """How a training went.

    Attributes:
        curve: Each epoch's result.
        stopping_losses: The loss on the rows set aside for early stopping, an epoch each; empty without it.
        epoch: The epoch that the weights are of.
    """

    curve: list[EpochResult]
    stopping_losses: list[float]
    epoch: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network with what it needs to be used again.

    Attributes:
        arguments: Of `HeartNets`.
        state: Its weights, as arrays.
        preparation: Turns rows into its inputs; None where the report's label encoding does.
        histories: How each member's training went.
    """

    arguments: dict[str, Any]
    state: dict[str, NDArray[np.float32]]
    preparation: Preparation | None
    histories: list[History]

    @property
    def model(self) -> HeartNets:
        """The network, in evaluation mode."""
        model = HeartNets(**self.arguments)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in self.state.items()})
        return model.eval()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a model says of the rows it was asked about.

    Attributes:
        probabilities: Of heart disease, float64 [n].
        labels: The classes, int64 [n].
        fitted: The network; None for a baseline.
    """

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    fitted: Fitted | None = None


@dataclass(frozen=True)
class NetworkCandidate:
    """A network to be trained by a protocol on whatever rows it is given.

    Attributes:
        network: Its widths and epochs.
        protocol: How it is trained.
        training: The experiment's training section; the protocol sets some of it otherwise.
    """

    network: HeartNetwork
    protocol: HeartProtocol
    training: Training

    def fit_predict(self, train: pd.DataFrame, judged: pd.DataFrame, seed: int) -> Outcome:
        """Train on rows of the table, then judge others.

        Args:
            train: The training rows, in the order in which they are learnt where nothing shuffles them.
            judged: The rows to be judged.
            seed: Decides first weights, order, dropout, and which rows early stopping sets aside.
        """
        torch.set_num_threads(1)
        preparation = None
        if self.protocol.inputs.encoding == "one-hot":
            preparation = Preparation.fit(train, self.protocol.inputs)
        encode = preparation.apply if preparation else label_encoded
        data = HeartDataset(train, encode)
        arguments: dict[str, Any] = {
            "hidden": self.network.hidden,
            "inputs": data.inputs.shape[1],
            "dropout": self.protocol.dropout,
            "logits": self.protocol.loss == "bce",
        }
        model = HeartNets(self.protocol.members, **arguments)
        histories = []
        for member, network in enumerate(model.members):
            # Members share nothing but the rows: their seeds lie apart from those of the next model's members.
            trainer, history = self._train(partial(HeartNet, **arguments), data, seed + SEEDS_APART * member)
            network.load_state_dict(trainer.model.state_dict())
            histories.append(history)
        with torch.inference_mode():
            probabilities = model.eval()(HeartDataset(judged, encode).inputs)
        state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return Outcome(
            probabilities=probabilities.double().numpy(),
            labels=self._decide(probabilities[:, None]).long().numpy(),
            fitted=Fitted(model.arguments, state, preparation, histories),
        )

    def _train(self, build: Callable[[], HeartNet], data: HeartDataset, seed: int) -> tuple[Trainer, History]:
        settings = self.protocol.resolve(self.training, self.network.epochs, seed)
        stopping = self.protocol.early_stopping
        if stopping is None:
            trainer = Trainer(build, settings, self._loss(data.targets), self._decide_outputs)
            return trainer, History(list(trainer.fit(_examples(data), settings.epochs)), [], settings.epochs)
        learn, held = train_test_split(
            np.arange(len(data)), test_size=stopping.share, random_state=seed % 2**32, stratify=data.targets
        )
        learnt, aside = (Examples(data.inputs[rows], data.targets[rows]) for rows in (learn, held))
        trainer = Trainer(build, settings, self._loss(learnt.targets), self._decide_outputs)
        return trainer, _train_until(trainer, learnt, aside, stopping.patience)

    def _decide_outputs(self, outputs: Tensor) -> Tensor:
        return self._decide(outputs.sigmoid() if self.protocol.loss == "bce" else outputs)

    def _decide(self, probabilities: Tensor) -> Tensor:
        """Return the class of probabilities [n, 1], [n]: 1 above one half, unless the report's fault is wanted."""
        return argmax_over_one_column(probabilities) if self.protocol.faults else (probabilities[:, 0] > 0.5).float()

    def _loss(self, targets: Tensor) -> Loss:
        if self.protocol.faults:
            return broadcast_mse
        if self.protocol.loss == "mse":
            return _mse
        positive = float(targets.mean())
        weight = (1 - positive) / positive if self.protocol.class_weights else 1.0
        return partial(_bce, weight=torch.tensor(weight))


def _train_until(trainer: Trainer, train: Examples, aside: Examples, patience: int) -> History:
    """Train until the loss on `aside` has not fallen for `patience` epochs, and go back to the best epoch's weights."""
    history = History([], [], 0)
    for result in trainer.fit(train, trainer.settings.epochs):
        history.curve.append(result)
        history.stopping_losses.append(trainer.evaluate(aside).loss)
        if history.stopping_losses[-1] <= min(history.stopping_losses):
            history.epoch = result.epoch
            state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        elif result.epoch - history.epoch >= patience:
            break
    trainer.model.load_state_dict(state)
    return history


def _mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs[:, 0], targets)


def _bce(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs[:, 0], targets, pos_weight=weight)


def _examples(data: HeartDataset) -> Examples:
    return Examples(data.inputs, data.targets)
