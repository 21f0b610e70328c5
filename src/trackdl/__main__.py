"""`python src/trackdl TASK` from the project's root, or `trackdl TASK` where the package is installed."""

import sys
from pathlib import Path

if not __package__:
    # Run as a folder: Python has put the package's own folder first on its path, where `data` or `stats` would hide
    # other packages of those names. The folder above it is the right one.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from trackdl.system import interruptions


def main() -> None:
    """Run the command line; Ctrl-C during its import ends it without a traceback too."""
    interruptions.handle(__name__, "trackdl.cli")
    from trackdl.cli import app

    app.main()


if __name__ == "__main__":
    main()
