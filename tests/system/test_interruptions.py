"""Interruptions: raised between imports, deferred while a database is at work; nothing is left as if it still ran."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sqlalchemy import event

from support import ROOT
from trackdl import spec
from trackdl.system import interruptions
from trackdl.system.interruptions import uninterrupted
from trackdl.tracking import runs, store

# `commands` stands for the command line: what it imports, a command needs before it does anything.
MAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from trackdl.system import interruptions
interruptions.PATIENCE = float(sys.argv[2])
interruptions.handle('commands')
try:
    LOAD
    time.sleep(5)
    print('goes on')
except KeyboardInterrupt as error:
    time.sleep(0.3)
    print(*error.args)
"""
SWALLOWING = """
import os, signal, time
def strike():
    os.kill(os.getpid(), signal.NUMBER)
    time.sleep(0.2)
try:
    strike()
except BaseException:  # as C code of NumPy and PyTorch does
    print('swallows', flush=True)
"""
COMMAND, LATER = "import commands; commands.load()", "import swallowing"
ENDLESS = "while True:\n    time.sleep(0.01)\n"


def run(
    folder: Path, load: str, content: str, number: str = "SIGINT", patience: float = 30, err: int = subprocess.PIPE
) -> str:
    """Import `content` by `load` in a process of its own, and return what it prints."""
    (folder / "commands.py").write_text("def load():\n    import swallowing\n")
    (folder / "swallowing.py").write_text(content.replace("NUMBER", number))
    code = MAIN.replace("LOAD", load)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(patience)],
        stdout=subprocess.PIPE,
        stderr=err,
        text=True,
        timeout=50,
        check=False,
    )
    return f"{done.returncode} {done.stdout}{done.stderr or ''}"


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_what_a_command_loads_is_cut_off(number: str, tmp_path: Path) -> None:
    assert run(tmp_path, COMMAND, SWALLOWING + ENDLESS, number) == f"130 {interruptions.MESSAGE}\n"


def test_it_is_cut_off_where_nobody_reads_the_message(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)  # `trackdl ... 2>&1 | tee log`: Ctrl-C ends tee too
    assert run(tmp_path, COMMAND, SWALLOWING + ENDLESS, err=write) == "130 "
    os.close(write)


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_later_import_is_finished_first(number: str, tmp_path: Path) -> None:
    assert run(tmp_path, LATER, SWALLOWING + "print('imported')", number) == f"0 imported\n{number}\n"


def test_a_second_interruption_does_not_wait_and_the_first_does_not_come_again(tmp_path: Path) -> None:
    assert run(tmp_path, LATER, SWALLOWING + "strike()\n" + ENDLESS) == "0 SIGINT\n"


def test_an_import_that_does_not_end_is_cut_off(tmp_path: Path) -> None:
    assert run(tmp_path, LATER, SWALLOWING + ENDLESS, patience=0.5) == "0 SIGINT\n"


@pytest.mark.slow
@pytest.mark.parametrize("task", ["run", "grid", "ledger"])
def test_a_task_that_loads_ends_at_once(task: str, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "trackdl", "new", "mine", "--from", "classify,grid"], cwd=tmp_path, check=True
    )
    words = {"run": ["run", "mine/digits.yaml"], "grid": ["grid", "--file", "mine/grid.yaml"]}
    words["ledger"] = ["--report", "mine", "ledger"]
    line = [sys.executable, "-X", "importtime", "-m", "trackdl", *words[task]]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert any(said.endswith(" trackdl.tasks._start\n") for said in process.stderr)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        left = list(process.stderr)
    kind = {"run": "classify"}.get(task, task)
    assert f" trackdl.tasks.{kind}\n" not in "".join(left)
    assert [said for said in left if "import time" not in said] == [f"{interruptions.MESSAGE}\n"]
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.slow
def test_the_command_line_that_loads_ends_at_once() -> None:
    line = [sys.executable, "-X", "importtime", "-m", "trackdl", "--version"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        assert any(said.endswith(" typer\n") for said in process.stderr)  # a first part of it
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        left = list(process.stderr)
    assert " trackdl.cli.app\n" not in "".join(left)
    assert [said for said in left if "import time" not in said] == [f"{interruptions.MESSAGE}\n"]


EXPERIMENT = spec.load(ROOT / "experiments" / "mnist.yaml", spec.ClassifySpec)


def strike() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interruption_is_heard_at_the_end_of_the_block_and_a_second_one_at_once() -> None:
    reached, handler = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 - what comes before it is the point
        with uninterrupted():
            strike()
            reached.append("inner")
        reached.append("outer")
    assert reached == ["inner", "outer"]
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        strike()
        strike()
        reached.append("never")
    assert "never" not in reached
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        strike()
        raise ValueError("an error does not hide it")
    assert signal.getsignal(signal.SIGINT) is handler


def training(at_statement: Callable[[int], None], uri: str) -> runs.Run:
    """Open a run, tell of it and end it; call `at_statement` before each of the database's statements."""
    engine = mlflow.tracking._tracking_service.utils._get_store(uri).engine
    made: list[runs.Run] = []
    count = 0

    def before(*_: Any) -> None:
        nonlocal count
        count += 1
        if made:
            at_statement(count)

    event.listen(engine, "before_cursor_execute", before)
    try:
        with runs.start(EXPERIMENT) as run:
            made.append(run)
            run.tags({"reached": 1})
            run.curve("loss", [(1, 0.5), (2, 0.4)])
            run.send()
            run.history("loss")
    except KeyboardInterrupt:
        pass
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return made[0]


def test_an_interruption_at_any_statement_leaves_a_run_that_says_so(tracking: str) -> None:
    runs.find("mnist")  # opens the store
    numbers: list[int] = []
    training(numbers.append, tracking)
    for number in numbers[:: max(1, len(numbers) // 8)]:
        store.client.cache_clear()
        run = training(lambda now, at=number: strike() if now == at else None, tracking)
        assert run.info.info.status in ("KILLED", "FINISHED")
        assert not list(store.spool_folder().glob("*/*")), "the store was locked"
    assert not runs.find("mnist", "attributes.status = 'RUNNING'")
