"""A registered model of a table in use: raw rows in, labels and probabilities out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from trackdl.data.tables.schema import check_rows
from trackdl.errors import InputError
from trackdl.serving.cards import TableCard

MAX_ROWS = 65_536  # in one request: every cell is checked, so a million rows would occupy a server for a minute


@dataclass(frozen=True)
class ServedTable:
    """A registered model of a table in use: the network, in evaluation mode, and the card of its folder."""

    model: nn.Module
    card: TableCard

    @torch.inference_mode()
    def probabilities(self, rows: pd.DataFrame) -> Tensor:
        """Return the probabilities by class, float64 [n, classes], of rows that have been checked."""
        each: Tensor = self.model(torch.from_numpy(self.card.preparation.apply(rows))).double()
        return each if each.ndim == 2 else torch.stack([1 - each, each], dim=1)

    def records(self, model_input: Any, most: int = MAX_ROWS) -> list[dict[str, Any]]:
        """Return a label and the probabilities by class for each row of a frame, a record or a list of records.

        Raises:
            InputError: Columns are missing or unknown, or values are not allowed in their columns; names all of them.
        """
        rows = _rows(model_input)
        if len(rows) > most:
            raise InputError(f"{len(rows):,} rows at once; at most {most:,} are allowed. Send fewer at a time.")
        classes, each = self.card.classes, self.probabilities(check_rows(rows, self.card.columns))
        if not each.isfinite().all():
            number = int(each.reshape(len(each), -1).isfinite().all(dim=1).int().argmin()) + 1
            raise InputError(f"row {number}: its numbers are too large for the network")
        # Of two classes that are equally probable, the first.
        labels = each.argmax(dim=1).tolist()
        return [
            {"label": classes[label], "probabilities": dict(zip(classes, values, strict=True))}
            for label, values in zip(labels, each.tolist(), strict=True)
        ]


def _rows(given: Any) -> list[Mapping[str, Any]]:
    if isinstance(given, pd.DataFrame):
        return [{str(key): value for key, value in row.items()} for row in given.to_dict("records")]
    rows = [given] if isinstance(given, Mapping) else given
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"expected rows of named columns (a frame, a record or records), not {type(given).__name__}")
    return rows
