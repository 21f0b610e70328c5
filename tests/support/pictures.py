"""Tiny data sets of pictures that stand where the real ones would."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from trackdl.data.download import datasets as sources


def idx(array: np.ndarray) -> bytes:
    """Return an IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures, uint8 [count, 28, 28], whose class is where their bright square stands."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 10)
    pictures = random.integers(0, 60, (count, 28, 28))
    for picture, label in zip(pictures, labels, strict=True):
        row, column = 3 + 8 * (label // 4), 1 + 7 * (label % 4)
        picture[row : row + 6, column : column + 6] = random.integers(180, 256)
    return pictures.astype(np.uint8), labels.astype(np.uint8)


def arrays_of(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file, which is closed."""
    with np.load(file) as opened:
        return dict(opened)


def put_pictures(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put tiny files of pictures in a data set's place."""
    train, test = blobs(600, 0), blobs(100, 1)
    contents = {
        "train-images-idx3-ubyte": idx(train[0]),
        "train-labels-idx1-ubyte": idx(train[1]),
        "t10k-images-idx3-ubyte": idx(test[0]),
        "t10k-labels-idx1-ubyte": idx(test[1]),
    }
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    files = tuple(
        sources.File(name=file, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for file, content in contents.items()
    )
    monkeypatch.setitem(sources.DATASETS, name, sources.Dataset(files, list, "nothing: these are a test's"))
    monkeypatch.setenv("TRACKDL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
