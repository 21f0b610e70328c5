"""Images that an experiment points to become tensors, or one clear error."""

import gzip
import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from support.idx import write_idx
from trackdl.data import readers
from trackdl.data.download.datasets import DATASETS, Dataset
from trackdl.data.download.fetchers import File
from trackdl.data.images import ImageSet, load_images, normalise
from trackdl.errors import InputError
from trackdl.spec.images import ImageData

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 40), (20, 40, 220)
COLOURS = {"rose": RED, "leaf": GREEN, "sea": BLUE}
IDX = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@pytest.fixture(autouse=True)
def _report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make paths relative to the test's own folder."""
    monkeypatch.setenv("TRACKDL_REPORT", str(tmp_path))


def folders(root: Path, each: int = 5, size: tuple[int, int] = (12, 12)) -> Path:
    """Make three class folders of one colour each, an image a shade darker than the one before."""
    for name, colour in COLOURS.items():
        for index in range(each):
            path = root / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, tuple(tone - index for tone in colour)).save(path)
    return root


def load(**keys: Any) -> ImageSet:
    return load_images(ImageData(**keys))


def refused(*words: str, **keys: Any) -> str:
    """Return the message of the error that names all of `words`."""
    with pytest.raises(InputError) as caught:
        load(**keys)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# Class folders


