"""Triton's kernels against the oracle: on a GPU where there is one, else in Triton's interpreter, and compiled for GPUs without running."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="multiplies with torch")
transformers = pytest.importorskip("transformers", reason="loads artifacts with transformers")
pytest.importorskip("triton", reason="Triton is an extra (pip install 'leanto[gpu]')")

import leanto_edge.transformers  # noqa: E402, F401 - registers the quantizer
from artifacts import write_tiny  # noqa: E402
from leanto_edge import DependencyError  # noqa: E402
from leanto_edge.artifact.layout import MatrixSpec  # noqa: E402
from leanto_edge.artifact.weight import dense_weight  # noqa: E402
from leanto_edge.transformers import layers  # noqa: E402
from leanto_edge.transformers.layers import CompressedLinear  # noqa: E402
from leanto_kernels import reference, tables  # noqa: E402

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
with pytest.MonkeyPatch.context() as patch:
    if DEVICE.type == "cpu":
        patch.setenv("TRITON_INTERPRET", "1")  # read when a kernel is defined
    from leanto_edge.transformers import gpu

NEEDS_A_GPU = pytest.mark.skipif(DEVICE.type == "cpu", reason="there is no CUDA GPU: kernels ran in Triton's interpreter only")

FLOAT_BOUND = 1e-5  # relative to the largest value of the result: float32 sums in another order, twice rotated
HALF_BOUND = 4e-3  # float16: 11 bits of mantissa in the result, in x' and W' as well for many vectors, in x' on a GPU (10 bits)
BFLOAT16_BOUND = 3e-2  # 8 bits, likewise
LOGIT_BOUND = 1e-4  # of a model of two layers, relative to the largest logit
CODED = [(kind, bits) for kind in ("trellis", "additive", "scalar") for bits in (1, 2, 3, 4)]
FORMS = [
    MatrixSpec("trellis", 2, 40, 96, 0, 3, 4),
    MatrixSpec("trellis", 3, 45, 37, 8, 5, 6, 4),
    MatrixSpec("additive", 2, 24, 70, 3, 7, 0, 8),
    MatrixSpec("scalar", 4, 33, 48, 5, 0, 9, 16),
    MatrixSpec("int8", 8, 48, 33, 16, 1, 2, 4),
    MatrixSpec("int8", 8, 7, 5),
]


def random_tensors(spec: MatrixSpec, seed: int = 0) -> dict[str, Any]:
    """Valid random tensors of one matrix, by suffix."""
    random, made = np.random.default_rng(seed), {}
    for name, tensor in spec.tensors("matrix").items():
        suffix = name.removeprefix("matrix.")
        if suffix.endswith("tables"):
            made[suffix] = tables(4) if suffix == "factor_tables" else tables(spec.bits, kind=spec.kind)
        elif suffix.endswith("scales"):
            made[suffix] = random.uniform(0.005, 0.02, tensor.shape).astype(random.choice(["float16", "float32"]))
        elif "F16" in tensor.dtypes:
            made[suffix] = random.standard_normal(tensor.shape).astype(np.float16)
        else:
            low, high, dtype = (0, 256, np.uint8) if "U8" in tensor.dtypes else (-127, 128, np.int8)
            made[suffix] = random.integers(low, high, tensor.shape, dtype)
    return made


def on_device(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.from_numpy(tensor).to(DEVICE) for name, tensor in tensors.items()}


def packed(spec: MatrixSpec, tensors: dict[str, Any]) -> Any:
    return gpu.PackedMatrix(spec, on_device(tensors))


def oracle(spec: MatrixSpec, tensors: dict[str, Any], x: Any) -> Any:
    """W x without rounding of activations, (tokens, rows)."""
    form, named = spec.as_dict(), {f"m.{name}": tensor for name, tensor in tensors.items()}
    weight = reference.integers(form, named, "m")[:, : spec.cols] * tensors["scales"].astype(np.float64)[:, None]
    if spec.rank:
        left, right = reference.low_rank(form, named, "m")
        weight = weight + left.astype(np.float64) @ right
    inside = x.astype(np.float64) @ reference.rotation(spec.cols, spec.in_seed).T
    return inside @ weight.T @ reference.rotation(spec.rows, spec.out_seed)


def vectors(tokens: int, cols: int) -> Any:
    return np.random.default_rng(1).standard_normal((tokens, cols)).astype(np.float32)


def check_codes(kind: str, bits: int, rows: int, cols: int, tokens: int, seed: int, largest: int = 127) -> None:
    """Small enough integers have exact sums in float32, in any order: the products are those of the oracle, and so are the weights."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 256, (-(-rows // 8) * bits, -(-cols // 32) * 32), dtype=np.uint8)
    x = np.zeros((tokens, codes.shape[1]), np.int8)
    x[:, :cols] = random.integers(-largest, largest + 1, (tokens, cols))
    table = tables(bits, kind=kind)
    stored = gpu.Stored(kind, bits, rows, cols, torch.from_numpy(codes).to(DEVICE), torch.from_numpy(table).to(DEVICE))
    found = stored.times(torch.from_numpy(x[:, :cols].astype(np.float32)).to(DEVICE))
    np.testing.assert_array_equal(found.cpu().numpy(), reference.gemv_trellis(codes, table, x, bits, rows, kind))
    values = reference.decode_trellis(codes, table, bits, rows, kind)[:, :cols]
    np.testing.assert_array_equal(stored.decoded(torch.float32).cpu().numpy(), values)
    ids = random.integers(0, rows, 3)
    np.testing.assert_array_equal(stored.decoded(torch.float32, torch.from_numpy(ids).to(DEVICE)).cpu().numpy(), values[ids])


