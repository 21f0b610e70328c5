"""The ledger: every published number next to ours, a verdict on it, and how anyone can compute it again.

Nothing here trains, and all but `finder` and `evidence` are pure: `tasks.ledger` passes the runs in.
"""

from trackdl.ledger.rows import NumberRow, check_numbers, compare, table

__all__ = ["NumberRow", "check_numbers", "compare", "table"]
