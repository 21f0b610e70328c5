"""Networks trained by a protocol on rows of a table, and their predictions for other rows.

Everything is fitted on the training rows alone; the rows to predict change nothing.
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
from torch import Tensor, nn

from trackdl.data.tables.inputs import Preparation, used_columns
from trackdl.data.tables.schema import Schema
from trackdl.errors import InputError
from trackdl.networks.heart import HeartNet, HeartNets
from trackdl.spec.base import Training
from trackdl.spec.table import TableNetwork, TableProtocol
from trackdl.tabular.faults import argmax_over_one_column, broadcast_mse
from trackdl.training.devices import one_thread
from trackdl.training.optim import Loss
from trackdl.training.trainer import EpochResult, Examples, Trainer

# Keeps the members' seeds apart from those of the same model trained by the next seeds.
SEEDS_APART = 1_000_003


@dataclass
class LearningCurve:
    """The results of one training.

    Attributes:
        epochs: Each epoch's result.
        val_losses: Each epoch's loss on the validation split of early stopping; empty without early stopping.
        kept_epoch: The epoch whose weights were kept.
    """

    epochs: list[EpochResult]
    val_losses: list[float]
    kept_epoch: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network and what it takes to use it again.

    Attributes:
        arguments: The arguments of `HeartNets`.
        state: The weights, as arrays.
        preparation: Turns rows into inputs.
        learning_curves: One for each member.
    """

    arguments: dict[str, Any]
    state: dict[str, NDArray[np.float32]]
    preparation: Preparation
    learning_curves: list[LearningCurve]

    @property
    def model(self) -> HeartNets:
        """The network, in evaluation mode."""
        model = HeartNets(**self.arguments)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in self.state.items()})
        return model.eval()


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions for some rows.

    Attributes:
        probabilities: Of the second of two classes, float64 [n]; of each of more classes, float64 [n, classes].
        labels: The predicted classes, int64 [n].
        fitted: The network; None for a baseline.
    """

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    fitted: Fitted | None = None


@dataclass(frozen=True)
class NetworkCandidate:
    """A network to train by a protocol.

    Attributes:
        network: Its widths and epochs.
        protocol: How it is trained.
        training: The experiment's training section, whose values the protocol may override.
        schema: Of the table.

    Raises:
        InputError: The protocol's loss is for two classes, and there are more; or its inputs drop unknown columns.
    """

    network: TableNetwork
    protocol: TableProtocol
    training: Training
    schema: Schema

    def __post_init__(self) -> None:
        used_columns(self.protocol.inputs, self.schema.columns)
        if len(self.schema.classes) > 2 and self.protocol.loss != "cross_entropy":
            raise InputError(
                f"loss {self.protocol.loss}: is for two classes; {self.schema.target} has {len(self.schema.classes)},"
                " which need the loss cross_entropy"
            )

    @one_thread()
    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> Predictions:
        """Train on `train` and predict `test`.

        Args:
            train: Rows of the table, in the order in which they are learnt unless the protocol shuffles them.
            test: Rows of the table.
            seed: Determines initial weights, order, dropout and the validation split of early stopping.
        """
        preparation = Preparation.fit(train, self.protocol.inputs, self.schema.columns)
        inputs = torch.from_numpy(preparation.apply(train))
        kind = np.int64 if self._many else np.float32
        examples = Examples(inputs, torch.from_numpy(train.iloc[:, -1].to_numpy(kind, copy=True)))
        dropout = self.network.dropout
        arguments: dict[str, Any] = {
            "hidden": self.network.hidden,
            "inputs": inputs.shape[1],
            "dropout": self.protocol.dropout if dropout is None else dropout,
            "logits": self.protocol.loss != "mse",
            "activation": self.network.activation,
            "outputs": len(self.schema.classes) if self._many else 1,
        }
        model = HeartNets(self.protocol.members, **arguments)
        learning_curves = []
        for member, network in enumerate(model.members):
            trained, curve = self._train(partial(HeartNet, **arguments), examples, seed + SEEDS_APART * member)
            network.load_state_dict(trained.state_dict())
            learning_curves.append(curve)
        with torch.inference_mode():
            probabilities = model.eval()(torch.from_numpy(preparation.apply(test)))
        state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return Predictions(
            probabilities=probabilities.double().numpy(),
            labels=self._classify(probabilities).long().numpy(),
            fitted=Fitted(model.arguments, state, preparation, learning_curves),
        )

    def _train(self, build: Callable[[], HeartNet], examples: Examples, seed: int) -> tuple[nn.Module, LearningCurve]:
        settings = self.protocol.resolve(self.training, self.network.epochs, seed)
        stopping = self.protocol.early_stopping
        if stopping is None:
            trainer = Trainer(build, settings, self._loss(examples.targets), self._decide)
            epochs = list(trainer.fit(examples, settings.epochs))
            return trainer.model, LearningCurve(epochs, [], settings.epochs)
        parts = train_test_split(
            np.arange(len(examples)), test_size=stopping.share, random_state=seed % 2**32, stratify=examples.targets
        )
        train, validation = (Examples(examples.inputs[rows], examples.targets[rows]) for rows in parts)
        trainer = Trainer(build, settings, self._loss(train.targets), self._decide)
        return trainer.model, _fit_until_best(trainer, train, validation, stopping.patience)

    @property
    def _many(self) -> bool:
        """Whether the network has an output for each class."""
        return self.protocol.loss == "cross_entropy"

    def _decide(self, outputs: Tensor) -> Tensor:
        """Return the classes [n] for a network's outputs [n, 1] or [n, classes]."""
        if self._many:
            return outputs.argmax(dim=1)
        return self._classify((outputs.sigmoid() if self.protocol.loss == "bce" else outputs)[:, 0])

    def _classify(self, probabilities: Tensor) -> Tensor:
        """Return the most probable classes [n], the second of two above one half; or those of the seed's fault."""
        if self.protocol.faults:
            return argmax_over_one_column(probabilities[:, None])
        return (probabilities > 0.5).float() if probabilities.ndim == 1 else probabilities.argmax(dim=1)

    def _loss(self, targets: Tensor) -> Loss:
        if self.protocol.faults:
            return broadcast_mse
        if self.protocol.loss == "mse":
            return lambda outputs, targets: F.mse_loss(outputs[:, 0], targets)
        if self._many:
            counts = torch.bincount(targets, minlength=len(self.schema.classes))
            weights = len(targets) / (len(counts) * counts) if self.protocol.class_weights else None
            return partial(F.cross_entropy, weight=weights)
        positive = float(targets.mean())
        weight = torch.tensor((1 - positive) / positive if self.protocol.class_weights else 1.0)
        return lambda outputs, targets: F.binary_cross_entropy_with_logits(outputs[:, 0], targets, pos_weight=weight)


def _fit_until_best(trainer: Trainer, train: Examples, validation: Examples, patience: int) -> LearningCurve:
    """Train until the validation loss has not fallen for `patience` epochs, then restore the best epoch's weights."""
    curve = LearningCurve([], [], 0)
    for result in trainer.fit(train, trainer.settings.epochs):
        curve.epochs.append(result)
        curve.val_losses.append(trainer.evaluate(validation).loss)
        if curve.val_losses[-1] <= min(curve.val_losses):
            curve.kept_epoch = result.epoch
            state = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
        elif result.epoch - curve.kept_epoch >= patience:
            break
    trainer.model.load_state_dict(state)
    return curve
