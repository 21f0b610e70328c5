"""Several processes that open the same stores at once, forked from one that has loaded everything: starting is dear."""

import os

from support.forked import pool


def _open(urls: tuple[str, str]) -> str:
    """Open absent stores, as the first command of a checkout does; return the experiment's id."""
    os.environ["MLFLOW_TRACKING_URI"], os.environ["TRACKDL_STORAGE"] = urls
    from trackdl.studies import store as studies
    from trackdl.tracking import store

    studies.storage()
    return store.home_experiment()


def four_at_once(tracking: str, storage: str) -> list[str]:
    """Let four processes open both stores; return the experiment's id that each found or made."""
    with pool(4) as four:
        return four.map(_open, [(tracking, storage)] * 4, chunksize=1)
