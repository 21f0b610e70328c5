"""What the grid's driver and the search's have in common: the MLflow runs of open trials, and their figures.

A driver is the only writer to both stores. Optuna's store decides what is done; MLflow's follows it, and gets each
point once.
"""

from optuna.trial import Trial

from trackdl.studies.study import RUN
from trackdl.tracking import trials
from trackdl.tracking.runs import Run
from trackdl.tracking.store import defer_interrupts
from trackdl.workers.figures import Studio


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
        with defer_interrupts():
            run = trials.open_trial(self.parent, known, f"{study}, trial {trial.number}", trial.params, tags)
            self.open[run.id] = run
        trial.set_user_attr(RUN, run.id)
        trial.set_user_attr("mlflow_page", trials.page(self.parent, run))
        return run

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
