"""What the tests of one task share."""

from pathlib import Path

import pytest

from trackdl.tasks import search


@pytest.fixture
def own_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str, own_studies: None) -> None:  # noqa: ARG001
    """Give a search stores, and a folder for its reports, of its own."""
    monkeypatch.setattr(search, "project_root", lambda: tmp_path)
