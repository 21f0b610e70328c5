"""A registered model of the heart table in use: raw rows in, each checked; a label and its probabilities out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from trackdl.data.heart_schema import check_rows
from trackdl.errors import InputError
from trackdl.serving.cards import TableCard

__all__ = ["ServedTable"]


class ServedTable:
    """A registered model of the heart table in use.

    Args:
        model: The network, in evaluation mode.
        card: What its folder says of it.
    """

    def __init__(self, model: nn.Module, card: TableCard) -> None:
        self.model, self.card = model, card

    @torch.inference_mode()
    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Answer MLflow: a frame of raw rows, a record or a list of records, to a label and probabilities each.

        Raises:
            InputError: A column is missing or unknown, or a value is not what its column may hold; all are named.
        """
        rows = check_rows(_records(model_input))
        positive = self.model(torch.from_numpy(self.card.preparation.apply(rows))).double().tolist()
        classes = self.card.classes
        return pd.DataFrame(
            {
                "label": [classes[value > 0.5] for value in positive],
                "probabilities": [dict(zip(classes, (1 - value, value), strict=True)) for value in positive],
            }
        )


def _records(given: Any) -> list[Mapping[str, Any]]:
    if isinstance(given, pd.DataFrame):
        return [{str(key): value for key, value in row.items()} for row in given.to_dict("records")]
    rows = [given] if isinstance(given, Mapping) else given
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"expected rows of named columns (a frame, a record or records), not {type(given).__name__}")
    return rows
