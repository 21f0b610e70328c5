"""`trackdl ui`, as a user starts it."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from support import ROOT

# Two commands that start at once may both find the usual port free.
_STARTING = FileLock(Path(tempfile.gettempdir()) / "trackdl-tests-ui.lock")


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `trackdl ui`; give the process and the addresses that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **settings}
    command = [sys.executable, "-m", "trackdl", "ui"]
    _STARTING.acquire()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        addresses = {}
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.match(r"(MLflow|Optuna).* (http://127\.0\.0\.1:\d+)(\S*)", line):
                addresses[found[1]] = found[2]
                addresses |= {"list": found[2] + found[3]} if found[3] else {}
            if line.startswith("Ctrl-C"):
                break
        _STARTING.release()
        assert addresses, "".join(said)
        yield process, addresses | {"said": "".join(said)}
    finally:
        _STARTING.release()
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
