"""IDX files for tests."""

import struct

import numpy as np


def write_idx(array: np.ndarray) -> bytes:
    """Return an array of bytes as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
