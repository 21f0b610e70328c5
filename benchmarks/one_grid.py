"""One side of `grid.py`, in a process of its own: prints its result as one line of JSON, the last on standard output.

python benchmarks/one_grid.py '{"side": "report", "epochs": 1, "validation": 0.98, "seed": 1}'
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from grid_sides import CELLS, WORKERS, Fit, Job, run_pool, run_trackdl


def run(side: str, job: Job) -> dict[str, Any]:
    """Run a side on the sample.

    Returns:
        Its `fits`, the number of `trials` (cells), of `workers`, and of `threads` per fit.
    """
    fits: list[Fit] = run_trackdl(job) if side == "trackdl" else run_pool(side, job)
    return {
        "fits": [asdict(fit) for fit in fits],
        "trials": len(CELLS),
        "workers": WORKERS,
        "threads": max(fit.threads for fit in fits),
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(run(asked.pop("side"), Job(**asked))))
