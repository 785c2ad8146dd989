"""What a method makes of a matrix: the weight that it would compute with, and what it would have to store. Values only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Approximation:
    """`weight` (m, n) float32 in the original space; `stored_bits` counts codes, scales and factors, without rounding up to bytes."""

    weight: NDArray[np.float32]
    stored_bits: float

    @property
    def bits_per_weight(self) -> float:
        """Everything stored, per weight."""
        return self.stored_bits / self.weight.size
