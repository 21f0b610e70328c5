"""The schema of a recovery: which values of the keys that a report leaves out explain the numbers that it prints."""

from functools import cached_property
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from trackdl.spec.base import DROPOUT, Named
from trackdl.spec.classify import ClassifySpec
from trackdl.spec.grid import REPORT, GridSpec, Space
from trackdl.spec.keys import reason

PREFIX = "recover-"  # of the name of an experiment's recovery


class CandidateGrid(GridSpec):
    """The candidates' trainings as a grid; other fits than a grid's, so its study has another name."""

    def study(self, grid: str) -> str:
        """Return the name of the study."""
        return f"{PREFIX}{super().study(grid)}"


class RecoverSpec(Named):
    """A recovery: an experiment is trained with every combination of what its report leaves out, several times.

    Attributes:
        experiment: The experiment whose report leaves something out. A file may give its name instead, as `of: NAME`,
            and beside it `set: {KEY: VALUE}`, keys of the experiment with the values that they have in every candidate.
        seeds: How often each candidate is trained; each training has a seed and a validation split of its own.
        space: The keys, each with the values that it may have: those under `unknown` in the experiment's file.
    """

    task: Literal["recover"]
    experiment: ClassifySpec
    seeds: int = Field(5, ge=3, le=100)
    space: Space

    @model_validator(mode="after")
    def _the_space_is_of_the_experiment(self) -> "RecoverSpec":
        if not any(len(values) > 1 for values in self.space.values()):
            raise ValueError("space: nothing to recover: no key has two values")
        values = self.space.get(DROPOUT, [])
        if any(not isinstance(value, bool) for value in values) or len(set(values)) < len(values):
            raise ValueError(f"space: {DROPOUT}: may be true or false, each once")
        if values and not self.experiment.data.validation:
            raise ValueError(f"space: {DROPOUT}: the experiment validates nothing; it has no data.validation")
        try:
            _ = self.grid
        except ValidationError as error:
            raise ValueError(reason(error)) from error
        return self

    @cached_property
    def grid(self) -> CandidateGrid:
        """The trainings: how the numbers are read, `DROPOUT`, needs none of its own.

        Raises:
            ValueError: The space is not of the experiment.
        """
        still = {"training.epochs": [self.experiment.training.epochs]}  # a grid needs a key
        return CandidateGrid.model_validate(
            {
                "task": "grid",
                "name": self.name,
                "title": self.title,
                "experiment": self.experiment.model_dump(by_alias=True),
                "judge": {"by": "validation" if self.experiment.data.validation else "test"},
                "seeds": self.seeds,
                "space": {key: values for key, values in self.space.items() if key != DROPOUT} or still,
            }
        )

    def candidates(self) -> list[dict[str, Any]]:
        """Return every candidate that is a network: a value for each key, the last key changing fastest."""
        grid = self.grid
        found = [
            {key: cell[name] for name, key in grid.names.items() if key in self.space} for cell in grid.cells(REPORT)
        ]
        if DROPOUT not in self.space:
            return found
        return [{**cell, DROPOUT: value} for cell in found for value in self.space[DROPOUT]]
