import gc
import hashlib
import logging
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trackdl.data.download.datasets import Dataset, File
from trackdl.data.greek import letters as greek
from trackdl.data.greek.letters import load_letters
from trackdl.errors import InputError, TrackdlError

NAMED = os.environ.get("TRACKDL_GREEK_DIR")  # before the tests unset it


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("TRACKDL_GREEK_DIR", raising=False)


def image(tone):
    return Image.fromarray(np.full((20, 30), tone, np.uint8))


@pytest.fixture
def folder(tmp_path):
    for name, files in {"omega": ["b.png", "a.jpg"], "eta": ["1.bmp"], "pi": ["x.png"]}.items():
        (tmp_path / "own" / name).mkdir(parents=True)
        for tone, file in enumerate(files):
            image(100 + tone).save(tmp_path / "own" / name / file)
    return tmp_path / "own"


def test_classes_are_the_folders_in_order(folder):
    seen = []

    def prepare(image):
        seen.append((image.mode, image.size))
        return torch.tensor([float(np.asarray(image).max())])

    letters = load_letters(folder, prepare=prepare)
    assert letters.classes == ("eta", "omega", "pi")
    assert letters.names == ("eta/1.bmp", "omega/a.jpg", "omega/b.png", "pi/x.png")
    assert letters.labels.tolist() == [0, 1, 1, 2]
    assert str(letters.labels.dtype) == "torch.int64"
    assert letters.origin == "own"
    assert seen == [("L", (30, 20))] * 4
    assert letters.inputs[[0, 2]].tolist() == [[100.0], [100.0]]
    assert letters.squares.shape == (4, 1, 64, 64)


def test_photographs_are_dropped_once_they_are_read(folder):
    """Of all images, no more are there at once than are being read."""
    for number in range(40):
        image(number).save(folder / "pi" / f"{number}.png")
    seen, most = [], []

    def prepare(read):
        seen.append(weakref.ref(read))
        most.append(sum(one() is not None for one in seen))
        return torch.zeros(1)

    assert len(load_letters(folder, prepare=prepare).names) == 44
    gc.collect()
    assert len(most) == 44
    assert max(most) <= 2 * os.cpu_count()
    assert not any(one() for one in seen)


def test_an_image_that_cannot_be_prepared_is_named(folder):
    def prepare(read):
        raise InputError(f"no ink found on {read.width} pixels")

    with pytest.raises(InputError, match=r"/eta/1\.bmp: no ink found on 30 pixels"):
        load_letters(folder, prepare=prepare)


def test_the_digest_is_that_of_sha256sum_s_lines(folder):
    letters = load_letters(folder)
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in letters.names]
    assert letters.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    (folder / "pi" / "x.png").rename(folder / "pi" / "y.png")
    assert load_letters(folder).digest != letters.digest


def test_hidden_files_and_files_beside_the_classes_are_passed_over(folder):
    before = load_letters(folder).digest
    (folder / "eta" / ".DS_Store").write_bytes(b"\0\1")
    (folder / ".git").mkdir()
    for name in ("Thumbs.db", "__MACOSX/eta/._1.bmp", "eta/desktop.ini"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0")
    (folder / "README.txt").write_text("mine")
    assert load_letters(folder).digest == before


def test_the_environment_names_the_folder_and_the_argument_goes_before_it(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKDL_GREEK_DIR", str(folder))
    assert load_letters().classes == ("eta", "omega", "pi")
    with pytest.raises(InputError, match="other: there is no such folder"):
        load_letters(tmp_path / "other")
    monkeypatch.setenv("TRACKDL_GREEK_DIR", str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"gone: there is no such folder.*one folder for each class"):
        load_letters()


def test_one_class_is_too_few(tmp_path):
    (tmp_path / "alpha").mkdir()
    image(9).save(tmp_path / "alpha" / "1.png")
    with pytest.raises(InputError, match=r"the only class is 'alpha'.*at least two"):
        load_letters(tmp_path)
    (tmp_path / "alpha" / "1.png").rename(tmp_path / "alpha" / "photo")
    with pytest.raises(InputError, match="photo: an image beside the class folders"):
        load_letters(tmp_path / "alpha")


def test_an_empty_class_is_named(folder):
    (folder / "zeta").mkdir()
    (folder / "zeta" / ".keep").touch()
    with pytest.raises(InputError, match="zeta: there is no image"):
        load_letters(folder)


@pytest.mark.parametrize(("content", "problem"), [(b"", "empty"), (b"notes", "not an image")])
def test_a_file_that_is_no_image_is_named(folder, content, problem):
    (folder / "pi" / "note.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"pi/note\.txt: .*{problem}"):
        load_letters(folder)


def test_synthetic_letters_take_the_place_of_the_report_s_and_say_so(monkeypatch, caplog, tmp_path):
    def fetch(name, root=None):
        assert (name, root) == ("greek", tmp_path)
        raise TrackdlError("no network")

    monkeypatch.setattr(greek, "fetch", fetch)
    with caplog.at_level(logging.WARNING):
        letters = load_letters(root=tmp_path)
    assert letters.origin == "synthetic"
    assert letters.classes == ("alpha", "beta", "gamma")
    assert letters.labels.bincount().tolist() == [9, 9, 9]
    assert len(set(letters.names)) == len(letters.squares) == 27
    assert "synthetic" in caplog.text
    assert "no network" in caplog.text
    assert load_letters(root=tmp_path).digest == letters.digest


def test_the_fetched_folder_is_read(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(greek, "fetch", lambda name, root: root / {"greek": "own"}[name])
    assert load_letters(root=tmp_path).names == load_letters(folder).names


def test_the_report_s_images_are_known_by_their_digest_wherever_they_lie(monkeypatch, folder):
    files = [(folder / name).read_bytes() for name in ("eta/1.bmp", "omega/a.jpg", "omega/b.png", "pi/x.png")]
    table = tuple(
        File(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in zip(load_letters(folder).names, files, strict=True)
    )
    monkeypatch.setitem(greek.DATASETS, "greek", Dataset(files=table, sources=tuple, remedy=""))
    assert load_letters(folder).origin == "report"
    (folder / "pi" / "x.png").write_bytes(files[0])
    assert load_letters(folder).origin == "own"


@pytest.mark.real
def test_the_report_s_letters_are_known_by_their_contents():
    letters = load_letters(Path(NAMED) if NAMED else None)
    if letters.origin == "synthetic":
        pytest.skip("the report's 27 letters cannot be had here: no network, and TRACKDL_GREEK_DIR is not set")
    assert letters.origin == "report"
    assert letters.labels.bincount().tolist() == [9, 9, 9]
