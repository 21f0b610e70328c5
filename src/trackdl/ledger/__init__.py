"""The ledger: every published number next to ours, a verdict on it, and how anyone can compute it again.

Nothing here trains, and all but `finder` and `evidence` are pure: runs are handed in (`tasks.ledger` does).
"""

from trackdl.ledger.rows import NumberRow, compare, table

__all__ = ["NumberRow", "compare", "table"]
