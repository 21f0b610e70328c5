"""Checkpoints as safetensors files: no pickle, so loading a file runs no code.

A file holds text metadata (such as the epoch) along with its tensors. It is written completely or not at all.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trackdl.errors import TrackdlError
from trackdl.system.paths import whole_file


def write(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """Write tensors and text metadata to `path`, or leave `path` as it was.

    Raises:
        TrackdlError: The disk is full or the folder cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with whole_file(path) as part:
            save_file(plain, part, metadata=dict(meta))
    except (OSError, SafetensorError) as error:
        raise TrackdlError(f"{path}: cannot be written: {error}. Is the disk full? Nothing was changed.") from error


def read_meta(path: Path) -> dict[str, str]:
    """Return a file's text metadata.

    Raises:
        TrackdlError: The file is missing, incomplete or not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError, ValueError) as error:
        raise TrackdlError(f"{path}: not a complete safetensors file ({error})") from error


def read(path: Path, like: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a checkpoint's tensors and text metadata.

    Args:
        path: The file.
        like: The networks' state by the names that the file must have, e.g. `model.conv1.weight`, with these shapes.

    Raises:
        TrackdlError: The file is incomplete, not a checkpoint, or the checkpoint of another network.
    """
    meta = read_meta(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError, TypeError, ValueError, RuntimeError) as error:
        # A valid header may still claim a shape that PyTorch cannot create, such as an axis of 2**63.
        reason = " ".join(str(error).split())[:200]
        raise TrackdlError(
            f"{path}: its tensors cannot be read ({reason}); the file may be incomplete or not a checkpoint"
        ) from error
    for name, tensor in like.items():
        found = tensors.get(name)
        if found is None or found.shape != tensor.shape:
            shape = "missing" if found is None else f"of shape {list(found.shape)}"
            raise TrackdlError(
                f"{path}: '{name}' is {shape}, expected {list(tensor.shape)}: another network's checkpoint?"
            )
    missing = {"epoch", "examples_seen", "seconds"} - meta.keys() | {"random.torch", "random.shuffler"} - tensors.keys()
    if missing:
        raise TrackdlError(f"{path}: not a trackdl checkpoint: {', '.join(sorted(missing))} missing")
    return tensors, meta
