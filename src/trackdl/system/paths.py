"""Where trackdl's folders are: in the checkout that it runs from, or in the working folder if it is installed."""

import os
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import NoReturn

from trackdl.errors import FileError, InputError

UI = "http://127.0.0.1:5000"  # where `trackdl ui` shows runs; links to runs lead there


def project_root() -> Path:
    """Return the checkout of this code (it has `MLproject`), else the working folder."""
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "MLproject").is_file() else Path.cwd()


def shipped(folder: str) -> Path:
    """Return a folder of the checkout, `experiments` or `data/heart`; an installed package holds copies (setup.py)."""
    here, copy = project_root() / folder, Path(__file__).resolve().parents[1] / "shipped" / folder
    return copy if copy.is_dir() else here


def report_root() -> Path:
    """Return the folder of the report's experiment files: `TRACKDL_REPORT` if it is set, else `experiments/`."""
    named = os.environ.get("TRACKDL_REPORT")
    return Path(named).expanduser() if named else shipped("experiments")


def is_own_report() -> bool:
    """Return whether the report's folder is the project's own, which commands need not name."""
    return report_root().absolute() == shipped("experiments").absolute()


def report_option() -> str:
    """Return the option that names the report in a command, and a space; nothing for the project's own report."""
    return "" if is_own_report() else f"--report {shlex.quote(str(report_root()))} "


def in_report(path: str) -> Path:
    """Return a path that an experiment file names: a relative one is relative to the report's folder.

    Raises:
        InputError: It begins with the home folder of a user that this machine has not.
    """
    try:
        return report_root() / Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path}: {error}") from error


def data_root() -> Path:
    """Return the data folder: `TRACKDL_DATA_DIR` if it is set, else `data/` in the project's root."""
    named = os.environ.get("TRACKDL_DATA_DIR")
    return Path(named).expanduser() if named else project_root() / "data"


def content_of(path: Path, most: int) -> bytes:
    """Return the content of an ordinary file of at most `most` bytes; a pipe or device could go on for ever.

    Raises:
        FileError: It is missing, no ordinary file, too large, or cannot be opened.
    """
    try:
        if not path.is_file():
            raise FileError("is not an ordinary file" if path.exists() else "is not there")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise FileError(f"cannot be opened ({error.strerror})") from error
    if len(content) > most:
        raise FileError(f"has more than {most:,} bytes, the limit")
    return content


def read_bounded(path: Path, most: int) -> bytes:
    """Do as `content_of`, for a file that the user names.

    Raises:
        InputError: As `content_of`; names the file.
    """
    try:
        return content_of(path, most)
    except FileError as error:
        raise InputError(f"{path!s:.200}: cannot be read: it {error}") from error


# What systems leave in folders, in lower case: nobody's images, classes or reports.
_SYSTEM = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
        *("icon\r", "__macosx"),  # macOS, whose other files are hidden
        *("@eadir", "lost+found"),  # network drives, and disks of Linux
    )
)


def is_passed_over(path: PurePath) -> bool:
    """Return whether a file or folder is hidden, or a system's own: nobody has put it where it is."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def below(folder: Path) -> list[Path]:
    """Return all that is below a folder, in order; `Path.rglob` passes over what it may not read.

    Raises:
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    walked = os.walk(folder, onerror=fail)
    names = (f"{root}/{name}" for root, folders, files in walked for name in (*folders, *files))
    return [Path(name) for name in sorted(names)]  # not `sorted` paths: comparing them takes most of the time


def visible_files(folder: Path) -> list[Path]:
    """Return the files at any depth below a folder, sorted; those that are passed over are left out with all in them.

    Raises:
        InputError: A folder cannot be read.
    """
    found: list[Path] = []
    try:
        for path in sorted(folder.iterdir()):
            if not is_passed_over(path):
                found += visible_files(path) if path.is_dir() and not path.is_symlink() else [path]
    except OSError as error:
        raise InputError(f"{folder!s:.200}: cannot be read ({error.strerror})") from error
    return found


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds, and is removed when it fails.

    A process that reads `path` meanwhile sees the old file or none, never half a file.

    Args:
        path: The file to create or replace; its folder is created if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        # A temporary file is readable by its owner only; the final file is as readable as any other.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
