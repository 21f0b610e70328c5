"""What anybody has named, a file or a class, is shown as text: it never moves the cursor or forges a colour."""

import io
import logging

import pytest

from trackdl.system import console

EVIL = "a\x1b[31mred\x1b]0;title\x07\r\x9b\u202eb"
SHOWN = r"a\x1b[31mred\x1b]0;title\x07\r\x9b\u202eb"


def test_control_signs_are_written_out_and_text_stays() -> None:
    assert console.plain(EVIL) == SHOWN
    assert console.plain("α 日本 é\tb\nc") == "α 日本 é\tb\nc"


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
