"""Verified bytes become tensors, and tensors a network's input."""

import hashlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torchvision.transforms import functional

from support.idx import write_idx
from trackdl.data.catalogue import CATALOGUE
from trackdl.data.download.datasets import DATASETS, Dataset
from trackdl.data.download.fetchers import File
from trackdl.data.images import load_images, normalise
from trackdl.data.readers import read_idx
from trackdl.errors import InputError, TrackdlError
from trackdl.spec import DataSpec
from trackdl.spec.images import DATASETS as NAMED
from trackdl.spec.images import ImageData
from trackdl.tasks import data

arrays = npst.arrays(np.uint8, npst.array_shapes(min_dims=1, max_dims=3, max_side=6))


@given(arrays)
def test_what_is_written_is_read(array: np.ndarray) -> None:
    again = read_idx(write_idx(array), "file")
    assert again.dtype == np.uint8
    assert again.flags.writeable
    np.testing.assert_array_equal(again, array)


@given(arrays, st.data())
def test_a_file_cut_anywhere_is_an_error(array: np.ndarray, data: st.DataObject) -> None:
    whole = write_idx(array)
    with pytest.raises(TrackdlError, match=r"^part\.idx "):
        read_idx(whole[: data.draw(st.integers(0, len(whole) - 1))], "part.idx")


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda rest: b"\x00\x00\x08" + rest)))
@example(b"\x00\x00\x08\x03" + b"\xff" * 12)  # 79 billion billion billion items
@example(b"\x00\x00\x08\x02" + b"\x00\x00\x00\x00\xff\xff\xff\xff")
@example(b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00")  # floats
@example(b"\x1f\x8b\x08\x08" + b"\x00" * 20)  # still gzipped
def test_any_bytes_are_an_array_or_a_clear_error(content: bytes) -> None:
    try:
        array = read_idx(content, "any.idx")
    except TrackdlError as error:
        assert str(error).startswith("any.idx ")  # noqa: PT017 - either end is right
    else:
        assert write_idx(array) == content


def test_an_empty_axis_is_refused() -> None:
    with pytest.raises(TrackdlError, match=r"claims the shape \[0, 28, 28\] but holds 0 items"):
        read_idx(write_idx(np.zeros((0, 28, 28), np.uint8)), "empty.idx")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("mean_std", [CATALOGUE["mnist"].mean_std, CATALOGUE["fashion"].mean_std])
def test_normalised_pixels_are_those_of_torchvisions_transforms(
    mean_std: tuple[float, float], dtype: torch.dtype
) -> None:
    mean, std = mean_std
    pixels = torch.arange(512, dtype=torch.int16).remainder(256).to(torch.uint8).view(2, 16, 16)
    expected = [functional.normalize(functional.to_tensor(image.numpy()), [mean], [std]) for image in pixels]
    result = normalise(pixels, mean, std, dtype)
    assert result.dtype == dtype
    assert result.is_contiguous()
    assert torch.equal(result, torch.stack(expected).to(dtype))


@pytest.mark.parametrize("count", [0, 1, 167, 168, 400])  # a chunk ends within the 168th image
def test_every_image_is_normalised_wherever_the_chunks_end(count: int) -> None:
    pixels = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    expected = pixels[:, None].float().div(255).sub(0.5).div(0.5)
    assert torch.equal(normalise(pixels, *CATALOGUE["fashion"].mean_std), expected)


def test_a_view_is_normalised_as_it_is_seen() -> None:
    pixels = torch.arange(200, dtype=torch.uint8).view(2, 10, 10)
    assert torch.equal(normalise(pixels.mT, 0.1, 0.2), normalise(pixels, 0.1, 0.2).mT)
    assert torch.equal(pixels, torch.arange(200, dtype=torch.uint8).view(2, 10, 10))


@pytest.mark.parametrize("pixels", [torch.zeros(2, 28, 28), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)])
def test_other_pixels_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        normalise(pixels, 0.5, 0.5)


def place_images(root: Path, name: str) -> Dataset:
    """Lay a small data set of the same form: 5 training and 3 test images."""
    files = []
    for part, count in (("train", 5), ("t10k", 3)):
        images = np.arange(count * 784, dtype=np.uint32).astype(np.uint8).reshape(count, 28, 28)
        for file, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8))):
            path = root / name / f"{part}-{file}-ubyte"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(write_idx(array))
            files.append(File(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()))
    return Dataset(tuple(files), list, "")


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_load_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, name, place_images(tmp_path, name))
    images = load_images(ImageData(dataset=name), tmp_path)
    assert images.train_images.shape == (5, 28, 28)
    assert images.train_images.dtype == images.test_images.dtype == torch.uint8
    assert images.train_images[1, 0, 0] == 784 % 256
    assert images.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert images.test_images.shape == (3, 28, 28)
    assert images.train_labels.dtype == images.test_labels.dtype == torch.int64
    assert images.digest == DATASETS[name].digest


def test_the_classes_are_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST, FashionMNIST

    for name in ("mnist", "fashion"):
        monkeypatch.setitem(DATASETS, name, place_images(tmp_path, name))
    assert load_images(ImageData(dataset="fashion"), tmp_path).classes == tuple(FashionMNIST.classes)
    assert load_images(ImageData(dataset="mnist"), tmp_path).classes == tuple(label[0] for label in MNIST.classes)


def test_the_catalogue_is_of_data_sets_that_can_be_named_and_fetched() -> None:
    assert {known.stored[0] for known in CATALOGUE.values()} <= DATASETS.keys()
    assert {name: len(known.classes) for name, known in CATALOGUE.items()} == NAMED
    assert get_args(get_args(ImageData.model_fields["dataset"].annotation)[0]) == tuple(NAMED)


def test_an_experiment_that_names_no_data_set_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(InputError, match=r"no data set 'mnits'; the data sets are mnist, fashion"):
        data.run(DataSpec(task="data", datasets=["mnist", "mnits"]))


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "mean_std"), [("mnist", CATALOGUE["mnist"].mean_std), ("fashion", CATALOGUE["fashion"].mean_std)]
)
def test_the_real_images(name: str, mean_std: tuple[float, float]) -> None:
    images = load_images(ImageData(dataset=name))
    assert images.train_images.shape == (60_000, 28, 28)
    assert images.test_images.shape == (10_000, 28, 28)
    assert images.test_labels.bincount().sum() == 10_000
    assert images.train_labels.unique().tolist() == list(range(10))
    if name == "mnist":
        assert images.train_images.float().div(255).mean() == pytest.approx(mean_std[0], abs=1e-4)
