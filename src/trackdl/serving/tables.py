"""A registered model of the heart table in use: raw rows in, each checked; a label and its probabilities out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from trackdl.data.heart.schema import check_rows
from trackdl.errors import InputError
from trackdl.serving.cards import TableCard

__all__ = ["MAX_ROWS", "ServedTable"]


MAX_ROWS = 65_536  # at once: each cell is checked by itself, and a million rows would keep a server for a minute


class ServedTable:
    """A registered model of the heart table in use.

    Args:
        model: The network, in evaluation mode.
        card: What its folder says of it.
    """

    def __init__(self, model: nn.Module, card: TableCard) -> None:
        self.model, self.card = model, card

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return `records` as a frame with the columns label and probabilities."""
        return pd.DataFrame(self.records(model_input))

    @torch.inference_mode()
    def records(self, model_input: Any) -> list[dict[str, Any]]:
        """Return a label and probabilities by class for each row of a frame, a record or a list of records.

        Raises:
            InputError: A column is missing or unknown, or a value is not what its column may hold; all are named.
        """
        given = _records(model_input)
        if len(given) > MAX_ROWS:
            raise InputError(f"{len(given):,} rows at once; {MAX_ROWS:,} are the most. Send fewer at a time.")
        inputs = self.card.preparation.apply(check_rows(given))
        classes = self.card.classes
        return [
            {"label": classes[value > 0.5], "probabilities": dict(zip(classes, (1 - value, value), strict=True))}
            for value in self.model(torch.from_numpy(inputs)).double().tolist()
        ]


def _records(given: Any) -> list[Mapping[str, Any]]:
    if isinstance(given, pd.DataFrame):
        return [{str(key): value for key, value in row.items()} for row in given.to_dict("records")]
    rows = [given] if isinstance(given, Mapping) else given
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"expected rows of named columns (a frame, a record or records), not {type(given).__name__}")
    return rows
