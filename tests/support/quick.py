"""Makes this process quick, and those that are forked from it; imported before trackdl's modules.

The processes of tests have loaded everything: a look at all its objects for garbage takes half a second.
"""

import gc
from functools import cache

from trackdl.system.processes import collect_rarely

collect_rarely()  # from before the great imports

from mlflow.store.db import utils  # noqa: E402

# It reads 67 migrations for each store that is opened, which takes longer than most tests of one.
utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)


def freeze() -> None:
    """Exclude what has been loaded from garbage collection."""
    gc.collect()
    gc.freeze()