@given(st.sampled_from(CODED), st.integers(1, 70), st.integers(1, 150), st.integers(1, 16), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_products_with_codes_equal_the_oracle_bit_for_bit(form: tuple[str, int], rows: int, cols: int, tokens: int, seed: int) -> None:
    check_codes(*form, rows, cols, tokens, seed)


@pytest.mark.parametrize(("kind", "bits"), CODED)
@pytest.mark.parametrize("rows", [1, 256, 265, 520])  # strings shorter than a window, whole blocks, a last block of 16 or of 8 rows
def test_strings_close_at_the_end_of_their_block(kind: str, bits: int, rows: int) -> None:
    check_codes(kind, bits, rows, 33, 1, rows)


def test_columns_that_several_programs_share_are_summed() -> None:
    check_codes("trellis", 2, 9, 1100, 2, 0, largest=7)


@given(st.integers(1, 40), st.integers(1, 150), st.integers(1, 16), st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_products_with_int8_equal_the_oracle_bit_for_bit(rows: int, cols: int, tokens: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(-127, 128, (rows, -(-cols // 32) * 32), dtype=np.int8)
    x = random.integers(-127, 128, (tokens, cols), dtype=np.int8)
    stored = gpu.Stored("plain", 8, rows, cols, torch.from_numpy(codes).to(DEVICE))
    found = stored.times(torch.from_numpy(x.astype(np.float32)).to(DEVICE)).cpu().numpy()
    np.testing.assert_array_equal(found, reference.gemv_int8(codes[:, :cols], x))


@pytest.mark.parametrize("spec", FORMS, ids=str)
@pytest.mark.parametrize("tokens", [1, 3, 16, 17])  # 17: the dense way
@pytest.mark.parametrize(("dtype", "bound"), [("float32", FLOAT_BOUND), ("float16", HALF_BOUND), ("bfloat16", BFLOAT16_BOUND)])
def test_a_matrix_multiplies_within_its_bound(spec: MatrixSpec, tokens: int, dtype: str, bound: float) -> None:
    tensors = random_tensors(spec)
    x = torch.from_numpy(vectors(tokens, spec.cols)).to(DEVICE, getattr(torch, dtype))
    found, expected = packed(spec, tensors).linear(x), oracle(spec, tensors, x.float().cpu().numpy())
    assert found.dtype == x.dtype
    assert np.abs(found.float().cpu().numpy() - expected).max() <= bound * np.abs(expected).max()


def test_any_shape_of_input_gives_the_same_rows() -> None:
    spec = MatrixSpec("trellis", 3, 45, 37)
    matrix, x = packed(spec, random_tensors(spec)), torch.from_numpy(vectors(6, spec.cols)).to(DEVICE)
    rows = matrix.linear(x)
    assert torch.equal(matrix.linear(x.reshape(2, 3, -1)), rows.reshape(2, 3, -1))
    assert torch.equal(matrix.linear(x.T.contiguous().T), rows)
    assert matrix.linear(x[:0]).shape == (0, spec.rows)


def test_few_vectors_make_no_dense_matrix_and_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, made = FORMS[1], []
    matrix, decoded = packed(spec, random_tensors(spec)), gpu.Stored.decoded
    monkeypatch.setattr(gpu.Stored, "decoded", lambda stored, dtype: (made.append(stored), decoded(stored, dtype))[1])
    matrix.linear(torch.from_numpy(vectors(gpu.FEW, spec.cols)).to(DEVICE))
    assert not made
    matrix.linear(torch.from_numpy(vectors(gpu.FEW + 1, spec.cols)).to(DEVICE))
    assert len(made) == 3  # the codes and both factors


def test_autocast_changes_no_more_than_its_type_does() -> None:
    spec = FORMS[1]
    matrix, x = packed(spec, random_tensors(spec)), torch.from_numpy(vectors(2, spec.cols)).to(DEVICE)
    exact = matrix.linear(x)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = matrix.linear(x)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() <= BFLOAT16_BOUND * exact.abs().max()


@pytest.mark.parametrize("factor_bits", [4, 8, 16])
def test_an_embedding_is_the_rows_of_the_weight(factor_bits: int) -> None:
    spec = MatrixSpec("trellis", 4, 45, 48, 8, 5, 0, factor_bits)
    tensors, ids = random_tensors(spec), torch.tensor([[0, 44, 7], [7, 1, 2]], device=DEVICE)
    weight = dense_weight(spec, tensors)
    found = packed(spec, tensors).embedding(ids, torch.float32).cpu().numpy()
    assert np.abs(found - weight[ids.cpu().numpy()]).max() <= FLOAT_BOUND * np.abs(weight).max()


@pytest.mark.parametrize("dimension", [1, 2, 12, 7, 96, 64, 768, 43 * 32])
def test_rotations_are_those_of_the_format(dimension: int) -> None:
    rotation, x = gpu.Rotation.of(dimension, 2**62 + 5, DEVICE), vectors(3, dimension)
    bound = 2 * reference.ROTATE_BOUND * np.linalg.norm(x, axis=1, keepdims=True)
    there = rotation.forward(torch.from_numpy(x).to(DEVICE))
    assert (np.abs(there.cpu().numpy() - reference.rotate(x, 2**62 + 5)) <= bound).all()
    assert (np.abs(rotation.back(there).cpu().numpy() - x) <= bound).all()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules take the kernels wherever they lie."""
    monkeypatch.setattr(layers, "gpu_backend", lambda _device: gpu)


def loaded(path: Path, dtype: Any = torch.float32) -> Any:
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True, dtype=dtype)


def logits_of(model: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return model(torch.tensor([ids], device=model.device)).logits[0].float().cpu().numpy()


def keeps_its_codes(model: Any) -> bool:
    """Whether every matrix was multiplied as it is stored, and none became dense."""
    matrices = [module for module in model.modules() if isinstance(module, layers._Matrix)]
    return bool(matrices) and all(module._packed is not None and module._weight is None for module in matrices)


@pytest.mark.parametrize("ids", [[5, 6, 7], list(range(2, 40))], ids=["few tokens", "many tokens"])
def test_a_model_keeps_its_codes_and_has_the_logits_of_its_dense_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: list[int]
) -> None:
    path = write_tiny(tmp_path / "model", "trellis", 2, 4).path
    dense = logits_of(loaded(path), ids)
    monkeypatch.setattr(layers, "gpu_backend", lambda _device: gpu)
    model = loaded(path).to(DEVICE)
    ours = logits_of(model, ids)
    assert np.abs(ours - dense).max() <= LOGIT_BOUND * np.abs(dense).max()
    assert keeps_its_codes(model)


@NEEDS_A_GPU
@pytest.mark.parametrize(("dtype", "bound"), [("float32", LOGIT_BOUND), ("float16", 0.02), ("bfloat16", 0.1)])
def test_on_a_gpu_the_plug_in_multiplies_codes_of_its_own_accord(tmp_path: Path, dtype: str, bound: float) -> None:
    path = write_tiny(tmp_path / "model", "trellis", 2, 4).path
    model, dense = loaded(path, getattr(torch, dtype)).to(DEVICE), logits_of(loaded(path), [5, 6, 7])
    assert np.abs(logits_of(model, [5, 6, 7]) - dense).max() <= bound * np.abs(dense).max()
    assert keeps_its_codes(model)


def linear_of(spec: MatrixSpec, tensors: dict[str, Any]) -> CompressedLinear:
    """A linear layer with a bias of ones."""
    names = {"uint8": "U8", "int8": "I8", "float16": "F16", "float32": "F32"}
    layer = CompressedLinear(
        spec, {name: names[tensor.dtype.name] for name, tensor in tensors.items()}, torch.nn.Parameter(torch.ones(spec.rows))
    )
    layer.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()} | {"bias": layer.bias})
    return layer.to(DEVICE)


@pytest.mark.usefixtures("backend")
def test_a_bias_is_added() -> None:
    spec = FORMS[2]
    tensors, x = random_tensors(spec), vectors(2, spec.cols)
    with torch.no_grad():
        found = linear_of(spec, tensors)(torch.from_numpy(x).to(DEVICE)).cpu().numpy()
    expected = oracle(spec, tensors, x) + 1
    assert np.abs(found - expected).max() <= FLOAT_BOUND * np.abs(expected).max()


@pytest.mark.usefixtures("backend")
def test_tensors_put_in_later_count() -> None:
    spec = FORMS[2]
    tensors, x = random_tensors(spec), torch.from_numpy(vectors(2, spec.cols)).to(DEVICE)
    layer = linear_of(spec, tensors)
    with torch.no_grad():
        before = layer(x)
        layer.load_state_dict({**layer.state_dict(), "codes": torch.zeros_like(layer.codes)})
        assert not torch.allclose(layer(x), before)


@pytest.mark.usefixtures("backend")
def test_an_input_with_a_gradient_takes_the_dense_weight() -> None:
    spec = FORMS[0]
    tensors = random_tensors(spec)
    x = torch.from_numpy(vectors(2, spec.cols)).to(DEVICE).requires_grad_()
    linear_of(spec, tensors)(x).sum().backward()
    expected = dense_weight(spec, tensors).sum(0)
    assert np.abs(x.grad[0].cpu().numpy() - expected).max() <= FLOAT_BOUND * np.abs(expected).max()


def test_a_device_is_tried_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.usable(DEVICE)
    monkeypatch.setattr(gpu.Stored, "times", lambda _stored, x, *_precision: x * 0)
    with pytest.warns(RuntimeWarning, match="multiplies dense weights, for its Triton does not work: a product is"):
        assert not gpu.usable(DEVICE)


def test_off_the_gpu_everything_stays_dense() -> None:
    assert layers.gpu_backend(torch.device("cpu")) is None


def test_without_triton_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "leanto_edge.transformers.gpu")
    with pytest.raises(DependencyError, match=r"leanto\[gpu\]"):
        importlib.import_module("leanto_edge.transformers.gpu")


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from leanto_edge.transformers import gpu

POINTERS = {"y": "*fp32", "x": "*fp32", "w": "*bf16", "ids": "*i64", "tables": "*i8", "scales": "*fp16"}

def compile_for_ampere(kernel, codes, **constants):
    constants = {"ROWS": gpu.TILE_ROWS, "COLS": gpu.TILE_COLS, **constants}
    types = {name: "constexpr" if name in constants else POINTERS.get(name, "i32") for name in kernel.arg_names} | {"codes": codes}
    source, options = ASTSource(kernel, types, constants), {"enable_fp_fusion": True}
    assert triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["cubin"]

def both(codes, **form):
    compile_for_ampere(gpu._multiply, codes, TRANSPOSED=False, PRECISION="tf32", TOKENS=1, **form)
    compile_for_ampere(gpu._decode, codes, **form)

for kind in ("trellis", "additive", "scalar"):
    both("*u8", KIND=kind, BITS=3)
both("*i8", KIND="plain", BITS=8, tables=None)
both("*fp16", KIND="plain", BITS=8, tables=None, scales=None)
compile_for_ampere(gpu._multiply, "*u8", KIND="trellis", BITS=4, TRANSPOSED=True, PRECISION="ieee", TOKENS=16)
compile_for_ampere(gpu._decode, "*u8", KIND="trellis", BITS=4, ids=None)
"""


def test_the_kernels_compile_for_ampere(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], env={**environment, "TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
