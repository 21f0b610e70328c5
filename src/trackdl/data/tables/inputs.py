"""Rows of a table encoded as a network's inputs by a preparation.

A preparation is fitted on training rows only and consists of numbers, so a served model keeps it as JSON.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from trackdl.data.tables.heart import FEATURES
from trackdl.errors import InputError
from trackdl.spec.table import Column, TableInputs

# Filled values are marked in a column of their own where at least this share of the training rows lacks them.
MARKED = 0.05
_LARGEST = 1e30  # still finite as float32


class Components(BaseModel):
    """Principal components: the means of the inputs [d] and the directions of the components [k, d]."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    mean: list[FiniteFloat]
    directions: list[list[FiniteFloat]]


def used_columns(settings: TableInputs, columns: Sequence[Column]) -> list[Column]:
    """Return the columns that the settings do not drop.

    Raises:
        InputError: The settings drop a column that there is not, or all columns.
    """
    names = [column.name for column in columns]
    if unknown := [name for name in settings.drop if name not in names]:
        raise InputError(f"inputs.drop: no column {unknown[0]!r}. The columns are {', '.join(names)}")
    used = [column for column in columns if column.name not in settings.drop]
    if not used:
        raise InputError("inputs.drop: no column is left")
    return used


class Preparation(BaseModel):
    """The fitted encoding of raw rows as a network's inputs.

    Attributes:
        names: The columns that are used, in order.
        categories: The categories, by column, that are one-hot encoded or numbered.
        numbered: Whether categories are numbered, in place, instead of one-hot encoded after all numbers.
        zeros: The columns in which a 0 is a missing value.
        medians: The values that replace missing ones, by column of numbers.
        marked: The columns whose missing values are marked in a column of their own, after all others.
        mean: The mean of each encoded column, [d]; 0 if they are not scaled.
        scale: Its standard deviation, [d]; 1 for a constant column, or if they are not scaled.
        components: The principal components of the scaled columns, or None.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    names: list[str]
    categories: dict[str, list[str]]
    numbered: bool = False
    zeros: list[str]
    medians: dict[str, FiniteFloat]
    marked: list[str]
    mean: list[FiniteFloat]
    scale: list[Annotated[FiniteFloat, Field(gt=0)]]
    components: Components | None

    @model_validator(mode="before")
    @classmethod
    def _of_older_models(cls, given: Any) -> Any:
        """Fill in what was the same for all models when there was only the heart table."""
        if not isinstance(given, dict) or "names" in given or "medians" not in given:
            return given
        medians = list(given["medians"])
        marked = [name for name in medians if name == "Cholesterol"]
        return {"names": [column.name for column in FEATURES], "zeros": medians, "marked": marked, **given}

    @classmethod
    def fit(cls, rows: pd.DataFrame, settings: TableInputs, columns: Sequence[Column]) -> "Preparation":
        """Fit on the training rows.

        Raises:
            InputError: As `used_columns`.
        """
        used = used_columns(settings, columns)
        numbered = settings.encoding == "labels"
        categories = {}
        for column in used:
            values = [*column.categories, *([""] if (rows[column.name] == "").any() else [])]
            # For two categories one column is enough, unless both may be absent.
            both = numbered or len(values) > 2 or column.missing
            if column.categories:
                categories[column.name] = values if both else values[1:]
        zeros = [column.name for column in used if column.zero_is_missing] if settings.missing_zeros else []
        medians, marked = {}, []
        for column in used:
            if column.name in zeros or (column.missing and not column.categories):
                numbers = _measured(rows, column.name, zeros)
                lacking = np.isnan(numbers)
                medians[column.name] = 0.0 if lacking.all() else float(np.median(numbers[~lacking]))
                marked += [column.name] if lacking.mean() >= MARKED else []
        unscaled = cls(
            names=[column.name for column in used],
            categories=categories,
            numbered=numbered,
            zeros=zeros,
            medians=medians,
            marked=marked,
            mean=[],
            scale=[],
            components=None,
        )
        encoded = unscaled.encode(rows)
        mean, scale, components = np.zeros(encoded.shape[1]), np.ones(encoded.shape[1]), None
        # Not at the top: predictions need neither, and loading them takes longer than most of these.
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        if settings.scaled:
            scaler = StandardScaler().fit(encoded)
            mean, scale = scaler.mean_, scaler.scale_
        if settings.variance is not None:
            pca = PCA(settings.variance, svd_solver="full").fit((encoded - mean) / scale)
            components = Components(mean=pca.mean_.tolist(), directions=pca.components_.tolist())
        fitted = {"mean": mean.tolist(), "scale": scale.tolist(), "components": components}
        return unscaled.model_copy(update=fitted)

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.components.directions) if self.components else len(self.mean)

    def apply(self, rows: pd.DataFrame) -> NDArray[np.float32]:
        """Return the inputs of rows, float32 [n, width]."""
        scaled = (self.encode(rows) - self.mean) / self.scale
        if self.components:
            scaled = (scaled - self.components.mean) @ np.array(self.components.directions).T
        return np.clip(scaled, -_LARGEST, _LARGEST).astype(np.float32)

    def encode(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return numbers, categories and the marks of filled values, float64 [n, d], before scaling."""
        measured = {n: _measured(rows, n, self.zeros) for n in self.names if n not in self.categories}
        columns = []
        for name in self.names:
            if name in measured:
                numbers = measured[name]
                columns.append(
                    np.where(np.isnan(numbers), self.medians[name], numbers) if name in self.medians else numbers
                )
            elif self.numbered:
                # A category that is unknown is numbered after all others.
                places = {value: place for place, value in enumerate(self.categories[name])}
                columns.append(np.array([places.get(value, len(places)) for value in rows[name]], np.float64))
        for name, values in self.categories.items() if not self.numbered else ():
            columns += [(rows[name] == value).to_numpy(np.float64) for value in values]
        columns += [np.isnan(measured[name]).astype(np.float64) for name in self.marked]
        return np.stack(columns, axis=1)


def _measured(rows: pd.DataFrame, name: str, zeros: Sequence[str]) -> NDArray[np.float64]:
    """Return a column of numbers, missing ones as NaN."""
    numbers = rows[name].to_numpy(np.float64)
    return np.where(numbers == 0, np.nan, numbers) if name in zeros else numbers
