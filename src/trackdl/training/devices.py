"""The device that a training runs on, and the precision of its layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trackdl.errors import InputError


def resolve_device(name: str) -> torch.device:
    """Return the device called `name`; auto prefers CUDA, then MPS, then the CPU.

    Raises:
        InputError: This machine does not have it.
    """
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in here.items() if there)
    if not here[name]:
        names = ", ".join(device for device, there in here.items() if there)
        raise InputError(f"--device {name} (key training.device): not on this machine, which has {names}; auto chooses")
    return torch.device(name)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Use deterministic kernels on CUDA within the block; those without a deterministic version warn."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread within the block, so that results do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype that the layers compute in; auto is bfloat16 where the hardware supports it.

    Weights, optimiser state and evaluation are always float32.
    """
    if name == "auto":
        name = "bfloat16" if _computes_bfloat16(device) else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
