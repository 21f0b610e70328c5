"""The schema of the ledger's file: the headline numbers, and what goes beyond the report."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trackdl.spec.base import Reported, Strict, like
from trackdl.system.paths import UI

Measuring = Literal["mnist", "fashion", "transfer", "heart", "grid", "search"]


class Number(Strict):
    """A reference to a published number: its task, metric and epoch, and which of the report's trainings it is from."""

    task: Measuring
    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    series: str = ""


class HeadItem(Strict):
    """A published number among the ledger's headlines."""

    title: str = Field(min_length=1)
    of: Number


class Claimed(Reported):
    """A published number that is in no task's own file."""

    task: Measuring


class BeyondItem(Strict):
    """A number of ours that the report does not have.

    `set` overrides keys of the task's experiment file; its runs must have the `tags`. `against` is the published number
    for the same quantity. `lead` puts it among the page's headlines. `command` produces it, if not the task's own.
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

    With `seeds`, every training is needed for this many seeds, counted up from its file's, and missing ones are run;
    without it nothing is run, and the seeds that exist are used. Runs are linked to the address `ui`. `reported` are
    numbers that are in no task's own file. `as_reported` overrides keys of a task's experiment where the report's
    differed; the report's numbers are compared with such runs or, if there are none, with the task's own.
    """

    task: Literal["ledger"]
    seeds: int | None = Field(None, ge=1, le=100)
    ui: Annotated[str, like(r"https?://[^\s\"'<>]+", f"a page's address, e.g. {UI}")] = UI
    as_reported: dict[Measuring, dict[str, Any]] = Field(default_factory=dict)
    head: list[HeadItem] = Field(min_length=1)
    beyond: list[BeyondItem]
    reported: list[Claimed] = Field(default_factory=list)
