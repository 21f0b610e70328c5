"""The ledger: every number of the report beside ours, what it is worth, and how anyone can compute it again.

Pure throughout: nothing here trains or tracks. What it needs of the runs is handed in (`tasks.ledger` does).
"""

from trackdl.ledger.rows import NumberRow, beside, table

__all__ = ["NumberRow", "beside", "table"]
