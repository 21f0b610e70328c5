"""Which tests need a browser, and why they are skipped where there is none."""

import importlib.util

import pytest

from tools import screens

_MISSING = [
    *(["Chromium (Debian: apt install chromium)"] if screens.CHROMIUM is None else []),
    *(["Playwright (pip install '.[dev]')"] if importlib.util.find_spec("playwright") is None else []),
]


def needs_browser(test: object) -> object:
    """Mark a test that opens a page."""
    skipped = pytest.mark.skipif(bool(_MISSING), reason=f"not on this machine: {', '.join(_MISSING)}")
    return pytest.mark.browser(skipped(test))
