"""What the tests of one task share."""

from pathlib import Path

import pytest

from trackdl.studies import store
from trackdl.tasks import search


@pytest.fixture
def own_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str) -> None:  # noqa: ARG001
    """Give a search stores of its own."""
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    monkeypatch.setenv("SEARCH_TEST", str(tmp_path))
    monkeypatch.setattr(search, "project_root", lambda: tmp_path)
    store.storage.cache_clear()
