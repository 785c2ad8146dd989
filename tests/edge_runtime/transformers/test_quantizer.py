"""An artifact in transformers: the same logits as everywhere else, and back to files bit for bit."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="loads artifacts with transformers")
transformers = pytest.importorskip("transformers", reason="loads artifacts with transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

import leanto_edge  # noqa: E402
import leanto_edge.transformers  # noqa: E402
from architectures import ARCHITECTURES, mixed_specs, tiny_config, write_compressed, write_teacher  # noqa: E402
from leanto_edge import ArtifactError, DependencyError, UnsupportedModelError  # noqa: E402
from leanto_edge.artifact.architecture import ModelShape  # noqa: E402
from leanto_edge.artifact.layout import EMBEDDING, MatrixSpec  # noqa: E402
from leanto_edge.artifact.tensor_file import write_tensors  # noqa: E402
from leanto_edge.compress import dequantized_model  # noqa: E402
from leanto_edge.transformers import check_version, save_artifact  # noqa: E402

DENSE_BOUND = 1e-6  # against the dequantized model, relative to the largest logit: the same weights, the same operations
ENGINE_BOUND = 0.03  # int8 activations against float32: root mean square of the difference over that of the logits
BFLOAT16_BOUND = 0.1  # 8 bits of mantissa in every weight and activation of a few layers of random weights
IDS = np.random.default_rng(2).integers(2, 262, 48).astype(np.int32)


@pytest.fixture(autouse=True, scope="module")
def _no_bars() -> None:
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The compressed teacher of one name of ARCHITECTURES, made when first asked for."""

    @functools.cache
    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp("model")
        write_teacher(folder / "teacher", tiny_config(name))
        return write_compressed(folder / "teacher", folder / "out").path

    return make


def loaded(path: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True, **options)


def logits_of(model: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(IDS[None].astype(np.int64))).logits[0].float())


def distance(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.mean(np.square(ours - theirs)) / np.mean(np.square(theirs))))


