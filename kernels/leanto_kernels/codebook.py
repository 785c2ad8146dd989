"""Default trellis codebooks: two int8 tables of 16 entries for each bit width, and the size of one integer step.

Trained for a standard normal source by kernels/train_codebook.py (Viterbi paths and weighted least squares in turn, then int8 by
coordinate descent). Knows nothing of packing: the format of the codes is in docs/format.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# bits: (unit, A, B). A window's integer value is A[w0 ^ w8] + B[w4 ^ (w8 << 1 & 15)]; times unit it has the scale of N(0, 1).
_CODEBOOKS: dict[int, tuple[float, tuple[int, ...], tuple[int, ...]]] = {
    1: (
        0.01713710,
        (-64, 24, -35, 40, -7, -47, 39, 62, 19, -61, 41, -21, 63, 20, -41, -27),
        (-13, -21, 36, -23, -50, 25, 8, -52, 30, -2, -8, 12, 29, -32, -3, 64),
    ),
    2: (
        0.02356010,
        (38, -67, -21, 13, -33, 56, 21, -8, -13, -41, 20, -1, 64, -36, -8, 22),
        (-16, -3, -15, 11, -25, 15, -31, -2, 18, -16, 32, 52, -12, 36, 21, -59),
    ),
    3: (
        0.02413433,
        (10, -24, 48, 0, 19, 36, -44, -13, -73, -36, 9, 23, -9, -19, 72, 41),
        (-5, -3, -39, 11, 54, -22, -10, -3, -20, 24, 41, 22, -1, 10, 28, -50),
    ),
    4: (
        0.02670808,
        (3, 18, 5, -19, -13, 11, 19, -9, -3, 60, -47, -39, -60, 36, 26, -2),
        (-17, 5, -18, -31, 52, 2, -18, -1, -10, 10, -67, 36, -40, 36, 27, 24),
    ),
}

# Mean squared error of N(0, 1) in tail-biting blocks of 256 rows, measured on 131,072 samples.
GAUSSIAN_ERROR = {1: 0.2716, 2: 0.0724, 3: 0.0191, 4: 0.00537}


def tables(bits: int) -> npt.NDArray[np.int8]:
    """Return the default tables [A, B], (2, 16) int8, of a bit width 1..4; ValueError for any other."""
    return np.array(_codebook(bits)[1:], np.int8)


def unit(bits: int) -> float:
    """Return what one integer step is worth when the source has unit variance; ValueError for a bit width outside 1..4."""
    return _codebook(bits)[0]


def _codebook(bits: int) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    if bits not in _CODEBOOKS:
        raise ValueError(f"no trellis codebook for {bits} bits: choose 1, 2, 3 or 4")
    return _CODEBOOKS[bits]
