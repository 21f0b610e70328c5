"""What the grid's driver and the search's have in common: the MLflow runs of open trials, and their figures.

A driver is the only writer to both stores. Optuna's store decides what is done; MLflow's follows it, and gets each
point once.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from optuna.trial import FrozenTrial, Trial

from trackdl.spec import Experiment
from trackdl.studies.store import storage_url
from trackdl.studies.study import RUN, Study
from trackdl.system import databases
from trackdl.system.console import plain
from trackdl.tracking import pages, runs, trials
from trackdl.tracking.runs import Run
from trackdl.tracking.store import defer_interrupts
from trackdl.workers.figures import Studio

log = logging.getLogger(__name__)


@contextmanager
def study_run(experiment: Experiment, studies: Sequence[Study], tags: Mapping[str, str]) -> Iterator[Run]:
    """Open the run of an experiment's studies, the parent of their trials' runs.

    It is the one that these studies have, not one of studies of the same names that were deleted or are elsewhere: each
    store keeps the other's id. Without one it is a new run, and the trials' runs are put below it.

    Args:
        experiment: The grid, recovery or search.
        studies: Its studies, which are locked.
        tags: Further tags of it.
    """
    names, ids = (" ".join(texts) for texts in zip(*((study.name, study.id) for study in studies), strict=True))
    trials_runs = [trial.user_attrs[RUN] for study in studies for trial in study.in_state() if RUN in trial.user_attrs]
    former = {study.study.user_attrs[RUN] for study in studies if RUN in study.study.user_attrs}
    found = trials.study_runs(experiment.name, names)
    known = next((run for run, of in found if of == ids), None)
    if known is None and found:
        log.warning(
            "run %s is of another study %s than the one in %s: it was deleted there, or is in another store, which "
            "TRACKDL_STORAGE names. This one has a run of its own",
            found[0][0].id,
            names,
            databases.redact(storage_url()),
        )
    elif known is None and former:
        log.warning(
            "the run %s of the study %s is deleted, or in another tracking store; what the study has is kept",
            ", ".join(sorted(former)),
            names,
        )
    with runs.start(experiment, resume=known) as parent:
        if known is None:
            trials.adopt(parent, trials_runs)
        parent.tags({"trackdl.study": names, trials.STUDY_ID: ids, **tags})
        for study in studies:
            study.study.set_user_attr(RUN, parent.id)
            _describe(study, parent)
        try:
            yield parent
        except KeyboardInterrupt as error:
            kept = f"what is finished of {names} is kept in {databases.redact(storage_url())}: the same command goes on"
            runs.goes_on(error, experiment.name, kept)
            raise


def _describe(study: Study, parent: Run) -> None:
    """Say in Optuna's dashboard what a study varies, and how it is continued."""
    command = runs.command(parent.id)
    page = trials.page(parent.experiment_id, parent)
    rows = "".join(
        f"| `{key}` | {plain(values).replace('|', chr(92) + '|')} |\n" for key, values in study.searched.items()
    )
    study.study.set_user_attr("command", command)
    study.describe(
        f"Each trial is an experiment with these keys changed:\n\n| key | values |\n|---|---|\n{rows}\n"
        f"This continues the study: `{command}`\n\n[The study's MLflow run]({page}) has its tables and figures "
        "while `trackdl ui` runs. Importances are by PED-ANOVA here and by fANOVA there, so they may differ."
    )


class Driver:
    """Opens and closes trials' runs below the study's run `parent`, for `task`."""

    def __init__(self, task: str, parent: Run) -> None:
        self.parent = parent
        kept = ("trackdl.kind", "trackdl.report")
        self.tags = {"trackdl.task": task, **{k: v for k, v in parent.info.data.tags.items() if k in kept}}
        self.unfinished = trials.unfinished(task, parent)
        self.open: dict[str, Run] = {}
        self.studio = Studio()

    def open_run(self, study: str, trial: Trial) -> Run:
        """Open the run of a trial: the one that it has, even if the trial has not stored it yet, else a new one."""
        tag = f"{study}/{trial.number}"
        known = trial.user_attrs.get(RUN) or (self.unfinished[tag].id if tag in self.unfinished else None)
        tags = {**self.tags, "trackdl.trial": tag}
        name = f"trial {trial.number}: {runs.in_words(trial.params)}"
        with defer_interrupts():
            run = trials.open_trial(self.parent, known, name, trial.params, tags)
            self.open[run.id] = run
        trial.set_user_attr(RUN, run.id)
        trial.set_user_attr("mlflow_page", trials.page(self.parent.experiment_id, run))
        return run

    def describe(
        self, study: Study, trial: Trial | FrozenTrial, run: Run, words: str, picture: str | None = None
    ) -> None:
        """Say in Optuna's dashboard and on the run's page how a trial ended, with links.

        `picture` is the run's, if it has one.
        """
        page = trials.page(self.parent.experiment_id, run)
        study.describe(f"{plain(words)}\n\n[The trial's MLflow run]({page}) opens while `trackdl ui` runs.", trial)
        above = f"This is a trial of [{study.name}]({pages.run_page('', self.parent.experiment_id, self.parent.id)})."
        below = f"Its learning curves: [{picture}]({pages.artifact(run.id, picture)})" if picture else ""
        run.tags({pages.NOTE: "\n\n".join(filter(None, [plain(words), above, below]))})

    def close_run(self, run: Run, status: str) -> None:
        """End a trial's run: FINISHED or FAILED."""
        trials.close_trial(run, status)
        del self.open[run.id]

    def finish(self) -> None:
        """Close the runs that wait for their figures, and mark those of unfinished trials KILLED."""
        self.studio.deliver(everything=True)
        self.abandon()

    def abandon(self) -> None:
        """Mark the open runs KILLED; the next command resumes their trials."""
        self.studio.close()
        trials.kill(self.open.values())
