"""Everything that can be looked at before something goes wrong: all checks in a row, each with what to do."""

from collections.abc import Callable
from pathlib import Path

from trackdl import checkup
from trackdl.checkup import Finding
from trackdl.errors import TrackdlError
from trackdl.paths import data_root, project_root
from trackdl.tracking import health

__all__ = ["examine"]


def examine() -> list[Finding]:
    """Run every check; one that fails itself is a fault, and the others are run all the same."""
    uri = health.address()
    artifacts = health.artifact_folder(uri)
    folders = [data_root(), project_root(), *([artifacts] if artifacts else [])]
    found = [
        *_tried("versions", lambda: [checkup.versions(project_root() / "requirements.lock")]),
        *_tried("hardware", lambda: [checkup.hardware()]),
        *_tried("disk", lambda: [checkup.disk(folders)]),
        *_tried("data", lambda: checkup.data(data_root())),
        *_tried("sources", lambda: checkup.reachable(data_root())),
    ]
    store = _tried("store", lambda: [health.schema(uri)])
    found += store
    made = not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists()
    if made and all(item.level == "ok" for item in store):
        found += _tried("stuck runs", lambda: [health.stuck()])
        found += _tried("aliases", lambda: [health.aliases()])
        if artifacts and artifacts.is_dir():
            found += _tried("orphan artifacts", lambda: [health.orphans(artifacts)])
    if artifacts and artifacts.is_dir():
        found += _tried("pickles", lambda: [checkup.pickles(artifacts)])
    return found


def _tried(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except (TrackdlError, OSError) as error:
        return [Finding(name, "fault", f"this cannot be looked at: {error}", "mend that, and look again")]
