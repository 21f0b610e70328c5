"""What keeps tests apart, for fixtures of a test and of a module: a store of its own, and figures that cost nothing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from matplotlib.figure import Figure
from PIL import Image

from trackdl.tracking import store


@contextmanager
def own_store(folder: Path, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put a copy of an empty store into a folder while the block runs; give its address."""
    shutil.copy(empty, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(store, "project_root", lambda: folder)
    store.client.cache_clear()
    yield uri
    while mlflow.active_run():
        mlflow.end_run("FAILED")
    store.client.cache_clear()


def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a blank image for each figure: to lay a figure out takes a second."""
    drawn = Figure.savefig

    def blank(figure: Figure, place: object, **how: Any) -> None:
        if isinstance(place, Path):
            Image.new("L", (1, 1)).save(place)
        else:  # into memory, which only a page's figures are
            drawn(figure, place, **how)

    monkeypatch.setattr(Figure, "savefig", blank)
