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
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

from trackdl import spec
from trackdl.errors import FileError, InputError, TrackdlError, one_line
from trackdl.ledger import page
from trackdl.ledger.archive import Archive, Only, Record, Records, parsed
from trackdl.ledger.folder import COMMITTED
from trackdl.ledger.model import Ledger
from trackdl.spec import Experiment
from trackdl.system.paths import content_of, is_passed_over, report_root, visible_files, whole_file

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
# What zipfile raises on damaged files, and `_content` on others.
_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, ValueError)
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
        **{f"{ledger.files}/{name}": content for name, content in report_files().items()},
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


def report_files() -> dict[str, bytes]:
    """Return the report's files by their path in its folder: experiments, and tables of printed and own numbers."""
    root, found = report_root(), {}
    for path in sorted([*root.glob("*"), *root.glob("results/*")]):
        if path.suffix not in ENDINGS or not path.is_file() or is_passed_over(path):
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
        contents = {RECORD: (record.model_dump_json(indent=1) + "\n").encode()}
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
        for name, content in sorted(contents.items())
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


class Bundle(Records):
    """A bundle that is open for reading, as an archive of runs (`archive.Archive`)."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self._left = MAX_ALL
        self._fetch = cache(self._member)
        for file in sorted(file for file in (root / "runs").glob("*.zip") if not is_passed_over(file)):
            record = self._record(file.stem)
            self.runs[record.run] = record

    def read(self, name: str) -> bytes:
        """Return a file of the bundle.

        Raises:
            InputError: It cannot be read.
        """
        try:
            return content_of(self.root / name, MAX_FILE)
        except FileError as error:
            raise InputError(f"{name}: {error}") from error

    def get(self, run: str) -> Record:
        """Return a run.

        Raises:
            InputError: There is no such run.
        """
        if run not in self.runs:
            raise InputError(f"the bundle has no run {run!r:.80}")
        return self.runs[run]

    def fetch(self, run: str, path: str) -> bytes:
        """Return an artifact as the formulas read it."""
        self.get(run)
        return self._fetch(run, path)

    def _record(self, run: str) -> Record:
        try:
            record = Record.model_validate(parsed(self._fetch(run, RECORD)))
        except (ValueError, RecursionError) as error:
            raise InputError(f"runs/{run}.zip: {RECORD} is no record of a run: {one_line(error, 200)}") from error
        if record.run != run:
            raise InputError(f"runs/{run}.zip: is of another run, {record.run!r:.80}")
        return record

    def _member(self, run: str, name: str) -> bytes:
        file = self.root / "runs" / f"{run}.zip"
        try:
            if not file.is_file():
                raise TrackdlError(f"runs/{file.name}: is not an ordinary file")
            with zipfile.ZipFile(file) as opened:
                content = _content(opened, opened.getinfo(name), min(MAX_FILE, self._left))
        except KeyError as error:
            raise TrackdlError(f"runs/{file.name}: has no {name}") from error
        except _UNREADABLE as error:
            raise TrackdlError(f"runs/{file.name}: {name} cannot be read: {one_line(error, 200)}") from error
        self._left -= len(content)
        return content

    def changed(self) -> list[str]:
        """Return, in words, which files are not those that the bundle's metadata list."""
        listed = _listed(self.read(METADATA))
        there = {
            file.relative_to(self.root).as_posix(): file
            for file in visible_files(self.root)
            if file != self.root / METADATA
        }
        if links := [name for name, file in there.items() if file.is_symlink()]:
            return [f"{name}: is a link, which a bundle has none of" for name in links]
        return [
            *(f"{name}: the crate does not list it" for name in sorted(there.keys() - listed.keys())),
            *(f"{name}: the crate lists it, and it is not there" for name in sorted(listed.keys() - there.keys())),
            *(
                f"{name}: is not the file that the crate lists, by its SHA-256"
                for name in sorted(listed.keys() & there.keys())
                if hashlib.sha256(self.read(name)).hexdigest() != listed[name]
            ),
        ]

    def differences(self, ledger: Ledger, experiments: Mapping[str, Experiment]) -> list[str]:
        """Return, in words, where the bundle's files are not what its ledger says."""
        names = [file.relative_to(self.root).as_posix() for file in visible_files(self.root) if file.is_file()]
        contents = {name: self.read(name) for name in names if name != METADATA}
        wanted = {PAGE: page.render(ledger, None), HEAD: page.markdown(ledger), SCHEMA: schema()}
        wanted |= {f"pictures/{name}.svg": text for name, text in page.pictures(ledger).items()}
        wanted |= {METADATA: _metadata(ledger, contents)}
        contents[METADATA] = self.read(METADATA)
        found = [
            f"{name}: is not what the ledger gives"
            for name, text in wanted.items()
            if contents.get(name) != text.encode()
        ]
        named = Only(self, [run for run in ledger.runs if run in self.runs]).runs
        found += [f"run {run}: the ledger does not name it" for run in self.runs.keys() - named.keys()]
        for run, record in self.runs.items():
            found += [f"run {run}: {words}" for words in self._contradictions(record)]
            if run in ledger.runs and record.tags["trackdl.task"] not in experiments:
                found.append(f"run {run}: is of {record.tags['trackdl.task']!r:.80}, which the report does not have")
        return sorted(found)

    def _contradictions(self, record: Record) -> Iterator[str]:
        """Yield, in words, where a run's tags and parameters are not those of the experiment that it keeps."""
        if "trackdl.spec_digest" not in record.tags:
            return
        try:
            text = self.fetch(record.run, EXPERIMENT).decode("utf-8", "replace")
            made = spec.parse(text, EXPERIMENT, spec.KINDS[record.tags.get("trackdl.kind", "")])
        except (KeyError, TrackdlError) as error:
            yield f"its {EXPERIMENT} cannot be read: {one_line(error, 200)}"
            return
        if spec.digest(made) != record.tags["trackdl.spec_digest"]:
            yield f"its {EXPERIMENT} is not the experiment that it ran, by its digest"
        for key, value in spec.flatten(made).items():
            if record.params.get(key) != str(value):
                yield f"its parameter {key} is {record.params.get(key)!r:.80}, but its {EXPERIMENT} says {value!r:.80}"


def _content(opened: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """Return the content of a zip file's member, of which no more is unpacked than `most` bytes, whatever it claims."""
    if opened.namelist().count(member.filename) > 1:
        raise ValueError(f"{member.filename!r:.80} is in it twice")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r:.80} is compressed in another way than by deflate")
    with opened.open(member) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"a bundle's files may have {MAX_FILE:,} bytes each, and {MAX_ALL:,} in all, unpacked")
    return content


def _listed(content: bytes) -> dict[str, str]:
    """Return the SHA-256 of the files that a crate lists."""
    try:
        graph = parsed(content)["@graph"]
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
            members, left = opened_file.infolist(), MAX_ALL
            if len(members) > MAX_FILES:
                raise InputError(f"{file}: has more than {MAX_FILES:,} files, the limit")
            for one in members:
                path = PurePosixPath(one.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in one.filename:
                    raise InputError(f"{file}: {one.filename!r:.80} is an unsafe path")
                if one.is_dir() or any(map(is_passed_over, (path, *path.parents))):
                    continue
                content = _content(opened_file, one, min(MAX_FILE, left))
                left -= len(content)
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    except _UNREADABLE as error:
        raise InputError(f"{file}: cannot be read as a bundle: {one_line(error, 200)}") from error
    if not (folder / METADATA).is_file():
        raise InputError(f"{file}: is no bundle: it has no {METADATA}; `trackdl ledger --bundle` writes one")
