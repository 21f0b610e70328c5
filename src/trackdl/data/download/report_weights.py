"""The weights from which the report's Task 3 starts: `results/model.pth` of its repository, or the same as safetensors.

A .pth is a pickle, the only one that trackdl ever reads: once, with `weights_only`, from bytes whose SHA-256 is
verified. The tensors are stored next to it as safetensors, and read from there afterwards.
"""

import hashlib
import io
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trackdl.data.download.datasets import read
from trackdl.errors import DataMissing, FileError, InputError, one_line
from trackdl.system.paths import content_of, data_root, whole_file

NAME = "report-weights"
VARIABLE = "TRACKDL_REPORT_WEIGHTS"
# SHA-256 of the tensors as safetensors: their names, types, shapes and values are those of `DigitNet`.
DIGEST = "9b2ad137686a4a3fa582ed88217f31bdcd3bcbc1c8b93bd51a37c3569afeeb5a"

_FILE = "model.safetensors"
_MOST = 1 << 20  # bytes: ten times the size of these weights


def load_report_weights(root: Path | None = None) -> dict[str, Tensor]:
    """Return the weights that the report's notebook loads, verified, and fetched if necessary.

    Args:
        root: The data folder; `None` is `data_root()`. `TRACKDL_REPORT_WEIGHTS` takes precedence: it names such a
            safetensors file or a folder with `model.safetensors`.

    Raises:
        InputError: `TRACKDL_REPORT_WEIGHTS` does not name these weights, or the kept file is another.
        DataMissing: The weights cannot be fetched or stored.
    """
    if named := os.environ.get(VARIABLE):
        path = Path(named).expanduser()
        try:
            return _read(path / _FILE if path.is_dir() else path)
        except FileError as error:
            raise InputError(
                f"{VARIABLE} names {path}: it {error}. Name the report's weights, or unset it to fetch them"
            ) from error
    kept = (data_root() if root is None else root) / NAME / _FILE
    try:
        return _read(kept)
    except FileError as error:
        if kept.exists():
            raise InputError(
                f"{kept} {error}. trackdl never writes over a file that it has not written. Move it away, and the"
                " report's weights are fetched"
            ) from error
    content = read(NAME, root)["model.pth"]
    try:
        with whole_file(kept) as part:
            part.write_bytes(save(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)))
        return _read(kept)
    except (OSError, FileError) as error:
        raise DataMissing(
            f"the report's weights cannot be kept as {kept}: {error}. Make its folder writable, or name another one in"
            " TRACKDL_DATA_DIR"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """Return a safetensors file's tensors, or raise a `FileError` if they are not the report's."""
    content = content_of(path, _MOST)
    try:
        weights = load(content)
        found = hashlib.sha256(save(weights)).hexdigest()
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"is no safetensors file ({one_line(error)})") from error
    if found != DIGEST:
        raise FileError(f"holds other tensors than the report's: SHA-256 {found[:16]}..., not {DIGEST[:16]}...")
    return weights
