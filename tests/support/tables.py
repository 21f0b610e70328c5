"""The heart table, and small tables of one's own."""

from pathlib import Path
from typing import Any

import pandas as pd

from trackdl.data.tables.cells import read_cells
from trackdl.data.tables.heart import FEATURES, HEART
from trackdl.data.tables.schema import check_header, frame_of
from trackdl.data.tables.table import Table, load_table
from trackdl.spec.table import TableData

CLASSES = ["normal", "heart disease"]


def load_heart(csv: Path | None = None, test_csv: Path | None = None, seed: int = 0) -> Table:
    named = {key: str(path) for key, path in (("csv", csv), ("test_csv", test_csv)) if path}
    return load_table(TableData(dataset="heart", **named), seed)


def own(path: Path, text: str | bytes, /, **keys: Any) -> Table:
    """Write a table of one's own and read it; its target is `y` unless the keys say otherwise."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_table(TableData.model_validate({"csv": str(path), "target": "y", **keys}))


def features(content: bytes, name: str) -> pd.DataFrame:
    """Read the heart table's features from a file."""
    cells = read_cells(content, name).without([])
    check_header(cells.header, [*HEART.columns, str(HEART.target)], name)
    return frame_of(dict(zip(cells.header, zip(*cells.rows, strict=True), strict=True)), FEATURES, name)
