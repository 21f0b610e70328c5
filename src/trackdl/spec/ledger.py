"""The schema of the ledger's file: the headline numbers, and what goes beyond the report."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trackdl.spec.base import Named, Reported, Strict, added, like
from trackdl.system.paths import UI


class Number(Strict):
    """A reference to a published number: its experiment, metric and epoch, and which of the report's trainings."""

    task: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    series: str = ""


class HeadItem(Strict):
    """A published number among the ledger's headlines.

    Attributes:
        title: What it is called on the page.
        of: Which number it is.
    """

    title: str = Field(min_length=1)
    of: Number


class Claimed(Reported):
    """A published number that is in no experiment's own file."""

    task: str = Field(min_length=1)


class BeyondItem(Strict):
    """A number of ours that the report does not have.

    Attributes:
        title: What it is called on the page.
        task: The experiment's name.
        metric: The metric.
        epoch: By default the last.
        set: Keys of the experiment, with the values that the runs must have instead of the file's, e.g.
            `{data.preprocessing: mnist}`.
        tags: What the runs must have.
        against: The published number for the same quantity.
        words: A remark.
        command: What produces it, if not the experiment's own command.
        lead: Whether it is among the page's headlines.
    """

    title: str = Field(min_length=1)
    task: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    epoch: int | None = Field(None, ge=0)
    set: dict[str, Any] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    against: Number | None = None
    words: str = ""
    command: str = ""
    lead: bool = True


class Beside(Strict):
    """A grid of ours whose verdicts are quoted beside those of another grid, the report's.

    Attributes:
        of: The name of the experiment that is the other grid.
        words: What is different in ours.
    """

    of: str = Field(min_length=1)
    words: str = Field(min_length=1)


class LedgerSpec(Named):
    """The ledger. In its sections, `task` is an experiment's name.

    Attributes:
        seeds: Every training is needed for this many seeds, counted up from its file's, and missing ones are run; by
            default nothing is run, and the seeds that exist are used.
        ui: The address of the MLflow pages that runs are linked to.
        as_reported: Keys of an experiment where the report's differed, by the experiment's name. The report's numbers
            are compared with such runs or, if there are none, with the experiment's own.
        head: The numbers that the ledger leads with; by default the last of each experiment.
        beyond: Numbers of ours that the report does not have.
        reported: Numbers that are in no experiment's own file.
        beside: Variants of grids, by their names.
    """

    task: Literal["ledger"]
    seeds: int | None = Field(None, ge=1, le=100)
    ui: Annotated[str, like(r"https?://[^\s\"'<>]+", f"a page's address, e.g. {UI}")] = UI
    as_reported: dict[str, dict[str, Any]] = Field(default_factory=dict)
    head: list[HeadItem] = Field(default_factory=list)
    beyond: list[BeyondItem] = Field(default_factory=list)
    reported: list[Claimed] = Field(default_factory=list)
    beside: dict[str, Beside] = added({})

    def unknown_names(self, names: list[str]) -> list[str]:
        """Return, in words, each key that names an experiment other than `names`."""
        used = {f"as_reported.{name}": name for name in self.as_reported}
        used |= {f"reported.{number}.task": item.task for number, item in enumerate(self.reported)}
        used |= {f"head.{number}.of.task": item.of.task for number, item in enumerate(self.head)}
        for number, item in enumerate(self.beyond):
            used[f"beyond.{number}.task"] = item.task
            used |= {f"beyond.{number}.against.task": item.against.task} if item.against else {}
        for name, beside in self.beside.items():
            used |= {f"beside.{name}": name, f"beside.{name}.of": beside.of}
        return [
            f"key '{key}': the report's folder has no experiment '{name}'; it has {', '.join(names) or 'none'}"
            for key, name in used.items()
            if name not in names
        ]
