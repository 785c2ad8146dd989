"""The GGUF file against llama.cpp: the same tokens for the same text, the same greedy answer, nearly the same logits."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import leanto_edge
from artifacts import CONFIG, write_plain
from leanto_edge import ArtifactError, DependencyError, GenerationRequest, SamplingParams, UnsupportedModelError
from leanto_edge.export.gguf import export_gguf

gguf = pytest.importorskip("gguf", reason="the gguf library writes the files (extra gguf)")

# Root mean square of the difference over that of the logits. llama.cpp rounds activations to 8 bits in blocks of 32 for q8_0
# weights, and to float16 for f16 weights and in its cache; our engine rounds them to 8 bits for whatever is compressed.
BOUNDS = {"q8_0": 0.02, "f16": 0.01}
ARCHITECTURE_BOUND = 0.002  # f16 weights of float32 folders: only llama.cpp rounds
IDS = np.random.default_rng(1).integers(2, 262, 80).tolist()
MERGE = ("i", "n")  # llama.cpp loads no byte-level vocabulary without a merge
TEXTS = ["Once upon a time", "Tim's 3 dogs  didn't go.\n\nThey saw 12345 birds!", "Hé, ça va? 你好 🙂", "a  b   c", "tabs\tand\nlines "]


@pytest.fixture
def llama_cpp() -> Any:
    return pytest.importorskip("llama_cpp", reason="the oracle is llama.cpp (pip install llama-cpp-python)")


class Loaded:
    """A GGUF file in llama.cpp."""

    def __init__(self, library: Any, file: Path) -> None:
        self._model = library.Llama(str(file), n_ctx=256, n_batch=128, n_threads=1, logits_all=True, verbose=False)

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()

    def encode(self, text: str) -> list[int]:
        return list(self._model.tokenize(text.encode(), add_bos=True, special=False))

    def logits(self, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self._model.reset()
        self._model.eval(ids)
        return np.array(self._model.scores[: len(ids)])

    def greedy(self, ids: list[int]) -> Iterator[int]:
        return iter(self._model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0))


def distance(ours: Any, theirs: Any) -> float:
    return float(np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))))


def agrees(llama_cpp: Any, artifact: Path, file: Path, bound: float, lead: str) -> None:
    """Tokens, greedy text and logits of the engine and of llama.cpp; `lead`: what the prompt must begin with there."""
    engine = leanto_edge.load(artifact)
    ids = engine.tokenizer.encode("Once upon a time")
    request = GenerationRequest("Once upon a time", task="text", sampling=SamplingParams(max_tokens=40))
    answer = [token.id for token in engine.complete(request).tokens]
    with Loaded(llama_cpp, file) as theirs:
        for text in TEXTS:
            assert theirs.encode(lead + text) == engine.tokenizer.encode(text)
        made = theirs.greedy(ids)
        assert [next(made) for _ in answer] == answer
        assert distance(theirs.logits(ids + answer), engine.logits(ids + answer)) < bound


@pytest.mark.parametrize("type", ["q8_0", "f16"])
def test_the_shipped_model_says_the_same_in_llama_cpp(type: Any, llama_cpp: Any, tmp_path: Path) -> None:
    found = export_gguf(leanto_edge.embedded(), tmp_path / "pocket.gguf", type)
    assert found.stored_bytes == (tmp_path / "pocket.gguf").stat().st_size
    assert found.notes == ("the tokenizer puts a space in front of each text, llama.cpp does not: begin prompts with one",)
    agrees(llama_cpp, leanto_edge.embedded(), found.path, BOUNDS[type], lead=" ")


@pytest.mark.parametrize("type", ["q8_0", "f16"])
def test_a_model_with_a_sentencepiece_vocabulary_does(type: Any, llama_cpp: Any, stories260k: Path, tmp_path: Path) -> None:
    found = export_gguf(stories260k, tmp_path / "stories.gguf", type)
    assert found.notes == ()
    agrees(llama_cpp, stories260k, found.path, BOUNDS[type], lead="")


SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
SPLITS: dict[str, tuple[list[dict[str, Any]], bool]] = {  # what comes before the bytes, and whether whole words need no merges
    "gpt-2": ([], False),
    "smollm": ([{"type": "Digits", "individual_digits": True}], False),
    "llama-bpe": ([{"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}], True),
    "smaug-bpe": ([{"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}], False),
    "qwen2": ([{"type": "Split", "pattern": {"Regex": SPLIT.replace("{1,3}", "")}, "behavior": "Isolated", "invert": False}], False),
}


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_into_words_is_that_of_llama_cpp(name: str, llama_cpp: Any, tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain", {**CONFIG, "vocab_size": 3072, "bos_token_id": 1, "eos_token_id": 2})
    content = json.loads((leanto_edge.embedded() / "tokenizer.json").read_text())
    steps, ignore_merges = SPLITS[name]
    last = {**BYTE_LEVEL, "use_regex": not any(step["type"] == "Split" for step in steps)}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, last]}
    content["model"]["ignore_merges"] = ignore_merges
    content["model"]["vocab"]["Ġunmergeable"] = content["model"]["vocab"].pop("Ġwatching")
    content["model"]["merges"] = [merge for merge in content["model"]["merges"] if "".join(merge) != "Ġwatching"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    file = export_gguf(folder, tmp_path / "model.gguf").path
    assert gguf.GGUFReader(file).get_field("tokenizer.ggml.pre").contents() == name
    ours = leanto_edge.load(folder).tokenizer
    texts = [*TEXTS, "It is unmergeable", "WE'RE 1234567 x2y  \n\n z!!\r\n"]
    with Loaded(llama_cpp, file) as theirs:
        for text in texts:
            assert theirs.encode(text) == ours.encode(text), text


def with_a_merge(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["".join(MERGE)] = 258
    content["model"]["merges"] = [list(MERGE)]
    (folder / "tokenizer.json").write_text(json.dumps(content))


try:
    from architectures import ARCHITECTURES, tiny_config, write_teacher
except ModuleNotFoundError:  # torch and transformers write the teachers
    ARCHITECTURES = {}


def teacher(path: Path, name: str, **change: Any) -> Path:
    write_teacher(path, {**tiny_config(name), **change})
    with_a_merge(path)
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_the_same_logits_in_llama_cpp(name: str, llama_cpp: Any, tmp_path: Path) -> None:
    # llama.cpp takes a long form by the size of the context, a multiple of 256, not by what is in it
    longer = {"original_max_position_embeddings": 256, "max_position_embeddings": 512} if name.endswith("short") else {}
    file = export_gguf(teacher(tmp_path / "teacher", name, **longer), tmp_path / "model.gguf", "f16").path
    engine = leanto_edge.load(tmp_path / "teacher")
    windows = [layer.window for layer in engine.shape.layers if layer.window and "gemma" not in name]
    length = min([len(IDS), *windows])  # llama.cpp keeps to the window only in Gemma
    with Loaded(llama_cpp, file) as theirs:
        assert distance(theirs.logits(IDS[:length]), engine.logits(IDS[:length])) < ARCHITECTURE_BOUND


def test_a_window_bounds_the_context(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="writes the teacher")
    found = export_gguf(teacher(tmp_path / "teacher", "mistral"), tmp_path / "model.gguf")
    assert found.notes == ("the context is 7 tokens, what a layer sees at once, instead of 256",)
    assert gguf.GGUFReader(found.path).get_field("llama.context_length").contents() == 7


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("qwen3", {"attention_bias": True}, "biases in qwen3"),
        ("qwen3", {"hidden_act": "gelu_pytorch_tanh"}, "the activation gelu"),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1]}, "every fourth"),
        ("gemma2", {"layer_types": ["full_attention"] * 4}, "do not alternate"),
        ("gemma3", {"layer_types": ["full_attention", "sliding_attention"] * 2}, "without a period"),
        ("qwen2", {"rope_parameters": ARCHITECTURES.get("llama 3", {}).get("rope_parameters")}, "rope_type in qwen2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_llama_cpp_would_run_differently_is_refused(name: str, change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="writes the teacher")
    with pytest.raises(UnsupportedModelError, match=reason):
        export_gguf(teacher(tmp_path / "teacher", name, **change), tmp_path / "model.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_matrices_are_q8_0_where_their_rows_allow_it_and_f16_elsewhere(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain")  # down_proj has rows of 172 numbers
    with_a_merge(folder)
    found = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(export_gguf(folder, tmp_path / "m.gguf").path).tensors}
    assert found["blk.0.attn_q.weight"] == found["token_embd.weight"] == "Q8_0"
    assert found["blk.0.ffn_down.weight"] == "F16"
    assert found["blk.0.attn_norm.weight"] == "F32"
    assert "output.weight" not in found  # a tied head


def test_the_file_tells_what_ends_a_text(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain", {**CONFIG, "eos_token_id": [1, 200]})
    with_a_merge(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False, "chat_template": "{{ messages }}"}))
    reader = gguf.GGUFReader(export_gguf(folder, tmp_path / "m.gguf").path)
    keys = ("bos_token_id", "eos_token_id", "eot_token_id", "add_bos_token", "chat_template", "pre")
    values = [reader.get_field(f"tokenizer.{'' if key == 'chat_template' else 'ggml.'}{key}").contents() for key in keys]
    assert values == [0, 1, 200, False, "{{ messages }}", "gpt-2"]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_text("mine")
    with pytest.raises(ArtifactError, match="already exists"):
        export_gguf(leanto_edge.embedded(), tmp_path / "m.gguf")
    assert (tmp_path / "m.gguf").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be written"):
        export_gguf(leanto_edge.embedded(), tmp_path / "absent" / "m.gguf")


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(DependencyError, match=r"leanto\[gguf\]"):
        export_gguf(leanto_edge.embedded(), tmp_path / "m.gguf")
