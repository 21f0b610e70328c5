"""`trackdl ui`, as a user starts it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import ROOT


@contextmanager
def started(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `trackdl ui`; give the process and the addresses that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **settings}
    command = [sys.executable, "-m", "trackdl", "ui"]
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
        assert addresses, "".join(said)
        yield process, addresses | {"said": "".join(said)}
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
