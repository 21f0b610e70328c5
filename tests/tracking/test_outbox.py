"""What waits for the tracking store arrives: whole, in order, whoever sends it, and nobody waits long for it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import mlflow
import pytest
import requests
from filelock import FileLock
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.fluent import run_id_to_system_metrics_monitor

from support import ROOT
from trackdl import spec
from trackdl.errors import TrackdlError
from trackdl.system import outages
from trackdl.tracking import outbox, runs, spool, store, trials
from trackdl.tracking.runs import Run
from trackdl.tracking.spool import Record

EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)

pytestmark = pytest.mark.usefixtures("tracking")


@pytest.fixture(autouse=True)
def _nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the thread that looks for the store asleep: a test says itself when it sees it."""
    monkeypatch.setattr(outbox, "LOOK_EVERY", 1e6)
    monkeypatch.setattr(outbox, "_stores", {})


@pytest.fixture
def run(tracking: str) -> Run:  # noqa: ARG001
    """A run of another process's."""
    return Run(store.client().create_run("0").info.run_id)


def tag(name: str) -> Record:
    return Record("tags", {"tags": {name: "told"}})


def told(run: Run) -> set[str]:
    return {name for name, value in mlflow.MlflowClient().get_run(run.id).data.tags.items() if value == "told"}


def seen() -> None:
    """Let the store be seen again."""
    outbox._stores[mlflow.get_tracking_uri()].answers.set()


def gone(*_: object, **__: object) -> None:
    raise requests.ConnectionError("nobody is there")


def never(*_: object, **__: object) -> None:
    raise AssertionError("the store is asked")


Post = Callable[[str, Record], None]


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Post], list[str]]:
    """Give what puts something before each posting; what was posted is listed."""
    post = outbox._send

    def before(step: Post) -> list[str]:
        names: list[str] = []

        def stepped(run_id: str, record: Record) -> None:
            step(run_id, record)
            post(run_id, record)
            names.extend(record.content.get("tags", [record.kind]))

        monkeypatch.setattr(outbox, "_send", stepped)
        return names

    return before


def test_what_is_kept_while_another_process_sends_arrives_too(run: Run, posted: Callable[[Post], list[str]]) -> None:
    def keep_another(run_id: str, record: Record) -> None:
        if record == tag("first"):
            spool.keep(run_id, tag("second"))

    names = posted(keep_another)
    spool.keep(run.id, tag("first"))
    outbox.send_waiting()
    assert names == ["first", "second"]
    assert told(run) == {"first", "second"}
    assert not spool.run_folders()


def test_what_is_kept_as_its_folder_is_swept_stays(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = spool.sweep

    def keep_before(folder: Path) -> None:
        spool.keep(run.id, tag("second"))
        sweep(folder)

    monkeypatch.setattr(outbox, "sweep", keep_before)
    spool.keep(run.id, tag("first"))
    outbox.send_waiting()
    assert told(run) == {"first"}
    assert len(spool.waiting(run.id)) == 1


def test_what_a_process_that_was_killed_left_half_kept_or_half_thrown_away_is_swept(run: Run) -> None:
    spool.keep(run.id, tag("first"))
    (folder,) = spool.run_folders()
    for name in (".part-1", ".sent-1/00000001"):
        (folder / name).mkdir(parents=True)
    outbox.send_waiting()
    assert told(run) == {"first"}
    assert not spool.run_folders()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_run_that_ends_while_the_store_is_known_to_be_away_asks_it_nothing(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Run] = []

    def command() -> None:
        with runs.start(EXPERIMENT) as outer, runs.start(EXPERIMENT) as inner:
            opened.extend((inner, outer))
            patch.setattr(outbox, "_send", gone)
            inner.tags({"first": "told"})
            for name in ("_send", "_answers"):
                patch.setattr(outbox, name, never)
            patch.setattr(mlflow.MlflowClient, "set_terminated", never)
            raise error

    with monkeypatch.context() as patch:
        with pytest.raises(error):
            command()
        assert mlflow.active_run() is None
        assert not run_id_to_system_metrics_monitor
        for run in opened:
            assert spool.read(spool.waiting(run.id)[-1]).kind == "end"
    assert outbox.send_waiting()
    wanted = "KILLED" if error is KeyboardInterrupt else "FAILED"
    assert [run.info.info.status for run in opened] == [wanted, wanted]


def test_a_run_whose_store_has_just_come_back_ends_after_its_last_points(
    monkeypatch: pytest.MonkeyPatch, posted: Callable[[Post], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    names = posted(lambda *_: None)
    with runs.start(EXPERIMENT) as run:
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "_send", gone)
            run.tags({"last": "told"})
        assert spool.waiting(run.id)  # it is back, and nobody has looked yet
        caplog.clear()
    assert names[-2:] == ["last", "end"]
    assert not spool.run_folders()
    assert "wait" not in caplog.text


def test_a_command_does_not_end_silently_while_something_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox, "_answers", lambda _: False)
    with runs.start(EXPERIMENT) as outer:
        with runs.start(EXPERIMENT), monkeypatch.context() as patch:
            patch.setattr(outbox, "_send", gone)
            outer.tags({"first": "told"})
        assert "records" not in caplog.text
    (said,) = [item.getMessage() for item in caplog.records if "records" in item.getMessage()]
    assert f"3 records of 2 runs (0.0 MB) wait in {store.spool_folder()}; the next command of any task" in said


def test_what_waits_is_sent_with_little_patience(
    monkeypatch: pytest.MonkeyPatch, posted: Callable[[Post], list[str]]
) -> None:
    patience = []

    def note(*_: object) -> None:
        patience.append({name: os.environ.get(name) for name in outbox.QUICK})

    with runs.start(EXPERIMENT) as run:
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "_send", gone)
            run.tags({"first": "told"})
        seen()
        names = posted(note)
        run.tags({"second": "told"})
    assert names[:2] == ["first", "second"]
    assert patience == [outbox.QUICK] * len(names)


