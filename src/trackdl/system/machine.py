"""What a result was made on: the machine, and the versions of what computes."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

LIBRARIES = ("trackdl", "torch", "optuna", "mlflow", "scikit-learn", "numpy")


def machine() -> dict[str, Any]:
    """Return the processor, the number of cores, the memory in GB, and the system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide results."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def environment() -> dict[str, str]:
    """Return both, as texts."""
    found = machine()
    return versions() | {name: str(found[name]) for name in ("processor", "cores", "system")}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
