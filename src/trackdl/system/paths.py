"""Where trackdl's folders are: beside the checkout it runs from, or below the working folder when it is installed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UI = "http://127.0.0.1:5000"  # where `trackdl ui` shows runs, and links to them lead


def project_root() -> Path:
    """Return the checkout that this code lies in (it holds `MLproject`), else the working folder."""
    checkout = Path(__file__).resolve().parents[3]
    return checkout if (checkout / "MLproject").is_file() else Path.cwd()


def data_root() -> Path:
    """Return the data folder: `TRACKDL_DATA_DIR` where it is set, else `data/` below the project's root."""
    named = os.environ.get("TRACKDL_DATA_DIR")
    return Path(named).expanduser() if named else project_root() / "data"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well, and is removed when not.

    Args:
        path: The file to make or replace; its folder is created when missing.

    Yields:
        The temporary file's path; whoever reads `path` meanwhile sees the old file or none, never half a file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        # A temporary file is its owner's alone; the file that it becomes is as readable as any other.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
