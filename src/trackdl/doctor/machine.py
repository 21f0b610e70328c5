"""Checks of the machine: versions, data, sources, disk, pickles, hardware; one function each."""

import importlib.metadata
import logging
import os
import shutil
import socket
import urllib.parse
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from packaging.requirements import Requirement

from trackdl.data.download import datasets as sources
from trackdl.data.download import report_weights
from trackdl.data.download.fetchers import Folder, Mirror, Source
from trackdl.data.download.packages import DebianPackage, NpmPackage
from trackdl.errors import InputError
from trackdl.system.findings import Finding, first_few
from trackdl.system.paths import below
from trackdl.tracking.store import gc_command
from trackdl.training.devices import resolve_device, resolve_precision

log = logging.getLogger(__name__)

GIB = 1 << 30
# `make run` leaves about 0.2 GB; a grid with its checkpoints a few.
LITTLE, TOO_LITTLE = 5 * GIB, 1 * GIB
CONNECT_SECONDS = 3.0
PICKLE_NAMES = {".pkl", ".pickle", ".joblib", ".pt", ".pth"}


def versions(lock: Path) -> Finding:
    """Compare the installed versions with the lock, without the part after a + (`+cpu`)."""
    if not lock.is_file():
        return Finding("versions", "warn", f"{lock.name} is missing", "run from a checkout to compare versions")
    other, missing, count = [], [], 0
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line[:1].isalnum():
            continue
        pin = Requirement(line)
        if pin.marker and not pin.marker.evaluate():
            continue
        count += 1
        try:
            found = importlib.metadata.version(pin.name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            missing.append(pin.name)
            continue
        if not pin.specifier.contains(found, prereleases=True):
            other.append(f"{pin.name} {found}, not {pin.specifier}")
    remedy = "`make setup` installs what the lock names"
    if other:
        return Finding("versions", "fault", f"not as in {lock.name}: {first_few(other)}", remedy)
    if missing:
        return Finding("versions", "warn", f"not installed: {first_few(missing)}", remedy)
    return Finding("versions", "ok", f"{count} packages as in {lock.name}")


def data(root: Path) -> list[Finding]:
    """Check each data set's files, without fetching any.

    `TRACKDL_GREEK_DIR` replaces the report's letters, `TRACKDL_REPORT_WEIGHTS` its weights.
    """
    named = os.environ.get("TRACKDL_GREEK_DIR")
    found = []
    for name, dataset in sources.DATASETS.items():
        if dataset.on_demand and not (root / name).exists():
            continue
        if name == "greek" and named:
            found.append(_letters(Path(named).expanduser()))
        elif name == report_weights.NAME and os.environ.get(report_weights.VARIABLE):
            found.append(_weights())
        else:
            found.append(_data_set(name, dataset, root / name))
    return found


def _letters(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("data: greek", "fault", f"{folder} is not a folder", "change or unset TRACKDL_GREEK_DIR")
    whose = "other letters than the report's" if sources.inspect("greek", folder) else "the report's letters"
    return Finding("data: greek", "ok", f"TRACKDL_GREEK_DIR names {folder}: {whose}")


def _weights() -> Finding:
    check, variable = f"data: {report_weights.NAME}", report_weights.VARIABLE
    try:
        report_weights.load_report_weights()
    except InputError as error:
        return Finding(check, "fault", str(error), f"change or unset {variable}")
    return Finding(check, "ok", f"{variable} names {os.environ[variable]}: the report's weights")


def _data_set(name: str, dataset: sources.Dataset, folder: Path) -> Finding:
    wrong = sources.inspect(name, folder)
    there = [file.name for file in dataset.files if (folder / file.name).exists()]
    check = f"data: {name}"
    if not wrong:
        return Finding(check, "ok", f"{len(dataset.files)} files, each with its SHA-256")
    if not there:
        return Finding(check, "warn", f"not in {folder}", "`trackdl data` fetches it, and so does a task that needs it")
    faults = first_few(f"{file} {fault}" for file, fault in wrong.items())
    return Finding(check, "fault", f"{folder}: {faults}", "move what is wrong away, and `trackdl data` fetches it")


# A folder that replaces the data.
_INSTEAD = {"greek": "TRACKDL_GREEK_DIR", report_weights.NAME: report_weights.VARIABLE}


def reachable(root: Path) -> list[Finding]:
    """Check which sources of each data set can be reached; nothing is fetched.

    A web address counts as reached if its host accepts a connection, a package if its client is installed.
    """
    return [_sources(name, each, root / name) for name, each in sources.DATASETS.items() if not each.on_demand]


def _sources(name: str, dataset: sources.Dataset, folder: Path) -> Finding:
    every = list(dataset.sources())
    with ThreadPoolExecutor(max_workers=max(len(every), 1)) as pool:
        there = list(pool.map(_reached, every))
    words = "; ".join(f"{source}: {_answer(source, yes)}" for source, yes in zip(every, there, strict=True))
    whole, instead = not sources.inspect(name, folder), _INSTEAD.get(name, "")
    if any(there) or whole or os.environ.get(instead):
        spare = "the data are complete" if whole else f"{instead} names a folder" if os.environ.get(instead) else ""
        return Finding(f"sources: {name}", "ok", words + (f"; not needed, {spare}" if spare else ""))
    return Finding(f"sources: {name}", "warn", words, dataset.remedy)


def _answer(source: Source, reached: bool) -> str:
    if isinstance(source, Folder | Mirror):
        return "yes" if reached else "no"
    return "its client is installed" if reached else "its client is not installed"


def _reached(source: Source) -> bool:
    if isinstance(source, Folder):
        return source.path.is_dir()
    if isinstance(source, Mirror):
        web = urllib.parse.urlsplit(source.address)
        host = str(web.hostname), web.port or (80 if web.scheme == "http" else 443)
        try:
            socket.create_connection(host, CONNECT_SECONDS).close()
        except OSError as error:
            log.debug("%s: %s", source, error)
            return False
        return True
    client = "npm" if isinstance(source, NpmPackage) else "apt-get" if isinstance(source, DebianPackage) else None
    return client is None or shutil.which(client) is not None


def disk(folders: Sequence[Path]) -> Finding:
    """Check the free disk space for data, runs and reports."""
    least, where = min((shutil.disk_usage(_existing(folder)).free, folder) for folder in folders)
    words = f"{least / GIB:.1f} GiB free for {where}"
    if least >= LITTLE:
        return Finding("disk", "ok", words)
    remedy = (
        f"make room: `{gc_command()}` removes the files of deleted runs; TRACKDL_DATA_DIR names another data folder"
    )
    return Finding("disk", "fault" if least < TOO_LITTLE else "warn", words, remedy)


def _existing(folder: Path) -> Path:
    return folder if folder.exists() or folder == folder.parent else _existing(folder.parent)


def pickles(folder: Path) -> Finding:
    """Look for pickles among the artifacts: loading one runs the code in it, and trackdl writes none."""
    files = [file for file in below(folder) if file.is_file()] if folder.is_dir() else []
    found = [str(file.relative_to(folder)) for file in files if is_pickle(file)]
    if found:
        remedy = f"do not load them; delete the runs and logged models that hold them, then run `{gc_command()}`"
        return Finding("pickles", "fault", f"{folder}: {first_few(found)}", remedy)
    return Finding("pickles", "ok", "no artifact is a pickle")


def is_pickle(file: Path) -> bool:
    """Return whether a file is a pickle or holds one, by its name or its first bytes."""
    if file.suffix in PICKLE_NAMES:
        return True
    with file.open("rb") as opened:
        start = opened.read(128)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if start.startswith(b"\x93NUMPY"):
        return b"'|O'" in start
    if start.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(file) as archive:
                return any(Path(name).suffix in PICKLE_NAMES for name in archive.namelist())
        except zipfile.BadZipFile:
            return False
    return False


def hardware() -> Finding:
    """Report the device and precision that `auto` stands for; a fault if they cannot compute."""
    device = resolve_device("auto")
    dtype = resolve_precision("auto", device)
    words = f"{device.type}, {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"
    try:
        one = torch.ones(8, 8, device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            right = float((one @ one).sum()) == 512.0
    except RuntimeError as error:
        return Finding("hardware", "fault", f"{words}: {error}", "use `--device cpu` or `--precision float32`")
    if not right:
        return Finding("hardware", "fault", f"{words}: a product of ones is wrong", "use `--device cpu`")
    if device.type == "cuda":
        words += f", {torch.cuda.get_device_name(device)}"
    return Finding("hardware", "ok", words)
