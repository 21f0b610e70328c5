"""The report's trainings end in the weights that are pinned here: a change of them is a change on purpose.

Processors round differently, so the process that trains is held to one instruction set. Where a change of results is
meant, `python tests/pinned_fits.py` with the environment below prints the new pins, and its commit says why.
"""

import json
import os
import platform
import subprocess
import sys

import pytest

from conftest import ROOT

HELD = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
# What else a processor may have, hidden from glibc, numpy and OpenBLAS: a machine without it must give the same.
LESS = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
PINS = {}


@pytest.mark.real
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the pins are of x86-64 processors with AVX2")
@pytest.mark.parametrize("more", [{}, LESS], ids=["as it is", "less of the processor"])
def test_the_reports_trainings_end_in_the_pinned_weights(more: dict[str, str]) -> None:
    environment = {**os.environ, **HELD, **more}
    made = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "pinned_fits.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert found == {name: PINS[name] for name in found}
    assert found.keys() == PINS.keys() or "TRACKDL_GREEK_DIR" not in os.environ