def same_tensors(first: Path, second: Path) -> bool:
    a, b = (load_file(path / "model.safetensors") for path in (first, second))
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_are_those_of_the_dequantized_model_and_near_the_engines(name: str, artifacts: Callable[[str], Path]) -> None:
    path = artifacts(name)
    model, info = loaded(path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ours, dense = logits_of(model), logits_of(dequantized_model(path))
    assert np.abs(ours - dense).max() <= DENSE_BOUND * np.abs(dense).max()
    assert distance(leanto_edge.load(path).logits(IDS), ours) < ENGINE_BOUND


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saving_what_was_loaded_and_used_gives_the_same_tensors(name: str, artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    model = loaded(artifacts(name))
    model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
    model.save_pretrained(tmp_path / "once")
    assert same_tensors(artifacts(name), tmp_path / "once")
    again = loaded(tmp_path / "once")
    np.testing.assert_array_equal(logits_of(again), logits_of(model))
    again.save_pretrained(tmp_path / "twice")
    assert same_tensors(tmp_path / "once", tmp_path / "twice")


@pytest.mark.parametrize("name", ["llama with biases", "qwen2", "phi3", "gemma3"])
def test_bfloat16_changes_norms_and_biases_but_no_stored_scale(name: str, artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    model = loaded(artifacts(name), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert distance(logits_of(model), logits_of(loaded(artifacts(name)))) < BFLOAT16_BOUND
    model.save_pretrained(tmp_path / "once")
    before, after = load_file(artifacts(name) / "model.safetensors"), load_file(tmp_path / "once" / "model.safetensors")
    stored = [key for key in before if not key.endswith((".weight", ".bias"))]
    assert any(before[key].dtype == torch.float16 for key in stored)
    assert all(before[key].dtype == after[key].dtype and torch.equal(before[key], after[key]) for key in stored)
    again = loaded(tmp_path / "once")
    assert again.dtype == torch.bfloat16  # the config remembers
    again.save_pretrained(tmp_path / "twice")
    assert same_tensors(tmp_path / "once", tmp_path / "twice")


def test_a_cast_later_on_leaves_the_stored_scales_alone(artifacts: Callable[[str], Path]) -> None:
    model = loaded(artifacts("llama"))
    scales = model.lm_head.scales.clone()
    assert scales.dtype == torch.float16
    model.to(torch.bfloat16).to(torch.float32)
    assert model.lm_head.scales.dtype == torch.float16
    assert torch.equal(model.lm_head.scales, scales)
    assert model.lm_head.weight.dtype == torch.float32


def test_tensors_put_in_later_count(artifacts: Callable[[str], Path]) -> None:
    model = loaded(artifacts("llama"))
    before = logits_of(model)
    state = {name: tensor * 2 if name == "lm_head.scales" else tensor for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)
    np.testing.assert_allclose(logits_of(model), 2 * before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_saved_artifact_is_one_for_the_engine_too(name: str, artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    path = artifacts(name)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    save_artifact(loaded(path), tokenizer, tmp_path / "out", profile="best")
    assert same_tensors(path, tmp_path / "out")
    np.testing.assert_array_equal(leanto_edge.load(tmp_path / "out").logits(IDS), leanto_edge.load(path).logits(IDS))
    np.testing.assert_array_equal(logits_of(loaded(tmp_path / "out")), logits_of(loaded(path)))


def test_the_shipped_model_goes_through_transformers_whole(tmp_path: Path) -> None:
    path = leanto_edge.embedded()
    calls = {"calls.json": (path / "calls.json").read_bytes()}
    save_artifact(loaded(path), transformers.AutoTokenizer.from_pretrained(path), tmp_path / "out", files=calls, profile="best")
    request = leanto_edge.GenerationRequest("wake me at seven", task="call")
    assert leanto_edge.load(tmp_path / "out").complete(request) == leanto_edge.load(path).complete(request)


def test_a_folder_of_save_pretrained_says_what_the_engine_misses(artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    loaded(artifacts("llama")).save_pretrained(tmp_path)
    shutil.copy(artifacts("llama") / "tokenizer.json", tmp_path)
    with pytest.raises(ArtifactError, match=r"lacks leanto\.json; write it with leanto_edge\.transformers\.save_artifact"):
        leanto_edge.load(tmp_path)


def test_a_model_from_elsewhere_cannot_be_saved_as_an_artifact(artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not loaded from an artifact"):
        save_artifact(dequantized_model(artifacts("llama")), None, tmp_path / "out")


def test_every_way_to_store_a_matrix_loads(artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    teacher = artifacts("llama").parent / "teacher"
    shape = ModelShape.from_config(teacher, json.loads((teacher / "config.json").read_text()))
    forms = [
        ("trellis", 3, 8, 4),
        ("additive", 2, 3, 8),
        ("scalar", 4, 2, 16),
        ("int8", 8, 0, 16),
        ("trellis", 1, 0, 16),
        ("dense", 32, 0, 16),
    ]
    specs = {}
    for index, (name, spec) in enumerate(mixed_specs(shape).items()):
        kind, bits, rank, factor_bits = forms[index % len(forms)]
        plain = {"in_seed": 0, "out_seed": 0} if kind == "dense" or "_proj" in name else {}
        specs[name] = replace(spec, kind=kind, bits=bits, rank=rank, factor_bits=factor_bits, **plain)  # type: ignore[arg-type]
    path = write_compressed(teacher, tmp_path / "out", specs).path
    ours, dense = logits_of(loaded(path)), logits_of(dequantized_model(path))
    assert np.abs(ours - dense).max() <= DENSE_BOUND * np.abs(dense).max()
    loaded(path).save_pretrained(tmp_path / "again")
    assert same_tensors(path, tmp_path / "again")


def test_a_dense_tied_embedding_stays_tied(artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    teacher = artifacts("qwen2").parent / "teacher"
    shape = ModelShape.from_config(teacher, json.loads((teacher / "config.json").read_text()))
    specs = mixed_specs(shape)
    specs[EMBEDDING] = MatrixSpec("dense", 32, specs[EMBEDDING].rows, specs[EMBEDDING].cols)
    path = write_compressed(teacher, tmp_path / "out", specs).path
    model = loaded(path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    np.testing.assert_array_equal(logits_of(model), logits_of(dequantized_model(path)))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    save_artifact(model, tokenizer, tmp_path / "again")
    assert same_tensors(path, tmp_path / "again")


def test_the_model_without_its_head_loads(artifacts: Callable[[str], Path]) -> None:
    for name in ("llama", "qwen2"):
        body = transformers.AutoModel.from_pretrained(artifacts(name))
        whole = loaded(artifacts(name))
        ids = torch.from_numpy(IDS[None].astype(np.int64))
        with torch.no_grad():
            assert torch.equal(body(ids).last_hidden_state, whole.model(ids).last_hidden_state)


def test_a_copy_is_a_model_of_its_own(artifacts: Callable[[str], Path]) -> None:
    model = loaded(artifacts("qwen2"))
    twin = copy.deepcopy(model)
    before = logits_of(model)
    twin.model.embed_tokens.load_state_dict({key: value * 0 for key, value in twin.model.embed_tokens.state_dict().items()})
    assert not logits_of(twin).any()  # the tied head is the copy's own embedding
    np.testing.assert_array_equal(logits_of(model), before)


def test_greedy_text_of_the_shipped_model_is_the_engines() -> None:
    engine, model = leanto_edge.load(leanto_edge.embedded()), loaded(leanto_edge.embedded())
    prompt = engine.tokenizer.encode("Once upon a time")
    made = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0].tolist()
    request = leanto_edge.GenerationRequest("Once upon a time", sampling=leanto_edge.SamplingParams(max_tokens=24), task="text")
    assert made == prompt + [token.id for token in engine.complete(request).tokens]


def test_codes_do_not_learn(artifacts: Callable[[str], Path]) -> None:
    model = loaded(artifacts("llama"))
    assert model.hf_quantizer.is_trainable is False
    with pytest.raises(UnsupportedModelError, match="dequantized_model"):
        model.dequantize()


def test_a_damaged_artifact_is_refused(artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    path = Path(shutil.copytree(artifacts("llama"), tmp_path / "copy"))
    tensors = load_file(path / "model.safetensors")
    doubled = {**tensors, "lm_head.scales": tensors["lm_head.scales"] * 2}
    write_tensors(path / "model.safetensors", {name: tensor.numpy().copy() for name, tensor in doubled.items()})
    with pytest.raises(ArtifactError, match="does not match its SHA-256"):
        loaded(path)
    (path / "leanto.json").unlink()
    loaded(path)  # nothing says that it was changed
    save_file({name: tensor for name, tensor in tensors.items() if name != "lm_head.scales"}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=r"lacks the tensor lm_head\.scales"):
        loaded(path)


def test_weights_in_several_files_are_refused(artifacts: Callable[[str], Path], tmp_path: Path) -> None:
    loaded(artifacts("llama")).save_pretrained(tmp_path, max_shard_size="20KB")
    with pytest.raises(UnsupportedModelError, match=r"not one \.safetensors file"):
        loaded(tmp_path)


def test_an_old_transformers_is_refused() -> None:
    check_version("5.23.0")
    with pytest.raises(DependencyError, match=r"transformers 4\.57\.1 is too old"):
        check_version("4.57.1")


def test_weights_left_on_disk_are_refused() -> None:
    quantizer = leanto_edge.transformers.quantizer.LeantoHfQuantizer(leanto_edge.transformers.quantizer.LeantoConfig({}))
    quantizer.validate_environment(device_map={"": "cuda"})
    quantizer.validate_environment(device_map=None)
    with pytest.raises(DependencyError, match="disk"):
        quantizer.validate_environment(device_map={"model": "cpu", "lm_head": "disk"})


def test_the_engine_alone_imports_neither_torch_nor_transformers() -> None:
    code = """
import sys, leanto_edge.artifact.weight, leanto_edge.export.gguf
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "gguf", "optimum")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
