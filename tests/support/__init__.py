"""What the tests share: tiny data, stand-ins for fits, servers of their own; processes load it as the tests do."""

from pathlib import Path

__all__ = ["ROOT"]

ROOT = Path(__file__).resolve().parents[2]
