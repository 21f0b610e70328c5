"""A model's folder that was made by hand, or changed: what does not belong together is refused, with the reason."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.served import ROW, card, heart_model, network
from trackdl.errors import TrackdlError
from trackdl.serving import read_model, serve, write_model

Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], None]


def changed(folder: Path, change: Change) -> Path:
    """Change a model's card and weights, with a digest that fits."""
    data = json.loads((folder / "model.json").read_text())
    state = load_file(folder / "weights.safetensors")
    change(data, state)
    save_file(state, folder / "weights.safetensors")
    data["weights_sha256"] = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(data))
    return folder


@pytest.fixture
def image_model(tmp_path: Path) -> Path:
    write_model(tmp_path, network(), card(tuple("0123456789")))
    return tmp_path


@pytest.fixture
def table_model(tmp_path: Path) -> Path:
    write_model(tmp_path, *heart_model())
    return tmp_path


def put(**values: Any) -> Change:
    return lambda data, _: data.update(values)


def fill(value: float) -> Change:
    def change(_: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
        for tensor in state.values():
            tensor.fill_(value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(classes=list("012345678")), "names 9 classes, but the network tells 10 apart"),
        (put(classes=list("0123456789x")), "names 11 classes"),
        (put(classes=[]), "names 0 classes"),
        (put(classes=list("0123456788")), "more than once: 8"),
        (put(mean=float("nan")), "mean"),
        (put(mean=[0.5, float("inf"), 0.5]), "mean"),
        (put(std=float("inf")), "std"),
        (put(std=0.0), "std"),
        (put(std=-1.0), "std"),
        (put(std=[1.0, 0.0, 1.0]), "std"),
        (put(size=12), "not a model of trackdl"),
        (put(colour=True), "not a model of trackdl"),
        (fill(float("nan")), "not finite"),
        (fill(float("inf")), "not finite"),
        (fill(3e38), "outputs are not finite"),
    ],
)
def test_an_image_model_that_does_not_fit_together_is_refused(image_model: Path, change: Change, words: str) -> None:
    serve(image_model)
    with pytest.raises(TrackdlError, match=words):
        read_model(changed(image_model, change))


def prepare(**values: Any) -> Change:
    return lambda data, _: data["preparation"].update(values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(classes=["no"]), "names 1 classes, but the network tells 2 apart"),
        (put(classes=["no", "perhaps", "yes"]), "names 3 classes"),
        (put(classes=["no", "no"]), "more than once: no"),
        (prepare(scale=[0.0] * 20), "scale"),
        (prepare(mean=[float("nan")] * 20), "mean"),
        (fill(float("nan")), "not finite"),
    ],
)
def test_a_table_model_that_does_not_fit_together_is_refused(table_model: Path, change: Change, words: str) -> None:
    assert serve(table_model).records([ROW])
    with pytest.raises(TrackdlError, match=words):
        read_model(changed(table_model, change))
