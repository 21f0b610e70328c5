"""Evidence that travels: a ledger with all that checking it needs, as an RO-Crate, a folder or a .zip file.

A bundle has `ledger.json` and its schema, `ledger.html`, `README.md` and `pictures/`; the report's folder; and for each
run `runs/RUN_ID.zip`, with what the formulas read, the run's record, and its resolved experiment.
`ro-crate-metadata.json` lists every file with its SHA-256 (https://www.researchobject.org/ro-crate/, version 1.1).
"""

import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from trackdl import spec
from trackdl.errors import FileError, InputError, TrackdlError, one_line
from trackdl.ledger import page
from trackdl.ledger.archive import PARENT, Archive, Only, Record, as_json, finished
from trackdl.ledger.folder import COMMITTED
from trackdl.ledger.model import Ledger
from trackdl.spec import Experiment
from trackdl.system.paths import content_of, report_root, whole_file

METADATA, LEDGER, PAGE, HEAD = "ro-crate-metadata.json", "ledger.json", "ledger.html", "README.md"
SCHEMA = "schema.json"
RECORD, EXPERIMENT = "run.json", "experiment.yaml"
MAX_FILE, MAX_ALL, MAX_FILES = 50_000_000, 200_000_000, 10_000  # bytes, of what is read from a bundle
ENDINGS = (".yaml", ".csv", ".json")  # of the report's files
_KINDS = {
    ".json": "application/json",
    ".html": "text/html",
    ".md": "text/markdown",
    ".svg": "image/svg+xml",
    ".zip": "application/zip",
    ".yaml": "application/yaml",
    ".csv": "text/csv",
}
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip file's members: no clock, so the same content is the same file


def write(place: Path, ledger: Ledger, archive: Archive) -> None:
    """Write a ledger's bundle: a folder, or a file if the name ends in .zip; a bundle that is there is replaced.

    Raises:
        InputError: The place has something else, or the report's folder needs files that a bundle does not take.
        TrackdlError: A run's evidence cannot be read.
    """
    check_place(place)
    contents = {
        LEDGER: (ledger.model_dump_json() + "\n").encode(),
        PAGE: page.render(ledger, None).encode(),
        HEAD: page.markdown(ledger).encode(),
        SCHEMA: schema().encode(),
        **{f"pictures/{name}.svg": text.encode() for name, text in page.pictures(ledger).items()},
        **{f"{ledger.files}/{name}": content for name, content in _report_files().items()},
        **{f"runs/{run}.zip": content for run, content in _runs(ledger, archive)},
    }
    contents[METADATA] = _metadata(ledger, contents).encode()
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix == ".zip":
        with whole_file(place) as part:
            part.write_bytes(_zipped(contents))
        return
    made = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
    try:
        for name, content in contents.items():
            file = made / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        made.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        made.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def schema() -> str:
    """Return the JSON schema of a ledger."""
    return json.dumps(Ledger.model_json_schema(), indent=1) + "\n"


def check_place(place: Path) -> None:
    """Refuse to replace what is no bundle.

    Raises:
        InputError: There is something else.
    """
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    is_ours = zipfile.is_zipfile(place) if place.is_file() else (place / METADATA).is_file()
    if not is_ours or place.is_symlink():
        raise InputError(f"--bundle {place}: is there, and is no bundle; name a new place, or delete it first")


def _report_files() -> dict[str, bytes]:
    """Return the report's files by their path in its folder: experiments, and tables of printed and own numbers."""
    root, found = report_root(), {}
    for path in sorted([*root.glob("*"), *root.glob("results/*")]):
        if path.suffix not in ENDINGS or not path.is_file() or path.name.startswith("."):
            continue
        try:
            found[path.relative_to(root).as_posix()] = content_of(path, MAX_FILE)
        except FileError as error:
            raise InputError(f"{path}: {error}") from error
    return found


def _runs(ledger: Ledger, archive: Archive) -> Iterator[tuple[str, bytes]]:
    """Yield each run that the ledger names, or that is above one, as a zip file."""
    named = [run for run in ledger.runs if not run.startswith(COMMITTED)]
    for run, record in Only(archive, named).runs.items():
        artifacts = ledger.runs[run].artifacts if run in ledger.runs else {}
        contents = {RECORD: as_json(record).encode()}
        if "trackdl.spec_digest" in record.tags:
            contents[EXPERIMENT] = archive.fetch(run, EXPERIMENT)
        contents |= {path: archive.fetch(run, path) for path in artifacts}
        yield run, _zipped(contents)


