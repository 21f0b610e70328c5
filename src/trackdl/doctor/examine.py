"""Everything that can be looked at before something goes wrong: all checks in a row, each with what to do."""

from collections.abc import Callable

from trackdl.doctor import machine as checkup
from trackdl.errors import TrackdlError
from trackdl.studies import health as studies
from trackdl.system import databases
from trackdl.system.findings import Finding
from trackdl.system.paths import data_root, project_root
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
    found += _tried("unsent", lambda: [health.unsent()])
    found += _tried("studies", lambda: [studies.schema()])
    file = databases.sqlite_file(uri)
    if (file is None or file.exists()) and all(item.level == "ok" for item in store):
        found += _tried("stuck runs", lambda: [health.stuck()])
        found += _tried("aliases", lambda: [health.aliases()])
        found += _tried("stale champions", lambda: [health.stale()])
        if artifacts and artifacts.is_dir():
            found += _tried("orphan artifacts", lambda: [health.orphans(artifacts)])
    if artifacts and artifacts.is_dir():
        found += _tried("pickles", lambda: [checkup.pickles(artifacts)])
    return found


def _tried(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except Exception as error:
        # Whatever keeps a check from looking is what the doctor is asked for.
        what = str(error) if isinstance(error, TrackdlError) else f"{type(error).__name__}: {error}"
        return [Finding(name, "fault", f"this cannot be looked at: {what}", "mend that, and look again")]
