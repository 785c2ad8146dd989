"""Random-weight Llama models of a given shape, as each engine wants them: the speed of an engine does not depend on the weights.

Files are made once and kept in a folder. llama.cpp's come from llama-quantize, ONNX Runtime's from its model builder, ours are random
codes. Knows nothing of how they are timed.
"""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

import leanto_edge
from benchmarks.peers.quantizers import write_squares
from leanto_edge.artifact import write_artifact
from leanto_edge.artifact.architecture import ModelShape
from leanto_edge.artifact.layout import EMBEDDING, HEAD, MatrixSpec, matrix_sizes, shared_input_groups, vector_sizes
from leanto_kernels import tables, unit

OURS = {  # profile and bits
    "best 4": ("trellis", 4),
    "best 2": ("trellis", 2),
    "fast 4": ("additive", 4),
    "fast 2": ("additive", 2),
    "plain 4": ("scalar", 4),
    "plain 3": ("scalar", 3),
    "plain 2": ("scalar", 2),
}
IK_TYPES = ("Q4_K_R4", "Q2_K_R4", "IQ2_KS", "IQ2_XXS")  # ik_llama.cpp's
LLAMA_TYPES = ("Q4_0", "Q4_K_M", "Q2_K", "IQ2_XS", "TQ2_0")
BLOCK = 256  # columns that most of those types want a multiple of
ANY_COLUMNS = ("Q4_0",)


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama shape to measure."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tied: bool
    context: int

    def config(self) -> dict[str, Any]:
        """As Hugging Face writes it."""
        return {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.context,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }

    @property
    def model(self) -> ModelShape:
        """The same for leanto."""
        return ModelShape.from_config(Path(self.name), self.config())

    @property
    def read_weights(self) -> int:
        """Weights that one token reads: all but those of an embedding that is not the head too."""
        sizes = matrix_sizes(self.model)
        return sum(rows * cols for module, (rows, cols) in sizes.items() if self.tied or module != EMBEDDING)


