"""A registered model of the heart table in use: raw rows in, labels and probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from trackdl.data.heart.schema import check_rows
from trackdl.errors import InputError
from trackdl.serving.cards import TableCard

MAX_ROWS = 65_536  # in one request: every cell is checked, so a million rows would occupy a server for a minute


@dataclass(frozen=True)
class ServedTable:
    """A registered model of the heart table in use: the network, in evaluation mode, and the card of its folder."""

    model: nn.Module
    card: TableCard

    @torch.inference_mode()
    def records(self, model_input: Any) -> list[dict[str, Any]]:
        """Return a label and the probabilities by class for each row of a frame, a record or a list of records.

        Raises:
            InputError: Columns are missing or unknown, or values are not allowed in their columns; names all of them.
        """
        rows = _rows(model_input)
        if len(rows) > MAX_ROWS:
            raise InputError(f"{len(rows):,} rows at once; at most {MAX_ROWS:,} are allowed. Send fewer at a time.")
        inputs = self.card.preparation.apply(check_rows(rows))
        classes = self.card.classes
        return [
            {"label": classes[value > 0.5], "probabilities": dict(zip(classes, (1 - value, value), strict=True))}
            for value in self.model(torch.from_numpy(inputs)).double().tolist()
        ]


def _rows(given: Any) -> list[Mapping[str, Any]]:
    if isinstance(given, pd.DataFrame):
        return [{str(key): value for key, value in row.items()} for row in given.to_dict("records")]
    rows = [given] if isinstance(given, Mapping) else given
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"expected rows of named columns (a frame, a record or records), not {type(given).__name__}")
    return rows
