"""Task 2's network by keys of its experiment file; what is not named is as in the report's first one, but padded."""

from typing import Any

from trackdl.networks.fashion import FashionNet
from trackdl.spec.fashion import FashionModel

FIRST = {
    "conv_layers": 2,
    "filter_size": 3,
    "filters": 16,
    "dense_nodes": 128,
    "dropout": 0.1,
    "pool_size": 2,
    "activation": "relu",
}


def model_of(**changes: Any) -> FashionModel:
    return FashionModel.model_validate(FIRST | changes)


def fashion_net(side: int = 28, **changes: Any) -> FashionNet:
    return FashionNet(model_of(**changes), side=side)