def _zipped(contents: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, content in contents.items():
            file.writestr(zipfile.ZipInfo(name, _EARLIEST), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _metadata(ledger: Ledger, contents: Mapping[str, bytes]) -> str:
    """Return the crate's metadata as JSON-LD: what it is, and each file with its kind, size and SHA-256."""
    files = [
        {
            "@id": name.replace(" ", "%20"),
            "@type": "File",
            "name": _title(ledger, name),
            "encodingFormat": _KINDS.get(Path(name).suffix, "application/octet-stream"),
            "contentSize": str(len(content)),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        for name, content in contents.items()
    ]
    report = ledger.report
    source = {"@id": report.source if report.source.startswith("http") else "#report"}
    crate = [
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"The ledger of “{report.title}”",
            "description": "Every number that a deep-learning report prints next to ours, with a verdict, and the "
            "evidence from which `trackdl verify` computes all of it again.",
            "datePublished": ledger.made,
            "license": {"@id": "#licence"},
            "author": {"@id": "#us"},
            "publisher": {"@id": "#us"},
            "isBasedOn": source,
            "hasPart": [{"@id": file["@id"]} for file in files],
            "mentions": {"@id": "#made"},
        },
        {
            "@id": "#licence",
            "@type": "CreativeWork",
            "name": "As trackdl's",
            "description": "Ours is under trackdl's licence; quotations and numbers of the report are its authors'.",
        },
        {"@id": "#us", "@type": "Organization", "name": "trackdl"},
        {
            "@id": "#made",
            "@type": "CreateAction",
            "name": "trackdl ledger",
            "endTime": ledger.made,
            "instrument": {"@id": "#trackdl"},
            "result": {"@id": "./"},
            "description": ", ".join(f"{key} {value}" for key, value in ledger.environment.items()),
        },
        {
            "@id": "#trackdl",
            "@type": "SoftwareApplication",
            "name": "trackdl",
            "version": ledger.version,
            "softwareVersion": ledger.commit or "no commit is known",
        },
        {
            "@id": source["@id"],
            "@type": "CreativeWork",
            "name": report.title,
            **({"author": report.authors} if report.authors else {}),
        },
        *files,
    ]
    context = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "http://schema.org/sha256"}]
    return json.dumps({"@context": context, "@graph": crate}, indent=1, ensure_ascii=False) + "\n"


def _title(ledger: Ledger, name: str) -> str:
    if name.startswith("runs/"):
        run = Path(name).stem
        return f"Evidence of the run {ledger.runs[run].name}" if run in ledger.runs else "A run above others"
    titles = {
        LEDGER: "The ledger as data",
        PAGE: "The ledger as a page",
        HEAD: "The ledger in short",
        SCHEMA: "The JSON schema of the ledger",
    }
    return titles.get(name, name)


class Bundle:
    """A bundle that is open for reading, as an archive of runs (`archive.Archive`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._records: dict[str, Record] = {}
        for file in sorted((root / "runs").glob("*.zip")):
            record = _record(self._member(file, RECORD), f"runs/{file.name}")
            if record.run != file.stem:
                raise InputError(f"runs/{file.name}: is of another run, {record.run!r:.80}")
            self._records[record.run] = record
        self.fetch = cache(self._fetch)

    @property
    def ledger(self) -> bytes:
        """The ledger's JSON text."""
        return self.read(LEDGER)

    def read(self, name: str) -> bytes:
        """Return a file of the bundle.

        Raises:
            InputError: It cannot be read.
        """
        try:
            return content_of(self.root / name, MAX_FILE)
        except FileError as error:
            raise InputError(f"{name}: {error}") from error

    def finished(self, task: str, tags: Mapping[str, str]) -> list[Record]:
        """Return the finished runs of an experiment with these tags, newest first."""
        return finished(self._records.values(), task, tags)

    def get(self, run: str) -> Record:
        """Return a run.

        Raises:
            InputError: There is no such run.
        """
        if run not in self._records:
            raise InputError(f"the bundle has no run {run!r:.80}")
        return self._records[run]

    def below(self, run: str) -> list[Record]:
        """Return the runs whose parent is this one."""
        return [record for record in self._records.values() if record.tags.get(PARENT) == run]

    def _fetch(self, run: str, path: str) -> bytes:
        self.get(run)
        return self._member(self.root / "runs" / f"{run}.zip", path)

    def _member(self, file: Path, name: str) -> bytes:
        try:
            with zipfile.ZipFile(file) as opened:
                if opened.getinfo(name).file_size > MAX_FILE:
                    raise TrackdlError(f"{file.name}: {name} has more than {MAX_FILE:,} bytes")
                return opened.read(name)
        except KeyError as error:
            raise TrackdlError(f"runs/{file.name}: has no {name}") from error
        except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError) as error:
            raise TrackdlError(f"runs/{file.name}: {name} cannot be read: {one_line(error, 200)}") from error

    def differences(self, ledger: Ledger, experiments: Mapping[str, Experiment]) -> list[str]:
        """Return, in words, where the bundle is not what its metadata and its ledger say."""
        listed = _listed(self.read(METADATA))
        there = {
            file.relative_to(self.root).as_posix(): file
            for file in sorted(self.root.rglob("*"))
            if not file.is_dir() and file.name != METADATA
        }
        found = [f"{name}: the crate does not list it" for name in there.keys() - listed.keys()]
        found += [f"{name}: the crate lists it, and it is not there" for name in listed.keys() - there.keys()]
        found += [
            f"{name}: is not the file that the crate lists, by its SHA-256"
            for name in sorted(listed.keys() & there.keys())
            if hashlib.sha256(self.read(name)).hexdigest() != listed[name]
        ]
        wanted = {PAGE: page.render(ledger, None), HEAD: page.markdown(ledger)}
        wanted |= {f"pictures/{name}.svg": text for name, text in page.pictures(ledger).items()}
        for name, text in wanted.items():
            if name not in there or self.read(name) != text.encode():
                found.append(f"{name}: is not what the ledger gives")
        for run, record in self._records.items():
            if run not in ledger.runs:
                continue
            kind = record.tags.get("trackdl.kind", "")
            text = self.fetch(run, EXPERIMENT).decode("utf-8", "replace")
            try:
                made = spec.parse(text, f"run {run}, {EXPERIMENT}", spec.KINDS[kind])
                same = spec.digest(made) == record.tags.get("trackdl.spec_digest")
            except (KeyError, InputError) as error:
                found.append(f"run {run}: its {EXPERIMENT} cannot be read: {one_line(error, 200)}")
                continue
            if not same:
                found.append(f"run {run}: its {EXPERIMENT} is not the experiment that it ran, by its digest")
            if record.tags["trackdl.task"] not in experiments:
                found.append(f"run {run}: is of {record.tags['trackdl.task']!r:.80}, which the report does not have")
        return sorted(found)


