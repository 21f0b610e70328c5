"""The model as served: a picture or a row of a table in, a label and its probabilities out.

A model's folder holds `model.json` (which network, which classes, which preprocessing) and `weights.safetensors`.
MLflow loads it through `_load_pyfunc`, with this package's code beside it in the artifact: no pickle, no checkout.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from trackdl.serving.cards import AnyCard, Card, PictureCard, TableCard, read_model, write_model
from trackdl.serving.pictures import SIDE, ServedPictures
from trackdl.serving.tables import ServedTable

if TYPE_CHECKING:
    from trackdl.serving.pyfunc import Named

__all__ = [
    "SIDE",
    "AnyCard",
    "Card",
    "PictureCard",
    "ServedPictures",
    "ServedTable",
    "TableCard",
    "read_model",
    "serve",
    "write_model",
]


def serve(folder: Path) -> ServedPictures | ServedTable:
    """Return the model of a folder, ready to be asked.

    Raises:
        TrackdlError: As `read_model`.
    """
    model, card = read_model(folder)
    return ServedTable(model, card) if isinstance(card, TableCard) else ServedPictures(model, card)


def _load_pyfunc(path: str) -> "Named":
    """Load what MLflow's python_function flavour names: the folder `data/model` of an artifact."""
    from trackdl.serving.pyfunc import Named, registered_as

    return Named(serve(Path(path)), *registered_as(Path(path).parents[1]))
