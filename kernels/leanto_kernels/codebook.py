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
        0.02364847,
        (-79, -30, 24, -12, 31, 82, 16, -9, 36, 9, -38, -17, -4, 50, -12, -53),
        (19, 22, 4, -17, 10, -7, -6, 15, 6, 44, 30, -47, -5, -17, -28, -30),
    ),
    4: (
        0.02537864,
        (-15, 72, -40, -5, -2, -23, 12, -68, 2, 7, 60, 21, -9, -31, -13, -19),
        (-7, -44, 4, -36, -5, 47, -58, 23, 31, -11, 7, 12, -17, 26, -1, -23),
    ),
}

# Mean squared error of N(0, 1) in tail-biting blocks of 256 rows, measured on 131,072 samples.
GAUSSIAN_ERROR = {1: 0.2716, 2: 0.0724, 3: 0.0191, 4: 0.00556}


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
