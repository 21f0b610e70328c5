"""Shared by the benchmarks: a measurement in a fresh process, progress messages, and columns of a table.

Imports no library: a child process begins with its parent's peak memory.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def in_a_fresh_process(program: str, *arguments: str) -> Any:
    """Run a program of this folder in a process of its own and return the JSON in the last line of its output.

    Raises:
        subprocess.CalledProcessError: It failed; its standard error has been shown.
    """
    command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def say(text: str) -> None:
    """Print a progress message on standard error."""
    print(text, file=sys.stderr, flush=True)


def columns(rows: list[list[str]], left: int = 2) -> list[str]:
    """Return rows of cells as lines: the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<"] * left + [">"] * (len(widths) - left)
    return [
        "  ".join(f"{cell:{to}{width}}" for cell, to, width in zip(row, sides, widths, strict=True)) for row in rows
    ]
