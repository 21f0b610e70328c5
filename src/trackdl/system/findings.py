"""What a check of the machine or of a store has found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        name: The check's.
        level: ok; warn if something may go wrong; fault if something is wrong.
        words: What was found.
        remedy: What to do; empty if the level is ok.
    """

    name: str
    level: Literal["ok", "warn", "fault"]
    words: str
    remedy: str = ""


def first_few(items: Iterable[str], separator: str = ", ", most: int = 5) -> str:
    """Return the first few items and how many more there are: "a, b, and 3 more"."""
    names = list(items)
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])
