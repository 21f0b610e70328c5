"""Rows of the heart table become a network's inputs: by the report's label encoding, or by a preparation.

A preparation is fitted on training rows only and is nothing but numbers, so it goes into a served model as JSON.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.decomposition import PCA
from sklearn.preprocessing import LabelEncoder, StandardScaler

from trackdl.data.heart.schema import CATEGORIES, FEATURES, MISSING_AS_ZERO, NUMBERS
from trackdl.spec.heart import HeartInputs

__all__ = ["Components", "Preparation", "label_encoded"]

# The column that tells a filled-in cholesterol from a measured one. RestingBP is 0 in one row of 918: too few to learn.
MARKED = "Cholesterol"


def label_encoded(frame: pd.DataFrame) -> NDArray[np.float32]:
    """Encode as the report did: each text column's values, sorted, numbered from 0, by this table alone; no scaling.

    A table that lacks a category numbers the others otherwise: the report's fault, which the report's own two tables
    do not show, since each holds every category.

    Returns:
        float32 [n, 11], the columns in the table's order.
    """
    columns = [
        LabelEncoder().fit_transform(frame[column.name]) if column.categories else frame[column.name]
        for column in FEATURES
    ]
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


class Components(BaseModel):
    """Principal components: the inputs' means [d], and the components' directions [k, d]."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    mean: list[float]
    directions: list[list[float]]


class Preparation(BaseModel):
    """What turns raw rows into a network's inputs, fitted.

    Attributes:
        categories: The categories that a column of 0 and 1 was made for, by table column.
        medians: What stands in for a value that is 0 for "missing", by table column; empty where 0 is taken as it is.
        mean: Of each column before scaling, [d].
        scale: Its standard deviation, [d]; 1 where it is constant.
        components: The principal components that are taken of the scaled columns, or None.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    categories: dict[str, list[str]]
    medians: dict[str, float]
    mean: list[float]
    scale: list[float]
    components: Components | None

    @classmethod
    def fit(cls, rows: pd.DataFrame, settings: HeartInputs) -> "Preparation":
        """Fit on rows of the table.

        Args:
            rows: The training rows, and no others.
            settings: What is done; its encoding is one-hot.
        """
        # One column tells two categories apart; a second would be its mirror.
        categories = {name: list(values if len(values) > 2 else values[1:]) for name, values in CATEGORIES.items()}
        medians = {}
        for name in MISSING_AS_ZERO if settings.missing_zeros else ():
            measured = rows.loc[rows[name] != 0, name]
            medians[name] = float(measured.median()) if len(measured) else 0.0
        columns = _columns(rows, categories, medians)
        scaler = StandardScaler().fit(columns)
        mean, scale = scaler.mean_.tolist(), scaler.scale_.tolist()
        components = None
        if settings.variance is not None:
            pca = PCA(settings.variance, svd_solver="full").fit((columns - scaler.mean_) / scaler.scale_)
            components = Components(mean=pca.mean_.tolist(), directions=pca.components_.tolist())
        return cls(categories=categories, medians=medians, mean=mean, scale=scale, components=components)

    @property
    def width(self) -> int:
        """How many inputs a row becomes."""
        return len(self.components.directions) if self.components else len(self.mean)

    def apply(self, rows: pd.DataFrame) -> NDArray[np.float32]:
        """Return the inputs of rows, float32 [n, width]."""
        scaled = (_columns(rows, self.categories, self.medians) - self.mean) / self.scale
        if self.components:
            scaled = (scaled - self.components.mean) @ np.array(self.components.directions).T
        return scaled.astype(np.float32)


def _columns(rows: pd.DataFrame, categories: dict[str, list[str]], medians: dict[str, float]) -> NDArray[np.float64]:
    """Return numbers, categories as 0 and 1, and the mark of what is missing, float64 [n, d], not scaled yet."""
    columns = []
    for name in NUMBERS:
        numbers = rows[name].to_numpy(np.float64)
        columns.append(np.where(numbers == 0, medians[name], numbers) if name in medians else numbers)
    for name, values in categories.items():
        columns += [(rows[name] == value).to_numpy(np.float64) for value in values]
    if MARKED in medians:
        columns.append((rows[MARKED] == 0).to_numpy(np.float64))
    return np.stack(columns, axis=1)
