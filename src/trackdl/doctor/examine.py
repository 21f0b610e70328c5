"""All checks of the machine and the stores, in a row."""

from collections.abc import Callable, Mapping

from trackdl.doctor import machine
from trackdl.errors import TrackdlError
from trackdl.studies import health as studies
from trackdl.system import databases
from trackdl.system.findings import Finding
from trackdl.system.paths import data_root, project_root
from trackdl.tracking import health, moved, store


def examine() -> list[Finding]:
    """Run every check; a check that raises is a fault, and the others still run."""
    uri = store.address()
    artifacts = moved.artifact_folder(uri)
    folders = [data_root(), project_root(), *([artifacts] if artifacts else [])]
    found = _run(
        {
            "versions": lambda: machine.versions(project_root() / "requirements.lock"),
            "hardware": machine.hardware,
            "disk": lambda: machine.disk(folders),
            "data": lambda: machine.data(data_root()),
            "sources": lambda: machine.reachable(data_root()),
        }
    )
    schema = _run({"store": lambda: health.schema(uri)})
    if all(item.level == "ok" for item in schema):
        schema += _run({"place": lambda: moved.check(uri)})
    found += schema + _run({"unsent": health.unsent, "studies": studies.schema})
    file = databases.sqlite_file(uri)
    files = artifacts if artifacts and artifacts.is_dir() else None
    if (file is None or file.exists()) and all(item.level == "ok" for item in schema):
        found += _run({"stuck runs": health.stuck, "aliases": health.aliases, "stale champions": health.stale})
        if files:
            found += _run({"orphan artifacts": lambda: health.orphans(files)})
    if files:
        found += _run({"pickles": lambda: machine.pickles(files)})
    return found


def _run(checks: Mapping[str, Callable[[], Finding | list[Finding]]]) -> list[Finding]:
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            result = check()
        except Exception as error:  # whatever it is, the user wants to know
            what = str(error) if isinstance(error, TrackdlError) else f"{type(error).__name__}: {error}"
            result = Finding(name, "fault", f"the check failed: {what}", "repair that, and check again")
        found += result if isinstance(result, list) else [result]
    return found
