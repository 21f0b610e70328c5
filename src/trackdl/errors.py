"""The errors that a user sees.

Every message is written for the person who reads it: what was wrong, where, what it may be, and what to do. The command
line prints only the message and ends with the error's exit code; `--debug` shows the traceback.
"""


class TrackdlError(Exception):
    """Something failed that the user did not cause: a download, a disk, a store."""

    exit_code = 1


class DataMissing(TrackdlError):  # noqa: N818 - it says what happened
    """A data set is not on this machine and cannot be fetched."""


class Diverged(TrackdlError):  # noqa: N818 - it says what happened
    """A training's loss is no longer a finite number."""


class InputError(TrackdlError):
    """Something that the user gave is wrong: a file, a key, a value, an image, a run id."""

    exit_code = 2


class FileError(Exception):
    """What is wrong with a file, in words that follow its name: "is not there". No user sees it without the name."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the error's type if it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(error: BaseException, most: int = 200) -> str:
    """Return the first `most` characters of an error's text, on one line."""
    return " ".join(str(error).split())[:most]
