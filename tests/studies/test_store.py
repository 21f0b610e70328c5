"""The studies' store: what Optuna asks of it waits while it is away, says plainly why it fails, and hears Ctrl-C."""

import copy
import os
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from trackdl.errors import InputError, TrackdlError, first_line
from trackdl.studies import store
from trackdl.system import outages


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[optuna.Study]:
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / 'optuna.db'}")
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    store.storage.cache_clear()
    yield optuna.create_study(study_name="a", storage=store.storage())
    store.storage.cache_clear()


@contextmanager
def locked(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the file against all others, as another process does in a long transaction."""
    other = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield other
    finally:
        if other.in_transaction:
            other.execute("ROLLBACK")
        other.close()


def test_a_store_that_is_interrupted_while_it_is_made_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def count(*_: object) -> None:
        done.append(len(done) + 1)
        if done[-1] == at:
            os.kill(os.getpid(), signal.SIGINT)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        for at in (1, 25, 26, 27, 28, 40):  # of 53 statements; Optuna's first table is made by the 26th
            done.clear()
            monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path / f'{at}.db'}")
            store.storage.cache_clear()
            with pytest.raises(KeyboardInterrupt):
                store.storage()
            assert len(done) > 40
            assert optuna.create_study(study_name="a", storage=store.storage()).trials == []
    finally:
        event.remove(Engine, "before_cursor_execute", count)
        store.storage.cache_clear()


def test_studies_are_kept_where_the_runs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "project_root", lambda: tmp_path / "clone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/kept/mlflow.db")
    assert store.storage_url() == f"sqlite:///{tmp_path}/kept/optuna.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert store.storage_url() == f"sqlite:///{tmp_path}/optuna.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert store.storage_url() == f"sqlite:///{tmp_path}/clone/optuna.db"


def test_studies_of_runs_on_a_server_are_not_left_in_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "project_root", lambda: tmp_path / "clone")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    store.storage.cache_clear()
    with pytest.raises(InputError, match=r"clone/optuna\.db, in a temporary folder.*TRACKDL_STORAGE"):
        store.storage()
    monkeypatch.setenv("TRACKDL_STORAGE", f"sqlite:///{tmp_path}/kept.db")  # as it says
    store.storage()
    store.storage.cache_clear()


CALLS: dict[str, Callable[[optuna.Study, Trial], object]] = {
    "ask": lambda study, _: study.ask(),
    "enqueue": lambda study, _: study.enqueue_trial({"x": 0.5}),
    "look at trials": lambda study, _: study.get_trials(),
    "note of a study": lambda study, _: study.set_user_attr("a", 1),
    "note of a trial": lambda _, trial: trial.set_user_attr("a", 1),
    "report": lambda _, trial: trial.report(0.5, 1),
    "suggest": lambda _, trial: trial.suggest_float("x", 0, 1),
    "tell": lambda study, trial: study.tell(trial, 0.5),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_locked_store_is_waited_for(call: str, study: optuna.Study, tmp_path: Path) -> None:
    trial = study.ask()
    with locked(tmp_path) as other:
        timer = threading.Timer(0.5, other.execute, ["ROLLBACK"])
        timer.start()
        CALLS[call](study, trial)
        timer.join()
    assert len(study.get_trials()) == 2 if call in ("ask", "enqueue") else 1


@pytest.mark.parametrize("call", CALLS)
def test_a_store_that_stays_locked_is_said(
    call: str, study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.2)
    trial = study.ask()
    with locked(tmp_path), pytest.raises(TrackdlError, match=r"optuna\.db: .*locked.* the same command continues"):
        CALLS[call](study, trial)
    CALLS[call](study, trial)


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_is_heard_while_the_store_is_locked(call: str, study: optuna.Study, tmp_path: Path) -> None:
    """The lock is let go of only after it: who is deaf to it ends with the store's error instead."""
    trial = study.ask()
    with locked(tmp_path):
        threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            CALLS[call](study, trial)
    CALLS[call](study, trial)


def test_a_trial_that_was_ended_without_an_answer_is_ended_once(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = study.ask()
    ended = RDBStorage.set_trial_state_values
    calls = 0

    def losing(self: RDBStorage, *given: Any, **keys: Any) -> bool:
        nonlocal calls
        done = ended(self, *given, **keys)
        calls += 1
        if calls == 1:
            raise OperationalError("COMMIT", {}, Exception("the connection is closed"))
        return done

    monkeypatch.setattr(RDBStorage, "set_trial_state_values", losing)
    study.tell(trial, 0.5)
    assert [item.value for item in study.trials] == [0.5]
    with pytest.raises(UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.6])


def test_a_client_is_copied_and_what_must_not_be_made_twice_is_passed_through() -> None:
    calls = []

    class Client:
        url = "here"

        def write(self) -> None:
            calls.append("write")
            raise OperationalError("COMMIT", {}, Exception("the connection is closed"))

    proxy = copy.deepcopy(outages.RetryingProxy(Client(), "a store", "http://here", once=frozenset({"write"})))
    assert proxy.url == "here"
    with pytest.raises(OperationalError):
        proxy.write()
    assert calls == ["write"]


def test_an_error_without_a_text_has_a_line() -> None:
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(ConnectionError()) == "ConnectionError"
