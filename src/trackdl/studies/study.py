"""What the grid's study and the search's have in common: an Optuna study, and its open trials."""

from collections.abc import Iterator
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from trackdl.errors import InputError

DATA = "data_digest"  # the user attribute of a study that identifies its images
RUN = "mlflow_run"  # the user attribute of a trial that leads to its MLflow run


class StudyTrial:
    """A trial and its parameters."""

    def __init__(self, trial: Trial | FrozenTrial, params: dict[str, Any]) -> None:
        self.trial, self.params = trial, params

    @property
    def number(self) -> int:
        """The trial's number in its study."""
        return self.trial.number

    @property
    def run_id(self) -> str | None:
        """The id of the trial's MLflow run."""
        return self.trial.user_attrs.get(RUN)

    def note(self, key: str, value: Any) -> None:
        """Store a user attribute of the trial."""
        self.trial.set_user_attr(key, value)


class Study:
    """An Optuna study; one process works on it at a time (`store.study_lock`)."""

    REASON = "why"  # the user attribute of a trial that says why it ended without a result

    def __init__(self, study: optuna.Study) -> None:
        self.study, self.name = study, study.study_name

    def check_data(self, digest: str) -> None:
        """Store the digest of a new study's data; later its trials are only continued with the same.

        Raises:
            InputError: The study began with other data.
        """
        if self.study.user_attrs.get(DATA, digest) != digest:
            raise InputError(
                f"the images are not those that the study {self.name} began with: put those back, or delete the study "
                "in Optuna's dashboard (`trackdl ui`), and with it what was trained on them"
            )
        self.study.set_user_attr(DATA, digest)

    def _interrupted(self) -> Iterator[Trial]:
        """Yield the trials that a dead process has left RUNNING."""
        for found in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            yield Trial(self.study, found._trial_id)

    def fail(self, trial: StudyTrial, why: str) -> None:
        """End a trial that went wrong: it has no value."""
        self._end(trial, TrialState.FAIL, why)

    def _end(self, trial: StudyTrial, state: TrialState, why: str) -> None:
        trial.note(self.REASON, why)
        self.study.tell(trial.number, state=state)
