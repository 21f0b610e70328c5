"""The schema of `report.yaml`: what the report is called, who wrote it, and the steps of `trackdl main`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from trackdl.spec.base import Named, Strict, added, like

SLUG = r"[a-z0-9][a-z0-9-]{0,39}"


class Step(Strict):
    """One step of `main`; where only `task` is given, its name alone will do.

    Attributes:
        task: An experiment of the report, by its name.
        set: Keys of that experiment, with the values that they have in this step instead of the file's, e.g.
            `{data.preprocessing: mnist}`.
        optional: Skip the step, with a message, if its data are not available.
    """

    task: str
    set: dict[str, Any] = Field(default_factory=dict)
    optional: bool = added(False)


class ReportSpec(Named):
    """A report, whose folder holds its experiment files.

    Attributes:
        title: The report's own, e.g. "Project 4: Introduction to Deep Learning".
        authors: As they should be named, e.g. "Shen and Liu".
        source: Where the report can be read: an address.
        pages: By an experiment's name, the address of the notebook that its numbers are quoted from.
        year: When it was published.
        slug: A short name; registered models of the report are called SLUG-EXPERIMENT by default.
        steps: What `trackdl main` runs, in this order; by default every experiment, and then the ledger.
    """

    task: Literal["report"]
    title: str = Field(min_length=1)
    authors: str = ""
    source: str = ""
    pages: dict[str, Annotated[str, like(r"https?://[^\s\"'<>]+", "a page's address, https://...")]] = added({})
    year: int | None = Field(default=None, ge=1900, le=2200)
    slug: Annotated[str, like(SLUG, "lower-case letters, digits and -, at most 40")]
    steps: list[Step] = Field(default_factory=list)

    @field_validator("steps", mode="before")
    @classmethod
    def _names_are_steps(cls, steps: Any) -> Any:
        return (
            [{"task": step} if isinstance(step, str) else step for step in steps] if isinstance(steps, list) else steps
        )

    @property
    def by(self) -> str:
        """The title, with the authors and the year if they are known."""
        authors = f" by {self.authors}" if self.authors else ""
        return f"“{self.title}”{authors}" + (f" ({self.year})" if self.year else "")
