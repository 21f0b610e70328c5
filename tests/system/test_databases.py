"""A store's address is shown without its password, wherever it comes from and however odd it is."""

import sys
from pathlib import Path

import mlflow
import pytest
from filelock import FileLock

from trackdl.errors import InputError, TrackdlError
from trackdl.system import databases, locks
from trackdl.tracking.store import translate_errors
from trackdl.workers import engines

ADDRESSES = [
    "postgresql+psycopg://me:secret@host/runs",
    "postgresql+psycopg://me:secret@host:port/runs",
    "postgresql://me:se/cr@et:secret@host/runs",
    "postgresql://host/runs?user=me&password=secret&sslmode=require",
    "http://me:secret@host:5000/",
    "nonsense://me:secret@",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_password_is_shown(address: str) -> None:
    assert "secret" not in databases.redact(address)
    assert "***" in databases.redact(address)
    assert "secret" not in databases.redact(f"no answer of {address}/runs/get", address)


@pytest.mark.parametrize(
    "address", ["sqlite:///mlflow.db", "http://127.0.0.1:5000", "postgresql://me@host/runs", "mlruns"]
)
def test_what_has_none_is_shown_as_it_is(address: str) -> None:
    assert databases.redact(address) == address


def test_mlflows_own_words_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "http://me:secret@host:5000"
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    with pytest.raises(TrackdlError) as told, translate_errors("a run"):
        raise mlflow.MlflowException(f"API request to {uri}/api/2.0 failed")
    assert "secret" not in str(told.value)


def test_who_comes_second_is_told_what_every_study_has(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    with (
        FileLock(f"{tmp_path}/.search.lock"),
        pytest.raises(InputError, match="`trackdl ui` shows"),
        locks.exclusive_lock(url, "search"),
    ):
        pass


def test_a_missing_package_is_named_as_an_index_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """trackdl itself is on no index, so `pip install 'trackdl[ray]'` would find nothing."""
    for module in ("psycopg", "ray"):
        monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(InputError, match=r'pip install "psycopg\[binary\]"'),
        databases.connection("postgresql+psycopg://me@127.0.0.1/runs"),
    ):
        pass
    with pytest.raises(InputError, match=r'pip install "ray\[default\]"'):
        engines.choose("ray", 1, 0)