def test_a_folder_is_read_in_colour_split_by_class_and_normalised_by_itself(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    images = load(folder="train", colour=True)
    assert images.classes == ("leaf", "rose", "sea")
    assert images.train_images.shape == (12, 3, 12, 12)
    assert images.test_images.shape == (3, 3, 12, 12)  # a fifth of each class
    assert images.test_labels.tolist() == [0, 1, 2]
    assert images.train_labels.bincount().tolist() == [4, 4, 4]
    assert (images.channels, images.side, images.preprocessing) == (3, 12, "square")
    rose = images.train_images[images.train_labels == 1]
    assert [RED[0] - tone for tone in rose[:, 0, 0, 0].tolist()] == sorted(RED[0] - tone for tone in rose[:, 0, 0, 0])
    scaled = images.train_images.double() / 255
    assert images.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert images.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_the_split_depends_on_its_seed_only(tmp_path: Path) -> None:
    folders(tmp_path / "train", each=10)
    tones = [load(folder="train", test_seed=seed).test_images[:, 0, 0].tolist() for seed in (1, 1, 2)]
    assert tones[0] == tones[1] != tones[2]
    assert load(folder="train", split_seed=7, validation=0.5).test_images[:, 0, 0].tolist() == tones[0]
    assert len(load(folder="train", test_share=0.5).test_labels) == 15
    assert len(load(folder="train", test_share=0.99).train_labels) == 3  # never all of a class
    assert len(load(folder="train", test_share=0.01).test_labels) == 3  # at least one of each


def test_grey_is_what_pillow_makes_of_the_colours(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    folders(tmp_path / "val")
    images = load(folder="train", test_folder="val")
    expected = [Image.new("RGB", (1, 1), COLOURS[name]).convert("L").getpixel((0, 0)) for name in images.classes]
    assert images.train_images[::5, 0, 0].tolist() == expected


def test_a_test_folder_may_spell_a_class_otherwise(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    folders(tmp_path / "val", each=2)
    (tmp_path / "val" / "sea").rename(tmp_path / "val" / "see")
    images = load(folder="train", test_folder="val", rename={"see": "sea"})
    assert (len(images.train_labels), len(images.test_labels)) == (15, 6)
    assert images.classes == ("leaf", "rose", "sea")
    refused("val: there is no class 'sea'", "rename:", folder="train", test_folder="val")
    refused("no class 'tou'", folder="train", test_folder="val", rename={"tou": "tau"})


def test_nobody_is_tested_on_what_was_learnt(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    refused("is folder and test_folder", folder="train", test_folder="../" + tmp_path.name + "/train")


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    os.mkfifo(tmp_path / "train" / "rose" / "pipe.png")
    refused("pipe.png: cannot be read: it is not an ordinary file", folder="train")
    (tmp_path / "train" / "rose" / "pipe.png").unlink()
    (tmp_path / "train" / "rose" / "\udcff.png").touch()
    refused("is no UTF-8; rename it", folder="train")


def test_two_classes_never_have_one_name(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    refused("two classes are called 'sea'", "'leaf' and 'sea'", folder="train", rename={"leaf": "sea"})


def test_a_size_scales_every_image_and_without_one_all_must_be_alike(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    odd = tmp_path / "train" / "rose" / "3.png"
    Image.new("RGB", (20, 10), RED).save(odd)
    message = refused("20×10 pixels", "12×12", "size:", folder="train")
    assert message.startswith(str(odd))
    assert load(folder="train", size=8).train_images.shape == (12, 8, 8)
    folders(tmp_path / "wide", size=(12, 10))
    refused("12×10 pixels", "square", folder="wide")


def test_at_most_so_many_images_of_a_class_are_read(tmp_path: Path) -> None:
    folders(tmp_path / "train", each=6)
    folders(tmp_path / "val", each=6)
    images = load(folder="train", test_folder="val", per_class=2)
    assert images.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(images.test_labels) == 18


@pytest.mark.parametrize("keys", [{"test_folder": "val"}, {"test_share": 0.4, "per_class": 2}])
def test_each_image_has_its_files_name(keys: dict[str, Any], tmp_path: Path) -> None:
    for root in ("train", "val"):
        folders(tmp_path / root)
    images = load(folder="train", colour=True, **keys)
    for names, pixels in zip(readers.image_names(images), (images.train_images, images.test_images), strict=True):
        for name, image in zip(names, pixels, strict=True):
            with Image.open(name) as file:
                assert np.array_equal(image.permute(1, 2, 0), np.asarray(file))


def test_files_that_are_no_images_are_skipped_only_if_a_system_put_them_there(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    for name in (".DS_Store", "Thumbs.db", ".hidden.png", "desktop.ini"):
        (tmp_path / "train" / "rose" / name).write_bytes(b"system")
    (tmp_path / "train" / "README.txt").write_text("three colours")
    assert len(load(folder="train").train_labels) == 12
    (tmp_path / "train" / "rose" / "notes.txt").write_text("no image")
    assert refused("not an image", folder="train").startswith(str(tmp_path / "train" / "rose" / "notes.txt"))


def one_class(root: Path) -> None:
    for name in ("leaf", "sea"):
        for file in (root / name).iterdir():
            file.unlink()
        (root / name).rmdir()


def one_image(root: Path) -> None:
    for file in sorted((root / "leaf").iterdir())[1:]:
        file.unlink()


def no_image(root: Path) -> None:
    for file in (root / "leaf").iterdir():
        file.unlink()


def a_level_more(root: Path) -> None:
    (root / "leaf" / "spring").mkdir()


def an_image_above(root: Path) -> None:
    (root / "leaf" / "0.png").rename(root / "0.png")


def cut_short(root: Path) -> None:
    path = root / "leaf" / "0.png"
    path.write_bytes(path.read_bytes()[:45])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (one_class, ["train: the only class is 'rose'", "one folder for each class"]),
        (one_image, ["class 'leaf' has one image", "test_folder:"]),
        (no_image, ["leaf: there is no image in this class"]),
        (a_level_more, ["leaf/spring: a folder in the class 'leaf'", "Move spring elsewhere"]),
        (an_image_above, ["0.png: an image beside the class folders"]),
        (cut_short, ["leaf/0.png: the image is damaged or cut short"]),
    ],
)
def test_a_wrong_folder_is_one_clear_error(harm: Callable[[Path], None], words: list[str], tmp_path: Path) -> None:
    harm(folders(tmp_path / "train"))
    refused(*words, folder="train")


def test_a_wrong_level_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    folders(tmp_path / "all" / "signs_train")
    folders(tmp_path / "all" / "signs_test", each=1)
    words = f"Name {tmp_path / 'all' / 'signs_train'} as the folder, and {tmp_path / 'all' / 'signs_test'} as that"
    refused("(leaf, rose, sea)", words, "--test-dir", folder="all")
    refused(f"in {tmp_path / 'all' / 'signs_test'} (leaf, rose, sea), ", words, folder=str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "all" / "signs_train").rename(tmp_path / "one" / "signs")
    refused(f"below, in {tmp_path / 'one' / 'signs'} (leaf, rose, sea). Name it instead", folder="one")
    refused(f"one class of {tmp_path / 'one' / 'signs'}: name that folder", folder="one/signs/leaf")


def test_a_folder_that_is_not_there_is_an_error() -> None:
    refused("nowhere: there is no such folder", folder="nowhere")


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path / "train")
    cut_short(tmp_path / "train")
    monkeypatch.setattr(readers, "MAX_PIXELS", 15 * 3 * 12 * 12 - 1)
    (tmp_path / "train" / "leaf" / "0.png").rename(tmp_path / "train" / "leaf" / "9.png")
    words = "15 images of 12×12 pixels in colour are more than 6,479 values of pixels, the limit", "size:"
    refused(*words, folder="train", colour=True)
    npz(tmp_path / "big.npz")
    refused("12 images of 30×30 pixels", "the limit", "size:", npz="big.npz", size=30)


# Arrays


def arrays(colour: bool = False) -> dict[str, np.ndarray]:
    """Return nine training and three test images of 9×9 of three classes, with labels."""
    random = np.random.default_rng(3)
    shape = (9, 9, 3) if colour else (9, 9)
    return {
        "x_train": random.integers(0, 256, (9, *shape), dtype=np.uint8),
        "y_train": np.arange(9) % 3,
        "x_test": random.integers(0, 256, (3, *shape), dtype=np.uint8),
        "y_test": np.arange(3).reshape(3, 1),
    }


def npz(path: Path, colour: bool = False, **changed: Any) -> dict[str, np.ndarray]:
    made = {**arrays(colour), **changed}
    np.savez(path, **made)
    return made


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), readers._NPZ[1]])
def test_an_npz_file_is_read_as_it_was_saved(names: tuple[str, ...], save: Any, tmp_path: Path) -> None:
    made = arrays()
    save(tmp_path / "a.npz", **dict(zip(names, made.values(), strict=True)))
    images = load(npz="a.npz")
    np.testing.assert_array_equal(images.train_images.numpy(), made["x_train"])
    np.testing.assert_array_equal(images.test_images.numpy(), made["x_test"])
    assert images.train_labels.tolist() == made["y_train"].tolist()
    assert images.test_labels.tolist() == [0, 1, 2]
    assert images.classes == ("0", "1", "2")
    assert images.test_labels.dtype == torch.int64


def test_colours_come_first_or_last_and_grey_and_colour_become_each_other(tmp_path: Path) -> None:
    made = npz(tmp_path / "last.npz", colour=True)
    first = {key: made[key].transpose(0, 3, 1, 2) for key in ("x_train", "x_test")}
    np.savez(tmp_path / "first.npz", **(made | {key: np.ascontiguousarray(value) for key, value in first.items()}))
    last = load(npz="last.npz", colour=True)
    assert torch.equal(last.train_images, load(npz="first.npz", colour=True).train_images)
    grey = [np.asarray(Image.fromarray(image).convert("L")) for image in made["x_train"]]
    np.testing.assert_array_equal(load(npz="last.npz").train_images.numpy(), np.stack(grey))
    made = npz(tmp_path / "grey.npz")
    assert load(npz="grey.npz", colour=True).train_images.shape == (9, 3, 9, 9)
    np.testing.assert_array_equal(load(npz="grey.npz", colour=True).train_images[:, 2].numpy(), made["x_train"])
    assert load(npz="last.npz", colour=True, size=6).train_images.shape == (9, 3, 6, 6)


def test_classes_are_named_counted_and_renamed(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    assert load(npz="a.npz", classes=["a", "b", "tou"], rename={"tou": "tau"}).classes == ("a", "b", "tau")
    assert load(npz="a.npz", classes=5).classes == ("0", "1", "2", "3", "4")
    refused("training image 3 has the label 2", "it may be 0 to 1", npz="a.npz", classes=2)
    refused("two classes are called 'a'", npz="a.npz", classes=["a", "b", "c"], rename={"b": "a"})


def test_labels_may_begin_with_any_number(tmp_path: Path) -> None:
    """EMNIST's letters are published as 1 to 26: a class 0 without an image must not come of it."""
    made = arrays()
    npz(tmp_path / "a.npz", y_train=made["y_train"] + 1, y_test=made["y_test"] + 1)
    images = load(npz="a.npz")
    assert images.classes == ("1", "2", "3")
    assert images.train_labels.tolist() == made["y_train"].tolist()
    assert images.test_labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("classes", [None, 3, ["a", "b", "c"]])
def test_a_test_image_of_a_class_that_was_not_learnt_is_refused(classes: Any, tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", y_train=np.arange(9) % 2)
    refused("test image 3 has the label 2; no training image has it", npz="a.npz", classes=classes)


def test_an_archive_is_bounded_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_PIXELS", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", **(arrays() | {"y_train": np.zeros(100_000, np.int64)}))
    refused("more than 10,000 values", npz="bomb.npz")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x_train": np.zeros((9, 9, 9))}, ["training images: float64 [9, 9, 9]", "uint8"]),
        ({"x_train": np.zeros((9, 9), np.uint8)}, ["training images: uint8 [9, 9]"]),
        ({"x_train": np.zeros((9, 9, 9, 2), np.uint8)}, ["training images: uint8 [9, 9, 9, 2]"]),
        ({"x_train": np.zeros((9, 9, 8), np.uint8)}, ["9×8 and 9×9 pixels", "size:"]),
        ({"x_test": np.zeros((3, 8, 8), np.uint8)}, ["9×9 and 8×8 pixels", "size:"]),
        ({"y_train": np.arange(8) % 3}, ["training labels: int64 [8]", "9 images"]),
        ({"y_test": np.array(["a", "b", "c"])}, ["test labels: <U1 [3]", "a whole number"]),
        ({"y_test": np.array([{}, 1, 2], dtype=object)}, ["plain arrays", "allow_pickle=False"]),
        ({"y_train": -(np.arange(9) % 3)}, ["training image 2 has the label -1"]),
        (
            {"y_train": np.arange(9) * 10**6},
            ["training image 2 has the label 1000000", "with 1,000 classes it may be 0 to 999"],
        ),
        ({"y_train": np.zeros(9, int), "y_test": np.zeros(3, int)}, ["1 classes", "2 to 1,000"]),
        ({"x_train": np.zeros((0, 9, 9), np.uint8)}, ["training images: uint8 [0, 9, 9]"]),
    ],
)
def test_a_wrong_array_is_one_clear_error(changed: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", **changed)
    refused(*words, npz="a.npz")


def test_a_file_that_is_no_npz_is_an_error(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    for name, content in {"text": b"x,y", "cut": whole[: len(whole) // 2], "empty": b""}.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        refused(f"{name}.npz: is not a complete npz file", npz=f"{name}.npz")
    refused("nowhere.npz: cannot be read (No such file", npz="nowhere.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refused("its arrays are a", "x_train", "train_images", npz="other.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as old, zipfile.ZipFile(tmp_path / "short.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: 400 if name == "x_train.npy" else None])
    refused("short.npz: is not a complete npz file", npz="short.npz")


# IDX files


def idx_files(folder: Path, changed: dict[str, bytes] | None = None, ending: str = "-ubyte") -> dict[str, np.ndarray]:
    folder.mkdir()
    made = arrays()
    for name, array in zip(IDX, made.values(), strict=True):
        content = (changed or {}).get(
            name,
            write_idx(
                array.astype(np.uint8).reshape(array.shape[0], *array.shape[1:3])
                if array.ndim == 3
                else array.astype(np.uint8).ravel()
            ),
        )
        path = folder / f"{name}{ending}"
        path.write_bytes(gzip.compress(content, mtime=0) if ending.endswith(".gz") else content)
    return made


@pytest.mark.parametrize("ending", ["-ubyte", "-ubyte.gz"])
def test_idx_files_are_read_gzipped_or_not(ending: str, tmp_path: Path) -> None:
    made = idx_files(tmp_path / "own", ending=ending)
    images = load(idx="own", classes=["a", "b", "c"])
    np.testing.assert_array_equal(images.train_images.numpy(), made["x_train"])
    assert images.test_labels.tolist() == [0, 1, 2]
    assert images.classes == ("a", "b", "c")
    assert load(idx="own", size=5).train_images.shape == (9, 5, 5)


def test_idx_files_may_have_other_usual_names(tmp_path: Path) -> None:
    idx_files(tmp_path / "own")
    digest = load(idx="own").digest
    for file in (tmp_path / "own").iterdir():
        file.rename(file.with_name("my-" + file.name.replace("t10k", "test").replace("-idx", ".idx")))
    assert load(idx="own").digest == digest
    (tmp_path / "own" / "train-images-idx3-ubyte").write_bytes(b"")
    refused("are the same part", idx="own")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({IDX[0]: b"PNG"}, ["train-images-idx3-ubyte is not an IDX file of bytes"]),
        ({IDX[1]: write_idx(np.arange(8, dtype=np.uint8))}, ["training labels: uint8 [8]"]),
        ({IDX[2]: write_idx(np.zeros((3, 9, 9), np.uint8))[:-1]}, ["t10k-images-idx3-ubyte claims the shape"]),
        ({IDX[2]: struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 9)}, ["claims the shape"]),
    ],
)
def test_a_wrong_idx_file_is_one_clear_error(changed: dict[str, bytes], words: list[str], tmp_path: Path) -> None:
    idx_files(tmp_path / "own", changed)
    refused(*words, idx="own")


def test_a_missing_idx_file_is_named(tmp_path: Path) -> None:
    refused("there is no train-images, train-labels, test-images, test-labels", idx="own")
    idx_files(tmp_path / "own")
    (tmp_path / "own" / "t10k-labels-idx1-ubyte").unlink()
    refused("own: there is no test-labels", idx="own")


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files(tmp_path / "own", ending="-ubyte.gz")
    monkeypatch.setattr(readers, "MAX_PIXELS", 100)
    refused("train-images-idx3-ubyte.gz: more than 100 values", idx="own")


# Named data sets, and scikit-learn's


def test_scikit_learns_digits() -> None:
    images = load(sklearn="digits")
    assert images.train_images.shape == (1438, 8, 8)
    assert len(images.train_labels) + len(images.test_labels) == 1797
    assert images.train_images.max() == 255
    assert images.preprocessing == "square-dark"  # light digits: a drawing on white paper is negated
    assert load(sklearn="digits", size=16, colour=True).train_images.shape == (1438, 3, 16, 16)


def place(root: Path, name: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for file, content in files.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / file).write_bytes(content)
    known = tuple(File(file, len(content), hashlib.sha256(content).hexdigest()) for file, content in files.items())
    monkeypatch.setitem(DATASETS, name, Dataset(known, list, "", on_demand=True))


def test_a_users_own_idx_files_in_a_data_sets_place_are_neither_learnt_from_nor_written_over(tmp_path: Path) -> None:
    idx_files(tmp_path / "mnist")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mnist").iterdir()}
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte has 745 bytes, not 47040016.*move it away.*`idx:`"):
        load_images(ImageData(dataset="mnist"), tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "mnist").iterdir()} == before
    np.testing.assert_array_equal(load(idx="mnist").train_images.numpy(), arrays()["x_train"])


def test_kmnist_is_kept_as_downloaded_and_unpacked_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [*arrays().values()]
    contents = [write_idx(array.astype(np.uint8).ravel() if array.ndim < 3 else array) for array in made]
    files = {f"{name}-ubyte.gz": gzip.compress(content) for name, content in zip(IDX, contents, strict=True)}
    place(tmp_path, "kmnist", files, monkeypatch)
    images = load_images(ImageData(dataset="kmnist"), tmp_path)
    np.testing.assert_array_equal(images.train_images.numpy(), made[0])
    assert images.classes[:2] == ("o", "ki")
    assert images.digest == DATASETS["kmnist"].digest


def test_emnist_is_turned_upright_and_its_letters_begin_at_a(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = arrays()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for first, kind in ((1, "letters"), (0, "balanced")):
            for part, ours in (("train", "train"), ("test", "test")):
                labels = write_idx((made[f"y_{ours}"].ravel() + first).astype(np.uint8))
                for name, content in (("images-idx3", write_idx(made[f"x_{ours}"])), ("labels-idx1", labels)):
                    zipped.writestr(f"gzip/emnist-{kind}-{part}-{name}-ubyte.gz", gzip.compress(content))
    place(tmp_path, "emnist", {"gzip.zip": archive.getvalue()}, monkeypatch)
    letters, balanced = (load_images(ImageData(dataset=f"emnist-{kind}"), tmp_path) for kind in ("letters", "balanced"))
    np.testing.assert_array_equal(letters.train_images.numpy(), made["x_train"].transpose(0, 2, 1))
    assert letters.train_labels.tolist() == balanced.train_labels.tolist() == made["y_train"].tolist()
    assert (letters.classes[0], letters.classes[25], balanced.classes[10]) == ("a", "z", "A")
    assert letters.digest != balanced.digest


# Digests and normalisation


def test_a_digest_depends_on_bytes_and_reading_but_not_on_the_place_nor_on_normalisation(tmp_path: Path) -> None:
    folders(tmp_path / "one")
    folders(tmp_path / "two")
    folders(tmp_path / "other", each=6)
    npz(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", **arrays())
    same = {
        load(folder=name, **keys).digest
        for name, keys in {"one": {}, "two": {"normalise": "none", "validation": 0.5, "split_seed": 9}}.items()
    }
    assert len(same) == 1
    assert load(npz="a.npz").digest == load(npz="b.npz").digest
    options: list[dict[str, Any]] = [
        {},
        {"size": 8},
        {"size": 9},
        {"colour": True},
        {"per_class": 2},
        {"per_class": 2, "test_seed": 2},
        {"test_share": 0.4},
        {"rename": {"sea": "see"}},
    ]
    different = [load(folder="one", **keys).digest for keys in options]
    different += [load(folder="other").digest, load(npz="a.npz").digest, load(npz="a.npz", classes=4).digest]
    assert len(set(different)) == len(different)


def test_normalisation_is_given_or_computed(tmp_path: Path) -> None:
    made = npz(tmp_path / "a.npz", colour=True)
    images = load(npz="a.npz", normalise="training")
    scaled = images.train_images.double() / 255
    assert images.mean == pytest.approx(scaled.mean().item(), abs=1e-6)
    assert images.std == pytest.approx(scaled.std(correction=0).item(), abs=1e-6)
    inputs = normalise(images.train_images, images.mean, images.std)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert load(npz="a.npz", normalise="none").mean == 0
    assert load(npz="a.npz", normalise=[0.4, 0.2]).std == 0.2
    colour = load(npz="a.npz", colour=True, normalise=[0.4, 0.2])
    assert colour.mean == (0.4, 0.4, 0.4)
    own = load(npz="a.npz", colour=True, normalise=[[0.1, 0.2, 0.3], [1, 1, 2]])
    assert (own.mean, own.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
    blue = normalise(own.train_images, own.mean, own.std)[:, 2]
    pixels = torch.from_numpy(np.ascontiguousarray(made["x_train"][..., 2])).float()
    assert torch.equal(blue, pixels.div(255).sub(0.3).div(2))


def test_images_of_one_tone_cannot_be_normalised_by_themselves(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz", x_train=np.full((9, 9, 9), 7, np.uint8))
    refused("one and the same tone", npz="a.npz")
    assert load(npz="a.npz", normalise="none").std == 1