def test_nobody_waits_for_another_command_that_sends(
    monkeypatch: pytest.MonkeyPatch, posted: Callable[[Post], list[str]]
) -> None:
    with runs.start(EXPERIMENT) as run:
        with monkeypatch.context() as patch:
            patch.setattr(outbox, "_send", gone)
            run.tags({"first": "told"})
        seen()
        names = posted(lambda *_: None)
        with FileLock(store.spool_folder() / ".lock"):
            run.tags({"second": "told"})
            assert not outbox.send_waiting()
        assert names == []
        run.tags({"third": "told"})
        assert names == ["first", "second", "third"]


def test_what_is_asked_says_so_where_another_command_sends_for_long(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.1)
    spool.keep(run.id, tag("first"))
    with FileLock(store.spool_folder() / ".lock"), pytest.raises(TrackdlError, match="another process has been"):
        _ = run.info
    assert run.info.data.tags["first"] == "told"


def test_monitoring_that_has_broken_off_goes_on_with_its_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SYSTEM_METRICS_EVERY", 0.01)
    with runs.start(EXPERIMENT) as run:
        monitor = run_id_to_system_metrics_monitor[run.id]
        with monkeypatch.context() as patch:
            patch.setattr(SystemMetricsMonitor, "publish_metrics", gone)
            monitor._process.join()
        reached = monitor._logging_step
        run.tags({"first": "told"})
        while monitor._logging_step == reached:
            assert monitor._process.is_alive()
    points = mlflow.MlflowClient().get_metric_history(run.id, "system/cpu_utilization_percentage")
    assert len({point.step for point in points}) == len(points) > reached


def test_a_trial_that_cannot_be_opened_says_what_waits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.1)
    spool.keep(run.id, tag("first"))
    monkeypatch.setattr(outbox, "_send", gone)
    with pytest.raises(
        TrackdlError, match=r"opening a trial's run: .* does not answer. 1 records .*by the same command"
    ):
        trials.open_trial(run, None, "a trial", {}, {})


def test_a_trial_that_is_the_first_to_find_the_store_away_says_what_waits(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.1)
    monkeypatch.setattr(SqlAlchemyStore, "create_run", gone)
    spool.keep("another run", tag("first"))
    with pytest.raises(TrackdlError, match=r"opening a trial's run: .* does not answer. 1 records .* the same command"):
        trials.open_trial(run, None, "a trial", {}, {})
    monkeypatch.setattr(outbox, "_send", never)
    run.tags({"second": "told"})  # it is known to be away now
    assert len(spool.waiting(run.id)) == 1


def test_how_a_run_ended_is_not_guessed_while_another_command_sends_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.1)
    run.tags({"trackdl.task": "mnist", "trackdl.host": socket.gethostname(), "trackdl.process": "1:0"})
    spool.keep(run.id, Record("end", {"status": "FINISHED", "time": 1}))
    with FileLock(store.spool_folder() / ".lock"):
        assert runs.close_abandoned("mnist") == []
    assert runs.close_abandoned("mnist") == []
    assert run.info.info.status == "FINISHED"


def test_what_somebody_else_put_among_the_records_stays_and_stops_nothing(run: Run) -> None:
    spool.keep(run.id, tag("first"))
    (folder,) = spool.run_folders()
    (folder / ".note").write_text("mine")
    outbox.send_waiting()
    assert told(run) == {"first"}
    assert (folder / ".note").exists()
    assert not spool.waiting(run.id)


class Slow(BaseHTTPRequestHandler):
    """A tracking server of which some calls trickle, a byte at a time, and some ask to be left alone for an hour."""

    trickling: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(503 if self.path.endswith(self.busy) else 200)
        self.send_header("Retry-After", "3600")
        self.end_headers()
        with suppress(OSError):  # the client has gone
            while self.path.endswith(self.trickling):
                self.wfile.write(b" ")
                time.sleep(0.05)
            self.wfile.write(b"{}")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Slow]]:
    class Mine(Slow):
        asked: ClassVar[list[str]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Mine) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER"):
            monkeypatch.delenv(name, raising=False)  # as `client` sets them
        store.client.cache_clear()
        yield Mine
        Mine.trickling = Mine.busy = ()
        server.shutdown()


def test_a_server_that_trickles_is_given_up(slow: type[Slow], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "CALL", 0.5)
    monkeypatch.setattr(outages, "PATIENCE", 1.0)
    slow.trickling = ("/search",)
    with pytest.raises(TrackdlError, match="no whole answer within"):
        store.client()
    slow.trickling = ()
    store.client()
    slow.trickling = ("/search",)
    with pytest.raises(TrackdlError, match="no whole answer within"):
        runs.find("mnist")


def test_what_a_server_that_trickles_does_not_take_is_kept(slow: type[Slow], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SEND_SECONDS", 0.5)
    slow.trickling = ("/log-batch",)
    Run("a" * 32).tags({"a": "told"})
    assert len(spool.waiting("a" * 32)) == 1


@pytest.mark.slow
def test_a_server_that_asks_for_an_hour_is_not_waited_for(slow: type[Slow], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 1.0)
    store.client()
    slow.busy = ("/search",)
    with pytest.raises(TrackdlError, match="503"):
        runs.find("mnist")
    assert len(slow.asked) > 2, "it was asked once more"


def test_a_timer_of_somebody_elses_goes_on() -> None:
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(outages.TooSlow), outages.deadline(0.1):
            time.sleep(5)
        time.sleep(0.5)
        assert rung
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
