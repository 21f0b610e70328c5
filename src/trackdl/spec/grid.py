"""The schema of the grid's experiment file: which configurations, which folds, and how each is trained."""

import hashlib
import json
import math
from itertools import product
from typing import Any, Literal

from pydantic import Field, model_validator

from trackdl.spec.base import Reported, Strict, Training, added
from trackdl.spec.fashion import Activation, FashionData, FashionModel, Padding
from trackdl.spec.hypotheses import Hypothesis

DIMENSIONS = ("activation", "filter_size", "dense_nodes", "dropout", "filters", "conv_layers", "pool_size")

Cell = dict[str, Any]


class Space(Strict):
    """The values of each of the seven dimensions; the grid is every combination of them."""

    activation: list[Activation] = Field(min_length=1)
    filter_size: list[Literal[3, 5, 7]] = Field(min_length=1)
    dense_nodes: list[int] = Field(min_length=1)
    dropout: list[float] = Field(min_length=1)
    filters: list[int] = Field(min_length=1)
    conv_layers: list[int] = Field(min_length=1)
    pool_size: list[Literal[2, 3]] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_cell_stands_once(self) -> "Space":
        for name, values in self:
            if len(set(values)) < len(values):
                raise ValueError(f"{name} lists a value twice: {values}")
        if math.prod(len(values) for _, values in self) > 100_000:
            raise ValueError("more than 100,000 combinations")
        return self

    def cells(self) -> list[Cell]:
        """Return every combination, the last dimension changing fastest."""
        return [
            dict(zip(DIMENSIONS, values, strict=True)) for values in product(*(getattr(self, n) for n in DIMENSIONS))
        ]


class Timing(Strict):
    """How the finished cells' training is timed, in random order: over `batches` batches, `repeats` times."""

    batches: int = Field(100, ge=1, le=10_000)
    repeats: int = Field(3, ge=1, le=100)


class GridSpec(Strict):
    """Task 2's grid: every cell is trained `folds` times, and each time evaluated on the fold that was left out.

    `grids` names the spaces: `report` is the report's own, others are ours. A combination that leaves too little of the
    image for one of its layers is impossible: it is not trained, and its row in the table gives the reason. `padding`
    applies to every convolution. The folds are stratified, and cut from the training images outside of the validation
    split. Two configurations that differ by less than `margin`, in percentage points of accuracy, count as equal in
    practice; `hypotheses` are the claims that the grid tests. Once all cells are finished, every cell's training is
    timed; then the best cell of `report` and its first, which was the report's choice, are trained on all of these
    images from `fresh_seeds` new seeds, and tested.
    """

    task: Literal["grid"]
    data: FashionData
    padding: Padding = added("same")
    folds: int = Field(ge=2, le=100)
    training: Training
    grids: dict[str, Space] = Field(min_length=1)
    timing: Timing = Field(default_factory=lambda: Timing.model_validate({}))
    fresh_seeds: int = Field(default=5, ge=2, le=1000)
    margin: float = Field(0.25, gt=0, le=100)
    hypotheses: list[Hypothesis] = Field(default_factory=list)
    reported: list[Reported] = Field(default_factory=list)

    @model_validator(mode="after")
    def _the_reports_grid_is_there(self) -> "GridSpec":
        if "report" not in self.grids:
            raise ValueError("one of the grids must be named report: the conclusions are drawn from it")
        for grid in self.grids:
            if not self.cells(grid):
                _, reason = self.impossible(grid)[0]
                raise ValueError(f"every combination of {grid} is impossible; the first fails at {reason}")
        return self

    def model(self, cell: Cell) -> FashionModel:
        """Return the network of a cell; it may be impossible."""
        return FashionModel(**cell, padding=self.padding)

    def cells(self, grid: str) -> list[Cell]:
        """Return the possible combinations of one of the grids, the last dimension changing fastest."""
        return [cell for cell in self.grids[grid].cells() if self._reason(cell) is None]

    def impossible(self, grid: str) -> list[tuple[Cell, str]]:
        """Return the impossible combinations, each with the layer and the shape at which it fails."""
        reasons = ((cell, self._reason(cell)) for cell in self.grids[grid].cells())
        return [(cell, reason) for cell, reason in reasons if reason is not None]

    def _reason(self, cell: Cell) -> str | None:
        model = self.model(cell)
        try:
            model.sides()
        except ValueError as error:
            return str(error)
        return None

    def study(self, grid: str) -> str:
        """Return the name of the study that holds one of the grids.

        The name is a digest of everything that makes two cells comparable. Seed, device and precision are left out: a
        cell is identified by its parameters, and each fold records what it was trained with.
        """
        training = self.training.model_dump(mode="json", exclude={"seed", "device", "precision"})
        space = self.grids[grid].model_dump(mode="json")
        content = [self.data.model_dump(mode="json"), self.folds, training, space]
        if self.padding != "same":  # which the first grid had, before there was a choice
            content.append(self.padding)
        return f"grid-{grid}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"
