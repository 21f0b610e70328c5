"""What a check of the machine or of a store has found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = ["NAMED", "Finding", "listed"]


NAMED = 5


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: The check's.
        level: ok; warn where something may go wrong; fault where it is wrong.
        words: What was found.
        remedy: What to do; empty where it is ok.
    """

    name: str
    level: Literal["ok", "warn", "fault"]
    words: str
    remedy: str = ""


def listed(items: Iterable[str]) -> str:
    """Return the first few items and how many there are more."""
    names = list(items)
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])
