"""The schema of the ledger's file: which numbers lead, and what goes beyond the report."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trackdl.spec.base import Reported, Strict, like
from trackdl.system.paths import UI

__all__ = ["BeyondItem", "Claimed", "HeadItem", "LedgerSpec", "Number"]

Measuring = Literal["mnist", "fashion", "transfer", "heart", "grid", "search"]


class Number(Strict):
    """A number by its name: the task's, the metric's, the epoch's, and of the report's trainings the one it is of."""

    task: Measuring
    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    series: str = ""


class HeadItem(Strict):
    """A published number that the ledger leads with."""

    title: str = Field(min_length=1)
    of: Number


class Claimed(Reported):
    """A published number that stands in no task's own file."""

    task: Measuring


class BeyondItem(Strict):
    """A number of ours that the report has not.

    `set` changes single keys of the task's experiment file; `tags` must be those of its runs. `against` is the
    published number that stands for the same thing. `lead`: it is among what the page leads with. `command`: what makes
    it, where it is not the task's own.
    """

    title: str = Field(min_length=1)
    task: Measuring
    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    set: dict[str, Any] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    against: Number | None = None
    words: str = ""
    command: str = ""
    lead: bool = True


class LedgerSpec(Strict):
    """The ledger.

    `seeds`: every training is there for so many seeds, counted from its file's; what is missing is run. Without it
    nothing is run, and the seeds that are there are taken. `ui` is the address that runs are linked to.
    `reported`: what stands in no task's own file. `as_reported`: keys of a task's experiment that the report had
    otherwise; its numbers are compared with runs that have them so, or, where there is none, with the task's own.
    """

    task: Literal["ledger"]
    seeds: int | None = Field(None, ge=1, le=100)
    ui: Annotated[str, like(r"https?://[^\s\"'<>]+", f"a page's address, e.g. {UI}")] = UI
    as_reported: dict[Measuring, dict[str, Any]] = Field(default_factory=dict)
    head: list[HeadItem] = Field(min_length=1)
    beyond: list[BeyondItem]
    reported: list[Claimed] = Field(default_factory=list)
