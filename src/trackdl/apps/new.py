"""`trackdl new`: a folder of commented experiment files to begin a report with."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path
from shlex import quote

from trackdl.errors import InputError
from trackdl.system.console import say
from trackdl.system.paths import is_passed_over, whole_file

# The kinds of experiment that there are templates of, each with its files: a grid is of an experiment.
TEMPLATES = {
    "classify": ("digits",),
    "transfer": ("digits", "transfer"),
    "grid": ("digits", "grid"),
    "search": ("digits", "search"),
    "table": ("table",),
}
DEFAULT = "classify,grid,table"


def make(folder: Path, kinds: str = DEFAULT) -> list[str]:
    """Write `report.yaml` and an experiment file for each kind; they run as they are, on small data.

    Args:
        folder: The report's; it is made if there is none.
        kinds: Of `TEMPLATES`, separated by commas.

    Returns:
        The names of the files.

    Raises:
        InputError: The folder is not empty, or there is no such kind.
    """
    asked = [kind.strip() for kind in kinds.split(",")]
    if unknown := [kind for kind in asked if kind not in TEMPLATES]:
        raise InputError(f"--from {kinds}: no template is called {unknown[0]!r}; there are {', '.join(TEMPLATES)}")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder")
    if found := sorted(path.name for path in folder.iterdir() if not is_passed_over(path)) if folder.exists() else []:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise InputError(f"{folder}: is not empty, it has {', '.join(found[:3])}{more}; name a new folder")
    name = folder.absolute().name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    slug = slug or f"report-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:6]}"
    title = '"' + re.sub(r'["\\\x00-\x1f]', " ", name) + '"'
    names = ["report", *dict.fromkeys(file for kind in asked for file in TEMPLATES[kind])]
    for file in names:
        text = (files("trackdl.apps") / "templates" / f"{file}.yaml").read_text(encoding="utf-8")
        text = re.sub("TITLE|SLUG", lambda word: title if word[0] == "TITLE" else slug, text)
        try:
            with whole_file(folder / f"{file}.yaml") as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{folder!s:.200}: cannot be written to: {error.strerror}") from error
    return [f"{file}.yaml" for file in names]


def show(folder: Path, names: list[str]) -> None:
    """Print what was written, and what to do next."""
    about = "They run as they are, on small data; any numbers under `reported` are invented."
    say(f"{folder} has {', '.join(names)}. {about} Next:")
    report = f"trackdl --report {quote(str(folder))}"
    rows = {
        f"{report} main": "every experiment, and then the ledger",
        f"trackdl run {quote(str(folder / names[1]))}": "one of them",
        f"{report} ledger": "the report's numbers next to yours, as a page",
        f"{report} ledger --seeds 5": "the same, after five trainings of each: one alone cannot judge a number",
    }
    for command, words in rows.items():
        say(f"  {command:<{max(map(len, rows))}}  {words}")
