"""What a caller may choose about a compression, checked. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from leanto_edge.compress.incoherence import rotation_seed
from leanto_edge.layout import EMBEDDING, HEAD, Kind, MatrixSpec


@dataclass(frozen=True, slots=True)
class Settings:
    """`bits` per weight of the layers: 2, 3 or 4 (trellis; 1 for the curious) or 8 (int8).

    `embedding_bits` (also of the head): None takes max(4, bits). `rank` of L·R in the layers. `sweeps`: how often every column is
    rounded again with the others fixed. Token counts bound the calibration and the held-out text. `seed` makes everything repeatable.
    """

    bits: int = 4
    embedding_bits: int | None = None
    rank: int = 0
    sweeps: int = 2
    seed: int = 0
    calibration_tokens: int = 32_768
    held_out_tokens: int = 8_192
    document_tokens: int = 512

    def __post_init__(self) -> None:
        """Raise ValueError for a value outside its range."""
        for name, bits in (("bits", self.bits), ("embedding_bits", self.resolved_embedding_bits)):
            if bits not in (1, 2, 3, 4, 8):
                raise ValueError(f"{name} is {bits}; choose 1, 2, 3, 4 or 8")
        if self.rank < 0 or self.sweeps < 0 or min(self.calibration_tokens, self.held_out_tokens) < 1 or self.document_tokens < 8:
            raise ValueError("rank and sweeps must not be negative, token counts must be positive")

    @property
    def resolved_embedding_bits(self) -> int:
        """Bits of the embedding and the head."""
        return max(4, self.bits) if self.embedding_bits is None else self.embedding_bits

    def matrix_spec(self, module: str, rows: int, cols: int, shared_input: str) -> MatrixSpec:
        """How to store the matrix of `module`; modules that read the same input name the same `shared_input`."""
        table = module in (EMBEDDING, HEAD)  # its rows are looked up or become logits one by one: never mixed
        bits = self.resolved_embedding_bits if table else self.bits
        kind: Kind = "int8" if bits == 8 else "trellis"
        in_seed = rotation_seed(self.seed, f"{shared_input} in", cols)
        out_seed = 0 if table or kind == "int8" else rotation_seed(self.seed, f"{module} out", rows)
        rank = 0 if table else min(self.rank, rows, cols)
        return MatrixSpec(kind, bits, rows, cols, rank, in_seed, out_seed)
