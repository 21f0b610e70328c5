"""A grid's table whose effects are known, for the tests of what is said of it."""

from itertools import product

import numpy as np
import pandas as pd

EPOCHS = 10
VALUES = {
    "activation": ["relu", "sigmoid", "tanh"],
    "filter_size": [3, 5],
    "dense_nodes": [128, 256],
    "dropout": [0.1, 0.3],
    "filters": [16, 32],
    "conv_layers": [2, 3],
    "pool_size": [2],
}
EXTRA = VALUES | {"activation": ["relu"], "dense_nodes": [128], "dropout": [0.1], "pool_size": [3]}

# Points of accuracy that each value adds; 0 where it is not named.
EFFECTS = {
    "activation": {"sigmoid": -3.0, "tanh": -0.6},
    "filter_size": {5: 0.3},
    "dense_nodes": {256: 0.02},
    "dropout": {0.3: -0.4},
    "filters": {32: 0.7},
    "conv_layers": {3: 0.25},
    "pool_size": {3: -1.0},
}
DIMENSIONS = tuple(VALUES)
COST = {"filter_size": {5: 1.5}, "filters": {32: 1.8}, "conv_layers": {3: 1.2}}  # times the processor seconds


def made_table(
    seed: int = 0,
    *,
    effects: dict[str, dict[object, float]] = EFFECTS,
    noise: float = 0.3,
    common: float = 0.03,
    folds: int = 3,
    lasting: float = 0.0,
    louder: dict[str, float] | None = None,
) -> pd.DataFrame:
    """Return the table of the report's 96 configurations and our 8.

    Args:
        seed: Of the noise.
        effects: Points that each value adds to 90 % accuracy.
        noise: Deviation of one fit, points.
        common: Deviation of what each value adds in one fold, in all configurations alike, points.
        folds: How many.
        lasting: The share of a fit's variance that all folds of its configuration have in common.
        louder: What the noise is times, by activation.
    """
    random = np.random.default_rng(seed)
    shared = {(d, v): random.normal(0, common, folds) for d, values in VALUES.items() for v in [*values, 3]}
    constant = np.random.default_rng([seed, 1])
    rows = []
    for grid, space in (("report", VALUES), ("pool", EXTRA)):
        for values in product(*(space[name] for name in DIMENSIONS)):
            cell = dict(zip(DIMENSIONS, values, strict=True))
            scale = noise * (louder or {}).get(str(cell["activation"]), 1.0)
            kept = constant.normal(0, scale * lasting**0.5)
            for fold in range(folds):
                added = [effects.get(d, {}).get(v, 0.0) + shared[d, v][fold] for d, v in cell.items()]
                final = 0.9 + (sum(added) + kept + random.normal(0, scale * (1 - lasting) ** 0.5)) / 100
                seconds = 60 * np.prod([COST.get(d, {}).get(v, 1.0) for d, v in cell.items()])
                seconds *= np.exp(random.normal(0, 0.02))
                rows.append({"grid": grid, **cell, "fold": fold, "seed": 1 + fold, "parameters": 100_000})
                rows[-1] |= {"fit_seconds": 1.1 * seconds, "cpu_seconds": seconds, "batch_ms": seconds / 2}
                rows[-1] |= _history(final, random)
    return pd.DataFrame(rows)


def without_padding(fits: pd.DataFrame) -> pd.DataFrame:
    """Return those fits of a padded grid whose configurations are networks without padding too."""
    impossible = (fits["conv_layers"] == 3) & ((fits["filter_size"] == 5) | (fits["pool_size"] == 3))
    return fits[~impossible].reset_index(drop=True)


def _history(final: float, random: np.random.Generator) -> dict[str, float]:
    epochs = np.arange(1, EPOCHS + 1)
    # The last epoch is exactly the final value; those before it rise towards it.
    accuracy = final - 0.12 * (np.exp(-epochs / 2.5) - np.exp(-EPOCHS / 2.5))
    accuracy[:-1] += random.normal(0, 0.001, EPOCHS - 1)
    columns = {
        "train_loss": 2.2 * (1 - accuracy) + 0.05,
        "train_accuracy": accuracy + 0.01,
        "val_loss": 2.6 * (1 - accuracy),
        "val_accuracy": accuracy,
    }
    return {f"{name}_{epoch}": values[epoch - 1] for name, values in columns.items() for epoch in epochs.tolist()}