POCKET = Shape("pocket", 192, 5, 6, 2, 512, 3072, True, 512)
M110 = Shape("110M", 768, 12, 12, 12, 2048, 32_000, False, 8192)
B1 = Shape("1B", 2048, 22, 32, 4, 5632, 32_000, False, 8192)


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine (a name that the worker knows), a model file or folder, and the Python that has the engine."""

    engine: str
    form: str
    path: Path
    python: str

    @property
    def name(self) -> str:
        """Both, for tables."""
        return f"{self.engine} {self.form}"

    @property
    def file_bytes(self) -> int:
        """The weights on disk, tokenizers and the like left out."""
        files = [self.path] if self.path.is_file() else [*self.path.glob("*.safetensors"), *self.path.glob("*.onnx*")]
        return sum(file.stat().st_size for file in files)


def write_ours(shape: Shape, kind: str, bits: int, path: Path) -> None:
    """An artifact of random codes, head and embedding too, with every rotation."""
    model, random = shape.model, np.random.default_rng(0)
    groups = [*shared_input_groups(model), (EMBEDDING,), (HEAD,)]
    readers = {module: group[0] for group in groups for module in group}
    specs: dict[str, MatrixSpec] = {}
    tensors: dict[str, Any] = {name: np.ones(size, np.float32) for name, size in vector_sizes(model).items()}
    for module, (rows, cols) in matrix_sizes(model).items():
        out_seed = 0 if module in (EMBEDDING, HEAD) else zlib.crc32(f"{module} out".encode()) + 1
        specs[module] = MatrixSpec(kind, bits, rows, cols, 0, zlib.crc32(readers[module].encode()) + 1, out_seed)  # type: ignore[arg-type]
        for name, layout in specs[module].tensors(module).items():
            if name.endswith(".codes"):
                tensors[name] = random.integers(0, 256, layout.shape, np.uint8)
            elif name.endswith(".tables"):
                tensors[name] = tables(bits, kind)
            else:
                tensors[name] = np.full(layout.shape, unit(bits, kind) / np.sqrt(cols), np.float16)
    tokenizer = (leanto_edge.embedded() / "tokenizer.json").read_bytes()
    write_artifact(path, shape.config(), specs, tensors, {"tokenizer.json": tokenizer}, {"name": shape.name, "confidence": {}})


def write_plain(shape: Shape, path: Path) -> None:
    """A Hugging Face folder in float32."""
    config = shape.config()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    model.save_pretrained(path)
    (path / "tokenizer.json").write_bytes((leanto_edge.embedded() / "tokenizer.json").read_bytes())
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))


def write_gguf(shape: Shape, path: Path) -> None:
    """A GGUF file in float16."""
    import gguf

    from benchmarks.peers import gguf_file

    random = np.random.default_rng(0)

    def weights() -> Iterator[tuple[str, NDArray[np.floating]]]:
        for module, (rows, cols) in matrix_sizes(shape.model).items():
            yield module, (random.standard_normal((rows, cols), np.float32) / np.sqrt(cols)).astype(np.float16)
        for name, size in vector_sizes(shape.model).items():
            yield name.removesuffix(".weight"), np.ones(size, np.float32)

    gguf_file.write(path, shape.model, weights(), rms_norm_eps=1e-5, kind=gguf.LlamaFileType.MOSTLY_F16)


def matrix_rows(path: Path) -> dict[str, int]:
    """The columns of every matrix in a GGUF file, by name."""
    import gguf

    return {tensor.name: int(tensor.shape[0]) for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) == 2}


def ours(shape: Shape, folder: Path, python: str, forms: tuple[str, ...]) -> Iterator[Contender]:
    """leanto in some forms of OURS."""
    for form in forms:
        path = folder / f"{shape.name}-leanto-{form.replace(' ', '-')}"
        if not path.exists():
            write_ours(shape, *OURS[form], path)
        yield Contender("leanto", form, path, python)


def transformers(shape: Shape, folder: Path, python: str) -> Contender:
    """transformers in float32."""
    path = folder / f"{shape.name}-float32"
    if not path.exists():
        write_plain(shape, path)
    return Contender("transformers", "float32", path, python)


def peers(shape: Shape, folder: Path, python: str) -> Iterator[Contender]:
    """Whatever the environment of another Python has of llama.cpp, ik_llama.cpp and ONNX Runtime, said where one is absent."""
    if _has(python, "ik_llama_cpp"):
        plain = folder / f"{shape.name}-F16.gguf"
        if not plain.exists():
            write_gguf(shape, plain)
        yield from _quantized(shape, plain, "ik_llama.cpp", IK_TYPES if shape.hidden % BLOCK == 0 else ANY_COLUMNS, python)
        if _has(python, "llama_cpp"):
            yield from _quantized(shape, plain, "llama.cpp", LLAMA_TYPES if shape.hidden % BLOCK == 0 else ANY_COLUMNS, python)
    if _has(python, "onnxruntime_genai"):
        path = folder / f"{shape.name}-onnx-int4"
        if not path.exists():
            source = transformers(shape, folder, python).path
            command = [python, "-m", "onnxruntime_genai.models.builder", "-m", "random", "-i", source, "-o", path, "-p", "int4"]
            command += ["-e", "cpu", "-c", folder / "cache", "--extra_options", "int4_accuracy_level=4", "int4_block_size=32"]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"skipped: onnxruntime-genai int4: {done.stderr.strip().splitlines()[-1]}", flush=True)
                return
        yield Contender("onnxruntime-genai", "int4", path, python)


def _quantized(shape: Shape, plain: Path, engine: str, kinds: tuple[str, ...], python: str) -> Iterator[Contender]:
    importance = plain.with_suffix(".importance")  # some types are not made without one
    if not importance.exists():
        matrices = matrix_rows(plain)
        write_squares({name: np.ones(columns, np.float32) for name, columns in matrices.items()}, 1, importance)
    package = "ik_llama_cpp" if engine == "ik_llama.cpp" else "llama_cpp"
    for kind in kinds:
        path = plain.with_name(f"{shape.name}-{engine}-{kind}.gguf")
        if not path.exists():
            draft = path.with_suffix(".draft")
            worker = Path(__file__).with_name("quantize.py")
            done = subprocess.run([python, worker, package, plain, draft, kind, importance], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"skipped: {engine} {kind}: {(done.stdout + done.stderr).strip().splitlines()[-1]}", flush=True)
                continue
            draft.rename(path)
        yield Contender(engine, kind, path, python)


def _has(python: str, package: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
    found = subprocess.run([python, "-c", code], check=False).returncode == 0
    if not found:
        print(f"skipped: {python} has no {package}", flush=True)
    return found
