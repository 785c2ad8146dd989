"""Which matrices and tensors a model of a given shape consists of, and how each kind of matrix is stored.

The one place that knows the tensor names of the format (docs/format.md). Knows nothing of files or arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from leanto_edge.artifact.architecture import ModelShape

Kind = Literal["trellis", "additive", "scalar", "int8", "dense"]

FORMAT = 1
BITS: Mapping[str, tuple[int, ...]] = {  # of the codes, that each kind may have
    "trellis": (1, 2, 3, 4),  # 12-bit windows, A[w0 ^ w8] + B[w4 ^ (w8 << 1)]
    "additive": (1, 2, 3, 4),  # 8-bit windows, A[w0] + B[w4]
    "scalar": (1, 2, 3, 4),  # no window: A[bits of the weight]
    "int8": (8,),
    "dense": (32,),
}
CODED = ("trellis", "additive", "scalar")  # kinds whose codes are packed and looked up in tables
FACTOR_BITS = (4, 8, 16)  # of the low-rank factors: trellis codes of 4 bits, int8, float16
BLOCK = 256  # rows of a tail-biting block
ROW_GROUP = 8  # trellis rows are padded to a multiple of this
COLUMN_GROUP = 32  # columns of codes are padded to a multiple of this
SEED_LIMIT = 1 << 63
EMBEDDING = "model.embed_tokens"
HEAD = "lm_head"


def padded(size: int, multiple: int) -> int:
    """`size` rounded up to a multiple."""
    return -(-size // multiple) * multiple


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a stored tensor must look like; `dtypes` are safetensors names."""

    dtypes: frozenset[str]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MatrixSpec:
    """How one matrix (rows, cols) is stored: `bits` per weight of the codes, the `rank` of L·R and the `factor_bits` of L and R
    (16 where rank is 0). Seed 0: no rotation."""

    kind: Kind
    bits: int
    rows: int
    cols: int
    rank: int = 0
    in_seed: int = 0
    out_seed: int = 0
    factor_bits: int = 16

    def __post_init__(self) -> None:
        """Raise ValueError with the reason if no reader could make sense of this."""
        numbers = (self.bits, self.rows, self.cols, self.rank, self.factor_bits, self.in_seed, self.out_seed)
        if any(type(number) is not int for number in numbers):
            raise ValueError("a number is not an integer")
        if not isinstance(self.kind, str) or self.bits not in BITS.get(self.kind, ()):
            raise ValueError(f"{self.bits} bits of kind {self.kind!r} do not exist")
        if not (0 < self.rows < 1 << 24 and 0 < self.cols < 1 << 24 and 0 <= self.rank <= min(self.rows, self.cols)):
            raise ValueError("a size is out of range")
        if self.factor_bits not in FACTOR_BITS or (self.rank == 0 and self.factor_bits != 16):
            raise ValueError(f"factors of {self.factor_bits} bits do not exist at rank {self.rank}")
        if self.factor_bits == 4 and self.rank % ROW_GROUP:
            raise ValueError(f"factors of 4 bits need a rank that is a multiple of {ROW_GROUP}")
        if not (0 <= self.in_seed < SEED_LIMIT and 0 <= self.out_seed < SEED_LIMIT):
            raise ValueError("a seed is not in [0, 2^63)")
        if self.kind == "dense" and (self.rank or self.in_seed or self.out_seed):
            raise ValueError("a dense matrix has neither rank nor seeds")

    @classmethod
    def from_json(cls, value: object) -> MatrixSpec:
        """Parse an entry of `quantization_config.matrices`; ValueError with the reason."""
        if not isinstance(value, dict):
            raise ValueError("the entry is not an object")
        try:
            return cls(**value)
        except TypeError:
            raise ValueError("a key is unknown or missing") from None

    def as_dict(self) -> dict[str, Any]:
        """The entry of `quantization_config.matrices`, and what leanto_kernels.Model reads."""
        return asdict(self)

    def tensors(self, module: str) -> dict[str, TensorSpec]:
        """The tensors that store this matrix, by name."""
        if self.kind == "dense":
            return {f"{module}.weight": TensorSpec(frozenset({"F32", "F16", "BF16"}), (self.rows, self.cols))}
        width = padded(self.cols, COLUMN_GROUP)
        found = {f"{module}.scales": TensorSpec(frozenset({"F32", "F16"}), (self.rows,))}
        if self.kind == "int8":
            found[f"{module}.codes"] = TensorSpec(frozenset({"I8"}), (self.rows, width))
        else:
            found[f"{module}.codes"] = TensorSpec(frozenset({"U8"}), (padded(self.rows, ROW_GROUP) * self.bits // 8, width))
            found[f"{module}.tables"] = TensorSpec(frozenset({"I8"}), (2, 16))
        return found | self._factors(module)

    def _factors(self, module: str) -> dict[str, TensorSpec]:
        """Left and right, (rank, rows) and (rank, cols): rounded factors lie like codes, one scale for each of the `rank` rows."""
        if not self.rank:
            return {}
        if self.factor_bits == 16:
            halves = frozenset({"F16"})
            return {
                f"{module}.left": TensorSpec(halves, (self.rows, self.rank)),
                f"{module}.right": TensorSpec(halves, (self.rank, self.cols)),
            }
        kind, height = ("I8", self.rank) if self.factor_bits == 8 else ("U8", self.rank * 4 // 8)
        found = {f"{module}.factor_tables": TensorSpec(frozenset({"I8"}), (2, 16))} if self.factor_bits == 4 else {}
        for side, length in (("left", self.rows), ("right", self.cols)):
            found[f"{module}.{side}"] = TensorSpec(frozenset({kind}), (height, padded(length, COLUMN_GROUP)))
            found[f"{module}.{side}_scales"] = TensorSpec(frozenset({"F32", "F16"}), (self.rank,))
        return found


def shared_inputs(shape: ModelShape) -> tuple[tuple[str, ...], ...]:
    """Matrices of a layer, grouped by the input that they read, and whose rotation and Hessian they share, in the order of the
    forward pass."""
    if shape.fused_projections:
        return (("self_attn.qkv_proj",), ("self_attn.o_proj",), ("mlp.gate_up_proj",), ("mlp.down_proj",))
    return (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.down_proj",),
    )


def matrix_sizes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """(rows, cols) of every weight matrix, by Hugging Face module name, in the order of the forward pass."""
    sizes = {EMBEDDING: (shape.vocab_size, shape.hidden_size)}
    layer = _layer_sizes(shape)
    for index in range(shape.num_layers):
        sizes |= {f"model.layers.{index}.{name}": layer[name] for group in shared_inputs(shape) for name in group}
    if not shape.tie_embeddings:
        sizes[HEAD] = (shape.vocab_size, shape.hidden_size)
    return sizes


def vector_sizes(shape: ModelShape) -> dict[str, int]:
    """Length of every norm and bias, by tensor name."""
    layer = _layer_norms(shape) | {f"{name}.bias": _layer_sizes(shape)[name][0] for name in _biased(shape)}
    vectors = {f"model.layers.{index}.{name}": size for index in range(shape.num_layers) for name, size in layer.items()}
    return vectors | {"model.norm.weight": shape.hidden_size}


def shared_input_groups(shape: ModelShape) -> Iterator[tuple[str, ...]]:
    """Modules of all layers, grouped by the input that they share."""
    for index in range(shape.num_layers):
        for group in shared_inputs(shape):
            yield tuple(f"model.layers.{index}.{name}" for name in group)


def _layer_sizes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """(rows, cols) of every matrix that a layer may have; the fused ones hold the rows of those that they replace, in this order."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.qkv_proj": (queries + 2 * keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.gate_up_proj": (2 * wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }


def _layer_norms(shape: ModelShape) -> dict[str, int]:
    norms = {"input_layernorm.weight": shape.hidden_size, "post_attention_layernorm.weight": shape.hidden_size}
    if shape.sandwich_norms:
        norms |= {"pre_feedforward_layernorm.weight": shape.hidden_size, "post_feedforward_layernorm.weight": shape.hidden_size}
    if shape.head_norms:
        norms |= {"self_attn.q_norm.weight": shape.head_dim, "self_attn.k_norm.weight": shape.head_dim}
    return norms


def _biased(shape: ModelShape) -> list[str]:
    """Matrices of a layer whose products a bias is added to."""
    inputs, output, wide, down = shared_inputs(shape)
    return [
        *(inputs if shape.qkv_bias else ()),
        *(output if shape.output_bias else ()),
        *((*wide, *down) if shape.mlp_bias else ()),
    ]


def check_matrices(shape: ModelShape, matrices: Mapping[str, MatrixSpec]) -> None:
    """Raise ValueError unless `matrices` are those of `shape`, with seeds that the engine can use."""
    sizes = matrix_sizes(shape)
    different = sorted(set(sizes) ^ set(matrices))
    if different:
        raise ValueError(f"{different[0]} is {'missing' if different[0] in sizes else 'not a matrix of this model'}")
    for name, size in sizes.items():
        if (matrices[name].rows, matrices[name].cols) != size:
            raise ValueError(f"{name} is {matrices[name].rows}x{matrices[name].cols}, the model needs {size[0]}x{size[1]}")
    if matrices[EMBEDDING].out_seed:
        raise ValueError(f"{EMBEDDING} must not be rotated on its rows")
    for group in shared_input_groups(shape):
        if len({matrices[name].in_seed for name in group}) > 1:
            raise ValueError(f"{group[0]} and {group[1]} must share in_seed")


def expected_tensors(shape: ModelShape, matrices: Mapping[str, MatrixSpec]) -> dict[str, TensorSpec]:
    """Every tensor of the model file, by name."""
    floats = frozenset({"F32", "F16", "BF16"})
    stored = {tensor: spec for name, matrix in matrices.items() for tensor, spec in matrix.tensors(name).items()}
    return stored | {name: TensorSpec(floats, (size,)) for name, size in vector_sizes(shape).items()}
