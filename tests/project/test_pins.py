"""The report's trainings end in the weights that are pinned here: a change of them is a change on purpose.

Processors round differently, so the process that trains is held to one instruction set. Where a change of results is
meant, `python tests/support/pinned_fits.py` with the environment below prints the new pins, and its commit says why.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

HELD = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
# What else a processor may have, hidden from glibc, numpy and OpenBLAS: a machine without it must give the same.
LESS = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
# By training: SHA-256 of the weights (of a grid's cell: of its history), and the last epoch's training loss.
PINS = {
    "mnist": ("df6ee06ddd43044f6d330931a44f3b593290c037442ef4a5307d36914f14cbb1", 2.238847917556763),
    "fashion": ("c16cab830c720016e109dde97e04c0ea4158d78483feef911e1f0c6586140803", 1.17534037232399),
    "heart": ("96d343582fc2fc278fdc6bc95de5f11df4554b63371450dfffc40dc08a74b266", 0.8256838345656321),
    "grid": ("958273bcc9422d925962ddb510a81ba9284bbef2eb6787f256859de35e33cf83", 1.64563),
    "search": ("c821895f6d7abd0019fe8718287748c6b240899eac2a8f274e63765e1c34f51c", 1.369159),
    "transfer report": ("3f4da0e7e63cea5960d7966336762088cd12e277512a722931a32241587b04d9", 0.9218875611269916),
    "transfer mnist": ("faf32d9fdb6960bbb01998f6fd37ba09d4e30964c3e3eae2e8e56f86badb532e", 0.7103827397028605),
}
# Where the weights were pinned. MKL and oneDNN may choose other kernels on other makers' processors: there the losses
# alone are compared.
VENDOR = "AuthenticAMD"


LOSSES_AGREE = 1e-4  # of their size: other roundings, carried through a training


def cpu() -> str:
    """Return what Linux says of the processor; elsewhere, what is pinned is taken for another's."""
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8") if info.is_file() else ""


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the pins are of x86-64 processors with AVX2")
@pytest.mark.parametrize("more", [{}, LESS], ids=["as it is", "less of the processor"])
def test_the_reports_trainings_end_in_the_pinned_weights(more: dict[str, str]) -> None:
    environment = {**os.environ, **HELD, **more}
    made = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "pinned_fits.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found.keys() == PINS.keys() or "TRACKDL_GREEK_DIR" not in os.environ
    for name, (weights, loss) in found.items():
        pinned, pinned_loss = PINS[name]
        assert loss == pytest.approx(pinned_loss, rel=LOSSES_AGREE), name
        assert weights == pinned or VENDOR not in cpu(), name
