from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts import CONFIG, byte_tokenizer, dense_weights, random_matrices, random_tensors, write_plain, write_tiny
from leanto_edge import AdapterError, ArtifactError, UnsupportedModelError
from leanto_edge.adapter import read_adapter
from leanto_edge.artifact import annotate_artifact, read_artifact, write_artifact
from leanto_edge.artifact.manifest import build_hash_of, fingerprint

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound artifact that no test may change."""
    return write_tiny(tmp_path_factory.mktemp("artifact") / "tiny", rank=3).path


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return Path(shutil.copytree(sound, tmp_path / "copied"))


def edit_json(file: Path, edit: Edit) -> None:
    value = json.loads(file.read_bytes())
    edit(value)
    file.write_text(json.dumps(value))


def rehash(path: Path) -> None:
    """Make the manifest agree with the files again, as an attacker would."""

    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"] = {name: fingerprint(path / name) for name in manifest["files"]}
        manifest["build_hash"] = build_hash_of(manifest["files"])
        manifest["stored_bytes"] = sum(entry["bytes"] for entry in manifest["files"].values())
        manifest["bits_per_weight"] = 8 * manifest["files"]["model.safetensors"]["bytes"] / manifest["parameters"]

    edit_json(path / "leanto.json", edit)


def refusal(path: Path) -> str:
    """The one line with which the artifact is refused."""
    with pytest.raises(ArtifactError) as caught:
        read_artifact(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    matrices = random_matrices("trellis", 3, rank=2)
    tensors = random_tensors(matrices)
    written = write_artifact(tmp_path / "a", CONFIG, matrices, tensors, {"tokenizer.json": byte_tokenizer()}, {"profile": "trellis-3"})
    read = read_artifact(tmp_path / "a")
    assert read.build_hash == written.build_hash
    assert {name: matrix.as_dict() for name, matrix in matrices.items()} == read.matrices
    assert set(read.tensors) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read.tensors[name], tensor)
    assert read.manifest["profile"] == "trellis-3"
    assert read.has("tokenizer.json")
    assert not read.has("calls.json")


@pytest.mark.parametrize(("kind", "bits"), [("trellis", 1), ("trellis", 4), ("int8", 8)])
def test_every_kind_of_matrix_is_read_back(tmp_path: Path, kind: str, bits: int) -> None:
    assert write_tiny(tmp_path / "a", kind, bits).matrices["model.layers.0.mlp.up_proj"]["kind"] == kind


def test_the_weights_are_mapped_and_cannot_be_written(sound: Path) -> None:
    tensor = read_artifact(sound).tensors["model.embed_tokens.codes"]
    assert not tensor.flags.owndata
    assert not tensor.flags.writeable


def test_stored_bytes_count_every_listed_file(sound: Path) -> None:
    artifact = read_artifact(sound)
    assert artifact.manifest["stored_bytes"] == sum((sound / name).stat().st_size for name in artifact.manifest["files"])
    bits = 8 * (sound / "model.safetensors").stat().st_size / artifact.manifest["parameters"]
    assert artifact.manifest["bits_per_weight"] == pytest.approx(bits)


def test_a_plain_hugging_face_folder_reads_as_dense_float32(tmp_path: Path) -> None:
    artifact = read_artifact(write_plain(tmp_path / "plain"))
    assert {matrix["kind"] for matrix in artifact.matrices.values()} == {"dense"}
    for name, weight in dense_weights().items():
        np.testing.assert_array_equal(artifact.tensors[name], weight)
    assert artifact.manifest["parameters"] == sum(weight.size for weight in dense_weights().values())


def test_half_precision_weights_of_a_plain_folder_are_widened(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "plain")
    wide = dense_weights()
    halves = {name: weight.astype(np.float16) for name, weight in wide.items()}
    brains = {name: (weight.view(np.uint32) >> 16).astype(np.uint16) for name, weight in wide.items()}
    for dtype, stored in (("F16", halves), ("BF16", brains)):
        (path / "model.safetensors").write_bytes(safetensors_bytes({name: (dtype, tensor) for name, tensor in stored.items()}))
        read = read_artifact(path).tensors
        for name, weight in wide.items():
            assert read[name].dtype == np.float32
            np.testing.assert_allclose(read[name], weight, rtol=2**-7, atol=1e-6)


def safetensors_bytes(tensors: dict[str, tuple[str, np.ndarray[Any, Any]]]) -> bytes:
    header, data = {}, b""
    for name, (dtype, tensor) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + tensor.nbytes]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_tensors_at_odd_offsets_are_read(copied: Path) -> None:
    read = read_artifact(copied)
    names = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.int8): "I8", np.dtype(np.uint8): "U8"}
    tensors = {name: (names[tensor.dtype], np.array(tensor)) for name, tensor in read.tensors.items()}
    padding = safetensors_bytes(tensors)
    size = struct.unpack("<Q", padding[:8])[0]
    (copied / "model.safetensors").write_bytes(struct.pack("<Q", size + 1) + padding[8 : 8 + size] + b" " + padding[8 + size :])
    rehash(copied)
    for name, tensor in read_artifact(copied).tensors.items():
        np.testing.assert_array_equal(tensor, tensors[name][1])


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert "not a model directory" in refusal(tmp_path / "nowhere")


def test_a_path_that_the_system_refuses_to_look_at_is_refused(copied: Path) -> None:
    endless = Path("x" * 5000)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_artifact(endless)
    with pytest.raises(AdapterError, match="is not a file"):
        read_adapter(endless, read_artifact(copied))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_refused(copied: Path, name: str) -> None:
    (copied / name).unlink()
    assert name in refusal(copied)


def test_a_directory_in_a_files_place_is_refused(copied: Path) -> None:
    (copied / "tokenizer.json").unlink()
    (copied / "tokenizer.json").mkdir()
    assert "not a plain file" in refusal(copied)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_any_listed_file_is_refused(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    damaged = Path(shutil.copytree(sound, tmp_path / "damaged", dirs_exist_ok=True))
    name = data.draw(st.sampled_from(sorted(json.loads((sound / "leanto.json").read_bytes())["files"])))
    content = bytearray((sound / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (damaged / name).write_bytes(content)
    assert "SHA-256" in refusal(damaged)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), attacker=st.booleans())
def test_a_weight_file_cut_at_any_byte_is_refused(sound: Path, tmp_path: Path, share: float, attacker: bool) -> None:
    damaged = Path(shutil.copytree(sound, tmp_path / "damaged", dirs_exist_ok=True))
    content = (sound / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: int(share * len(content))])
    if attacker:
        rehash(damaged)
    assert "model.safetensors" in refusal(damaged)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 2**64 - 1) | st.integers(0, 20_000))
def test_a_header_length_that_lies_is_refused(sound: Path, tmp_path: Path, length: int) -> None:
    damaged = Path(shutil.copytree(sound, tmp_path / "damaged", dirs_exist_ok=True))
    content = (sound / "model.safetensors").read_bytes()
    if length != struct.unpack("<Q", content[:8])[0]:
        (damaged / "model.safetensors").write_bytes(struct.pack("<Q", length) + content[8:])
        rehash(damaged)
        assert "model.safetensors" in refusal(damaged)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_as_manifest_are_refused(sound: Path, tmp_path: Path, content: bytes) -> None:
    damaged = Path(shutil.copytree(sound, tmp_path / "damaged", dirs_exist_ok=True))
    (damaged / "leanto.json").write_bytes(content)
    refusal(damaged)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "", "leanto.json", "a\\b", "a\nb", "x" * 200])
def test_a_file_name_that_leaves_the_directory_is_refused(copied: Path, name: str) -> None:
    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"][name] = manifest["files"]["config.json"]

    edit_json(copied / "leanto.json", edit)
    assert "may not be part" in refusal(copied)
    with pytest.raises(ArtifactError, match="may not be part"):
        write_artifact(copied.parent / "new", CONFIG, random_matrices(), random_tensors(random_matrices()), {name: b""}, {})
    assert not (copied.parent / "new").exists()


MANIFEST_EDITS: dict[str, Edit] = {
    "has format 2": lambda m: m.update(format=2),
    "has format None": lambda m: m.pop("format"),
    "no usable 'build_hash'": lambda m: m.update(build_hash=None),
    "no usable 'stored_bytes'": lambda m: m.update(stored_bytes=True),
    "has parameters -5": lambda m: m.update(parameters=-5),
    "has stored_bytes 1,": lambda m: m.update(stored_bytes=1),
    "has bits_per_weight nan": lambda m: m.update(bits_per_weight=float("nan")),
    "no usable 'confidence'": lambda m: m.update(confidence=[1]),
    "no usable 'quality'": lambda m: m.update(quality=None),
    "has no usable 'quality'": lambda m: m.update(quality={"fit": "no"}),
    "not one printable line": lambda m: m.update(name="two\nlines"),
    "build hash that does not match": lambda m: m.update(build_hash="0" * 64),
    "no usable 'files'": lambda m: m.update(files=["config.json"]),
    "no usable 'parameters'": lambda m: m.update(parameters="many"),
    "does not list tokenizer.json": lambda m: m["files"].pop("tokenizer.json"),
    "does not describe config.json": lambda m: m["files"].update({"config.json": 7}),
    "instead of 1152921504606846976": lambda m: m["files"]["config.json"].update(bytes=1 << 60),
    "is missing": lambda m: m["files"].update({"extra.json": m["files"]["config.json"]}),
}


@pytest.mark.parametrize("reason", MANIFEST_EDITS)
def test_a_manifest_that_makes_no_sense_is_refused(copied: Path, reason: str) -> None:
    edit_json(copied / "leanto.json", MANIFEST_EDITS[reason])
    assert reason in refusal(copied)


def _query(config: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = config["quantization_config"]["matrices"]["model.layers.1.self_attn.q_proj"]
    return entry


CONFIG_EDITS: dict[str, Edit] = {
    "reads 'leanto'": lambda c: c["quantization_config"].update(quant_method="gptq"),
    "quant_method None": lambda c: c.pop("quantization_config"),
    "has format 9": lambda c: c["quantization_config"].update(format=9),
    "has block 128": lambda c: c["quantization_config"].update(block=128),
    "describes no matrices": lambda c: c["quantization_config"].update(matrices=None),
    "is missing": lambda c: c["quantization_config"]["matrices"].pop("model.layers.1.self_attn.q_proj"),
    "is not a matrix of this model": lambda c: c["quantization_config"]["matrices"].update({"zzz": _query(c)}),
    "5 bits of kind": lambda c: _query(c).update(bits=5),
    "of kind 'pickle'": lambda c: _query(c).update(kind="pickle"),
    "a key is unknown": lambda c: _query(c).update(code="import os"),
    "the model needs 64x64": lambda c: _query(c).update(rows=72),
    "a size is out of range": lambda c: _query(c).update(rows=1 << 40),
    "a seed is not in": lambda c: _query(c).update(in_seed=1 << 63),
    "not an integer": lambda c: _query(c).update(rank=True),
    "must share in_seed": lambda c: _query(c).update(in_seed=8),
    "must not be rotated": lambda c: c["quantization_config"]["matrices"]["model.embed_tokens"].update(out_seed=5),
    "lacks the tensor": lambda c: c["quantization_config"]["matrices"]["model.embed_tokens"].update(kind="dense", bits=32, in_seed=0),
    "instead of U8": lambda c: _query(c).update(bits=4),
    "unknown tensor": lambda c: _query(c).update(rank=0),
    "model_type is 'mamba'": lambda c: c.update(model_type="mamba"),
}


@pytest.mark.parametrize("reason", CONFIG_EDITS)
def test_a_config_that_does_not_fit_is_refused_even_with_matching_hashes(copied: Path, reason: str) -> None:
    edit_json(copied / "config.json", CONFIG_EDITS[reason])
    rehash(copied)
    assert reason in refusal(copied)


@pytest.mark.parametrize("reason", ["reads 'leanto'", "model_type is 'mamba'"])
def test_what_this_engine_does_not_run_is_told_from_damage(copied: Path, reason: str) -> None:
    edit_json(copied / "config.json", CONFIG_EDITS[reason])
    rehash(copied)
    with pytest.raises(UnsupportedModelError):
        read_artifact(copied)


def test_a_deeply_nested_config_is_refused(copied: Path) -> None:
    (copied / "config.json").write_text("[" * 100_000)
    rehash(copied)
    assert "not readable JSON" in refusal(copied)


def test_a_huge_config_is_refused_unread(copied: Path) -> None:
    with (copied / "config.json").open("r+b") as file:
        file.truncate(17 << 20)
    rehash(copied)
    assert "larger than 16 MiB" in refusal(copied)


def test_a_scale_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    matrices = random_matrices()
    tensors = random_tensors(matrices)
    tensors["model.embed_tokens.scales"][3] = np.inf
    with pytest.raises(ArtifactError, match="not finite"):
        write_artifact(tmp_path / "a", CONFIG, matrices, tensors, {"tokenizer.json": byte_tokenizer()}, {})


def test_tables_that_overflow_are_refused(tmp_path: Path) -> None:
    matrices = random_matrices()
    tensors = random_tensors(matrices)
    tensors["model.embed_tokens.tables"] = np.full((2, 16), 100, np.int8)
    with pytest.raises(ArtifactError, match="leave"):
        write_artifact(tmp_path / "a", CONFIG, matrices, tensors, {"tokenizer.json": byte_tokenizer()}, {})


def test_factor_tables_that_overflow_are_refused(tmp_path: Path) -> None:
    specs = {name: replace(spec, rank=8, factor_bits=4) for name, spec in random_matrices().items()}
    tensors = random_tensors(specs)
    tensors["model.layers.1.mlp.up_proj.factor_tables"] = np.full((2, 16), 100, np.int8)
    with pytest.raises(ArtifactError, match=r"up_proj\.factor_tables whose sums leave"):
        write_artifact(tmp_path / "a", CONFIG, specs, tensors, {"tokenizer.json": byte_tokenizer()}, {})


@pytest.mark.parametrize(
    "sizes", [{"num_attention_heads": 1 << 20, "head_dim": 64}, {"intermediate_size": 1 << 23}, {"vocab_size": 1 << 24}]
)
def test_a_plain_folder_with_a_matrix_wider_than_any_is_refused(tmp_path: Path, sizes: dict[str, int]) -> None:
    path = write_plain(tmp_path / "plain")
    (path / "config.json").write_text(json.dumps({**CONFIG, **sizes}))
    assert "a size is out of range" in refusal(path)


@pytest.mark.parametrize("name", ["two\nlines", "x" * 5000, "\x1b[2J"])
def test_a_refusal_is_one_short_line_whatever_the_file_says(copied: Path, name: str) -> None:
    edit_json(copied / "config.json", lambda config: config["quantization_config"]["matrices"].update({name: _query(config)}))
    rehash(copied)
    line = refusal(copied)
    assert line.isprintable()
    assert "is not a matrix of this model" in line or "…" in line
    assert line.endswith("fetch the artifact again")


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        write_artifact(tmp_path / "a", CONFIG, random_matrices(), random_tensors(random_matrices()), {}, {})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_place_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ArtifactError, match="already exists"):
        write_tiny(tmp_path / "a")


def test_an_annotation_keeps_the_build_hash(copied: Path) -> None:
    before = read_artifact(copied)
    annotate_artifact(copied, confidence={"call": {"threshold": 0.5}})
    after = read_artifact(copied)
    assert after.build_hash == before.build_hash
    assert after.manifest["confidence"] == {"call": {"threshold": 0.5}}
    with pytest.raises(ValueError, match="build_hash"):
        annotate_artifact(copied, build_hash="0" * 64)


def test_a_plain_folder_of_another_quantizer_is_refused(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "plain", {**CONFIG, "quantization_config": {"quant_method": "awq"}})
    assert "quantized by another tool" in refusal(path)


def test_a_plain_folder_with_split_weights_is_refused(tmp_path: Path) -> None:
    path = write_plain(tmp_path / "plain")
    (path / "model.safetensors.index.json").write_text("{}")
    assert "several weight files" in refusal(path)
