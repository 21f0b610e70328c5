"""What the grid's study and the search's have in common: an Optuna study, and its open trials."""

import io
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from uuid import uuid4

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from optuna_dashboard._note import note_ver_key, save_note_with_version
from optuna_dashboard.artifact._backend import _dashboard_artifact_prefix

from trackdl.errors import InputError
from trackdl.studies.store import artifact_store, storage

DATA = "data_digest"  # the user attribute of a study that identifies its images
RUN = "mlflow_run"  # the user attribute of a trial, or of a study, that leads to its MLflow run
ID = "trackdl_id"  # the user attribute of a study that no other study has, not even a later one of its name


class Study(ABC):
    """An Optuna study, made if there is none; one process works on it at a time (`store.study_lock`)."""

    REASON = "why"  # the user attribute of a trial that says why it ended without a result

    def __init__(
        self, name: str, sampler: BaseSampler | None, pruner: BasePruner, metrics: Mapping[str, StudyDirection]
    ) -> None:
        self.name = name
        self.study = optuna.create_study(
            study_name=name,
            storage=storage(),
            sampler=sampler,
            pruner=pruner,
            directions=list(metrics.values()),
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self.study.set_metric_names(list(metrics))

    @cached_property
    def id(self) -> str:
        """What tells this study from one of the same name that was deleted, or is in another store."""
        if ID not in self.study.user_attrs:
            self.study.set_user_attr(ID, uuid4().hex)
        return str(self.study.user_attrs[ID])

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

    def in_state(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states, or all of them without any."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def ask(self) -> Trial:
        """Start a new trial, or the next one in the queue."""
        return self._with_params(self.study.ask())

    def interrupted(self) -> Iterator[Trial]:
        """Yield the trials that a dead process has left RUNNING."""
        for found in self.in_state(TrialState.RUNNING):
            yield self._with_params(Trial(self.study, found._trial_id))

    def _shares(self, seed: int, fewest: int, params: list[str] | None = None) -> dict[str, float]:
        """Return each parameter's own share of the first value's variance, by fANOVA (Hutter et al., 2014).

        What the shares lack of 1 is due to interactions. Empty if there are too few complete trials, or all have the
        same value. The evaluator is called directly, because `get_param_importances` scales the sum to 1, and its
        option not to is experimental.
        """
        complete = self.in_state(TrialState.COMPLETE)
        if len(complete) < fewest or len({trial.values[0] for trial in complete}) < 2:
            return {}
        evaluator = FanovaImportanceEvaluator(seed=seed)
        return dict(evaluator.evaluate(self.study, params, target=lambda trial: trial.values[0]))

    @property
    @abstractmethod
    def searched(self) -> dict[str, str]:
        """What is varied: the values of each key, as text."""

    def describe(self, words: str, trial: Trial | FrozenTrial | None = None) -> None:
        """Set the note, in Markdown, that Optuna's dashboard shows of a trial, or of the study."""
        inner, number = self.study._storage, trial._trial_id if trial else None
        before = inner.get_study_system_attrs(self.study._study_id).get(note_ver_key(number), 0)
        save_note_with_version(inner, self.study._study_id, number, before + 1, words)

    def show_image(self, trial: Trial | FrozenTrial, name: str, png: bytes) -> None:
        """Have Optuna's dashboard show an image of a trial, which may have ended: Optuna itself refuses that."""
        key = uuid4().hex
        if images := artifact_store(create=True):
            images.write(key, io.BytesIO(png))
        meta = {"artifact_id": key, "filename": name, "mimetype": "image/png", "encoding": None}
        self.keep_aside(_dashboard_artifact_prefix(trial._trial_id) + key, json.dumps(meta))

    def keep_aside(self, key: str, value: Any, trial: Trial | FrozenTrial | None = None) -> None:
        """Store what belongs to a trial, or to the study, where the dashboard does not show it: it may be long.

        `kept` returns a trial's.
        """
        if trial:
            self.study._storage.set_trial_system_attr(trial._trial_id, key, value)
        else:
            self.study._storage.set_study_system_attr(self.study._study_id, key, value)

    @abstractmethod
    def _with_params(self, trial: Trial) -> Trial:
        """Return the trial after its parameters have been suggested."""

    def fail(self, trial: Trial | FrozenTrial, why: str) -> None:
        """End a trial that went wrong: it has no value."""
        self._end(trial, TrialState.FAIL, why)

    def _end(self, trial: Trial | FrozenTrial, state: TrialState, why: str) -> None:
        trial.set_user_attr(self.REASON, why)
        self.study.tell(trial.number, state=state)


def kept(trial: Trial | FrozenTrial) -> dict[str, Any]:
    """Return what is stored with a trial where the dashboard does not show it."""
    found = trial if isinstance(trial, FrozenTrial) else trial.storage.get_trial(trial._trial_id)
    return found.system_attrs
