"""The schema of the grid's experiment file: whose keys are varied, which cells there are, and how each is judged."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from trackdl.spec.base import Named, Reported, Strict, added
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.hypotheses import Hypothesis
from trackdl.spec.keys import Scalar, among, meant, reason, set_key, short_names, try_value, value_of_key, with_keys

REPORT = "report"  # what the report's own space is called; any other is ours
MAX_CELLS, MAX_VALUES = 10_000, 500  # of a space, and of one of its keys
# Columns of the grid's table that no dimension may be called: see `analysis.grid_table`.
COLUMNS = ("grid", "fold", "seed", "precision", "parameters", "impossible", "score", "spread", "cost")
TIMES = ("fit_seconds", "cpu_seconds", "seconds", "batch_ms")
# The seed's dimensions, whose grid search is repeated with its faults.
FAULTY = {"activation", "filter_size", "dense_nodes", "dropout", "filters", "conv_layers", "pool_size"}

Cell = dict[str, Any]
Space = Annotated[dict[str, Annotated[list[Scalar], Field(min_length=1)]], Field(min_length=1, max_length=10)]


class Judge(Strict):
    """What a cell is judged on: `{folds: N}`, or one of the words `validation` and `test`.

    Attributes:
        by: The folds that are left out in turn, the validation split, or the test images.
        folds: The number of folds.
    """

    by: Literal["folds", "validation", "test"] = "folds"
    folds: int = Field(3, ge=2, le=100)

    @model_validator(mode="before")
    @classmethod
    def _a_word_says_by_what(cls, content: Any) -> Any:
        return {"by": content} if isinstance(content, str) else content


class Timing(Strict):
    """How the finished cells' training is timed, in random order.

    Attributes:
        batches: Over this many batches.
        repeats: So many times.
    """

    batches: int = Field(100, ge=1, le=10_000)
    repeats: int = Field(3, ge=1, le=100)


class GridSpec(Named):
    """A grid: an experiment is trained with every value of some of its keys, the dimensions.

    A cell is a value for each dimension, by the dimensions' short names. A cell that cannot be a network is impossible:
    it is not trained, and its row in the table gives the reason. Once all cells are finished, every cell's training is
    timed; then the best cell of `space`, and the report's choice if there is one, are trained from `fresh_seeds` new
    seeds on all images that the grid may learn from, and tested.

    Attributes:
        experiment: The experiment that every cell trains. A file may give its name instead, as `of: NAME`, and beside
            it `set: {KEY: VALUE}`, keys of the experiment with the values that they have in the whole grid.
        strategy: `exhaustive`: every combination; `one_at_a_time`: one cell, and those that differ from it in one
            dimension.
        base: That one cell's values; by default the experiment's.
        judge: On what a cell is judged. Folds are stratified, and cut from the training images outside of the
            validation split. With `validation` a cell learns from the training images outside of the validation split,
            with `test` from all training images.
        seeds: How often a cell is trained that is not judged by folds, with seeds counted up from the training's.
        space: The values of each dimension: 1 to 10 keys of `network` and `training`, of at most 10,000 cells.
        further: Spaces of ours over the same dimensions, by name.
        group: A dimension whose values have different score variances: the standard error is estimated for each value.
        choice: The cell that the report chose: its values, or `first`.
        choice_words: What that cell is called.
        faults: Repeat the project's report's grid search with the fault by which all of its fits failed.
        timing: How training is timed.
        fresh_seeds: How many new seeds train the best cell, and the choice, for the test.
        margin: Two cells that differ by less, in percentage points of accuracy, count as equal in practice.
        hypotheses: The claims that the grid tests.
        reported: Numbers that the report prints of the grid.
        reported_table: A CSV file with printed numbers of many cells: see `spec.cells`.
    """

    task: Literal["grid"]
    experiment: ClassifySpec
    strategy: Literal["exhaustive", "one_at_a_time"] = added("exhaustive")
    base: dict[str, Scalar] = added({})
    judge: Judge = Judge.model_validate({})
    seeds: int = added(1, ge=1, le=1000)
    space: Space
    further: dict[str, Space] = added({})
    group: str = added("")
    choice: Any = added(None)
    choice_words: str = added("the report's choice", min_length=1)
    faults: bool = added(False)
    timing: Timing = Timing.model_validate({})
    fresh_seeds: int = Field(default=5, ge=2, le=1000)
    margin: float = Field(0.25, gt=0, le=100)
    hypotheses: list[Hypothesis] = Field(default_factory=list)
    reported: list[Reported] = Field(default_factory=list)
    reported_table: str = added("")

    @model_validator(mode="after")
    def _the_spaces_are_of_the_experiment(self) -> "GridSpec":
        for grid, space in self.grids.items():
            where = "space" if grid == REPORT else f"further.{grid}"
            if space.keys() != self.space.keys():
                raise ValueError(f"{where}: must have the keys of space, {', '.join(self.space)}")
            self._check_size(where, space)
            for key, values in space.items():
                self._check_values(where, key, values)
            if self.strategy == "one_at_a_time":
                self._check_base(where, space)
            if not any(self._reason(cell) is None for cell in self._combinations(grid)):
                reason = self._reason(next(self._combinations(grid)))
                raise ValueError(f"every combination of {grid} is impossible; the first fails at {reason}")
        return self

    @model_validator(mode="after")
    def _keys_fit_together(self) -> "GridSpec":
        if self.base and self.strategy != "one_at_a_time":
            raise ValueError("base is a key of the strategy one_at_a_time")
        if self.judge.by == "validation" and not self.experiment.data.validation:
            raise ValueError(
                "judge: validation needs data.validation in the experiment, the share of images to hold out"
            )
        if self.seeds > 1 and self.judge.by == "folds":
            raise ValueError("seeds: each fold has a seed of its own; several are for judge: validation or test")
        _ = self.grouped_by  # raises if there is no such dimension
        if self.faults and set(self.names) != FAULTY:
            raise ValueError(f"faults: only a space over the dimensions {', '.join(sorted(FAULTY))} has these faults")
        if self.choice is not None and self.choice_cell not in self.cells(REPORT):
            raise ValueError(f"choice: {self.choice} must be a whole cell of the space, and a network")
        for number, one in enumerate(self.hypotheses):
            name = self.short(one.dimension, f"hypotheses.{number}.dimension")
            if one.best is not None and not among(one.best, self.space[self.names[name]]):
                raise ValueError(f"hypotheses.{number}.accuracy: best: {one.best} is not in the space")
        return self

    @field_validator("choice")
    @classmethod
    def _choice_is_a_cell(cls, choice: Any) -> Any:
        if choice in (None, "first") or isinstance(choice, dict):
            return choice
        raise ValueError("must be first, or the cell's values by key")

    def _check_size(self, where: str, space: Mapping[str, list[Any]]) -> None:
        lengths = [len(values) for values in space.values()]
        if max(lengths) > MAX_VALUES:
            raise ValueError(f"{where}: {max(lengths):,} values of one key; there may be {MAX_VALUES:,}")
        count = math.prod(lengths) if self.strategy == "exhaustive" else 1 + sum(lengths) - len(lengths)
        if count > MAX_CELLS:
            raise ValueError(f"{where}: {count:,} cells; there may be {MAX_CELLS:,}")

    def _check_values(self, where: str, key: str, values: list[Any]) -> None:
        if not key.startswith(("network.", "training.")) or key == "training.seed":
            raise ValueError(f"{where}: {key}: must be a key of network or training, and not the seed")
        for place, value in enumerate(values):
            if among(value, values[:place]):
                raise ValueError(f"{where}: {key} lists a value twice: {values}")
            try:
                if isinstance(value_of_key(self.experiment, key), list):
                    raise ValueError(f"{key} is a list; name a place in it, e.g. {key}.0")
                try_value(self.experiment, key, value)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error

    def _check_base(self, where: str, space: Mapping[str, list[Any]]) -> None:
        for name in self.base:
            self.short(name, "base")
        for name, value in self.base_cell.items():
            if not among(value, space[self.names[name]]):
                raise ValueError(
                    f"{where}: {self.names[name]}: the base cell's {value} is not in {space[self.names[name]]}"
                )

    @cached_property
    def names(self) -> dict[str, str]:
        """The dimensions: each one's key by its short name."""
        return short_names(list(self.space), (*COLUMNS, *TIMES))

    def short(self, name: str, where: str = "dimension") -> str:
        """Return the short name of a dimension, from its key or its short name.

        Raises:
            ValueError: There is no such dimension; the message begins with `where`.
        """
        for short, key in self.names.items():
            if name in (short, key):
                return short
        near = meant(name, [*self.names, *self.space])
        raise ValueError(f"{where}: {name}: no dimension of the space; {near}They are {', '.join(self.space)}")

    @property
    def grids(self) -> dict[str, dict[str, list[Any]]]:
        """All spaces: the report's, and the further ones by name."""
        return {REPORT: self.space, **self.further}

    @property
    def base_cell(self) -> Cell:
        """The cell that all others differ from in one dimension."""
        given = {self.short(name, "base"): value for name, value in self.base.items()}
        return {name: given.get(name, value_of_key(self.experiment, key)) for name, key in self.names.items()}

    @property
    def choice_cell(self) -> Cell | None:
        """The cell that the report chose, if it chose one."""
        if isinstance(self.choice, dict):
            given = {self.short(name, "choice"): value for name, value in self.choice.items()}
            return {name: given.get(name) for name in self.names}
        return self.cells(REPORT)[0] if self.choice else None

    @property
    def grouped_by(self) -> str:
        """The short name of the dimension `group`; empty without one."""
        return self.short(self.group, "group") if self.group else ""

    @property
    def fits(self) -> int:
        """How often each cell is trained."""
        return self.judge.folds if self.judge.by == "folds" else self.seeds

    @property
    def part(self) -> Literal["val", "test"]:
        """How the metrics begin that judge a cell."""
        return "test" if self.judge.by == "test" else "val"

    @property
    def remark(self) -> str:
        """What is wrong with every figure of the grid; empty if nothing is."""
        if self.judge.by != "test":
            return ""
        return "judged on the test images that chose among the cells: the best one's figure flatters it"

    def of_cell(self, cell: Cell) -> ClassifySpec:
        """Return the experiment with a cell's values.

        Raises:
            ValueError: The cell is impossible.
        """
        return with_keys(self.experiment, {self.names[name]: value for name, value in cell.items()})

    def cells(self, grid: str) -> list[Cell]:
        """Return the possible cells of one of the grids, the last dimension changing fastest."""
        return [cell for cell, reason in self._sorted[grid] if reason is None]

    def impossible(self, grid: str) -> list[tuple[Cell, str]]:
        """Return the impossible cells, each with the reason."""
        return [(cell, reason) for cell, reason in self._sorted[grid] if reason is not None]

    @cached_property
    def _sorted(self) -> dict[str, list[tuple[Cell, str | None]]]:
        return {grid: [(cell, self._reason(cell)) for cell in self._combinations(grid)] for grid in self.grids}

    def _combinations(self, grid: str) -> Iterator[Cell]:
        space = self.grids[grid]
        if self.strategy == "exhaustive":
            yield from (dict(zip(self.names, values, strict=True)) for values in product(*space.values()))
            return
        base = self.base_cell
        yield base
        for name, key in self.names.items():
            yield from (base | {name: value} for value in space[key] if not among(value, [base[name]]))

    def _reason(self, cell: Cell) -> str | None:
        """Return why a cell is no network; None if it is one."""
        try:
            self.of_cell(cell)
        except ValidationError as error:
            return reason(error)
        except ValueError as error:
            return str(error)
        return None

    def study(self, grid: str) -> str:
        """Return the name of the study that holds one of the grids.

        The name is a digest of everything that makes two cells comparable. Device and precision are left out: a cell
        is identified by its parameters, and each fit records what it was trained with. The seed is left out too: a grid
        is not continued with another one (`GridStudy.check_seed`). The report is part of the name,
        because two reports may have different images at the same path.
        """
        from trackdl.spec.files import report  # which reads grids

        own = self.experiment.model_dump(mode="json", by_alias=True, include={"data", "network", "training"})
        for key in ("training.seed", "training.device", "training.precision", *self.space):
            set_key(own, key, None)
        content = [report().slug, own, self.judge.model_dump(), self.seeds, self.strategy, self.base, self.grids[grid]]
        return f"grid-{grid}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"
