"""Rows of the heart table encoded as a network's inputs: by the report's label encoding or by a preparation.

A preparation is fitted on training rows only and consists of numbers, so a served model keeps it as JSON.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.decomposition import PCA
from sklearn.preprocessing import LabelEncoder, StandardScaler

from trackdl.data.heart.schema import CATEGORIES, FEATURES, MISSING_AS_ZERO, NUMBERS
from trackdl.spec.heart import HeartInputs

# The column whose imputed values are marked in a column of their own. RestingBP is 0 in only one of 918 rows.
MARKED = "Cholesterol"


def label_encoded(frame: pd.DataFrame) -> NDArray[np.float32]:
    """Encode as the report did: the sorted values of each text column are numbered from 0, without scaling.

    The report's fault is that each table is encoded by itself: one that lacks a category numbers the others
    differently. Its own two tables hold every category.

    Returns:
        float32 [n, 11], the columns in the table's order.
    """
    columns = [
        LabelEncoder().fit_transform(frame[column.name]) if column.categories else frame[column.name]
        for column in FEATURES
    ]
    return np.stack([np.asarray(column, np.float32) for column in columns], axis=1)


class Components(BaseModel):
    """Principal components: the means of the inputs [d] and the directions of the components [k, d]."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    mean: list[float]
    directions: list[list[float]]


class Preparation(BaseModel):
    """The fitted encoding of raw rows as a network's inputs.

    Attributes:
        categories: The categories that are one-hot encoded, by column of the table.
        medians: The values that replace a 0 for "missing", by column; empty where 0 stays 0.
        mean: The mean of each encoded column, [d].
        scale: Its standard deviation, [d]; 1 for a constant column.
        components: The principal components of the scaled columns, or None.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    categories: dict[str, list[str]]
    medians: dict[str, float]
    mean: list[float]
    scale: list[float]
    components: Components | None

    @classmethod
    def fit(cls, rows: pd.DataFrame, settings: HeartInputs) -> "Preparation":
        """Fit on the training rows by settings with the encoding one-hot."""
        # For two categories, one column is enough.
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
        """The number of inputs."""
        return len(self.components.directions) if self.components else len(self.mean)

    def apply(self, rows: pd.DataFrame) -> NDArray[np.float32]:
        """Return the inputs of rows, float32 [n, width]."""
        scaled = (_columns(rows, self.categories, self.medians) - self.mean) / self.scale
        if self.components:
            scaled = (scaled - self.components.mean) @ np.array(self.components.directions).T
        return scaled.astype(np.float32)


def _columns(rows: pd.DataFrame, categories: dict[str, list[str]], medians: dict[str, float]) -> NDArray[np.float64]:
    """Return numbers, one-hot categories and the mark of imputed values, float64 [n, d], before scaling."""
    columns = []
    for name in NUMBERS:
        numbers = rows[name].to_numpy(np.float64)
        columns.append(np.where(numbers == 0, medians[name], numbers) if name in medians else numbers)
    for name, values in categories.items():
        columns += [(rows[name] == value).to_numpy(np.float64) for value in values]
    if MARKED in medians:
        columns.append((rows[MARKED] == 0).to_numpy(np.float64))
    return np.stack(columns, axis=1)
