"""What trackdl says when it cannot go on.

Every message is for the person who reads it: what was wrong, where, what it may be, what to do. The command line
prints the message alone and ends with the error's exit code; `--debug` shows the traceback.
"""


class TrackdlError(Exception):
    """Something failed that is not the user's wording: a source, a disk, a store."""

    exit_code = 1


class DataMissing(TrackdlError):  # noqa: N818 - it says what happened
    """A data set is not here and cannot be had: nothing that learns from it can be trained on this machine."""


class Diverged(TrackdlError):  # noqa: N818 - it says what happened
    """A training's loss is no longer a finite number."""


class InputError(TrackdlError):
    """What the user gave is wrong: a file, a key, a value, a picture, a run id."""

    exit_code = 2
