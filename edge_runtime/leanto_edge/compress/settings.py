"""What a caller may choose about a compression, checked, and the ways to store each matrix that follow from it. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leanto_edge.artifact.layout import EMBEDDING, HEAD, Kind, MatrixSpec
from leanto_edge.compress.incoherence import rotation_seed
from leanto_edge.compress.methods import METHODS

Profile = Literal["best", "fast", "plain"]
KIND: dict[str, Kind] = {"best": "trellis", "fast": "additive", "plain": "scalar"}
LOW_RANK = ((8, 8), (16, 4), (32, 4))  # (rank, bits of the factors) that a matrix may take on beside none
LEAST_SIZE = 8  # a low-rank term of rank r is tried on matrices of at least this many times r rows and columns


@dataclass(frozen=True, slots=True)
class Settings:
    """`bits`: the budget, as an average over all parameters of the weight file with everything counted; `budget_bytes`: the same in bytes.

    `profile`: how the codes are made, from the most accurate to the fastest to decode. `uniform`: no budget, but `bits` (1 to 4, or 8 for
    int8) for every matrix of the layers, `embedding_bits` (None: 4, or 8 beyond) for embedding and head, and `rank`. `method`: by which
    of leanto_edge.compress.methods the layers are compressed; others than leanto, there for comparison, need `uniform` and may take
    fractions of bits. `sweeps`: how often every column is rounded again with the others fixed. `recover_minutes`: of distillation
    afterwards. `guided`: tokens count for more in the Hessians where their errors move the output more, which takes a backward pass
    through the model. Token counts bound the calibration and the held-out text. `seed` makes everything repeatable.
    """

    bits: float = 4
    budget_bytes: int | None = None
    profile: Profile = "best"
    uniform: bool = False
    method: str = "leanto"
    embedding_bits: int | None = None
    rank: int = 0
    sweeps: int = 2
    recover_minutes: float = 0.0
    guided: bool = False
    seed: int = 0
    calibration_tokens: int = 32_768
    held_out_tokens: int = 8_192
    document_tokens: int = 512

    def __post_init__(self) -> None:
        """Raise ValueError for a value outside its range."""
        if self.profile not in KIND:
            raise ValueError(f"profile is {self.profile!r}; choose {', '.join(KIND)}")
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; choose {', '.join(METHODS)}")
        if self.method != "leanto" and (not self.uniform or self.rank or self.recover_minutes):
            raise ValueError(f"method {self.method} is for comparison: uniform only, and rank and recovery must be left out")
        if self.uniform:
            widths = {"embedding_bits": self.uniform_table_bits} | ({"bits": self.bits} if self.method == "leanto" else {})
            for name, bits in widths.items():
                if bits not in (1, 2, 3, 4, 8):
                    raise ValueError(f"{name} is {bits}; choose 1, 2, 3, 4 or 8")
            if self.budget_bytes is not None:
                raise ValueError("uniform bits and a budget in bytes exclude each other")
        elif self.rank or self.embedding_bits is not None:
            raise ValueError("rank and embedding_bits are for uniform compression; a budget chooses them itself")
        if not 1 <= self.bits <= 32 or (self.budget_bytes is not None and self.budget_bytes < 1):
            raise ValueError(f"a budget of {self.bits} bits or {self.budget_bytes} bytes makes no sense: choose at least 1")
        if self.rank < 0 or self.sweeps < 0 or min(self.calibration_tokens, self.held_out_tokens) < 1 or self.document_tokens < 8:
            raise ValueError("rank and sweeps must not be negative, token counts must be positive")
        if not 0 <= self.recover_minutes < 1e6:
            raise ValueError("recover_minutes must not be negative")

    @property
    def uniform_table_bits(self) -> int:
        """Bits of the embedding and the head where all are uniform."""
        return (8 if self.bits > 4 else 4) if self.embedding_bits is None else self.embedding_bits

    def uniform_spec(self, module: str, rows: int, cols: int, shared_input: str) -> MatrixSpec:
        """How to store the matrix of `module`; modules that read the same input name the same `shared_input`."""
        table = module in (EMBEDDING, HEAD)
        if self.method != "leanto" and not table:
            return MatrixSpec("dense", 32, rows, cols)
        return self._spec(module, rows, cols, shared_input, self.uniform_table_bits if table else int(self.bits), 0 if table else self.rank)

    def candidate_specs(self, module: str, rows: int, cols: int, shared_input: str) -> list[MatrixSpec]:
        """The ways to store the matrix of `module` among which a budget chooses; first one without low rank."""
        ranks = [(rank, bits) for rank, bits in LOW_RANK if LEAST_SIZE * rank <= min(rows, cols) and module not in (EMBEDDING, HEAD)]
        return [
            self._spec(module, rows, cols, shared_input, bits, rank, factor_bits)
            for rank, factor_bits in ((0, 16), *ranks)
            for bits in ((1, 2, 3, 4, 8) if rank == 0 else (1, 2, 3, 4))
        ]

    def _spec(self, module: str, rows: int, cols: int, shared_input: str, bits: int, rank: int, factor_bits: int = 16) -> MatrixSpec:
        """Rows of an embedding or a head are looked up or become logits one by one: never mixed."""
        kind: Kind = "int8" if bits == 8 else KIND[self.profile]
        in_seed = rotation_seed(self.seed, f"{shared_input} in", cols)
        out_seed = 0 if module in (EMBEDDING, HEAD) or kind == "int8" else rotation_seed(self.seed, f"{module} out", rows)
        return MatrixSpec(kind, bits, rows, cols, min(rank, rows, cols), in_seed, out_seed, factor_bits)
