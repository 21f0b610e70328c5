"""Why all fits of the report's grid search failed, repeated; Task 4's faults are tested with its networks."""

import pytest
import torch
from sklearn.base import clone

from support import ROOT
from trackdl import spec
from trackdl.spec import GridSpec
from trackdl.tabular.faults import StaleLayers, failed_fits

IMAGES = torch.zeros(40, 1, 28, 28)


def test_all_fits_of_the_reports_search_fail_in_its_three_groups_with_its_errors() -> None:
    grid = spec.load(ROOT / "experiments" / "grid.yaml", GridSpec)
    found = failed_fits({name: grid.space[key] for name, key in grid.names.items()}, 3)
    third = "Calculated padded input size per channel: (2 x 2). Kernel size: (3 x 3)."
    ((message, count),) = found.pop("3 layers").items()
    assert (message.startswith(third), count) == (True, 144)
    assert found == {
        "2 layers of 16 filters": {"shape '[-1, 400]' is invalid for input of size 8192": 72},
        "2 layers of 32 filters": {"shape '[-1, 800]' is invalid for input of size 8192": 72},
    }


def test_it_is_set_params_that_breaks_a_network_which_its_constructor_builds_well() -> None:
    built = StaleLayers(conv_layers=2, filters=16, pool_size=2)
    for activation in ("relu", "sigmoid", "tanh"):
        clone(built).set_params(activation=activation, dense_nodes=128, dropout=0.3).fit(IMAGES)
    StaleLayers(conv_layers=2, filters=24, pool_size=2).fit(IMAGES)
    with pytest.raises(RuntimeError, match=r"shape '\[-1, 600\]' is invalid for input of size 12800"):
        clone(built).set_params(filters=24).fit(IMAGES)
