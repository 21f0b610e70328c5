"""The self-contained HTML pages that commands write: a template for each, and one style, `page.css.j2`."""

import base64
import logging
import webbrowser
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from trackdl.errors import InputError
from trackdl.system.paths import project_root, whole_file

log = logging.getLogger(__name__)


def _mark(command: str) -> str:
    """Return what stands near the beginning of each page that a command has written."""
    return f'<meta name="generator" content="trackdl {command}">'


def claim(file: Path | None, command: str) -> Path:
    """Return the file that a command's page goes to, by default in `reports/`.

    Raises:
        InputError: The file exists, and the command has not written it.
    """
    file = file or project_root() / "reports" / f"{command}.html"
    if file.exists() and not (file.is_file() and _begins_with(file, _mark(command))):
        raise InputError(f"{file} exists, and `trackdl {command}` did not write it: name another by --output")
    return file


def _begins_with(file: Path, mark: str) -> bool:
    with file.open("rb") as opened:
        return mark in opened.read(2_000).decode(errors="replace")


def render(command: str, **values: Any) -> str:
    """Return the page of a command's template."""
    environment = Environment(
        loader=PackageLoader("trackdl.apps", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(f"{command}.html.j2").render(mark=_mark(command), **values)


def write(page: str, file: Path, *, browse: bool) -> None:
    """Write a page; `browse` opens it in the browser."""
    with whole_file(file) as part:
        part.write_text(page, encoding="utf-8")
    if browse and not webbrowser.open(file.absolute().as_uri()):
        log.warning("no browser could be opened: open %s yourself", file)


def address(content: bytes, kind: str) -> str:
    """Return an image's content as an address that a page can show."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