def _record(content: bytes, name: str) -> Record:
    try:
        given: dict[str, Any] = json.loads(content)
        record = Record(**{one.name: given[one.name] for one in fields(Record)})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{name}: {RECORD} is no record of a run: {one_line(error, 200)}") from error
    texts = [record.run, record.name, record.experiment_id, record.started, record.status]
    tables = [record.tags, record.params]
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(one, dict) and all(isinstance(value, str) for value in one.values()) for one in tables
    ):
        raise InputError(f"{name}: {RECORD} is no record of a run")
    return record


def _listed(content: bytes) -> dict[str, str]:
    """Return the SHA-256 of the files that a crate lists."""
    try:
        graph = json.loads(content)["@graph"]
        return {one["@id"].replace("%20", " "): one["sha256"] for one in graph if one["@type"] == "File"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{METADATA}: is no RO-Crate's metadata: {one_line(error, 200)}") from error


def is_bundle(place: Path) -> bool:
    """Return whether a path is a bundle's: a .zip file, a folder with metadata, or the ledger in one."""
    return place.suffix == ".zip" or place.is_dir() or (place.parent / METADATA).is_file()


@contextmanager
def opened(place: Path) -> Iterator[Bundle]:
    """Yield a bundle, a folder or a .zip file, which is unpacked for the time of the block.

    Raises:
        InputError: It is no bundle, or larger than a bundle may be.
    """
    root = place.parent if place.name == LEDGER and place.is_file() else place
    if root.is_dir():
        if not (root / METADATA).is_file():
            raise InputError(f"{root}: is no bundle: it has no {METADATA}; `trackdl ledger --bundle` writes one")
        yield Bundle(root)
        return
    with tempfile.TemporaryDirectory() as folder:
        _unpack(root, Path(folder))
        yield Bundle(Path(folder))


def _unpack(file: Path, folder: Path) -> None:
    """Unpack a zip file of ordinary files, of bounded size and number, below a folder."""
    try:
        with zipfile.ZipFile(file) as opened_file:
            members = opened_file.infolist()
            if len(members) > MAX_FILES or sum(one.file_size for one in members) > MAX_ALL:
                raise InputError(f"{file}: is larger than a bundle may be: {MAX_ALL:,} bytes in {MAX_FILES:,} files")
            for one in members:
                path = PurePosixPath(one.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in one.filename or one.is_dir():
                    raise InputError(f"{file}: {one.filename!r:.80} is no ordinary file below the bundle")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened_file.read(one))
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, NotImplementedError) as error:
        raise InputError(f"{file}: cannot be read as a bundle: {one_line(error, 200)}") from error
    if not (folder / METADATA).is_file():
        raise InputError(f"{file}: is no bundle: it has no {METADATA}; `trackdl ledger --bundle` writes one")
