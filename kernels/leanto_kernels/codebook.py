"""Default codebooks: two int8 tables of 16 entries for each kind and bit width, and the size of one integer step.

Trained for a standard normal source by kernels/train_codebook.py (Viterbi paths and weighted least squares in turn, then int8 by
coordinate descent; Lloyd-Max for scalar). Knows nothing of packing: the format of the codes is in docs/format.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codebook = tuple[float, tuple[int, ...], tuple[int, ...]]

# kind → bits → (unit, A, B), entries that are not written out being zero. The integer of a window, times unit, has the scale of N(0, 1):
# trellis A[w0 ^ w8] + B[w4 ^ (w8 << 1 & 15)], additive A[w0] + B[w4], scalar A[bits].
_CODEBOOKS: dict[str, dict[int, Codebook]] = {
    "trellis": {
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
    },
    "additive": {
        1: (
            0.01417936,
            (46, -47, 15, -30, -5, -5, 52, -27, -39, 30, -51, 56, 41, -48, 10, 0),
            (-41, 40, 67, -61, -55, 69, 31, -39, 51, -70, -25, 23, 35, -21, -75, 69),
        ),
        2: (
            0.02294405,
            (35, -2, -44, -4, 27, -14, -55, 67, -20, 36, 9, -25, 0, -45, 35, -4),
            (14, -59, -18, 37, -20, -6, 12, 1, -45, 22, 37, -4, 59, 45, -32, -46),
        ),
        3: (
            0.02426085,
            (-24, -5, -66, 66, 25, 3, 39, 17, 8, -52, 10, -30, 36, 35, -9, -30),
            (51, 36, 0, 58, 8, -38, -45, 19, -8, 6, 32, -23, 21, -60, -22, -9),
        ),
        4: (
            0.02684280,
            (-48, 10, 3, 23, -4, -9, 33, 14, 6, -29, -6, 54, -21, -16, 20, -33),
            (-4, -27, 36, 28, 9, -36, -11, 5, 15, 21, 65, -1, -18, 45, -78, -49),
        ),
    },
    "scalar": {
        1: (0.00831130, (-96, 96), ()),
        2: (0.01510350, (-100, -30, 30, 100), ()),
        3: (0.01888767, (-114, -71, -40, -13, 13, 40, 71, 114), ()),
        4: (0.02621721, (-104, -79, -62, -48, -36, -25, -15, -5, 5, 15, 25, 36, 48, 62, 79, 104), ()),
    },
}

# Mean squared error of N(0, 1) in tail-biting blocks of 256 rows, measured on 131,072 samples (exact for scalar).
GAUSSIAN_ERROR: dict[str, dict[int, float]] = {
    "trellis": {1: 0.2716, 2: 0.0724, 3: 0.0191, 4: 0.00537},
    "additive": {1: 0.2961, 2: 0.0825, 3: 0.0234, 4: 0.00650},
    "scalar": {1: 0.3634, 2: 0.1175, 3: 0.0346, 4: 0.00951},
}


def tables(bits: int, kind: str = "trellis") -> npt.NDArray[np.int8]:
    """Return the default tables [A, B], (2, 16) int8, of a kind and a bit width 1..4; ValueError for any other."""
    both = np.zeros((2, 16), np.int8)
    for row, entries in zip(both, _codebook(bits, kind)[1:], strict=True):
        row[: len(entries)] = entries
    return both


def unit(bits: int, kind: str = "trellis") -> float:
    """Return what one integer step is worth when the source has unit variance; ValueError for a codebook that does not exist."""
    return _codebook(bits, kind)[0]


def _codebook(bits: int, kind: str) -> Codebook:
    if bits not in _CODEBOOKS.get(kind, ()):
        raise ValueError(f"no {kind} codebook for {bits} bits: choose trellis, additive or scalar, and 1, 2, 3 or 4")
    return _CODEBOOKS[kind][bits]
