"""All checks of the machine and the stores, in a row."""

from collections.abc import Callable

from trackdl.doctor import machine as checkup
from trackdl.errors import TrackdlError
from trackdl.studies import health as studies
from trackdl.system import databases
from trackdl.system.findings import Finding
from trackdl.system.paths import data_root, project_root
from trackdl.tracking import health, store

__all__ = ["examine"]


def examine() -> list[Finding]:
    """Run every check; a check that raises is a fault, and the others still run."""
    uri = store.address()
    artifacts = health.artifact_folder(uri)
    folders = [data_root(), project_root(), *([artifacts] if artifacts else [])]
    found = [
        *_tried("versions", lambda: [checkup.versions(project_root() / "requirements.lock")]),
        *_tried("hardware", lambda: [checkup.hardware()]),
        *_tried("disk", lambda: [checkup.disk(folders)]),
        *_tried("data", lambda: checkup.data(data_root())),
        *_tried("sources", lambda: checkup.reachable(data_root())),
    ]
    schema = _tried("store", lambda: [health.schema(uri)])
    found += schema
    found += _tried("unsent", lambda: [health.unsent()])
    found += _tried("studies", lambda: [studies.schema()])
    file = databases.sqlite_file(uri)
    if (file is None or file.exists()) and all(item.level == "ok" for item in schema):
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
        what = str(error) if isinstance(error, TrackdlError) else f"{type(error).__name__}: {error}"
        return [Finding(name, "fault", f"the check failed: {what}", "repair that, and check again")]
