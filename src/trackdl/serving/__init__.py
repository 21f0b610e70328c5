"""Models as served: images or table rows in, labels and probabilities out.

A model's folder holds `model.json` (network, classes, preprocessing) and `weights.safetensors`. MLflow loads it through
`_load_pyfunc`, with the copy of this package in the artifact, so neither a pickle nor a checkout is needed.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from trackdl.serving.cards import AnyCard, Card, ImageCard, TableCard, read_model, write_model
from trackdl.serving.images import ServedImages, as_pixels
from trackdl.serving.tables import ServedTable

if TYPE_CHECKING:
    from trackdl.serving.pyfunc import NamedModel

__all__ = [
    "AnyCard",
    "Card",
    "ImageCard",
    "ServedImages",
    "ServedTable",
    "TableCard",
    "as_pixels",
    "read_model",
    "serve",
    "write_model",
]


def serve(folder: Path) -> ServedImages | ServedTable:
    """Return the model of a folder, ready for requests.

    Raises:
        TrackdlError: As `read_model`.
    """
    model, card = read_model(folder)
    return ServedTable(model, card) if isinstance(card, TableCard) else ServedImages(model, card)


def _load_pyfunc(path: str) -> "NamedModel":
    """Load a model for MLflow's python_function flavour from an artifact's folder `data/model`."""
    from trackdl.serving.pyfunc import NamedModel, registered_as

    return NamedModel(serve(Path(path)), *registered_as(Path(path).parents[1]))
