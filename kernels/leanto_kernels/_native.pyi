"""Types of the compiled module; a test holds them against what was built."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Sample = tuple[int, float, float, float, list[tuple[int, float]]]  # token, logprob, margin, entropy, top

def isa() -> str: ...
def set_isa(name: str) -> None: ...
def gemv_trellis(
    codes: npt.NDArray[np.uint8], tables: npt.NDArray[np.int8], x: npt.NDArray[np.int8], bits: int, rows: int, kind: str = "trellis"
) -> npt.NDArray[np.int32]: ...
def decode_trellis(
    codes: npt.NDArray[np.uint8], tables: npt.NDArray[np.int8], bits: int, rows: int, kind: str = "trellis"
) -> npt.NDArray[np.int8]: ...
def encode_trellis(
    x: npt.NDArray[np.float32],
    tables: npt.NDArray[np.int8],
    bits: int,
    threads: int = 0,
    weights: npt.NDArray[np.float32] | None = None,
    kind: str = "trellis",
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]: ...
def gemv_int8(codes: npt.NDArray[np.int8], x: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]: ...
def gemv_transposed(weight: npt.NDArray[np.int8], x: npt.NDArray[np.float32], rows: int) -> npt.NDArray[np.float32]: ...
def gemv_dense(weight: npt.NDArray[np.float32] | npt.NDArray[np.float16], x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...
def quantize_activations(x: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], float]: ...
def rotate(x: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]: ...
def rotate_transpose(x: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]: ...
def rms_norm(x: npt.NDArray[np.float32], weight: npt.NDArray[np.float32], epsilon: float) -> npt.NDArray[np.float32]: ...
def rope(x: npt.NDArray[np.float32], position: int, theta: float) -> npt.NDArray[np.float32]: ...
def attention(
    query: npt.NDArray[np.float32],
    key: npt.NDArray[np.float32],
    value: npt.NDArray[np.float32],
    scale: float | None = None,
    softcap: float = 0.0,
    window: int = 0,
    storage: str = "float32",
) -> npt.NDArray[np.float32]: ...
def gated_mlp(gate: npt.NDArray[np.float32], up: npt.NDArray[np.float32], activation: str = "silu") -> npt.NDArray[np.float32]: ...
def softcap(x: npt.NDArray[np.float32], cap: float) -> npt.NDArray[np.float32]: ...
def sample(
    logits: npt.NDArray[np.float32],
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    u: float = 0.0,
    allowed: npt.NDArray[np.int32] | None = None,
    top: int = 0,
) -> Sample: ...

class Cache:
    @property
    def length(self) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def bytes_per_token(self) -> int: ...
    def truncate(self, length: int) -> None: ...
    def state(self) -> npt.NDArray[np.float32]: ...

class Model:
    def __init__(
        self,
        config: Mapping[str, object],
        matrices: Mapping[str, Mapping[str, int | str]],
        tensors: Mapping[str, npt.NDArray[np.generic]],
    ) -> None: ...
    def new_cache(self, capacity: int, storage: str = "float16") -> Cache: ...
    def prefill(self, cache: Cache, ids: npt.NDArray[np.int32], threads: int = 1) -> npt.NDArray[np.float32]: ...
    def logits(self, cache: Cache, ids: npt.NDArray[np.int32], threads: int = 1) -> npt.NDArray[np.float32]: ...
    def step(
        self,
        cache: Cache,
        token: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        u: float = 0.0,
        allowed: npt.NDArray[np.int32] | None = None,
        threads: int = 1,
        top: int = 0,
    ) -> Sample: ...
    def steps(
        self,
        cache: Cache,
        ids: npt.NDArray[np.int32],
        us: npt.NDArray[np.float64],
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        allowed: npt.NDArray[np.int32] | None = None,
        threads: int = 1,
        top: int = 0,
    ) -> list[Sample]: ...
