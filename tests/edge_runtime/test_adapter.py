"""An adapter: what is written is what is read, it fits its own base alone, and damage of any kind is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors import safe_open
from safetensors.numpy import save_file

import leanto_edge
from artifacts import write_plain, write_tiny
from leanto_edge import AdapterError, Engine, GenerationRequest, SamplingParams
from leanto_edge.adapted import adapted, even_halves
from leanto_edge.adapter import METADATA, Adapter, Halves, NewCalls, _content_hash, largest_ranks, read_adapter, write_adapter
from leanto_edge.artifact import Artifact, read_artifact

ROUNDING = 0.005  # a sum in another order may round an int8 activation the other way
IDS = [0, 66, 67, 68, 69, 70, 71, 72]
DOWN = "model.layers.1.mlp.down_proj"


def random_factors(artifact: Artifact, rank: int = 3, size: float = 0.3) -> dict[str, tuple[Halves, Halves]]:
    random = np.random.default_rng(5)
    found = {}
    for module in largest_ranks(artifact):
        rows, cols = artifact.matrices[module]["rows"], artifact.matrices[module]["cols"]
        left, right = random.standard_normal((rows, rank)) * size, random.standard_normal((rank, cols)) * cols**-0.5
        found[module] = (left.astype(np.float16), right.astype(np.float16))
    return found


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return write_tiny(tmp_path / "base", rank=2, confidence={"text": {"threshold": 0.5}}, certificates=[{"alpha": 0.1}])


@pytest.fixture
def file(base: Artifact, tmp_path: Path) -> Path:
    write_adapter(tmp_path / "a.adapter", base, random_factors(base), training={"minutes": 1})
    return tmp_path / "a.adapter"


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None], *, sign: bool = True) -> Path:
    """The same adapter after `change(description, tensors)`, with the hash of its new content if `sign`."""
    with safe_open(path, framework="numpy") as file:
        description: dict[str, Any] = json.loads(file.metadata()[METADATA])
        tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    change(description, tensors)
    if sign:
        description.pop("sha256", None)
        description["sha256"] = _content_hash(description, tensors)
    save_file(tensors, path, {METADATA: json.dumps(description)})
    return path


def test_what_is_written_is_what_is_read(base: Artifact, file: Path) -> None:
    found = read_adapter(file, base)
    wanted = random_factors(base)
    assert found.base == base.build_hash
    assert (found.training, found.calls, found.confidence) == ({"minutes": 1}, NewCalls(), {})
    assert found.stored_bytes == file.stat().st_size
    assert set(found.factors) == set(wanted)
    for module, pair in wanted.items():
        for ours, theirs in zip(found.factors[module], pair, strict=True):
            assert np.array_equal(ours, theirs)


def test_the_embedding_is_not_adapted(base: Artifact) -> None:
    assert not [module for module in largest_ranks(base) if "layers" not in module]


def test_an_adapter_changes_the_answers_and_without_it_the_base_is_back_to_the_bit(base: Artifact, file: Path) -> None:
    before = leanto_edge.load(base.path).logits(IDS)
    with_it = leanto_edge.load(base.path, adapter=file).logits(IDS)
    assert np.abs(with_it - before).max() > 1e-3
    file.unlink()
    assert np.array_equal(leanto_edge.load(base.path).logits(IDS), before)


def test_an_adapter_of_zeros_changes_next_to_nothing(base: Artifact, tmp_path: Path) -> None:
    factors = {module: (left * np.float16(0), right) for module, (left, right) in random_factors(base).items()}
    write_adapter(tmp_path / "zero", base, factors, training={})
    before, after = leanto_edge.load(base.path).logits(IDS), leanto_edge.load(base.path, adapter=tmp_path / "zero").logits(IDS)
    assert np.sqrt(np.mean(np.square(after - before))) <= ROUNDING * np.sqrt(np.mean(np.square(before)))


def test_with_an_adapter_nothing_that_was_measured_on_the_base_is_claimed(base: Artifact, file: Path) -> None:
    plain, changed = leanto_edge.load(base.path).info, leanto_edge.load(base.path, adapter=file).info
    assert plain.adapter is None
    assert plain.confidence == {"text": {"threshold": 0.5}}
    assert changed.adapter == read_adapter(file, base).sha256
    assert changed.confidence == {}
    assert changed.build_hash != plain.build_hash
    assert changed.stored_bytes == plain.stored_bytes + file.stat().st_size
    assert adapted(base, read_adapter(file, base)).manifest["certificates"] == []


def test_an_adapter_may_bring_its_own_calibration(base: Artifact, tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", base, random_factors(base), training={}, confidence={"text": {"threshold": 0.9}})
    assert leanto_edge.load(base.path, adapter=tmp_path / "a").info.confidence == {"text": {"threshold": 0.9}}


def test_it_runs_on_a_plain_folder_too(tmp_path: Path) -> None:
    base = read_artifact(write_plain(tmp_path / "plain"))
    write_adapter(tmp_path / "a", base, random_factors(base), training={})
    assert np.isfinite(leanto_edge.load(base.path, adapter=tmp_path / "a").logits(IDS)).all()


def test_another_base_is_refused(file: Path, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "other", rank=0)
    with pytest.raises(AdapterError, match="belongs to the model of build") as caught:
        leanto_edge.load(other.path, adapter=file)
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten(base: Artifact, file: Path) -> None:
    with pytest.raises(AdapterError, match="already exists"):
        write_adapter(file, base, random_factors(base), training={})


def test_what_cannot_be_read_back_is_not_left_behind(base: Artifact, tmp_path: Path) -> None:
    factors = {"model.embed_tokens": (np.zeros((264, 1), np.float16), np.zeros((1, 64), np.float16))}
    with pytest.raises(AdapterError, match="may be adapted"):
        write_adapter(tmp_path / "made" / "a", base, factors, training={})
    assert list((tmp_path / "made").iterdir()) == []


def _set(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda description, tensors: description.__setitem__(key, value)


def _tensor(name: str, make: Callable[[Any], Any]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda description, tensors: tensors.__setitem__(name, make(tensors.get(name)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("format", 2), "has format 2"),
        (_set("base", 7), "no usable 'base'"),
        (_set("base", "0" * 64), "belongs to the model of build 000000000000"),
        (_set("ranks", []), "no usable 'ranks'"),
        (_set("ranks", {}), "unknown tensor"),
        (_set("ranks", {"model.embed_tokens": 1}), "no matrix of this model"),
        (_set("ranks", {"lm_head": 1}), "no matrix of this model"),
        (_set("ranks", {"../../etc": 1}), "no matrix of this model"),
        (_set("ranks", {DOWN: 0}), "has rank 0"),
        (_set("ranks", {DOWN: 63}), "leaves room for 62"),
        (_set("ranks", {DOWN: 1 << 70}), "leaves room for 62"),
        (_set("ranks", {DOWN: 3.0}), "has rank 3.0"),
        (_set("ranks", {DOWN: 4}), r"instead of F16 \[64, 4\]"),
        (_set("calls", {"intents": [], "tokens": {}}), "no usable 'calls'"),
        (_set("calls", {"intents": {"x": "ab"}, "tokens": {}}), "describes the intent 'x' wrongly"),
        (_set("calls", {"intents": {}, "tokens": {"x": -1}}), "token that is none"),
        (_set("calls", {"intents": {"x": []}, "tokens": {"x": 9}}), "no call schema"),
        (_set("confidence", []), "no usable 'confidence'"),
        (_tensor(f"{DOWN}.left", lambda x: x.astype(np.float32)), "as F32"),
        (_tensor(f"{DOWN}.left", lambda x: np.full_like(x, np.nan)), "not finite"),
        (_tensor(f"{DOWN}.right", lambda x: np.full_like(x, np.inf)), "not finite"),
        (_tensor(f"{DOWN}.right", lambda x: x[:, :-1].copy()), "instead of F16"),
        (_tensor("model.layers.9.mlp.down_proj.left", lambda x: np.zeros((1, 1), np.float16)), "unknown tensor"),
        (lambda description, tensors: tensors.pop(f"{DOWN}.left"), "lacks the tensor"),
    ],
)
def test_what_does_not_fit_is_refused_even_if_its_hash_is_right(base: Artifact, file: Path, change: Any, says: str) -> None:
    rewrite(file, change)
    with pytest.raises(AdapterError, match=says) as caught:
        leanto_edge.load(base.path, adapter=file)
    assert "\n" not in str(caught.value)


def test_a_changed_number_is_noticed(base: Artifact, file: Path) -> None:
    rewrite(file, _tensor(f"{DOWN}.left", lambda x: x + np.float16(1)), sign=False)
    with pytest.raises(AdapterError, match="SHA-256"):
        read_adapter(file, base)


def test_a_changed_description_is_noticed(base: Artifact, file: Path) -> None:
    rewrite(file, _set("confidence", {"text": {"threshold": 0.0}}), sign=False)
    with pytest.raises(AdapterError, match="SHA-256"):
        read_adapter(file, base)


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"\xff" * 64, b"\x80\x00\x00\x00\x00\x00\x00\x00{}"])
def test_what_is_no_safetensors_file_is_refused(base: Artifact, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(AdapterError, match="truncated"):
        read_adapter(tmp_path / "x", base)


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(adapter_file: tuple[Artifact, Path], cut: float) -> None:
    base, path = adapter_file
    short = path.with_name("short")
    short.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(AdapterError, match="truncated"):
        read_adapter(short, base)


@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_harmless_padding(adapter_file: tuple[Artifact, Path], at: float, flip: int) -> None:
    base, path = adapter_file
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= flip
    other = path.with_name("other")
    other.write_bytes(content)
    try:
        found = read_adapter(other, base)
    except AdapterError:
        return
    assert found.sha256 == read_adapter(path, base).sha256


@pytest.fixture(scope="module")
def adapter_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    folder = tmp_path_factory.mktemp("adapter")
    base = write_tiny(folder / "base")
    write_adapter(folder / "a", base, {DOWN: random_factors(base, 1)[DOWN]}, training={})
    return base, folder / "a"


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {METADATA: "{"}, {METADATA: "[]"}, {METADATA: "[" * 100_000}])
def test_a_file_that_does_not_say_what_it_is_is_refused(base: Artifact, tmp_path: Path, metadata: Any) -> None:
    save_file({"x": np.zeros(1, np.float16)}, tmp_path / "x", metadata)
    with pytest.raises(AdapterError, match=r"no adapter of leanto|does not say"):
        read_adapter(tmp_path / "x", base)


@pytest.mark.parametrize("depth", [100, 300, 900, 990, 5_000, 100_000])
def test_a_deeply_nested_description_is_no_crash(base: Artifact, file: Path, depth: int) -> None:
    with safe_open(file, framework="numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
        text = opened.metadata()[METADATA]
    save_file(tensors, file, {METADATA: text[:-1] + ', "more": ' + "[" * depth + "]" * depth + "}"})
    with pytest.raises(AdapterError, match=r"SHA-256|does not say"):
        read_adapter(file, base)


def test_a_missing_file_and_a_folder_are_refused(base: Artifact, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(AdapterError, match="is not a file"):
            read_adapter(path, base)


HALVES = st.floats(-1e4, 1e4, width=16)


@given(left=arrays.arrays(np.float32, (5, 3), elements=HALVES), right=arrays.arrays(np.float32, (3, 4), elements=HALVES))
def test_evened_factors_have_the_same_product(left: Any, right: Any) -> None:
    tiny = np.float32(1e-7)
    ours, theirs = even_halves(left * tiny, right)
    exact = np.abs(left * tiny) @ np.abs(right)
    assert np.abs(ours.astype(np.float32) @ theirs.astype(np.float32) - (left * tiny) @ right).max() <= 2**-9 * exact.max() + 1e-6


@pytest.fixture(scope="module")
def calls() -> Artifact:
    return read_artifact(leanto_edge.embedded())


def with_calls(base: Artifact, calls: NewCalls) -> Adapter:
    factors = random_factors(base, 1, 0.0)
    return Adapter(base.build_hash, factors, calls, {}, {}, "0" * 64, 1)


def test_a_new_intent_is_one_that_the_grammar_allows(calls: Artifact) -> None:
    engine = Engine(calls, adapter=with_calls(calls, NewCalls({"order_coffee": ("time",)}, {"order_coffee": 2000})))
    form = engine.call_form
    assert form is not None
    constraint = form.constraint("a coffee at six")
    assert 2000 in constraint.allowed()
    constraint.push(2000)
    assert form.slots["time"] in constraint.allowed()
    assert form.decode([2000, form.eos]).to_json() == '{"intent": "order_coffee", "slots": {}}'


def test_a_piece_that_stands_for_an_intent_is_still_a_word_inside_a_value(calls: Artifact) -> None:
    engine = leanto_edge.load(leanto_edge.embedded())
    assert engine.call_form is not None
    (six,) = engine.tokenizer.raw.encode("six", add_special_tokens=False).ids
    form = Engine(calls, adapter=with_calls(calls, NewCalls({"x": ()}, {"x": six}))).call_form
    assert form is not None
    assert form.decode([form.intents["alarm_set"], form.slots["time"], six, form.eos]).slots == {"time": "six"}


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (NewCalls({"x": ()}, {}), "lacks <intent:x>"),
        (NewCalls({"x": ()}, {"x": 2}), "no piece of ordinary text"),
        (NewCalls({"x": ()}, {"x": 1 << 30}), "no piece of ordinary text"),
        (NewCalls({"x": (), "y": ()}, {"x": 2000, "y": 2000}), "two intents"),
        (NewCalls({"x": ("nowhere",)}, {"x": 2000}), "'nowhere' that the model does not know"),
        (NewCalls({}, {"x": 2000}), "no intent"),
        (NewCalls({"alarm_set": ()}, {"alarm_set": 2000}), "token of its own"),
    ],
)
def test_calls_that_the_model_cannot_make_are_refused(calls: Artifact, new: NewCalls, says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        Engine(calls, adapter=with_calls(calls, new))


def test_a_call_is_made_with_an_adapter(calls: Artifact) -> None:
    engine = Engine(calls, adapter=with_calls(calls, NewCalls()))
    request = GenerationRequest("wake me at six", "call", SamplingParams(max_tokens=32))
    assert engine.complete(request).text == leanto_edge.load(leanto_edge.embedded()).complete(request).text
