"""What anybody has named, a file or a class, is shown as text: it never moves the cursor or forges a colour."""

import io
import json
import logging
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from trackdl.system import console

EVIL = "a\x1b[31mred\x1b]0;title\x07\r\x9b\u202eb"
SHOWN = r"a\x1b[31mred\x1b]0;title\x07\r\x9b\u202eb"


def test_control_signs_are_written_out_and_text_stays() -> None:
    assert console.plain(EVIL) == SHOWN
    assert console.plain("α 日本 é\tb\nc") == "α 日本 é\tb\nc"


def test_a_name_with_a_newline_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a\nrun 1 FINISHED")
    assert capsys.readouterr().out == "a\n  run 1 FINISHED\n"
    console.say('{\n "a": 1\n}', whole=True)
    assert capsys.readouterr().out == '{\n "a": 1\n}\n'
    record = logging.makeLogRecord({"msg": "skipped: %s", "args": ("x\nERROR y",)})
    assert console._plain_record(record)
    assert record.getMessage() == "skipped: x\n  ERROR y"


def test_json_stays_json_whatever_a_name_holds(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x85b\x1b[31m\u202ec\n\td"
    console.say_json({"name": name})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": name}
    assert not {"\x85", "\x1b", "\u202e"} & set(said)


def test_a_bar_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(console, "_errors", Console(file=terminal, force_terminal=True, width=200, color_system=None))
    with console.progress(f"[bold]{EVIL}", 2) as advance:
        advance(f"[red]{EVIL}\nx")
    shown = terminal.getvalue()
    assert f"[bold]{SHOWN}" in shown
    assert f"[red]{SHOWN}" in shown
    assert "\x1b[31m" not in shown


def test_a_bar_moves_within_a_step_and_a_log_gets_steps_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def train() -> None:
        with console.progress("epochs", 2, 1) as advance:
            advance("loss 0.5", 0.5)
            advance("accuracy 90 %")

    with caplog.at_level("INFO", "trackdl"):
        train()
    assert caplog.messages == ["epochs 2/2 accuracy 90 %"]
    moved: list[tuple[float, str]] = []
    monkeypatch.setattr(console, "_errors", Console(file=io.StringIO(), force_terminal=True))
    monkeypatch.setattr(Progress, "update", lambda _, __, completed, words: moved.append((completed, words)))
    train()
    assert moved == [(1.5, "loss 0.5"), (2, "accuracy 90 %")]


@pytest.mark.parametrize(("seconds", "lines"), [(1, 3), (25, 12), (300, 30)])
def test_a_log_of_slow_steps_gets_more_lines(
    seconds: float, lines: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with caplog.at_level("INFO", "trackdl"), console.progress("epochs", 30, every=10) as advance:
        for _ in range(30):
            clock[0] += seconds
            advance("")
    assert len(caplog.messages) == lines


def test_results_tables_and_the_log_show_them_so(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(EVIL)
    console.print_table(EVIL, ["name", EVIL], [["x", EVIL]])
    assert "\x1b" not in (out := capsys.readouterr().out)
    assert out.count(SHOWN) == 4
    logger, before = logging.getLogger("trackdl"), logging.getLogger("trackdl").handlers
    try:
        console.setup(debug=False)
        stream = io.StringIO()
        for handler in logger.handlers:
            handler.setStream(stream)  # type: ignore[attr-defined]
        logging.getLogger("trackdl.test").warning("a file is called %s", EVIL)
    finally:
        logger.handlers, logger.propagate = before, True
    assert SHOWN in stream.getvalue()


def test_whoever_prints_an_address_prints_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", sys.stdout)  # put back afterwards
    monkeypatch.setattr("sys.stderr", sys.stderr)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", web := "http://me:s3cret@host:5000")
    monkeypatch.setenv("TRACKDL_STORAGE", base := "postgresql://host/runs?user=me&password=s3cret2&sslmode=require")
    console.hide_passwords()
    sys.stdout.write(f"View run at: {web}/#/experiments/1\n")
    sys.stderr.writelines([f"warning: {base}\n", f"{web[:-4]}5001\n"])
    logging.StreamHandler(sys.stderr).handle(logging.makeLogRecord({"msg": f"no answer of {web}"}))
    out, err = capsys.readouterr()
    assert out == "View run at: http://me:***@host:5000/#/experiments/1\n"
    assert "s3cret" not in err
    assert err.count("***") == 3
    assert sys.stderr.isatty() is False
